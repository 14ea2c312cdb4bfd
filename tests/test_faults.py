"""Every verb is given every kind of thing that is not what it reads: status 2, one line, and nothing left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from command_line import Ended, command
from fault_world import make_world, occupied, remove, spoiled

from migician import cli

pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
pytest.importorskip("datasets", reason="data extra not installed: bash scripts/setup.sh")


@dataclass(frozen=True)
class Line:
    """One way to call a verb; each thing in braces is spoiled in turn while the others are sound."""

    words: str
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The files that it reads in the folders among them."""
    otherwise: dict[str, int] = field(default_factory=dict)
    """Pattern of "THING: what it is instead" -> the status where that is no fault of the call; the first that fits."""

    sound: int = 0
    """The status where nothing is spoiled."""

    @property
    def things(self) -> list[str]:
        """What stands in braces, each once."""
        return list(dict.fromkeys(re.findall(r"\{(.*?)\}", self.words)))


RUN = ("report.json", "records.jsonl")
PHRASES = ("refs(unc).p", "instances.json")
INSTANCES = {"coco": ("annotations/instances_train2017.json",)}
WEIGHTS = ("config.json", "model.safetensors.index.json", "model-00001-of-00001.safetensors")
LISTED = 1  # what is wrong with a dataset is listed, all at once

