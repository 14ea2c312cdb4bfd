"""Measure rewards: replies per second on one core, by preset and kind of reply; prints a table in Markdown.

python scripts/benchmark_rewards.py
python scripts/benchmark_rewards.py --replies 100000

Replies are drawn: a bare box, a box after its image's name, the same after a thought and in tags, and two boxes in two
images. Each has its own numbers. The floor, measured in the same run: four numbers found in the same texts by one
expression, and their IoU with the truth, nothing decided. Seconds are those of this process on a core, the best of
`--rounds`.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Sequence

from migician.boxes import Box
from migician.boxtext import QWEN
from migician.training.rewards import PRESETS, Truth, reward

_FOUR = re.compile(r"\((\d+),(\d+)\),\((\d+),(\d+)\)")
_THOUGHT = (
    "The first image shows a kitchen table with a red cup on its left side, and the question asks for the same cup. In "
    "the other image the table was cleared, but the cup was moved to the shelf by the window, where it stands beside "
    "two books. It is partly hidden by the curtain, so its right edge must be guessed from the handle."
)
Row = tuple[str, list[Truth]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"| replies/s | floor | {' | '.join(PRESETS)} |")
    print("|---" * (len(PRESETS) + 2) + "|")
    for kind, draw in KINDS.items():
        rng = random.Random(options.seed)
        rows = [draw(rng) for _ in range(options.replies)]
        rates = [rate(floor, rows, options.rounds)]
        rates += [rate(_of(preset), rows, options.rounds) for preset in PRESETS]
        print(f"| {kind} | {' | '.join(f'{one:,.0f}' for one in rates)} |", flush=True)


def rate(earn: Callable[[str, Sequence[Truth]], object], rows: Sequence[Row], rounds: int) -> float:
    """Replies per second of CPU time, in the best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for reply, truths in rows:
            earn(reply, truths)
        best = min(best, time.process_time() - began)
    return len(rows) / best


def floor(reply: str, truths: Sequence[Truth]) -> float:
    """The least that any reward does."""
    total = 0.0
    for (x1, y1, x2, y2), (_, truth) in zip(_FOUR.findall(reply), truths, strict=False):
        box = Box(float(x1) / 1000, float(y1) / 1000, float(x2) / 1000, float(y2) / 1000)
        total += box.iou(Box(*truth))
    return total


def _of(preset: str) -> Callable[[str, Sequence[Truth]], object]:
    return lambda reply, truths: reward(reply, truths, preset=preset)


def _drawn(rng: random.Random) -> tuple[Truth, str]:
    """A truth, and a box near it as text."""
    x, y, width, height = rng.randint(0, 600), rng.randint(0, 600), rng.randint(50, 300), rng.randint(50, 300)
    corners = (x / 1000, y / 1000, (x + width) / 1000, (y + height) / 1000)
    moved = Box.from_permille(x + rng.randint(0, 40), y + rng.randint(0, 40), x + width + 20, y + height + 20)
    return (rng.randint(0, 3), corners), QWEN.write(moved)


def _bare(rng: random.Random) -> Row:
    truth, box = _drawn(rng)
    return box, [truth]


def _named(rng: random.Random) -> Row:
    truth, box = _drawn(rng)
    return f"Image-{(truth[0] or 0) + 1}: {box}", [truth]


def _thought(rng: random.Random) -> Row:
    reply, truths = _named(rng)
    return f"<think>{_THOUGHT} {rng.random()}</think>\n<answer>{reply}</answer>", truths


def _two(rng: random.Random) -> Row:
    one, other = _named(rng), _named(rng)
    return f"<think>{_THOUGHT}</think>\n<answer>{one[0]}\n{other[0]}</answer>", [*one[1], *other[1]]


KINDS: dict[str, Callable[[random.Random], Row]] = {
    "one box, bare": _bare,
    "one box, its image named": _named,
    "one box, named, after a thought": _thought,
    "two boxes, named, after a thought": _two,
}

if __name__ == "__main__":
    main()
