"""Mixes: exact in count, the same bytes for the same seed, records untouched, memory flat; and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import command
from forked import Parent
from hypothesis import given
from hypothesis import strategies as st

from migician.errors import Done, UserError
from migician.samples.dataset_info import add_dataset
from migician.sampling import shares
from migician.training.mixture import MixFile, mix, parts_of, read_mix_recipe

ROOT = Path(__file__).resolve().parents[2]
TURNS = [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": 'There, "so"\n\\.'}]


def part(folder: Path, name: str, count: int, **more: Any) -> Path:
    file = folder / f"{name}.json"
    base = {"images": [], "conversations": TURNS, "type": name, **more}
    records = [{"id": f"{name}-{i}", **base} for i in range(count)]
    file.write_text("[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n")
    return file


def ids(file: Path) -> list[str]:
    if file.suffix == ".jsonl":
        return [json.loads(line)["id"] for line in file.read_text().splitlines()]
    return [record["id"] for record in json.loads(file.read_text())]


@pytest.mark.parametrize("name", ["m.json", "m.jsonl"])
def test_counts_are_exact_and_nothing_comes_twice(tmp_path: Path, name: str) -> None:
    parts = {one: MixFile(part(tmp_path, one, 50), weight) for one, weight in (("a", 1), ("b", 2), ("c", 4))}
    counts = mix(parts, tmp_path / name, 60, seed=3)
    mixed = ids(tmp_path / name)
    assert counts == {"a": 9, "b": 17, "c": 34} and len(set(mixed)) == 60
    assert Counter(one[0] for one in mixed) == counts
    assert mixed != sorted(mixed)


def test_the_bytes_of_a_mix_do_not_change(tmp_path: Path) -> None:
    """The digest is that of the first version, which read whole files: seeds in use keep their meaning."""
    parts = {"a": MixFile(part(tmp_path, "a", 20), 1), "b": MixFile(part(tmp_path, "b", 30), 2)}
    mix(parts, tmp_path / "m.json", 24, seed=7)
    assert hashlib.sha256((tmp_path / "m.json").read_bytes()).hexdigest() == DIGEST
    first = (tmp_path / "m.json").read_bytes()
    with pytest.raises(Done):
        mix(parts, tmp_path / "m.json", 24, seed=7)
    with pytest.raises(UserError, match="--force replaces it"):
        mix(parts, tmp_path / "m.json", 24, seed=8)
    assert (tmp_path / "m.json").read_bytes() == first
    mix(parts, tmp_path / "m.json", 24, seed=8, force=True)
    assert (tmp_path / "m.json").read_bytes() != first


DIGEST = "e8ef44b0ad2ef659243c35308b7b08c4e365ade3c8ef2d244eb6a0225c127ada"


def test_records_are_copied_byte_for_byte(tmp_path: Path) -> None:
    record = (
        b'{"type" : "x",  "conversations":[{"from":"human","value":"\\u00e9"}], "images":[], "extra":1e400, "id":"7"}'
    )
    (tmp_path / "a.json").write_bytes(b"[" + record + b"]")
    mix({"a": MixFile(tmp_path / "a.json", 1)}, tmp_path / "m.json", 1)
    assert (tmp_path / "m.json").read_bytes() == b"[\n" + record + b"\n]\n"


def test_only_what_datasets_cannot_load_is_mended(tmp_path: Path) -> None:
    """Numbers beside text in one column, and a field that comes late, each end `load_dataset` with an error."""
    a, b = part(tmp_path, "a", 4, shared=1, own={"x": [1.0]}), part(tmp_path, "b", 4, shared=2)
    b.write_text(b.read_text().replace('"b-1"', "1").replace('"b-2"', "2.50"))
    mix({"a": MixFile(a, 1), "b": MixFile(b, 1)}, tmp_path / "m.json", 8)
    mixed = json.loads((tmp_path / "m.json").read_text())
    assert {tuple(one) for one in mixed} == {("id", "images", "conversations", "type", "shared")}
    assert sorted(one["id"] for one in mixed) == ["1", "2.50", "a-0", "a-1", "a-2", "a-3", "b-0", "b-3"]
    assert all(one["conversations"] == TURNS for one in mixed)


def test_records_of_several_lines_become_one_in_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"id": "1", "images": ["x"], "conversations": TURNS}], indent=2))
    mix({"a": MixFile(tmp_path / "a.json", 1)}, tmp_path / "m.jsonl", 1)
    (line,) = (tmp_path / "m.jsonl").read_text().splitlines()
    assert json.loads(line) == {"id": "1", "images": ["x"], "conversations": TURNS}


def test_too_few_samples_name_every_part_unless_it_may_repeat(tmp_path: Path) -> None:
    a, b = part(tmp_path, "a", 5), part(tmp_path, "b", 3)
    with pytest.raises(UserError, match=r"a\.json: the mix needs 8 .* has 5.*; .*b\.json: the mix needs 8 .* has 3"):
        mix({"a": MixFile(a, 1), "b": MixFile(b, 1)}, tmp_path / "m.json", 16)
    assert not (tmp_path / "m.json").exists()
    mix({"a": MixFile(a, 1, repeat=True), "b": MixFile(b, 1, repeat=True)}, tmp_path / "m.json", 16)
    times = Counter(ids(tmp_path / "m.json"))
    assert sorted(times[f"a-{i}"] for i in range(5)) == [1, 1, 2, 2, 2]
    assert sorted(times[f"b-{i}"] for i in range(3)) == [2, 3, 3]
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(UserError, match="the file has 0"):
        mix({"n": MixFile(tmp_path / "none.json", 1, repeat=True)}, tmp_path / "n.json", 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[{"id": 1, "conversations": [{"from": "human", "va', "cut short"),
        (b'[{"id": 1}, 5]', r"record 1 \(byte 12\) is not an object"),
        (b'[{"id": 1}]', "record 0 is not a sample: .*conversations"),
        (b'[{"conversations": [{"from": "robot", "value": "?"}]}]', "record 0 is not a sample: .*'robot'"),
        (b'[{"conversations": [}]', "a bracket|record 0 is not a sample|cut short"),
        (b'[{"conversations": [], "id": ["a", 1]}]', "record 0 is not a sample: .*id"),
        (b'[{"conversations": [], "images": 5}]', "record 0 is not a sample: .*images"),
        (b'[{"conversations": [{"from": "gpt", "value": "\xe9"}]}]', "record 0 is not a sample: 'utf-8'"),
        (b'[{"conversations": [], "x": ' + b"[" * 5000 + b"]" * 5000 + b"}]", "record 0 is not a sample: .*recursion"),
    ],
)
def test_bad_files_are_named_with_the_place(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        mix({"a": MixFile(tmp_path / "a.json", 1)}, tmp_path / "m.json", 1)
    assert "a.json" in str(caught.value) and not (tmp_path / "m.json").exists()


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1e6), min_size=1, max_size=6), st.integers(0, 10**6))
def test_shares_sum_to_the_total(weights: dict[str, float], total: int) -> None:
    if not sum(weights.values()):
        return
    counts = shares(weights, total)
    assert sum(counts.values()) == total
    everything = sum(weights.values())
    assert all(abs(counts[name] - total * weights[name] / everything) <= 1 for name in weights)


PUBLISHED = {1: (1_000_000, [17, 13, 16, 54]), 2: (200_000, [9, 7, 8, 27, 49])}


@pytest.mark.parametrize("stage", [1, 2])
def test_the_stage_mixes_have_the_published_shares(stage: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ROOT / f"configs/stage-{stage}-mix.yaml"
    recipe = read_mix_recipe(file)
    count, percent = PUBLISHED[stage]
    assert recipe.count == count and [one.share for one in recipe.parts.values()] == percent
    monkeypatch.chdir(tmp_path)
    for one in recipe.parts.values():
        for name in one.files:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            part(Path(name).parent, Path(name).stem, 150)
    parts = parts_of(recipe, 250)
    counts = mix(parts, "m.jsonl", 250, recipe.seed)
    got = [sum(counts[name] for name in one.files) for one in recipe.parts.values()]
    assert got == list(shares({str(i): share for i, share in enumerate(percent)}, 250).values())
    # At full size each part is exactly its percentage.
    full = parts_of(recipe, count)
    assert [sum(full[name].weight for name in one.files) for one in recipe.parts.values()] == [
        count * share // 100 for share in percent
    ]
    settings = yaml.safe_load((ROOT / f"train/stage-{stage}_finetune_full.yaml").read_text())
    assert (
        count <= settings["max_samples"] and f"--out {settings['dataset_dir']}/stage{stage}.jsonl" in file.read_text()
    )
    assert settings["dataset"] == f"stage{stage}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("count: 5\nparts: {a: {share: 1, files: {x.json: 1}, repaet: true}}", "unknown field `repaet`"),
        ("count: 5\nparts: {a: {share: 0, files: {x.json: 1}}}", r"> 0\.0.*share"),
        ("count: 5\nparts: {a: {share: 1, files: {}}}", "files"),
        ("count: [", "not YAML"),
        ("parts: {}", "parts"),
        ("parts: {a: {share: 1, files: {x.json: 1}}}", "`count`"),
    ],
)
def test_bad_mix_files_are_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "mix.yaml").write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        read_mix_recipe(tmp_path / "mix.yaml")
    assert "mix.yaml" in str(caught.value)


def test_all_missing_files_of_a_mix_are_named(tmp_path: Path) -> None:
    part(tmp_path, "here", 3)
    (tmp_path / "mix.yaml").write_text(
        f"count: 6\nparts:\n  a: {{share: 1, files: {{{tmp_path}/x.json: 1, {tmp_path}/here.json: 1}}}}\n"
        f"  b: {{share: 1, files: {{{tmp_path}/y.json: 1, {tmp_path}/here.json: 1}}}}\n"
    )
    with pytest.raises(UserError, match=r"x\.json of part 'a': no such file; .*y\.json.*; .*in more than one part"):
        parts_of(read_mix_recipe(tmp_path / "mix.yaml"), 6)


def test_text_and_images_load_together_in_llamafactory(tmp_path: Path, llamafactory: Parent) -> None:
    with_image = [{"from": "human", "value": "<image>Where?"}, TURNS[1]]
    texts = part(tmp_path, "texts", 5)
    pictures = part(tmp_path, "pictures", 5, images=["a.jpg"], conversations=with_image, own=1)
    pictures.write_text(pictures.read_text().replace('"pictures-3"', "3"))
    for name in ("lists.json", "lines.jsonl"):
        mix({"t": MixFile(texts, 1), "p": MixFile(pictures, 1)}, tmp_path / name, 10)
        add_dataset(tmp_path / name)
    done = llamafactory.run(LOAD, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert set(loaded) == {"lists", "lines"}
    for one in loaded.values():
        assert Counter(len(images or []) for images in one["images"]) == {0: 5, 1: 5}
        assert all(len(prompt) == 1 for prompt in one["prompts"])


LOAD = """
import json, sys
from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams import DataArguments, ModelArguments
from llamafactory.hparams.training_args import TrainingArguments
folder = sys.argv[1]
data = DataArguments(dataset="lists,lines", dataset_dir=folder, media_dir=folder, template="qwen2_vl")
model, training = ModelArguments(model_name_or_path="none"), TrainingArguments(output_dir=folder + "/out", use_cpu=True)
loaded = {}
for attributes in get_dataset_list(data.dataset, folder):
    one = _load_single_dataset(attributes, model, data, training)
    loaded[attributes.dataset_name.split(".")[0]] = {"images": one["_images"][:], "prompts": one["_prompt"][:]}
