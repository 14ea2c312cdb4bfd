"""Fetching released datasets from a local stand-in for the Hub, with the Hub's own client."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="models extra not installed: bash scripts/setup.sh")

from hub_stand_in import COMMIT
from mgrounding_hub import STRAY, command, noise, records, run, state, tree, zipped

from migician.errors import UserError
from migician.hub import transfer
from migician.hub.released import DATASETS, fetch, plan


def test_the_whole_set_is_ready_to_train_on(hub, tmp_path):
    checked, said = run(tmp_path)
    root = tmp_path / "MGrounding-630k"
    families = ("Difference", "Free-Form", "Group_Grounding")
    images = {f"{family}/SRC/{i}.jpg" for family in families for i in range(6)}
    lists = {f"{family}/{family.lower()}_train.json" for family in families}
    own = {"README.md", "MGrounding-630k.json", "fetched.json", "dataset_info.json"}
    assert tree(root) == images | lists | own and list(tmp_path.iterdir()) == [root]
    assert (root / "Group_Grounding/SRC/3.jpg").read_bytes() == noise(203, 3000)
    assert (checked.records, checked.named, checked.missing) == (18, 18, 0)
    # LLaMA-Factory joins dataset_dir and file_name, and media_dir and the name of an image.
    described = json.loads((root / "dataset_info.json").read_text())
    assert set(described) == {"MGrounding-630k", "difference_train", "free-form_train", "group_grounding_train"}
    for entry in described.values():
        for record in json.loads((root / entry["file_name"]).read_text()):
            assert all((tmp_path / image).is_file() for image in record["images"])
    assert "Group_Grounding: 7 files unpacked" in said


def test_the_record_of_what_was_fetched(hub, tmp_path):
    run(tmp_path)
    record = state(tmp_path)
    assert (record["repository"], record["revision"]) == ("Michael4933/MGrounding-630k", COMMIT)
    assert set(record["files"]) == set(hub.files) - {".gitattributes"}
    for name, one in record["files"].items():
        kind = "git" if name == "README.md" else "sha256"
        content = hub.files[name] if kind == "sha256" else b"blob 18\0" + hub.files[name]
        assert one["hash"] == f"{kind}:{hashlib.new(kind.replace('git', 'sha1'), content).hexdigest()}"
        assert one["size"] == len(hub.files[name]) and one["done"]


def test_a_second_run_downloads_and_changes_nothing(hub, tmp_path):
    run(tmp_path)
    hub.asked.clear()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    planned = plan("mgrounding-630k", tmp_path, [], None, False)
    assert (planned.parts, planned.download, planned.room) == ((), 0, 0)
    assert run(tmp_path)[0].missing == 0
    assert hub.asked == [] and before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}


def test_one_family_comes_without_the_merged_file(hub, tmp_path):
    checked, _ = run(tmp_path, only=["Group_Grounding"])
    assert {name.split("/")[0] for name in tree(tmp_path / "MGrounding-630k")} == {
        "Group_Grounding", "README.md", "fetched.json", "dataset_info.json",
    }  # fmt: skip
    assert (checked.named, checked.missing) == (6, 0)
    checked, _ = run(tmp_path)  # and the rest later
    assert (checked.named, checked.missing) == (18, 0)
    assert "MGrounding-630k" in json.loads((tmp_path / "MGrounding-630k/dataset_info.json").read_text())


def test_a_part_that_is_not_there(hub, tmp_path):
    with pytest.raises(UserError, match=r"unknown part of MGrounding-630k 'Diference'.*Did you mean 'Difference'"):
        run(tmp_path, only=["Diference"])
    with pytest.raises(UserError, match=r"unknown dataset 'migbench'.*Did you mean 'mig-bench'"):
        run(tmp_path, name="migbench")


def test_archives_are_kept_on_request(hub, tmp_path):
    run(tmp_path, keep=True)
    kept = tree(tmp_path / "MGrounding-630k/archives")
    assert kept == {name for name in hub.files if ".z" in name}


def test_archives_that_someone_else_put_there_are_used_and_kept(hub, tmp_path):
    mine = tmp_path / "MGrounding-630k/archives/Difference.zip"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(hub.files["Difference.zip"])
    run(tmp_path)
    assert tree(mine.parent) == {"Difference.zip"}
    assert "Difference.zip" not in {name for name, _ in hub.asked}


@pytest.mark.parametrize("place", ["archives/Difference.zip", "README.md", "Difference/SRC/3.jpg"])
@pytest.mark.parametrize("same_size", [False, True])
def test_a_file_of_someone_else_is_neither_replaced_nor_removed(hub, tmp_path, place, same_size):
    mine = tmp_path / "MGrounding-630k" / place
    mine.parent.mkdir(parents=True)
    content = b"m" * (len(hub.files.get(mine.name, bytes(3000))) if same_size else 4)
    mine.write_bytes(content)
    with pytest.raises(UserError, match=r"is there, and is not .*It is left alone: move it away"):
        run(tmp_path)
    assert mine.read_bytes() == content


def test_a_disk_that_fills_up_keeps_what_came(hub, tmp_path, monkeypatch):
    write, told = transfer._Watched.write, []

    def full(stream, content):
        told.append(len(content))
        if len(told) == 5:
            raise OSError(28, "No space left on device")
        return write(stream, content)

    monkeypatch.setattr(transfer._Watched, "write", full)
    with pytest.raises(UserError, match=r"the download stopped: No space left on device. Run the same command again"):
        run(tmp_path, only=["Difference"])
    (part,) = tmp_path.rglob("*.part")
    assert part.stat().st_size > 0
    assert run(tmp_path, only=["Difference"])[0].missing == 0


def test_a_file_behind_a_gate_is_one_line(hub, tmp_path):
    planned = plan("mgrounding-630k", tmp_path, [], None, False)
    hub.refuse = (403, "GatedRepo")  # the list of files is public, the files are not
    with pytest.raises(UserError, match="asks for permission"):
        fetch(planned, False, print)


def test_a_changed_dataset_info_stays(hub, tmp_path):
    run(tmp_path, only=["Difference"])
    mine = tmp_path / "MGrounding-630k/dataset_info.json"
    mine.write_text('{"my_own": {}}')
    _, said = run(tmp_path)
    assert mine.read_text() == '{"my_own": {}}' and any("stays as it is" in one for one in said)


def test_a_connection_that_drops_goes_on_in_the_same_run(hub, tmp_path):
    hub.drop["Free-Form.zip"] = 2
    assert run(tmp_path)[0].missing == 0
    size = len(hub.files["Free-Form.zip"])
    first = size // 2 // 1000 * 1000
    second = first + (size - first) // 2 // 1000 * 1000
    asked = [place for name, place in hub.asked if name == "Free-Form.zip"]
    assert asked == [None, f"bytes={first}-", f"bytes={second}-"]


def test_a_connection_that_stays_down_goes_on_in_the_next_run(hub, tmp_path):
    hub.drop["Free-Form.zip"] = 1000
    with pytest.raises(UserError, match=r"cannot be reached.*Run the same command again to resume") as caught:
        run(tmp_path)
    assert "\n" not in str(caught.value)
    (part,) = (tmp_path / "MGrounding-630k/archives").glob(".Free-Form.zip.*.part")
    got = part.stat().st_size
    assert 0 < got < len(hub.files["Free-Form.zip"])
    hub.drop.clear()
    hub.asked.clear()
    assert run(tmp_path)[0].missing == 0
    assert [place for name, place in hub.asked if name == "Free-Form.zip"] == [f"bytes={got}-"]
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", ["Difference.zip", "Group_Grounding.z02", "README.md"])
def test_content_that_is_not_what_the_hub_lists_is_removed(hub, tmp_path, name):
    right = hub.files[name]
    hub.wrong[name] = bytes([right[0] ^ 1]) + right[1:]
    with pytest.raises(UserError, match=rf"{name} arrived with another content than the Hub lists \((sha256|git):"):
        run(tmp_path)
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob(name))
    hub.wrong.clear()
    assert run(tmp_path)[0].missing == 0


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        ((403, "GatedRepo"), r"asks for permission; accept its terms on the Hub, then run: hf auth login"),
        ((404, "RepoNotFound"), r"no such dataset on the Hub, or not for you"),
        ((404, "RevisionNotFound"), r"knows no revision 'main'"),
        ((418, ""), r"the Hub answers 418"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, tmp_path, refusal, says):
    hub.refuse = refusal
    with pytest.raises(UserError, match=says) as caught:
        run(tmp_path)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_listing_that_leads_out_of_the_folder_is_refused(hub, tmp_path):
    hub.files["../evil.json"] = b"[]"
    with pytest.raises(UserError, match=r"lists a file '../evil.json' that leads out of the folder"):
        run(tmp_path)


def test_the_commit_stays_when_the_repository_moves_on(hub, tmp_path):
    run(tmp_path, only=["Difference"])
    first, hub.commit = hub.commit, "f" * 40
    with pytest.raises(UserError, match=rf"holds files of .* at {first}, not of .* at f{{40}}"):
        run(tmp_path, revision="main")
    with pytest.raises(UserError, match=f"knows no revision '{first}'"):  # the stand-in has only the new one
        run(tmp_path)


def test_disk_space_is_checked_before_the_first_byte(hub, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 40_000))
    with pytest.raises(
        UserError, match=r"the download with what it unpacks to needs .* and 40\.0 kB are free: .*missing"
    ):
        run(tmp_path)
    assert hub.asked == [] and not list(tmp_path.iterdir())


def test_room_counts_one_archive_at_a_time_unless_they_are_kept(hub, tmp_path):
    sizes = {}
    for name, content in hub.files.items():
        if ".z" in name:
            sizes[name.split(".")[0]] = sizes.get(name.split(".")[0], 0) + len(content)
    plain = len(hub.files["README.md"]) + len(hub.files["MGrounding-630k.json"])
    room = plan("mgrounding-630k", tmp_path, [], None, False).room
    assert room == plain + sum(sizes.values()) + min(sizes.values())
    assert plan("mgrounding-630k", tmp_path, [], None, True).room == plain + 2 * sum(sizes.values())


def test_missing_images_are_counted_and_the_first_named(hub, tmp_path):
    family = records("Difference", ["SRC/0.jpg", "SRC/none.jpg", "../../outside.jpg"])
    (tmp_path / "outside.jpg").touch()  # a name that leads out is missing, whatever lies there
    hub.files["Difference.zip"] = zipped(
        {f"{STRAY}Difference/SRC/0.jpg": b"a", f"{STRAY}Difference/d.json": json.dumps(family).encode()}
    )
    checked, _ = run(tmp_path, only=["Difference"])
    assert (checked.named, checked.missing) == (3, 2)
    assert checked.first_missing[0] == "d.json: record 1: ./MGrounding-630k/Difference/SRC/none.jpg"


def test_the_command(hub, tmp_path):
    listed = command(hub, tmp_path, "--dry-run")
    assert listed.returncode == 0 and not list(tmp_path.iterdir())
    sizes = dict(line.split("\t") for line in listed.stdout.splitlines())
    assert sizes == {name: str(len(content)) for name, content in hub.files.items() if name[0] != "."}
    done = command(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"dataset_dir: {tmp_path / 'MGrounding-630k'}, media_dir: {tmp_path}" in done.stderr
    assert "found 18 images in 18 records, none missing" in done.stderr
    (tmp_path / "MGrounding-630k/Free-Form/SRC/2.jpg").unlink()
    incomplete = command(hub, tmp_path)
    assert incomplete.returncode == 1
    assert "1 of 18 images" in incomplete.stderr
    assert "MGrounding-630k.json: record 8: ./MGrounding-630k/Free-Form/SRC/2.jpg" in incomplete.stderr


def test_a_command_without_the_hub_is_one_line(hub, tmp_path):
    offline = command(hub, tmp_path, HF_HUB_OFFLINE="1")
    hub.url = "http://127.0.0.1:9"
    for done, says in ((offline, "HF_HUB_OFFLINE is set"), (command(hub, tmp_path), "cannot be reached")):
        assert done.returncode == 2 and says in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "field"), [("mig-bench", "images"), ("mibench", "image")])
def test_the_benchmarks_that_are_json(hub, tmp_path, name, field):
    dataset = DATASETS[name]
    stem = {"mig-bench": "images", "mibench": "image"}[name]
    rows = [{field: [f"./{dataset.folder}/{stem}/t/{i}.jpg"], "answer": "A"} for i in range(3)]
    hub.repository, hub.commit = dataset.repository, dataset.revision
    hub.files = {
        "data.json": json.dumps(rows).encode(),
        f"{stem}.zip": zipped({f"{stem}/t/{i}.jpg": b"x" for i in range(3)}),
    }
    checked, _ = run(tmp_path, name=name)
    assert (checked.records, checked.missing, [file.name for file in checked.files]) == (3, 0, ["data.json"])
    assert not list(tmp_path.rglob("dataset_info.json"))


def test_mmiu_whose_names_are_in_parquet(hub, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    dataset, stream = DATASETS["mmiu"], io.BytesIO()
    names = [["./2D-spatial/t/0.jpg"], ["./2D-spatial/t/0.jpg", "./2D-spatial/t/1.jpg"]]
    parquet.write_table(pyarrow.table({"task": ["t", "t"], "input_image_path": names}), stream)
    hub.repository, hub.commit = dataset.repository, dataset.revision
    hub.files = {"all.parquet": stream.getvalue(), "2D-spatial.zip": zipped({"t/0.jpg": b"0"})}
    checked, _ = run(tmp_path, name="mmiu")
    assert (checked.records, checked.named, checked.missing) == (2, 3, 1)
    assert checked.first_missing == ["all.parquet: record 1: ./2D-spatial/t/1.jpg"]


def test_without_the_client_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"the Hub's client is not installed: pip install"):
        transfer.list_files("a/b", "main")


def test_the_folder_and_the_verb_are_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "data/download.py", "nothing", "--to", str(tmp_path)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "unknown dataset 'nothing'. Known: mgrounding-630k" in done.stderr
