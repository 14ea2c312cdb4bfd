"""Run folders made by the public commands, then spoiled field by field, and what every verb that reads them says.

`sweep` is one bounded search: a seed and a number of tries. Each try spoils one file of one run and calls one verb.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import random
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mutations import Mutation, mutations
from PIL import Image
from typer.main import get_command

from migician import cli
from migician.benchmarks import load_benchmark
from migician.errors import UserError
from migician.models.family import QWEN2_VL
from migician.printable import one_line
from migician.reports import runs

IMAGES = tuple(f"MIG-Bench/images/{name}.png" for name in "abc")
HIT, MISS = "<|box_start|>(100,100),(500,500)<|box_end|>", "In the first image (600,600),(900,900)"
REPLIES = (HIT, MISS, "There is none.", f"Image-2: {HIT} or {MISS}")


@dataclass(frozen=True, slots=True)
class Verb:
    """One way to read a run."""

    name: str
    words: str
    """Of the command; `{run}` is what is spoiled, `{other}` another run of the same questions."""
    reads: tuple[str, ...]
    runs: tuple[str, ...] = ("asked",)


SCORED, RECORDED = ("report.json",), ("report.json", "records.jsonl")
KINDS = ("asked", "choices", "several")

VERBS = (
    Verb("table", "table {run} --format markdown", SCORED, KINDS),
    Verb("table of two", "table {run} {other} --published migician", SCORED),
    Verb("plot", "plot {run} {other} --out new/pictures", SCORED),
    Verb("compare", "compare {run} {other} --out new/compared", RECORDED, KINDS),
    Verb("page", "report {run} --images . --out new/page --workers 1", RECORDED, KINDS),
    Verb("page of two", "report {other} {run} --out new/page --workers 1", (*RECORDED, "run.json")),
    Verb("records", "report {run} --parquet new/records.parquet", RECORDED, KINDS),
    Verb("boxes", "data export {run} --coco --images . --to new/coco", RECORDED, ("asked", "several")),
    Verb("boxes where they were", "data export {run} --coco --to new/coco", ("run.json",)),
    Verb("card", "train card {model} --report {run}", SCORED, KINDS),
    Verb(
        "eval",
        "eval mig-bench --model scripted:script.jsonl --data data.json --images . --out {run} --fail-on-error 1",
        ("run.json", "answers.jsonl"),
    ),
    Verb("notebook", "", (*RECORDED, "run.json"), KINDS),
)


def make_world(home: Path) -> None:
    """Three runs of each kind's own questions and another beside each, in `home`, which becomes the working folder."""
    home.mkdir(parents=True)
    (home / "MIG-Bench/images").mkdir(parents=True)
    for at, name in enumerate(IMAGES):
        Image.new("RGB", (64, 48), (60 * at, 90, 90)).save(home / name)
    tasks = ("diff", "region", "reasoning", "group_grounding")
    rows = [
        {
            "task": tasks[at % 4],
            "images": list(IMAGES[: 2 + at % 2]),
            "question": f"Number {at}: find it in the second image.",
            "answer": [0.5, 0.1, 0.1, 0.5] if at == 7 else [0.1, 0.1, 0.5, 0.5],
        }
        for at in range(8)
    ]
    (home / "data.json").write_text(json.dumps(rows))
    asked = load_benchmark("mig-bench", home / "data.json")
    prompts = [asked.prompt(one, "corrected", QWEN2_VL, None) for one in asked.questions]
    script = [{"prompt": prompt, "reply": REPLIES[at % 4]} for at, prompt in enumerate(prompts) if at != 4]
    _write_lines(home / "script.jsonl", script)
    _write_lines(home / "other.jsonl", [{"index": at, "response": REPLIES[(at + 1) % 4]} for at in range(8)])
    options = {"task": "subtle_difference", "image": list(IMAGES[:2]), "options": ["a", "b"], "answer": "a"}
    (home / "mibench.json").write_text(json.dumps([{**options, "question": f"Which, {at}?"} for at in range(4)]))
    shots = [
        {**row, "task": "common_object", "images": list(IMAGES), "question": f"Find the cup {at} in the {nth}th image."}
        for at, row in enumerate(rows[:2])
        for nth in (1, 2)
    ]
    (home / "shots.json").write_text(json.dumps(shots))
    with contextlib.chdir(home):
        said = "--data data.json --images . --out asked --fail-on-error 1"
        _made(f"eval mig-bench --model scripted:script.jsonl {said}")
        _made("score mig-bench --data data.json --answers other.jsonl --out asked-other")
        for kind, bench, data in (
            ("choices", "mibench", "mibench.json"),
            ("several", "mig-bench-one-shot", "shots.json"),
        ):
            for name, reply in ((kind, "A"), (f"{kind}-other", "Image-1: (100,100),(500,500)")):
                _write_lines(Path("some.jsonl"), [{"index": 0, "response": reply}])
                _made(f"score {bench} --data {data} --answers some.jsonl --out {name}")
    _model(home / "model")


