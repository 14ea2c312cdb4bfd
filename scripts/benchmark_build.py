"""Measure indexing and building at the size of the real thing; prints a table in Markdown.

python scripts/benchmark_build.py --folder /tmp/bench               a tenth of Objects365: minutes, 2 GB of disk
python scripts/benchmark_build.py --folder /tmp/bench --scale 1.0   all of it: 1.7 million images, 25 million boxes
python scripts/benchmark_build.py --folder /tmp/bench --only crops  a minute

Draws an Objects365 v2 annotation file (flat boxes, 365 labels by a power law, 15 boxes an image) and
empty image files, indexes it, and builds 630,000 records from the index; beside it, in the same
run, the floor: encoding and writing the same records with nothing decided. Then crops from JPEG
files, enough that starting the processes does not matter, beside plain decoding and encoding of the
same pixels on all cores. Wall-clock suffers from other work on the machine; CPU seconds hardly do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from migician.samples.sample import Sample

IMAGES, BOXES, LABELS = 1_700_000, 15, 365
RECORDS = 630_000
REGION = (200, 150, 320, 240)
"""x, y, width, height of what is cut out."""
_KINDS = 300
CORES = len(os.sched_getaffinity(0))
RECIPE = {
    "common_object": 150_000,
    "referring_grounding": 80_000,
    "group_grounding": 200_000,
    "free_form": 200_000,
}


@dataclass(frozen=True)
class Cost:
    """What some work took."""

    seconds: float
    cpu: float
    """Seconds of all its processes on a core, user and system together: hardly changes on a busy machine."""
    memory: int = 0
    """Bytes that its processes had together at most, shared pages once."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder; removed at the end")
    parser.add_argument("--scale", type=float, default=0.1, help="of Objects365")
    parser.add_argument("--photos", type=int, default=6000, help="that crops are cut from")
    parser.add_argument("--only", choices=["records", "crops"], help="measure one half")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True)
    print(f"{CORES} cores, load {os.getloadavg()[0]:.1f} before\n")
    print("| what | seconds | CPU seconds | rate | memory at most |\n|---|---|---|---|---|")
    if options.only != "crops":
        records(folder, int(IMAGES * options.scale))
    if options.only != "records":
        crops(folder / "photos", options.photos)
    print(f"\nload {os.getloadavg()[0]:.1f} after")
    if not options.keep:
        shutil.rmtree(folder)