LINES: dict[str, tuple[Line, ...]] = {
    "fetch": (
        Line(
            "mgrounding-630k --to {fetched} --dry-run",
            {"fetched": ("MGrounding-630k/fetched.json",)},
            {"fetched: (an empty folder|missing)|.*json: missing": 0},
        ),
    ),
    "build": (
        Line("common_object --source coco={coco} --config {recipe} --workers 1 --out {out}", INSTANCES),
        Line(
            "common_object --source coco={coco-index} --mig-bench {bench} --mig-bench-images {images} --workers 1 "
            "--out {out}",
            {"coco-index": ("index.json",)},
        ),
    ),
    "dev index": (Line("coco={coco} --out {out}", INSTANCES),),
    "data synthesise": (
        Line(
            "--source coco={coco} --vision-model v --text-model t --count 1 --cache cache --out out --dry-run "
            "--mig-bench {bench} --mig-bench-images {images}",
            INSTANCES,
        ),
    ),
    "data convert": (
        Line("llava --from {llava} --images {images} --out {out.json}"),
        Line("groma --from {groma} --images {images} --out {out.json}"),
        Line(
            "refcoco --from {refer} --images {images} --out {out.json}",
            {"refer": tuple(f"refcoco/{file}" for file in PHRASES)},
        ),
    ),
    "data mix": (
        Line("--part {samples}=1 --count 1 --out {out.json}"),
        Line("--config {mixture} --out {out.json}"),
    ),
    "check": (
        Line("{samples} --out {out.json}", otherwise={"samples: (?!a folder|missing)": LISTED}),
        Line(
            "{data} --workers 1 --mig-bench {bench} --images {images}",
            {"data": ("dataset_info.json", "set.json")},
            {"data: set.json": LISTED},
        ),
        Line("{info} --workers 1"),
        Line(
            "{data} --workers 1 --tokenizer {model}",
            {"model": ("tokenizer.json", "preprocessor_config.json")},
            {"model: preprocessor_config.json: ({|a folder|missing)": 0},
        ),
        Line(
            "{stage} --workers 1 --set deepspeed={zero}",
            otherwise={'stage: {"a": 1}': LISTED, "zero": LISTED},
            sound=LISTED,  # no GPU is here
        ),
    ),
    "data export": (
        Line(
            "{data} --to {out}",
            {"data": ("dataset_info.json", "set.json", "card.json")},
            {"data: card.json: missing": 0},
        ),
        Line("{samples} --media-dir {data} --to {out}"),
        Line("{run} --coco --images {images} --to {out}", {"run": RUN}),
        Line("{run} --coco --to {out}", {"run": ("run.json",)}),
        Line("{choices} --coco --images {images} --to {out}", sound=2),  # options are no boxes
    ),
    "data push": (
        Line("{data} --repo user/name --dry-run", {"data": ("card.json",)}, {"data: card.json: missing": 0}),
    ),
    "train resume": (
        Line(
            "{saves} --processes 4 --deepspeed {zero}",
            {"saves": ("checkpoint-10/trainer_state.json", "checkpoint-10/latest")},
            # A training that has not begun, and checkpoints that are not whole: it begins from the start.
            {"saves: (an empty folder|missing|checkpoint-10/)": 0},
        ),
    ),
    "train progress": (
        Line(
            "{saves}",
            {"saves": ("trainer_log.jsonl", "check.json")},
            {"saves: (an empty folder|missing|trainer_log.jsonl: (?!a folder)|check.json: missing)": 0},
        ),
    ),
    "train curves": (Line("{saves} --out {out.png}", {"saves": ("trainer_log.jsonl",)}),),
    "train reward": (
        Line("--benchmark mig-bench --data {bench} --answers {answers}"),
        Line("--data {samples} --answers {answers}", sound=2),  # replies to other questions
    ),
    "train gain": (Line("{saves}", sound=2),),  # no stage 3
    "train watch": (
        Line(
            "{saves} --data {bench} --images {images} --out {out} --once",
            otherwise={"saves: (an empty folder|missing)": 0},  # a training that has not begun
        ),
    ),
    "train merge": (Line("{model} {other} --out {out}", {"model": WEIGHTS, "other": WEIGHTS}),),
    "train card": (
        Line(
            "{model} --report {run} --dataset {data}",
            {
                "model": (*WEIGHTS, "train_results.json", "trainer_state.json", "merge.json"),
                "run": RUN[:1],
                "data": ("card.json",),
            },
            {"model: (train_results|trainer_state|merge).json: (a folder|missing)": 0},
        ),
    ),
    "dev base": (Line("qwen2_vl --data nowhere --media nowhere"),),  # what is not there is left to the check
    "dev setting": (Line("{stage} output_dir", otherwise={'stage: {"a": 1}': 0}),),
    "eval": (
        Line("mig-bench --model scripted:{script} --data {bench} --images {images} --out {out}"),
        Line("mig-bench --model {model} --data {bench} --images {images} --out {out}", {"model": WEIGHTS}, sound=2),
        *(
            Line(f"{name} --model constant:1,1,2,2 --data {{{file}}} --images {{images}} --out {{out}}")
            for name, file in (
                ("mmiu", "mmiu"),
                ("mibench", "mibench"),
                ("refcoco", "refcoco"),
                ("mig-bench-one-shot", "one-shot"),
            )
        ),
        Line(
            "refcoco --model constant:1,1,2,2 --data {phrases} --images {images} --out {out}",
            {"phrases": PHRASES},
        ),
    ),
    "score": (Line("mig-bench --data {bench} --answers {answers} --out {out}"),),
    "dev baseline": (Line("mig-bench --data {bench} --out {out}"),),
    "compare": (Line("{run} {run} --out {out}", {"run": RUN}),),
    "report": (
        Line("{run} --out {out} --workers 1", {"run": (*RUN, "run.json")}),
        Line("{run} --parquet {out.parquet}", {"run": RUN}),
        Line(
            "{data} --out {out} --workers 1",
            {"data": ("dataset_info.json", "set.json", "card.json")},
            # Without a list and a card, of which older ones say less, a dataset is the files that are there.
            {"data: (dataset_info|card).json: missing|data: card.json: {": 0},
        ),
        Line("{samples} --images {data} --out {out} --workers 1"),
    ),
    "table": (Line("{run}", {"run": RUN[:1]}),),
    "plot": (Line("{run} {run} --out {out}", {"run": RUN[:1]}),),
    "ground": (Line("{image} Where? --model constant:1,1,2,2 --save {out.png}"),),
    "chat": (
        Line("--model {model} --terminal", {"model": WEIGHTS}, sound=2),  # four weights are no model
        Line("{image} --model constant:1,1,2,2 --terminal"),
    ),
    "list": (Line("models"),),
    "dev miniature": (Line("--out {out}"),),
    "dev tiny": (Line("--texts {samples} --out {out}"),),
}
"""Verb: its lines. A new verb has none yet, and fails."""