def _made(words: str) -> None:
    status, error = command(words.split())
    assert status == 0, error


def _model(folder: Path) -> None:
    from fault_world import _weights  # late: it needs torch

    _weights(folder, 0)


def _write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@dataclass(frozen=True, slots=True)
class Try:
    """One spoiled file and one verb, and what was wrong with how it ended; empty where nothing was."""

    what: str
    wrong: str
    refused: bool
    """Whether the verb said what is wrong with the file."""


def sweep(home: Path, seed: int, tries: int) -> Iterator[Try]:
    """`tries` of all ways to spoil a run, for each of the verbs alike; `home` is a new folder."""
    world, work = home / "world", home / "work"
    make_world(world)
    dice = random.Random(seed)
    sound = {run: tree(world / run) for run in KINDS}
    ways = [(verb, run, file) for verb in VERBS for run in verb.runs for file in verb.reads if Path(file) in sound[run]]

    wanted = Counter(ways[number % len(ways)][1:] for number in range(tries))
    drawn = {
        (run, file): iter(_drawn(mutations(sound[run][Path(file)] or b"", lines=file.endswith("l")), count, dice))
        for (run, file), count in wanted.items()
    }
    for number in range(tries):
        verb, run, file = ways[number % len(ways)]
        one = next(drawn[run, file])
        yield attempt(world, work, verb, run, file, one.content, one.what)


def _drawn(every: Iterable[Mutation], count: int, dice: random.Random) -> list[Mutation]:
    """So many of them, drawn evenly, of which no more than those are ever kept; again from the first where all are."""
    kept: list[Mutation] = []
    for number, one in enumerate(every):
        place = number if number < count else dice.randrange(number + 1)
        if place < count:
            kept[place : place + 1] = [one]
    dice.shuffle(kept)
    return list(itertools.islice(itertools.cycle(kept), count))


def attempt(world: Path, work: Path, verb: Verb, run: str, file: str, content: bytes, what: str = "") -> Try:
    """How a verb takes a spoiled file of a run in `work`, a copy of the world."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(world, work, symlinks=True)
    (work / run / file).write_bytes(content)
    with contextlib.chdir(work):
        before = tree(Path())
        status, error = call(verb, run)
        after = tree(Path())
    wrong = ""
    if status == 2 and len(error.splitlines()) != 1:
        wrong = f"not one line: {error!r}"
    elif status == 2 and before != after:
        wrong = f"left behind: {sorted(map(str, dict(before.items() ^ after.items())))}"
    elif status not in (0, 2):
        wrong = error.strip().splitlines()[-1]
    return Try(f"{verb.name} | {run}/{file}: {what}", wrong, status == 2)


def call(verb: Verb, run: str) -> tuple[int, str]:
    """A verb over a run of the working folder: its status, and what it wrote to stderr."""
    words = verb.words.format(run=run, other=f"{run}-other", model="model").split()
    return command(words) if words else noted(lambda: _in_a_notebook(Path(run)))


def _in_a_notebook(run: Path) -> None:
    opened = runs.open_run(run)
    repr(opened), opened._repr_markdown_()
    elsewhere = runs.open_run(run, images=Path())
    for index in opened.records:
        elsewhere.show(index)
    opened.to_dataset()
    both = runs.compare(opened, runs.open_run(Path(f"{run}-other")))
    repr(both), both._repr_markdown_(), both.only_first, both.only_second
    if opened.scoring.has_boxes:
        elsewhere.to_coco("new/coco")


def command(words: list[str]) -> tuple[int, str]:
    """A verb, run in this process as the command runs it: its status, and what it wrote to stderr."""
    before, sys.argv = (sys.argv, cli.app), ["migician", *words]
    cli.app = _built()
    try:
        return noted(cli.main)
    finally:
        sys.argv, cli.app = before


@cache
def _built() -> Any:
    return get_command(cli.app)


def noted(call: Callable[[], None]) -> tuple[int, str]:
    """Status and text of an error, as of a command: 2 for the user's, 1 and a traceback for any other."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2)]
    status = 0
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            call()
        except SystemExit as end:
            status = int(end.code or 0)
        except UserError as error:
            status = 2
            print(one_line(str(error)), file=sys.stderr)  # as `note`
        except Exception:  # noqa: BLE001 - any may be the fault that is looked for
            status = 1
            traceback.print_exc()
    streams[1].flush()
    return status, streams[1].buffer.getvalue().decode()


def tree(folder: Path) -> dict[Path, bytes | None]:
    """Every file and folder below one, by its name there, and what is in it."""
    return {path.relative_to(folder): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}
