"""The same command again, by the public verbs: done already and nothing touched, refused, or made again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import Ended, command

from migician import again
from migician.again import MADE, making, stamp
from migician.errors import Done, UserError, appearing
from migician.miniature import Amounts, make_world

pytest.importorskip("datasets", reason="data extra not installed: bash scripts/setup.sh")
pytest.importorskip("transformers", reason="models extra not installed: bash scripts/setup.sh")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("again")
    make_world(place / "world", 0, Amounts(coco=6, magicbrush=6, held_out=2))
    image = next((place / "world/sources/coco").rglob("*.jpg"))
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A thing."}]
    records = [{"id": str(one), "image": image.name, "conversations": turns} for one in range(3)]
    (place / "llava.json").write_text(json.dumps(records))
    return place


BENCH = "mig-bench --data world/MIG-Bench/MIG_data.json"
EVAL = f"eval {BENCH} --model constant --images world"
SCORE = f"score {BENCH} --answers run/answers.jsonl"
LLAVA = "data convert llava --from llava.json --images"
# What makes the target; what the next needs; where another setting goes in.
MAKERS = {
    "miniature": ("dev miniature --out mini", None),  # another world takes its time; see test_miniature.py
    "index": ("dev index coco=world/sources/coco --out idx", "--split val"),
    "build": ("build difference --source magicbrush=world/sources/magicbrush --workers 1 --out ds", "--seed 3"),
    "mix": ("data mix --part ds/Difference.json=1 --count 5 --out mixed/m.json", "--seed 3"),
    "convert": (f"{LLAVA} world/sources/coco/train2017 --out conv/c.json", "--seed 3 --media world"),
    "export": ("data export ds --to par", "--no-images"),
    "tiny": ("dev tiny --texts ds/Difference.json --out t1", "--seed 1"),
    "merge": ("merge t1 t2 --out merged", "--weight 0.25"),
    "card": ("train card merged", "--license mit"),
    "eval": (f"{EVAL} --out run", "--limit 1"),
    "eval, read otherwise": (f"{EVAL} --out run", "--protocol published"),
    "score": (f"{SCORE} --out scored", "--protocol published"),
    "baseline": (f"dev baseline {BENCH} --out base", None),
    "export --coco": ("data export run --coco --images world --to coco", None),
}
SHOWERS = {
    "check": "check ds --quick --out check.json",
    "compare": "compare run base --out cmp",
    "report": "report run base --images world --workers 1 --out page",
    "report of a dataset": "report ds --workers 1 --out dspage",
    "report --parquet": "report run base --parquet records.parquet",
    "table": "table run base",
    "plot": "plot run base --out pictures",
}


def run(place: Path, words: str) -> Ended:
    return command(*words.split(), cwd=place)


def files(place: Path) -> dict[str, tuple[int, int, bytes]]:
    """Time, inode and content of every file."""
    found = (file for file in place.rglob("*") if file.is_file() and not file.is_symlink())
    return {str(file): (file.stat().st_mtime_ns, file.stat().st_ino, file.read_bytes()) for file in found}


@pytest.mark.usefixtures("small_world")
def test_every_verb(place: Path) -> None:
    """In order, as one verb's result is the next one's input."""
    for name, (words, other) in MAKERS.items():
        if name == "merge":
            assert run(place, "dev tiny --texts ds/Difference.json --out t2 --seed 1").status == 0
        first = run(place, words)
        assert first.status == 0, (name, first.error)
        before = files(place)
        second = run(place, words)
        assert (second.status, "done already" in second.error.splitlines()[-1]) == (0, True), (name, second.error)
        target = words.split()[-1] if name != "card" else "merged/README.md"
        assert target in second.error.splitlines()[-1]
        if other is not None:
            refused = run(place, f"{words} {other}")
            last = refused.error.splitlines()[-1]
            assert (refused.status, "--force" in last, target in last) == (2, True, True), (name, refused.error)
            assert "Traceback" not in refused.error
        assert files(place) == before, name
    for name, words in SHOWERS.items():
        shown = run(place, words)
        assert shown.status == 0, (name, shown.error)
        before = files(place)
        second = run(place, words)
        assert (second.status, second.output) == (0, shown.output), name
        assert files(place).keys() == before.keys(), name
        if name != "check":  # which says how long it took
            assert files(place) == before, name
    for words in (
        f"{EVAL} --out run",
        f"{SCORE} --protocol published --out run",
        "merge t1 t2 --weight 0.25 --out merged",
    ):
        assert run(place, f"{words} --force").status == 0
        assert "done already" in run(place, words).error.splitlines()[-1]
    assert json.loads((place / "merged/merge.json").read_text())["checkpoints"][1]["weight"] == 0.25


def test_scoring_does_not_replace_the_report_of_an_evaluation(place: Path, tmp_path: Path) -> None:
    assert run(place, f"{EVAL} --out {tmp_path / 'run'}").status == 0
    before = files(tmp_path)
    for protocol in ("strict", "published"):
        words = f"score {BENCH} --answers {tmp_path}/run/answers.jsonl --protocol {protocol} --out {tmp_path}/run"
        refused = run(place, words)
        assert refused.status == 2 and f"{tmp_path}/run/report.json: holds another report: " in refused.error
        assert files(tmp_path) == before


def made(target: Path, force: bool = False, mark: str = "", **settings: Any) -> None:
    with making(target, settings, force=force, mark=mark) as folder:
        (folder / "a").write_text(str(settings))


def test_only_what_such_a_command_made_is_replaced(tmp_path: Path) -> None:
    made(tmp_path / "a", seed=1)
    with pytest.raises(Done):
        made(tmp_path / "a", seed=1)
    with pytest.raises(UserError, match="made with other settings: seed was 1 and is now 2"):
        made(tmp_path / "a", seed=2)
    with pytest.raises(UserError, match="not what this command makes"):
        made(tmp_path / "a", force=True, weight=1)
    made(tmp_path / "a", force=True, seed=2)
    assert (tmp_path / "a/a").read_text() == "{'seed': 2}"
    (tmp_path / "a" / MADE).unlink()  # as an older version left it
    with pytest.raises(UserError, match="not what this command makes"):
        made(tmp_path / "a", force=True, seed=2)
    with pytest.raises(UserError, match="not said by an older version"):
        made(tmp_path / "a", mark="a", seed=2)
    made(tmp_path / "a", force=True, mark="a", seed=3)
    for damaged in (b"", b"[]", b"{", b"\xff"):
        (tmp_path / "a" / MADE).write_bytes(damaged)
        with pytest.raises(UserError, match=r"\.made: not what says how this folder was made"):
            made(tmp_path / "a", force=True, seed=3)
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_what_is_replaced_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    made(tmp_path / "a", seed=1)
    before = files(tmp_path)
    with pytest.raises(KeyError), making(tmp_path / "a", {"seed": 2}, force=True):
        raise KeyError
    assert files(tmp_path) == before


def test_whoever_comes_second_to_the_end_finds_it_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looked before the other had finished, and looks again once it is alone."""

    @contextmanager
    def late(target: Path, **how: Any) -> Iterator[Path]:
        with monkeypatch.context() as patch:
            patch.setattr(again, "appearing", appearing)
            made(target, seed=1)
        with appearing(target, **how) as folder:
            yield folder

    monkeypatch.setattr(again, "appearing", late)
    with pytest.raises(Done):
        made(tmp_path / "a", seed=1)
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_stamp_tells_inputs_apart(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "deep/x").write_text("1")
    first = stamp(root, but=root / "out")
    (root / ".hidden").write_text("1")
    (root / "out").mkdir()
    (root / "out/y").write_text("1")
    assert stamp(root, but=root / "out") == first
    os.utime(root / "deep/x", ns=(1, 1))
    second = stamp(root, but=root / "out")
    (root / "deep/x").rename(root / "x")
    third = stamp(root, but=root / "out")
    assert len({str(one) for one in (first, second, third)}) == 3
    assert stamp("some/name") == {"path": "some/name"}
    assert stamp(root / "x")["bytes"] == 1