def tree(folder: Path) -> dict[Path, bytes | None]:
    """Every file and folder below one, and what is in it."""
    return {path: None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


def tries(line: Line, world: dict[str, Path], home: Path) -> Iterator[tuple[str, dict[str, Path]]]:
    """What is spoiled, and the places of all things, for every way to spoil one of them."""
    sound = {**world, **{thing: home / "made" / f"x{thing[3:]}" for thing in line.things if thing.startswith("out")}}
    for thing in line.things:
        if thing.startswith("out"):
            wrong = occupied(f"x{thing[3:]}", home)
        else:
            wrong = spoiled(world[thing], line.reads.get(thing, ()), home)
        for what, place in wrong:
            yield f"{thing}: {what}", {**sound, thing: place}


def fault(ended: Ended, wanted: int, before: dict[Path, bytes | None], after: dict[Path, bytes | None]) -> str:
    """What is wrong with how a verb ended, empty where nothing is."""
    if "Traceback" in ended.error:
        return ended.error.strip().splitlines()[-1]
    if ended.status != wanted:
        return f"status {ended.status}, not {wanted}: {ended.error.strip()}"
    if wanted == 2 and len(ended.error.splitlines()) != 1:
        return f"not one line: {ended.error!r}"
    if wanted == 2 and before != after:
        return f"left behind: {sorted(map(str, after.keys() ^ before.keys()))}"
    return ""


def every_try(verb: str, world: dict[str, Path], home: Path) -> Iterator[tuple[str, str]]:
    """(what was tried, what is wrong or nothing) for a verb; `home` is an empty folder, the current one."""
    for line in LINES[verb]:
        for what, places in tries(line, world, home):
            words = [re.sub(r"\{(.*?)\}", partial(_place, places), word) for word in line.words.split()]
            wanted = next((status for known, status in line.otherwise.items() if re.match(known, what)), 2)
            before = tree(home)
            yield f"{verb} {line.words} | {what}", fault(command(verb, *words), wanted, before, tree(home))
            for path in home.iterdir():
                if path not in before:
                    remove(path)


def _place(places: dict[str, Path], thing: re.Match[str]) -> str:
    return str(places[thing[1]])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_world(tmp_path_factory.mktemp("faults") / "world", command)


@pytest.mark.usefixtures("small_world")
@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_sound_line_does_its_work(
    verb: str,
    world: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Else whatever is spoiled in it would fail, too, and nothing be tried."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name(f"{tmp_path.name}-cache")))
    if verb == "fetch":
        request.getfixturevalue("hub")
    for line in LINES[verb]:
        outs = {thing: tmp_path / f"x{thing[3:]}" for thing in line.things if thing.startswith("out")}
        words = [re.sub(r"\{(.*?)\}", partial(_place, {**world, **outs}), word) for word in line.words.split()]
        before = tree(world["images"])
        ended = command(verb, *words)
        assert ended.status == line.sound, (line.words, ended.error)
        for path in [*tmp_path.iterdir(), *(tree(world["images"]).keys() - before.keys())]:
            remove(path)


def test_every_verb_is_tried() -> None:
    assert LINES.keys() == cli.VERBS.keys()


@pytest.mark.parametrize("verb", cli.VERBS)
def test_what_is_not_what_a_verb_reads(
    verb: str,
    world: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name(f"{tmp_path.name}-cache")))
    if verb == "fetch":
        request.getfixturevalue("hub")
    sound = tree(world["images"])
    assert [one for one in every_try(verb, world, tmp_path) if one[1]] == []
    assert tree(world["images"]) == sound
