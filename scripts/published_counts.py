"""Count what configs/mgrounding-630k.yaml gives of sources as large as published; prints a table in Markdown.

python scripts/published_counts.py --folder /tmp/counts          some minutes of one core, 1 GB of disk

Draws an index of each source: as many sequences, people and pairs as published, with boxes like the real ones' (see
each function). Of Objects365, SA-1B and COCO a part is enough, as is the beginning of each video. Then every family
chooses and puts in words as many samples as the recipe asks for; no image is there, so none is opened. Two samples
count as one where they point to the same place in the same images, whatever the words.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from migician.boxes import Box
from migician.build.recipe import read_recipe, settings_of
from migician.sampling import derived
from migician.sources.index.pairs import Pairs, write_pairs
from migician.sources.index.scenes import Scenes, write_scenes
from migician.sources.index.tracks import Tracks, write_tracks
from migician.sources.scenes import Frame, ImagePair, Instance, Scene, Tally, Track
from migician.tasks import TASKS
from migician.tasks.draft import Draft

RECIPE = Path(__file__).resolve().parent.parent / "configs" / "mgrounding-630k.yaml"
ROOT = Path("/")
SIZE = (640, 480)
BATCH = 4096
PUBLISHED = {
    "trackingnet": "30,132 sequences",
    "got10k": "9,335 sequences",
    "lasot": "1,120 sequences",
    "mot17": "546 people",
    "sa1b": "11,185,362 images",
    "objects365": "1,742,289 images",
    "imagenet": "544,546 images with boxes",
    "coco": "118,287 images",
    "clevr_change": "33,830 pairs",
    "magicbrush": "8,807 edits",
    "img_diff": "12,688 replaced objects",
    "spot_the_diff": "9,524 annotations, 36% of one change",
}


def tracks(name: str, count: int, frames: int, together: int = 1) -> Iterator[Track]:
    """Objects that wander about and change their size; `together` of them share the frames of a sequence."""
    rng = random.Random(name)
    for number in range(count):
        folder = f"/{name}/{number // together:06d}"
        width, height = rng.uniform(0.04, 0.4), rng.uniform(0.08, 0.5)
        pace, phase, reach = rng.uniform(0.01, 0.08), rng.uniform(0, 6), rng.uniform(0.05, 0.5)
        shown = []
        for at in range(frames):
            x = (1 - width) * (0.5 + reach * math.sin(phase + pace * at))
            y = (1 - height) * (0.5 + reach * math.cos(phase + 0.7 * pace * at))
            shown.append(Frame(Path(f"{folder}/{at:08d}.jpg"), Box(x, y, x + width, y + height)))
        yield Track(f"{name}-{number}", tuple(shown), f"thing {number % 70}")


def photos(name: str, count: int, labels: int, instances: int, phrases: bool = False) -> Iterator[Scene]:
    """Images with up to twice `instances` boxes, labels by a power law, most boxes small."""
    rng = np.random.default_rng(len(name))
    chances = 1 / np.arange(1, labels + 1) ** 0.7
    chances /= chances.sum()
    for start in range(0, count, BATCH):
        counts = rng.integers(1, 2 * instances, BATCH, endpoint=True).tolist()
        total = sum(counts)
        sides = rng.beta(1, 3, (total, 2)) * 0.97 + 0.02
        corners = rng.random((total, 2)) * (1 - sides)
        kinds = rng.choice(labels, total, p=chances).tolist()
        boxes = zip(np.concatenate([corners, corners + sides], axis=1).tolist(), kinds, strict=True)
        for number, many in enumerate(counts[: count - start], start=start):
            shown = tuple(
                Instance(Box(*box), f"thing {kind}", f"a thing of kind {kind} in image {number}" if phrases else "")
                for box, kind in (next(boxes) for _ in range(many))
            )
            yield Scene(str(number), Path(f"/{name}/{number:08d}.jpg"), SIZE, shown)


def portraits(count: int) -> Iterator[Scene]:
    """ImageNet: one object an image, one in seven of them small (5 of the 35 real files at hand)."""
    rng = random.Random("imagenet")
    for number in range(count):
        side = rng.uniform(0.1, 0.44) if rng.random() < 1 / 7 else rng.uniform(0.5, 0.97)
        x, y = rng.uniform(0, 1 - side), rng.uniform(0, 1 - side)
        instance = Instance(Box(x, y, x + side, y + side), f"class {number % 1000}")
        yield Scene(str(number), Path(f"/imagenet/{number:08d}.JPEG"), SIZE, (instance,))


def pairs(name: str, count: int, box_shown: bool = False) -> Iterator[ImagePair]:
    """Pairs whose change has a box of one tenth to one half of each side."""
    rng = random.Random(name)
    for number in range(count):
        width, height = rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.5)
        x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        box, before = Box(x, y, x + width, y + height), Path(f"/{name}/{number}-0.jpg")
        yield ImagePair(
            f"{name}-{number}", before, Path(f"/{name}/{number}-1.jpg"), box, box, "it moved", False, box_shown
        )


MADE: dict[str, Callable[[], Iterator[Any]]] = {
    "trackingnet": lambda: tracks("trackingnet", 30_132, 120),
    "got10k": lambda: tracks("got10k", 9_335, 100),
    "lasot": lambda: tracks("lasot", 1_120, 600),
    "mot17": lambda: tracks("mot17", 546, 120, together=78),
    "sa1b": lambda: photos("sa1b", 400_000, 4_000, 4, phrases=True),
    "objects365": lambda: photos("objects365", 450_000, 365, 10),
    "imagenet": lambda: portraits(544_546),
    "coco": lambda: photos("coco", 40_000, 80, 7),
    "clevr_change": lambda: pairs("clevr_change", 33_830),
    "magicbrush": lambda: pairs("magicbrush", 8_807),
    "img_diff": lambda: pairs("img_diff", 12_688, box_shown=True),
    "spot_the_diff": lambda: pairs("spot_the_diff", 3_429),
}
KINDS: dict[Any, tuple[Any, Any]] = {
    Scene: (write_scenes, Scenes),
    Track: (write_tracks, Tracks),
    ImagePair: (write_pairs, Pairs),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder; removed at the end")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True)
    recipe = read_recipe(RECIPE)
    print(
        "| family | source | published | asked | reached | repeated | left out most |\n|---|---|---|---:|---:|---:|---|"
    )
    all_asked = all_reached = 0
    opened: dict[str, Any] = {}
    for name, task in recipe.tasks.items():
        for source, asked in task.sources.items():
            if source not in opened:
                opened[source] = index(source, folder / source, TASKS[name].takes)
            reached, repeated, left_out = count(name, task, source, opened[source], asked or 0, recipe.seed)
            reasons = "; ".join(f"{reason}: {many:,}" for reason, many in left_out)
            print(
                f"| {name} | {source} | {PUBLISHED[source]} | {asked:,} | {reached:,} | {repeated} | {reasons} |",
                flush=True,
            )
            all_asked, all_reached = all_asked + (asked or 0), all_reached + reached
    print(f"\n{all_reached:,} of {all_asked:,} samples; {time.process_time():.0f} seconds of a core")
    shutil.rmtree(folder)


def index(source: str, folder: Path, kind: Any) -> Any:
    """The columns of a drawn source."""
    folder.mkdir()
    write, columns = KINDS[kind]
    write(MADE[source](), folder, ROOT)
    return columns(folder)


def count(
    name: str, task: Any, source: str, items: Any, asked: int, seed: int
) -> tuple[int, int, list[tuple[str, int]]]:
    """(samples, of these such as there were before, the most frequent refusals) of one task from one source."""
    tally, settings = Tally(), settings_of(name, task)
    part_seed = derived(seed, name, source)
    plans = TASKS[name].plan(items, part_seed, tally, settings)
    seen: set[int] = set()
    reached = 0
    while reached < asked and (some := take(plans, min(BATCH, asked - reached))):
        for draft in TASKS[name].drafts(items, some, part_seed, settings):
            if isinstance(draft, Draft):
                reached += 1
                seen.add(hash((draft.pictures, draft.targets or draft.turns)))
            else:
                tally.add(draft)
    short = sorted(tally.counts.items(), key=lambda one: -one[1])[:3] if reached < asked else []
    return reached, reached - len(seen), short


def take(plans: Iterator[Any], most: int) -> list[Any]:
    return [plan for _, plan in zip(range(most), plans, strict=False)]


if __name__ == "__main__":
    main()
