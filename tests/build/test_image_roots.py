"""What is made of a dataset or a run holds none but images below its own folders, whatever records and links say."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import command
from PIL import Image

pytest.importorskip("datasets", reason="data extra not installed: bash scripts/setup.sh")
from pyarrow import parquet

from migician.build.card.album import draw_sample
from migician.errors import UserError
from migician.samples.dataset_info import dataset_entry
from migician.samples.sample import Sample

SECRET = b"root:x:0:0:none of yours"


def sample(*images: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>" * len(images) + "?"}, {"from": "gpt", "value": "!"}]
    return {"id": "s", "images": list(images), "conversations": turns, "type": "t"}


def picture(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file


def dataset(home: Path, *images: str, links: dict[str, str] | None = None) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    (home / "set.json").write_text(json.dumps([sample("own.png"), sample(*images)]))
    (home / "dataset_info.json").write_text(json.dumps({"set": dataset_entry("set.json")}))
    picture(home / "own.png")
    if links is not None:
        part = {"task": "difference", "source": "coco", "asked": 2, "made": 2, "left_out": {}, "refused": {}}
        card = {"name": "d", "samples": 2, "seed": 0, "parts": [part], "stored": "files", "links": links}
        more = {"mig_bench": {"sentence": "Left out."}, "versions": {}, "warnings": []}
        more["look"] = {"samples": 0, "unreadable": 0}
        (home / "card.json").write_text(json.dumps({**card, **more}))
    return home


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A folder beside the dataset with a text, a picture, and a text that is named as a picture."""
    folder = tmp_path / "secrets"
    picture(folder / "mine.png")
    (folder / "passwd").write_bytes(SECRET)
    (folder / "passwd.png").write_bytes(SECRET)
    return folder


def _linked(home: Path, name: str, target: Path) -> str:
    place = home / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    return name


