"""Measure converting records into another convention of boxes; prints a table in Markdown.

python scripts/benchmark_convert.py --folder /tmp/convert                    630,000 drawn records, 2 GB of disk
python scripts/benchmark_convert.py --folder /tmp/convert --file DATA.json   those of a file instead

In the same run, for scale: copying the file, with its bytes flushed to disk; and the floor of converting in Python:
reading the file in one process, finding the numbers of its boxes with one expression, and writing it. Seconds suffer
from other work on the machine; CPU seconds hardly do.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmark_build import CORES, command, measured

from migician.boxes import Box
from migician.boxtext import QWEN, reference
from migician.samples.record_file import JsonRecords
from migician.samples.sample import Sample, sample, write_samples

_BOXES = re.compile(rb"<\|box_start\|>\(([0-9]+),([0-9]+)\),\(([0-9]+),([0-9]+)\)<\|box_end\|>")
_BLOCK = 1 << 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder; removed at the end")
    parser.add_argument("--file", type=Path, help="records in the convention of Qwen2-VL; default: drawn ones")
    parser.add_argument("--records", type=int, default=630_000, help="to draw")
    parser.add_argument("--to", nargs="+", default=["qwen3_vl"], help="the conventions")
    parser.add_argument("--workers", type=int, default=CORES)
    parser.add_argument("--repeat", type=int, default=1, help="how often each is run; the fastest is shown")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    file, out = options.file or options.folder / "drawn.json", options.folder / "out.json"
    if not options.file:
        write_samples(file, drawn(options.records))
    with JsonRecords(file) as records:
        count = len(records)
    print(
        f"{count:,} records, {file.stat().st_size / 1e6:,.0f} MB; {CORES} cores, load {os.getloadavg()[0]:.1f} before\n"
    )
    works = {"copying": lambda: copy(file, out), "the floor": lambda: copy(file, out, find=True)}
    for style in options.to:
        words = ["--from", file, "--to", style, "--out", out, "--workers", options.workers, "--force"]
        works[f"converting to {style}"] = command("data", "convert", "records", *words)
    print("| what | seconds | CPU seconds | records/s | times copying | times the floor |\n|---|---|---|---|---|---|")
    scale: list[float] = []
    for what, work in works.items():
        cost = min((measured(work) for _ in range(options.repeat)), key=lambda cost: cost.seconds)
        scale.append(cost.seconds)
        ratios = [f"{cost.seconds / one:.1f}" for one in (*scale, cost.seconds)[:2]]
        print(f"| {what} | {cost.seconds:.1f} | {cost.cpu:.1f} | {count / cost.seconds:,.0f} | {' | '.join(ratios)} |")
    print(f"\nload {os.getloadavg()[0]:.1f} after")
    shutil.rmtree(options.folder)


def copy(file: Path, out: Path, *, find: bool = False) -> None:
    """Copy a file to disk, perhaps with a look at each of its boxes."""
    with file.open("rb") as source, out.open("wb") as target:
        while block := source.read(_BLOCK):
            if find:
                _BOXES.findall(block)
            target.write(block)
        target.flush()
        os.fsync(target.fileno())


def drawn(count: int) -> Iterator[Sample]:
    """Samples of the sizes and forms of MGrounding-630k: one to three images' names, questions and boxes."""
    rng = random.Random(0)
    for number in range(count):
        images = [f"./MGrounding-630k/Drawn/train/{rng.randrange(10**8):08}.jpg" for _ in range(rng.randint(2, 5))]
        box, other = (QWEN.write(Box.from_permille(*rng.choices(range(1001), k=4))) for _ in range(2))
        thing = reference(f"a thing {rng.randrange(365)}")
        marks = "".join(f"Image-{place + 1}: <image>\n" for place in range(len(images)))
        turns = [
            [(f"{marks}What do all these show? Where is it in Image-2?", f"All show {thing}. In Image-2, here: {box}")],
            [(f"{marks}Look for {thing} in the second image, please.", box)],
            [(f"{marks}Find {thing}.", f"Image-1: {box}\nImage-2: {other}"), ("And the cup?", f"In Image-1. {box}")],
            [(f"{marks}The object in the first image is here: {box}. Find it in the others.", f"Image-2: {other}")],
            [(f"{marks}Where is {thing} of the image with {reference('a tree')}?", f"In the second image. {box}")],
        ]
        yield sample(f"drawn_{number:06}", images, turns[number % len(turns)], "drawn")


if __name__ == "__main__":
    main()