def records(folder: Path, images: int) -> None:
    """Indexing, building records from the index, and the floor."""
    draw_annotations(folder / "objects365", images)
    cost = measured(command("dev", "index", f"objects365={folder / 'objects365'}", "--out", folder / "index"))
    row(f"indexing {images:,} images, {images * BOXES:,} boxes", cost, images * BOXES, "boxes")
    for count in (RECORDS // 10, RECORDS):
        recipe = write_recipe(folder, count)
        out = folder / f"built-{count}"
        source = f"objects365={folder / 'index'}"
        words = ("build", "all", "--config", recipe, "--source", source, "--out", out, "--workers", CORES)
        cost = measured(command(*words))
        made = json.loads((out / "card.json").read_text())["samples"]
        row(f"building {made:,} records, {CORES} processes", cost, made, "records")
    cost = floor(folder / f"built-{RECORDS}", folder / "floor.json")
    row(f"floor: encoding and writing {RECORDS:,} records, one process", cost, RECORDS, "records")


def command(*words: object) -> Callable[[], None]:
    line = [sys.executable, "-m", "migician.cli", *map(str, words)]
    return lambda: subprocess.run(line, check=True, stderr=subprocess.DEVNULL) and None


def row(what: str, cost: Cost, count: int, unit: str) -> None:
    memory = f"{cost.memory / 2**30:.2f} GiB" if cost.memory else ""
    rate = f"{count / cost.seconds:,.0f} {unit}/s"
    print(f"| {what} | {cost.seconds:.1f} | {cost.cpu:.1f} | {rate} | {memory} |", flush=True)


def draw_annotations(root: Path, images: int) -> Path:
    """An annotation file of the released form, streamed to disk, and an empty file for each image."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, LABELS + 1) ** 0.7
    chances /= chances.sum()
    file = root / "zhiyuan_objv2_train.json"
    file.parent.mkdir(parents=True)
    with file.open("w") as stream:
        stream.write('{"images": [')
        for number in range(images):
            patch = f"patch{number // 34_000}"
            name = f"objects365_v2_{number:08d}.jpg"
            if number % 34_000 == 0:
                (root / "train" / patch).mkdir(parents=True)
            (root / "train" / patch / name).touch()
            entry = {
                "height": 512,
                "id": number,
                "license": 5,
                "width": 768,
                "file_name": f"images/v2/{patch}/{name}",
                "url": "",
            }
            stream.write(("," if number else "") + json.dumps(entry))
        stream.write('], "annotations": [')
        for start in range(0, images, 10_000):
            write_boxes(stream, rng, start, min(10_000, images - start), chances)
        labels = [{"name": f"Instance {number}", "id": number} for number in range(1, LABELS + 1)]
        stream.write(f'], "categories": {json.dumps(labels)}}}')
    return file


def write_boxes(stream, rng, start: int, images: int, chances) -> None:
    count = images * BOXES
    sides = rng.beta(1, 3, (count, 2)) * (764, 508) + 4
    corners = rng.random((count, 2)) * ((768, 512) - sides)
    labels = rng.choice(LABELS, count, p=chances) + 1
    rows = zip(corners.tolist(), sides.tolist(), labels.tolist(), strict=True)
    lines = [
        f'{{"id":{start * BOXES + at},"iscrowd":0,"isfake":0,"area":{w * h!r},"isreflected":0,'
        f'"bbox":[{x!r},{y!r},{w!r},{h!r}],"image_id":{start + at // BOXES},"category_id":{label}}}'
        for at, ((x, y), (w, h), label) in enumerate(rows)
    ]
    stream.write(("," if start else "") + ",".join(lines))


def write_recipe(folder: Path, records: int) -> Path:
    """The families whose records name whole images, in the proportions of `RECIPE`."""
    passes = {"passes": 40}  # enough for all records also at a tenth
    tasks = {
        name: {"sources": {"objects365": count * records // RECORDS}, "settings": passes}
        for name, count in RECIPE.items()
    }
    file = folder / f"recipe-{records}.yaml"
    file.write_text(json.dumps({"tasks": tasks}))  # JSON is YAML
    return file


def measured(work: Callable[[], None]) -> Cost:
    """What `work` costs in this process and those it starts; what a process does in its last 0.2 s is not seen."""
    peak, over = 0, threading.Event()
    cpu: dict[int, float] = {}

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.2):
            running = list(descendants(os.getpid()))
            cpu.update((child, spent) for child in running if (spent := cpu_of(child)))
            peak = max(peak, sum(memory_of(child) for child in running))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, own = time.perf_counter(), time.thread_time()  # not the watching
    try:
        work()
    finally:
        seconds, own = time.perf_counter() - start, time.thread_time() - own
        over.set()
        watcher.join()
    return Cost(seconds, own + sum(cpu.values()), peak)


def descendants(process: int) -> Iterator[int]:
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return
    for task in tasks:
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)


def cpu_of(process: int) -> float:
    """Of the process itself, so far: those it has started and outlived are counted on their own."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def floor(built: Path, out: Path) -> Cost:
    samples = msgspec.json.decode((built / "MGrounding-630k.json").read_bytes(), type=list[Sample])

    def work() -> None:
        encoder = msgspec.json.Encoder()
        with out.open("wb") as stream:
            stream.write(b"[\n")
            for sample in samples:
                stream.write(encoder.encode(sample) + b",\n")

    cost = measured(work)
    return Cost(cost.seconds, cost.cpu)


def crops(root: Path, count: int) -> None:
    """Region locating from an index of JPEG files, against decoding and encoding the same pixels."""
    from migician.build.dataset import build
    from migician.sources.index import make_index

    draw_photos(root, count)
    make_index("coco", root, root / "index")
    ours = measured(
        lambda: build(["region_locating"], {"coco": root / "index"}, root / "built", workers=CORES) and None
    )
    made = json.loads((root / "built" / "card.json").read_text())["samples"]
    row(f"{made:,} region samples, one crop each, {CORES} processes, their start included", ours, made, "crops")
    photos, out = sorted((root / "train2017").iterdir()), root / "plain"
    out.mkdir()

    def plain() -> None:
        with ProcessPoolExecutor(CORES) as pool:
            list(pool.map(decode_and_encode, photos, [out] * count, chunksize=64))

    cost = measured(plain)
    row(f"floor: decoding and encoding the same pixels, {CORES} processes", cost, count, "crops")
    rate, cpu = made / ours.seconds / (count / cost.seconds), cost.cpu / count / (ours.cpu / made)
    print(f"\nregion samples at {rate:.0%} of plain decoding and encoding; by CPU seconds {cpu:.0%}")


def draw_photos(root: Path, count: int) -> None:
    """`count` photos of 300 kinds, and a region in each, as COCO has them."""
    rng = np.random.default_rng(1)
    train = root / "train2017"
    train.mkdir(parents=True)
    for number in range(count):
        file = train / f"{number:012d}.jpg"
        if number >= _KINDS:
            os.link(train / f"{number % _KINDS:012d}.jpg", file)
            continue
        small = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(file, quality=90)
    boxes = [REGION, *((40 * at, 10, 30, 30) for at in range(11))]
    listed = {
        "images": [{"id": at, "file_name": f"{at:012d}.jpg", "width": 640, "height": 480} for at in range(count)],
        "annotations": [
            {"image_id": at, "category_id": 1, "bbox": box, "iscrowd": 0} for at in range(count) for box in boxes
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(listed))


def decode_and_encode(file: Path, out: Path) -> None:
    x, y, width, height = REGION
    with Image.open(file) as opened:
        crop = opened.convert("RGB").crop((x, y, x + width, y + height))
    crop.save(out / file.name, format="JPEG", quality=95, subsampling=0)


if __name__ == "__main__":
    main()