print(json.dumps(loaded))
"""


def test_the_command_takes_parts_or_a_file(tmp_path: Path) -> None:
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        part(tmp_path / folder, "train", 10, where=folder)
    parts = ["--part", "p/train.json=1", "--part", "q/train.json=1"]
    status, _, error = command("data", "mix", *parts, "--count", 8, "--out", "m.json", cwd=tmp_path)
    assert status == 0 and "train 4, q/train.json 4" in error  # one stem, two parts
    (tmp_path / "mix.yaml").write_text("count: 6\nparts: {x: {share: 1, files: {p/train.json: 1, q/train.json: 2}}}\n")
    status, _, error = command("data", "mix", "--config", "mix.yaml", "--out", "m.jsonl", cwd=tmp_path)
    assert status == 0 and "p/train.json 2, q/train.json 4" in error
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info["m"]["file_name"] == "m.jsonl"
    for args, said in (
        (["--config", "mix.yaml", *parts], "either --part FILE=WEIGHT"),
        ([], "either --part FILE=WEIGHT"),
        (parts, "add --count"),
        ([*parts, *parts[:2], "--count", 3], "given twice"),
        (["--part", "p/train.json=-1", "--count", 3], "must be 0 or more"),
        (["--part", "p/train.json=0", "--count", 3], "more than 0"),
        (["--part", "p/train.json=nan", "--count", 3], "must be 0 or more"),
    ):
        status, _, error = command("data", "mix", *args, "--out", "n.json", cwd=tmp_path)
        assert status == 2 and said in error and len(error.strip().splitlines()) == 1, error


def test_a_mix_in_another_convention_is_the_mix_converted(tmp_path: Path) -> None:
    parts = [one for stem in "ab" for one in ("--part", f"{part(tmp_path, stem, 10)}=1")]
    plain = command("data mix", *parts, "--count", 9, "--out", "m.json", cwd=tmp_path)
    assert plain.status == 0 and not (tmp_path / "m.convention.json").exists()
    after = ["records", "--from", "m.json", "--to", "qwen3_vl", "--out", "after.json", "--workers", 1]
    assert command("data convert", *after, cwd=tmp_path).status == 0
    for workers in (1, 2):
        words = [*parts, "--count", 9, "--style", "qwen3_vl", "--out", f"{workers}.json", "--workers", workers]
        assert command("data mix", *words, cwd=tmp_path).status == 0
        assert (tmp_path / f"{workers}.json").read_bytes() == (tmp_path / "after.json").read_bytes()
        card = json.loads((tmp_path / f"{workers}.convention.json").read_text())
        assert card["convention"] == "qwen3_vl" and card["counts"]["converted"] == 9
    assert command("data mix", *words, cwd=tmp_path).error.count("done already") == 1
    # Mixed again it stays so, and beside another convention it is refused; what replaces it needs no card.
    again = command("data mix", "--part", "1.json=1", "--count", 9, "--out", "again.json", cwd=tmp_path)
    assert (
        again.status == 0 and json.loads((tmp_path / "again.convention.json").read_text())["convention"] == "qwen3_vl"
    )
    mixed = command(
        "data mix", "--part", "1.json=1", "--part", "m.json=1", "--count", 9, "--out", "n.json", cwd=tmp_path
    )
    assert mixed.status == 2 and "boxes are written in two ways: 1.json as qwen3_vl, m.json as qwen2_vl" in mixed.error
    assert command("data mix", *parts, "--count", 9, "--out", "again.json", "--force", cwd=tmp_path).status == 0
    assert not (tmp_path / "again.convention.json").exists()


@pytest.mark.parametrize("verb", ["mix", "convert"])
def test_what_is_there_is_read_before_anything_is_written(verb: str, tmp_path: Path) -> None:
    source = part(tmp_path, "a", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset_info.json").write_text("[]")
    args = ["--part", f"{source}=1", "--count", 2] if verb == "mix" else ["llava", "--from", source, "--images", "."]
    status, _, error = command("data", verb, *args, "--out", "out/m.json", cwd=tmp_path)
    assert status == 2 and "not a dataset_info.json" in error
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["dataset_info.json"]