FOREIGN: dict[str, Callable[[Path, Path], str]] = {
    "absolute": lambda home, secrets: str(secrets / "mine.png"),
    "absolute text": lambda home, secrets: "/etc/passwd",
    "above": lambda home, secrets: "../secrets/mine.png",
    "beside": lambda home, secrets: "./secrets/mine.png",
    "beside, with a folder before": lambda home, secrets: "x/secrets/mine.png",
    "a link to a picture": lambda home, secrets: _linked(home, "a.png", secrets / "mine.png"),
    "a link to a text": lambda home, secrets: _linked(home, "a.png", secrets / "passwd"),
    "a link to a link": lambda home, secrets: _linked(
        home, "b.png", home / _linked(home, "c.png", secrets / "mine.png")
    ),
    "a folder that is a link": lambda home, secrets: f"{_linked(home, 'd', secrets)}/mine.png",
    "a link out and in again": lambda home, secrets: f"{_linked(home, 'e', secrets)}/../secrets/mine.png",
    "a link to itself": lambda home, secrets: _linked(home, "f.png", home / "f.png"),
    "a link to a device": lambda home, secrets: _linked(home, "g.png", Path("/dev/zero")),
    "a folder": lambda home, secrets: ".",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_an_export_takes_nothing_from_elsewhere(tmp_path: Path, secrets: Path, name: str) -> None:
    home = tmp_path / "set"
    home.mkdir()
    dataset(home, FOREIGN[name](home, secrets))
    ended = command("data", "export", home, "--to", tmp_path / "out")
    assert ended.status == 2
    (line,) = ended.error.splitlines()
    assert "set.json: sample 's': image" in line
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", FOREIGN)
def test_a_page_takes_nothing_from_elsewhere(tmp_path: Path, secrets: Path, name: str) -> None:
    home = tmp_path / "set"
    home.mkdir()
    dataset(home, FOREIGN[name](home, secrets))
    ended = command("report", home, "--out", tmp_path / "page", "--workers", "1")
    assert ended.status == 0, ended.error
    assert len(list((tmp_path / "page" / "images").iterdir())) == 1  # its own
    page = (tmp_path / "page" / "index.html").read_text()
    assert '"faults":["' in page
    assert "none of yours" not in page


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_drawn_of_a_sample_is_from_its_folder(tmp_path: Path, secrets: Path, name: str) -> None:
    home = tmp_path / "set"
    home.mkdir()
    given = FOREIGN[name](home, secrets)
    with pytest.raises(UserError, match="cannot be opened"):
        draw_sample(Sample("s", [given], [], "t"), home)


def test_only_images_are_exported(tmp_path: Path) -> None:
    home = dataset(tmp_path / "set", "notes.png")
    (home / "notes.png").write_bytes(SECRET)
    ended = command("data", "export", home, "--to", tmp_path / "out")
    assert ended.status == 2
    assert "notes.png" in ended.error
    assert "no image" in ended.error
    assert not (tmp_path / "out").exists()


def _listed(home: Path, name: str) -> None:
    (home / "dataset_info.json").write_text(json.dumps({"set": dataset_entry(name)}))


def _as_a_link(home: Path, elsewhere: Path) -> None:
    (home / "set.json").unlink()
    _linked(home, "set.json", elsewhere)


def _in_a_card(home: Path, elsewhere: Path) -> None:
    dataset(home, "own.png", links={})
    card = json.loads((home / "card.json").read_text())
    (home / "card.json").write_text(json.dumps(card | {"files": {"../elsewhere/other.json": {}}}))
    _listed(home, "../elsewhere/other.json")


RECORDS: dict[str, Callable[[Path, Path], None]] = {
    "above": lambda home, elsewhere: _listed(home, "../elsewhere/other.json"),
    "absolute": lambda home, elsewhere: _listed(home, str(elsewhere)),
    "a link": _as_a_link,
    "a folder that is a link": lambda home, elsewhere: _listed(home, _linked(home, "more", elsewhere.parent)),
    "by a card": _in_a_card,
}


@pytest.mark.parametrize("name", RECORDS)
def test_files_of_samples_from_elsewhere_are_taken_where_they_are_allowed(tmp_path: Path, name: str) -> None:
    home = dataset(tmp_path / "set", "own.png")
    elsewhere = tmp_path / "elsewhere" / "other.json"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes((home / "set.json").read_bytes())
    RECORDS[name](home, elsewhere)
    before = sorted(tmp_path.rglob("*"))
    for words in (
        ("data export", home, "--to"),
        ("data export", home, "--no-images", "--to"),
        ("report", home, "--out"),
    ):
        refused = command(*words, tmp_path / "out")
        assert (refused.status, len(refused.error.splitlines())) == (2, 1)
        assert "lies outside of" in refused.error
        assert sorted(tmp_path.rglob("*")) == before
        ended = command(*words, tmp_path / f"out-{len(words)}-{words[0]}", "--root", elsewhere.parent)
        assert ended.status == 0, ended.error
        before = sorted(tmp_path.rglob("*"))


@pytest.mark.parametrize("picture_name", ["histograms.png", "samples.jpg"])
@pytest.mark.parametrize("what", ["a link to a picture", "a link to a text", "a text", "a pipe"])
def test_the_pictures_beside_a_card_are_its_own_and_are_pictures(
    tmp_path: Path, secrets: Path, picture_name: str, what: str
) -> None:
    home = dataset(tmp_path / "set", "own.png", links={})
    place = home / picture_name
    if what.startswith("a link"):
        place.symlink_to(secrets / ("mine.png" if what.endswith("picture") else "passwd"))
    elif what == "a text":
        place.write_bytes(SECRET)
    else:
        os.mkfifo(place)
    ended = command("data", "export", home, "--to", tmp_path / "out")
    if what == "a pipe":  # is no file, so not there
        assert ended.status == 0, ended.error
        assert not (tmp_path / "out" / picture_name).exists()
        return
    assert (ended.status, len(ended.error.splitlines())) == (2, 1)
    assert picture_name in ended.error
    assert not (tmp_path / "out").exists()


def test_a_pipe_is_no_image_and_nobody_waits_for_it(tmp_path: Path) -> None:
    home = dataset(tmp_path / "set", "pipe.png")
    os.mkfifo(home / "pipe.png")
    exported = command("data", "export", home, "--to", tmp_path / "out")
    assert (exported.status, "it is no file" in exported.error) == (2, True)
    checked = command("check", home, "--workers", "1", "--out", tmp_path / "check.json")
    assert checked.status == 1
    assert "pipe.png" in (tmp_path / "check.json").read_text()
    (home / "set.json").unlink()
    os.mkfifo(home / "set.json")
    assert command("check", home, "--workers", "1").status == 1
    assert command("data", "export", home, "--to", tmp_path / "out").status == 2


def test_the_sources_that_a_card_names_and_those_that_are_allowed(tmp_path: Path) -> None:
    source = picture(tmp_path / "source" / "a.png").parent
    home = tmp_path / "set"
    home.mkdir()
    name = f"{_linked(home, 'MG/T/Source', source)}/a.png"
    dataset(home, name)
    for verb, where in (("data export", "--to"), ("report", "--out")):
        refused = command(verb, home, where, tmp_path / f"{verb}-refused")
        assert (refused.status == 2) == (verb == "data export")
        allowed = command(verb, home, where, tmp_path / f"{verb}-allowed", "--root", source)
        assert allowed.status == 0, allowed.error
    assert len(list((tmp_path / "report-refused" / "images").iterdir())) == 1
    assert len(list((tmp_path / "report-allowed" / "images").iterdir())) == 2
    dataset(home, name, links={"MG/T/Source": str(source)})
    for verb, where in (("data export", "--to"), ("report", "--out")):
        ended = command(verb, home, where, tmp_path / f"{verb}-named")
        assert ended.status == 0, ended.error
    (file,) = (tmp_path / "data export-named" / "set").iterdir()
    (image,) = parquet.read_table(file).to_pylist()[1]["images"]
    assert image == {"bytes": (source / "a.png").read_bytes(), "path": name}


def test_a_card_that_names_no_text(tmp_path: Path) -> None:
    home = dataset(tmp_path / "set", "own.png", links={"MG": 7})  # type: ignore[dict-item]
    ended = command("data", "export", home, "--to", tmp_path / "out")
    assert (ended.status, len(ended.error.splitlines())) == (2, 1)
    assert "card.json" in ended.error


@pytest.mark.parametrize("target", ["a\0b", "a" * 5_000, "", "a/../../b"])
def test_a_card_that_names_a_source_where_nothing_can_be(tmp_path: Path, target: str) -> None:
    home = dataset(tmp_path / "set", "own.png", links={"MG": target})
    for verb, where in (("data export", "--to"), ("report", "--out")):
        ended = command(verb, home, where, tmp_path / f"{verb}-out")
        assert ended.status == 0, ended.error


def test_a_snapshot_of_the_hub_links_to_what_lies_beside_it(tmp_path: Path) -> None:
    home = dataset(tmp_path / "datasets--u--n" / "snapshots" / ("0" * 40), "a.png")
    picture(tmp_path / "datasets--u--n" / "blobs" / "123")
    _linked(home, "a.png", Path("../../blobs/123"))
    ended = command("data", "export", home, "--to", tmp_path / "out")
    assert ended.status == 0, ended.error


def test_a_run_shows_what_lies_below_its_image_folder(tmp_path: Path, secrets: Path) -> None:
    root = tmp_path / "bench"
    picture(root / "b" / "own.png")
    _linked(root, "b/link.png", secrets / "mine.png")
    rows = [
        {"task": "diff", "images": ["b/own.png", name], "question": f"Find it. {name}", "answer": [0.1, 0.1, 0.5, 0.5]}
        for name in ("b/link.png", "b/own.png")
    ]
    (root / "data.json").write_text(json.dumps(rows))
    (root / "answers.jsonl").write_text("".join(json.dumps({"index": at, "response": "?"}) + "\n" for at in (0, 1)))
    run = tmp_path / "run"
    scored = command(
        "score", "mig-bench", "--data", root / "data.json", "--answers", root / "answers.jsonl", "--out", run
    )
    assert scored.status == 0
    ended = command("report", run, "--images", root)
    assert ended.status == 0, ended.error
    assert len(list((run / "page" / "images").iterdir())) == 1
    ended = command("report", run, "--images", root, "--root", secrets)
    assert len(list((run / "page" / "images").iterdir())) == 2
    coco = ("data", "export", run, "--coco", "--images", root, "--to")
    refused = command(*coco, tmp_path / "coco")
    assert (refused.status, len(refused.error.splitlines())) == (2, 1)
    assert "--root" in refused.error
    assert command(*coco, tmp_path / "coco", "--root", secrets).status == 0
    links = [str(path.readlink()) for path in (tmp_path / "coco" / "data").iterdir()]
    assert str(secrets / "mine.png") in links
