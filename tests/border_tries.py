"""Verbs on sound files of which one value was replaced by one of `border_inputs`: what was tried, and what is wrong.

`verb_tries` and `source_tries` take a seed and how often to try; nothing is random beyond that. `test_border` tries
some, and whoever measures reliability more.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from border_inputs import spoilt
from fault_world import remove
from native import NATIVES

MOST_LETTERS = 2_200
"""Of a line of error: the names in it are cut."""
_KEEPS = {"eval", "train watch", "plot"}
"""Verbs that may leave something though they fail: a run to resume, the pictures that could be drawn."""
_OTHERS = {"run", "choices"}
"""What an evaluation wrote has tables of its own."""
_SKIPPED = {"fetch"}

Command = Callable[..., Any]
"""A verb with its words; gives `status` and `error`."""


def verb_tries(
    lines: dict[str, Any], world: dict[str, Path], work: Path, command: Command, seed: int, count: int
) -> Iterator[tuple[str, str]]:
    """(what was tried, what is wrong or nothing) for `count` values in what the verbs read, each put back.

    `lines` are those of `test_faults`, `world` is of `fault_world`; `work` is an empty folder, the current one.
    """
    rng = random.Random(seed)
    targets = [
        (verb, line, thing, file)
        for verb, own in lines.items()
        if verb not in _SKIPPED
        for line in own
        for thing in line.things
        if thing in world and thing not in _OTHERS
        for file in ([world[thing] / inner for inner in line.reads.get(thing, ())] or [world[thing]])
        if file.is_file()
    ]
    for _ in range(count):
        verb, line, thing, file = rng.choice(targets)
        places = {**world, **{one: work / f"x{one[3:]}" for one in line.things if one.startswith("out")}}
        words = [re.sub(r"\{(.*?)\}", partial(_place, places), word) for word in line.words.split()]
        sound = file.read_bytes()
        found = spoilt(sound, rng)
        if found is None:  # a picture, or a pickle
            continue
        file.write_bytes(found[1])
        try:
            ended = command(verb, *words)
        finally:
            file.write_bytes(sound)
        left = [path for path in work.iterdir() if verb not in _KEEPS]
        wrong = _fault(ended) or ("left behind: " + ", ".join(map(str, left)) if ended.status == 2 and left else "")
        for path in work.iterdir():
            remove(path)
        yield f"migician {verb} {line.words} | {thing} {file.name} | {found[0]}", wrong


def source_tries(home: Path, command: Command, seed: int, count: int) -> Iterator[tuple[str, str]]:
    """(what was tried, what is wrong or nothing) for `count` values in the annotations of every source."""
    rng = random.Random(seed)
    for at, native in enumerate(NATIVES.values()):
        native.write(home / "world" / str(at))
    for _ in range(count):
        at = rng.randrange(len(NATIVES))
        name, native = list(NATIVES.items())[at]
        root = home / "world" / str(at)
        file = root / rng.choice([*native.files, *native.names])
        sound = file.read_bytes()
        found = spoilt(sound, rng)
        if found is None:
            continue
        file.write_bytes(found[1])
        more = ("--images", root) if native.root else ()
        try:
            ended = command(
                "index", f"{native.source}={root / native.root}", "--split", native.split, *more, "--out", home / "out"
            )
        finally:
            file.write_bytes(sound)
        left = [path.name for path in home.iterdir() if path.name != "world" and ended.status == 2]
        if (home / "out").exists():
            remove(home / "out")
        yield f"{name} | {file.name} | {found[0]}", _fault(ended) or ", ".join(left)


def _fault(ended: Any) -> str:
    last = (ended.error.splitlines() or [""])[-1]
    if "Traceback" in ended.error or ended.status not in (0, 1, 2):
        return f"status {ended.status}: {ended.error[-600:]}"
    if ended.status == 2 and not last.startswith("migician: "):
        return f"not one line: {ended.error[-600:]}"
    if len(last) > MOST_LETTERS:
        return f"a line of {len(last)} letters"
    return f"in the system's words: {last[-200:]}" if last.endswith(": File name too long") else ""


def _place(places: dict[str, Path], thing: re.Match[str]) -> str:
    return str(places[thing[1]])
