"""Try thousands of faults on the verbs of this checkout and print a table of how many passed, by kind.

python scripts/fault_matrix.py                      all kinds, about 3,500 tries
python scripts/fault_matrix.py --only killed        one kind
python scripts/fault_matrix.py --scale 0.1          a tenth of the tries
python scripts/fault_matrix.py --seed 7             other moments and other damage

Every try is drawn by the seed, uses nothing but this machine, and happens below one temporary folder. A verb runs in a
forked child, in which each of its file operations is counted: at one of them the child is killed, stopped while another
does the same, or made to see a full disk. Then the same command runs again, and its result must be the bytes of an
undisturbed run, with nothing hidden beside it. Damaged inputs must be named in one line. Status 1 if one try fails.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
TESTS = REPOSITORY / "tests"
sys.path[:0] = [str(REPOSITORY), str(TESTS), *(str(one) for one in sorted(TESTS.iterdir()) if one.is_dir())]

from border_tries import source_tries, verb_tries  # noqa: E402
from command_line import Ended, command  # noqa: E402
from fault_world import make_world  # noqa: E402
from spoiled_runs import sweep  # noqa: E402
from test_faults import LINES, every_try  # noqa: E402

from migician import cli, errors  # noqa: E402
from migician.miniature import Amounts  # noqa: E402
from migician.miniature import make_world as drawn_world  # noqa: E402

_BUILD = "region_locating --source objects365={drawn} --config {miniature} --workers 1"
MAKERS: dict[str, str] = {
    "build": f"{_BUILD} --out {{out}}",
    "build --collect": f"{_BUILD} --collect --out {{out}}",
    "dev index": "coco={coco} --out {out}",
    "data convert llava": "llava --from {llava} --images {images} --out {out}.json",
    "data mix": "--part {samples}=1 --count 2 --out {out}.json",
    "data export": "{built} --to {out}",
    "data export --coco": "{run} --coco --images {images} --to {out}",
    "train merge": "{model} {other} --out {out}",
    "eval": "mig-bench --model constant:100,100,500,500 --data {bench} --images {images} --out {out}",
    "score": "mig-bench --data {bench} --answers {answers} --out {out}",
    "dev baseline": "mig-bench --data {bench} --out {out}",
    "compare": "{run} {run} --out {out}",
    "report": "{run} --out {out} --workers 1",
    "report, dataset": "{built} --out {out} --workers 1",
    "report --parquet": "{run} --parquet {out}.parquet",
    "train curves": "{saves} --out {out}.png",
}
"""Verbs that make something, by name: what they are given. {out} is where it appears."""

_ONE_LINE = "one line with the file and what is wrong with it, or what it means without; nothing is left"
_TIMES = re.compile(rb'"(date|[a-z_]*seconds)": ?("[^"]*"|[0-9.e-]+)')
_WRITES = os.O_WRONLY | os.O_RDWR
_NEEDS_ROOM = ("open", "os.mkdir", "os.symlink", "os.link")
_KNOWN: list[Verb] = []
_CHANGES = (*_NEEDS_ROOM, "os.rename", "os.remove", "os.rmdir", "os.truncate")


@dataclass
class Kind:
    """What became of the tries of one kind."""

    name: str
    wanted: str
    """What bearing it means."""
    tries: int = 0
    failed: list[str] = field(default_factory=list)

    def add(self, what: str, wrong: str) -> None:
        """Count one try; `wrong` says what happened that must not, empty where nothing did."""
        self.tries += 1
        if wrong:
            self.failed.append(f"{what}: {wrong}")


@dataclass(frozen=True)
class Verb:
    """A verb that makes something, and what it makes when nothing happens."""

    name: str
    words: tuple[str, ...]
    made: dict[str, bytes | None]
    """By path below the folder that {out} is in: what is the same each time; None for a folder or what differs."""
    steps: int
    """File operations that change something."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=KINDS, action="append", help="kinds to try; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of tries")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    errors._PATIENCE_S = 0.5  # for a file that another process writes: one that is stopped does not go on meanwhile
    found = []
    print("| fault | tries | held | holding means |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="fault-matrix-") as home:
        os.environ["XDG_CACHE_HOME"] = f"{home}/cache"
        world = whole_world(Path(home) / "world")
        for name in options.only or KINDS:
            make, tries = KINDS[name]
            rng = random.Random(f"{options.seed} {name}")
            (Path(home) / "tries").mkdir(exist_ok=True)
            os.chdir(Path(home) / "tries")
            kind = make(world, Path(home), rng, max(1, round(tries * options.scale)))
            print(f"| {kind.name} | {kind.tries:,} | {kind.tries - len(kind.failed):,} | {kind.wanted} |", flush=True)
            found += kind.failed
    print(*(f"\n{one}" for one in found[:50]), file=sys.stderr)
    return 1 if found else 0


def whole_world(home: Path) -> dict[str, Path]:
    """Something sound of all that the verbs read."""
    world = make_world(home, command)
    world["miniature"] = REPOSITORY / "configs/miniature.yaml"
    world["drawn"] = drawn_world(home / "drawn", 0, Amounts(objects365=6))["objects365"]
    world["built"] = home / "built"
    words = MAKERS["build --collect"].format_map(world | {"out": world["built"]}).split()
    if (ended := command("build", *words)).status:
        raise SystemExit(ended.error)
    return world


def killed(world: dict[str, Path], home: Path, rng: random.Random, tries: int) -> Kind:
    """Killed at any file operation, twice in a row in every fourth try, then the same command again."""
    kind = Kind(
        "killed (-9) between two file operations", "the same command then makes the same bytes, nothing is left"
    )
    for verb, place in _drawn(world, home, rng, tries):
        steps = [rng.randrange(verb.steps) for _ in range(1 + (rng.random() < 0.25))]
        for step in steps:
            run(verb, place, _at(step, signal.SIGKILL))
        kind.add(f"{verb.name}, killed at {steps} of {verb.steps}", again(verb, place))
    return kind


def full(world: dict[str, Path], home: Path, rng: random.Random, tries: int) -> Kind:
    """The disk has no room from some file operation on; what is there can still be renamed and removed."""
    kind = Kind(
        "disk full from some file operation on",
        "one line, status 2, and no file that is not whole; then as above",
    )

    def refuse(step: int) -> Callable[[int, str], None]:
        def at(number: int, event: str) -> None:
            if number >= step and event in _NEEDS_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return at

    for verb, place in _drawn(world, home, rng, tries):
        step = rng.randrange(verb.steps)
        ended = run(verb, place, refuse(step))
        kind.add(f"{verb.name}, full at {step} of {verb.steps}", _refused(ended, verb, place) or again(verb, place))
    return kind


def cut(world: dict[str, Path], home: Path, rng: random.Random, tries: int) -> Kind:
    """No file may grow beyond some bytes: writing fails in the middle of one."""
    kind = Kind("writing fails in the middle of a file", "as above")
    for verb, place in _drawn(world, home, rng, tries):
        largest = max((len(content) for content in verb.made.values() if content), default=1)
        most = rng.randrange(largest + 1)
        ended = run(verb, place, None, most)
        kind.add(f"{verb.name}, no file beyond {most} bytes", _refused(ended, verb, place) or again(verb, place))
    return kind


def together(world: dict[str, Path], home: Path, rng: random.Random, tries: int) -> Kind:
    """One is stopped at a file operation while a second does all of the same; then the first continues."""
    kind = Kind(
        "two at once on one target: one stopped at any file operation, the other run, the first then continued",
        "one result, equal to an undisturbed one; the other says so in one line",
    )
    for verb, place in _drawn(world, home, rng, tries):
        step = rng.randrange(verb.steps)
        first = start(verb, place, _at(step, signal.SIGSTOP))
        _, state = os.waitpid(first.process, os.WUNTRACED)
        if not os.WIFSTOPPED(state):
            raise SystemExit(f"{verb.name} ended before file operation {step}: {first.said.read_text()}")
        second = end(start(verb, place, None))
        os.kill(first.process, signal.SIGCONT)
        ended = [end(first), second]
        wrong = next((found for one in ended if (found := _said(one))), "")
        if not wrong and all(one.status for one in ended):
            wrong = f"neither made it: {[one.error for one in ended]}"
        kind.add(f"{verb.name}, stopped at {step} of {verb.steps}", wrong or _differs(verb, place))
    return kind


def inputs(world: dict[str, Path], home: Path, rng: random.Random, tries: int) -> Kind:
    """Whole files and folders, as `tests/test_faults.py` has them; at most `tries` per verb, in order."""
    kind = Kind("a file or folder that a verb reads is another thing, or is not there", _ONE_LINE)
    for verb in (verb for verb in LINES if verb != "fetch"):
        place = home / "inputs" / verb
        place.mkdir(parents=True)
        os.chdir(place)
        _count(kind, itertools.islice(every_try(verb, world, place), tries))
    return kind


def values(world: dict[str, Path], home: Path, rng: random.Random, tries: int) -> Kind:
    """Single values in what verbs read; see `tests/border_tries.py`."""
    kind = Kind("one value in a file that a verb reads: huge numbers, deep nesting, endless names", _ONE_LINE)
    return _count(kind, verb_tries(LINES, world, home / "tries", command, rng.randrange(1 << 30), tries))


def annotations(world: dict[str, Path], home: Path, rng: random.Random, tries: int) -> Kind:
    """Single values in the annotations of the twelve sources."""
    kind = Kind("the same in the annotations of each of the sources", _ONE_LINE)
    return _count(kind, source_tries(home / "sources", command, rng.randrange(1 << 30), tries))


def folders(world: dict[str, Path], home: Path, rng: random.Random, tries: int) -> Kind:
    """Files of run folders; see `tests/spoiled_runs.py`."""
    kind = Kind("a run folder: a field missing or of another kind, a file cut, empty or marked", _ONE_LINE)
    return _count(kind, ((one.what, one.wrong) for one in sweep(home / "runs", rng.randrange(1 << 30), tries)))


KINDS: dict[str, tuple[Callable[[dict[str, Path], Path, random.Random, int], Kind], int]] = {
    "killed": (killed, 320),
    "full": (full, 240),
    "cut": (cut, 160),
    "together": (together, 240),
    "inputs": (inputs, 1000),
    "values": (values, 700),
    "annotations": (annotations, 400),
    "folders": (folders, 700),
}


@dataclass(frozen=True)
class Child:
    """A verb at work."""

    process: int
    said: Path
    """What it writes to stderr."""


def start(verb: Verb, place: Path, at: Callable[[int, str], None] | None, most: int | None = None) -> Child:
    """A child that runs `verb` with {out} in `place`; `at` is called before each file operation that changes something.

    No file of it may be larger than `most` bytes.
    """
    said = place.parents[1] / f"said-{time.monotonic_ns()}.txt"
    sys.stdout.flush()
    process = os.fork()
    if process:
        return Child(process, said)
    status = 70
    try:
        if at:
            sys.addaudithook(_counting(place, at))
        if most is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        ended = command(*(word.format(out=place / "made") for word in verb.words))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said.write_text(ended.error)
        status = ended.status
    finally:
        os._exit(status)


def end(child: Child) -> Ended:
    """Wait for a child; a status below 0 is a signal."""
    _, state = os.waitpid(child.process, 0)
    error = child.said.read_text() if child.said.exists() else ""
    child.said.unlink(missing_ok=True)
    return Ended(os.waitstatus_to_exitcode(state), "", error)


def run(verb: Verb, place: Path, at: Callable[[int, str], None] | None, most: int | None = None) -> Ended:
    return end(start(verb, place, at, most))


def again(verb: Verb, place: Path) -> str:
    """The same command, undisturbed: what is wrong with how it ends and what it made."""
    ended = run(verb, place, None)
    if ended.status:
        return f"the same command again: status {ended.status}: {ended.error.strip()}"
    return _differs(verb, place)


def content(place: Path) -> dict[str, bytes | None]:
    """Everything below a folder by its path, the times in it left out; None for a folder."""
    return {
        str(path.relative_to(place)): _TIMES.sub(rb'"\1":0', path.read_bytes()) if path.is_file() else None
        for path in sorted(place.rglob("*"))
    }


def _count(kind: Kind, tried: Iterable[tuple[str, str]]) -> Kind:
    for what, wrong in tried:
        kind.add(what, wrong)
    return kind


def _at(step: int, sent: signal.Signals) -> Callable[[int, str], None]:
    """Send itself a signal before the file operation of that number."""
    return lambda number, _: os.kill(os.getpid(), sent) if number == step else None


def _counting(place: Path, at: Callable[[int, str], None]) -> Callable[[str, tuple[Any, ...]], None]:
    numbers = iter(range(1 << 62))
    below = f"{place}/"

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event not in _CHANGES or (event == "open" and not (isinstance(given[2], int) and given[2] & _WRITES)):
            return
        if any(isinstance(one, (str, os.PathLike)) and str(one).startswith(below) for one in given):
            at(next(numbers), event)

    return hook


def _drawn(world: dict[str, Path], home: Path, rng: random.Random, tries: int) -> Iterator[tuple[Verb, Path]]:
    """Verbs in turn, each with an empty place."""
    if not _KNOWN:
        _KNOWN.extend(_undisturbed(name, world, home) for name in MAKERS)
    for number in range(tries):
        place = home / "tries" / "here"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        yield _KNOWN[number % len(_KNOWN)], place


def _undisturbed(name: str, world: dict[str, Path], home: Path) -> Verb:
    verb = max((verb for verb in cli.VERBS if name.startswith(verb)), key=len)
    words = (*verb.split(), *MAKERS[name].format_map({**world, "out": "{out}"}).split())
    place = home / "tries" / "here"
    counted, made, steps = home / "steps", [], 0
    for _ in range(2):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        ended = run(Verb(name, words, {}, 0), place, lambda at, _: counted.write_text(str(at + 1)) and None)
        if ended.status:
            raise SystemExit(f"{name}: {ended.error}")
        steps = int(counted.read_text())
        made.append(content(place))
    first, second = made
    assert first.keys() == second.keys(), name
    return Verb(name, words, {path: one if one == second[path] else None for path, one in first.items()}, steps)


def _differs(verb: Verb, place: Path) -> str:
    found = content(place)
    if other := found.keys() ^ verb.made.keys():
        return f"left behind, or not made: {sorted(other)}"
    other = [path for path, one in verb.made.items() if one is not None and found[path] != one]
    return f"other bytes than undisturbed: {other}" if other else ""


def _said(ended: Ended) -> str:
    """What is wrong with how a verb spoke."""
    if "Traceback" in ended.error or ended.status not in (0, 2):
        return f"status {ended.status}: {ended.error.strip()[-300:]}"
    is_long = ended.status == 2 and len(ended.error.strip().splitlines()) != 1
    return f"not one line: {ended.error!r}" if is_long else ""


def _refused(ended: Ended, verb: Verb, place: Path) -> str:
    if wrong := _said(ended):
        return wrong
    if ended.status == 0:
        return _differs(verb, place)
    half = [path for path, one in content(place).items() if not _is_whole(path, one, verb)]
    return f"left behind after status 2: {half}" if half else ""


def _is_whole(path: str, one: bytes | None, verb: Verb) -> bool:
    """Whether what is left is as it was to be, or a folder for it; an evaluation keeps what was answered."""
    name = Path(path).name
    return path in verb.made and (one == verb.made[path] or verb.made[path] is None or name == "answers.jsonl")


if __name__ == "__main__":
    sys.exit(main())
