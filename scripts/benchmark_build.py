"""Measure indexing and building at the size of the real thing; prints a table in Markdown.

python scripts/benchmark_build.py --folder /tmp/bench               a tenth of Objects365: minutes, 2 GB of disk
python scripts/benchmark_build.py --folder /tmp/bench --scale 1.0   all of it: 1.7 million images, 25 million boxes

Draws an Objects365 v2 annotation file (flat boxes, 365 labels by a power law, 15 boxes an image) and
empty image files, indexes it, and builds 630,000 records from the index; beside it, in the same
run, the floor: encoding and writing the same records with nothing decided. Then crops from real
JPEG files, beside plain decoding and encoding of the same pixels on all cores.
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
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from migician.samples import Sample

IMAGES, BOXES, LABELS = 1_700_000, 15, 365
RECORDS = 630_000
CORES = len(os.sched_getaffinity(0))
RECIPE = {
    "common_object": 150_000,
    "referring_grounding": 80_000,
    "group_grounding": 200_000,
    "free_form": 200_000,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder; removed at the end")
    parser.add_argument("--scale", type=float, default=0.1, help="of Objects365")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True)
    images = int(IMAGES * options.scale)
    print(f"{CORES} cores, {images:,} images, {images * BOXES:,} boxes\n\n| what | seconds | rate | memory at most |")
    print("|---|---|---|---|")
    annotations = draw_annotations(folder / "objects365", images)
    row("annotation file", 0, f"{annotations.stat().st_size / 1e9:.2f} GB", 0)

    def command(*words: object) -> Callable[[], None]:
        line = [sys.executable, "-m", "migician.cli", *map(str, words)]
        return lambda: subprocess.run(line, check=True, stderr=subprocess.DEVNULL) and None

    seconds, memory = measured(command("index", f"objects365={folder / 'objects365'}", "--out", folder / "index"))
    row("indexing", seconds, f"{images * BOXES / seconds:,.0f} boxes/s", memory)
    for records in (RECORDS // 10, RECORDS):
        recipe = write_recipe(folder, records)
        out = folder / f"built-{records}"
        build = command("build", "all", "--config", recipe, "--source", f"objects365={folder / 'index'}", "--out", out)
        seconds, memory = measured(build)
        made = json.loads((out / "card.json").read_text())["samples"]
        row(f"building {made:,} records", seconds, f"{made / seconds:,.0f} records/s", memory)
    seconds = floor(folder / f"built-{RECORDS}", folder / "floor.json")
    row(f"floor: encoding and writing {RECORDS:,} records, one core", seconds, f"{RECORDS / seconds:,.0f} records/s", 0)
    crops(folder / "photos")
    if not options.keep:
        shutil.rmtree(folder)


def row(what: str, seconds: float, rate: str, memory: float) -> None:
    print(f"| {what} | {seconds or '':.4} | {rate} | {f'{memory / 2**30:.2f} GiB' if memory else ''} |", flush=True)


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
        labels = [{"name": f"Thing {number}", "id": number} for number in range(1, LABELS + 1)]
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


def measured(work: Callable[[], None]) -> tuple[float, int]:
    """Seconds, and the most memory (bytes, shared pages once) that this process's children had together."""
    peak, over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.2):
            peak = max(peak, sum(memory_of(child) for child in descendants(os.getpid())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        work()
    finally:
        seconds = time.perf_counter() - start
        over.set()
        watcher.join()
    return seconds, peak


def descendants(process: int) -> Iterator[int]:
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)


def memory_of(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def floor(built: Path, out: Path) -> float:
    samples = msgspec.json.decode((built / "MGrounding-630k.json").read_bytes(), type=list[Sample])
    encoder = msgspec.json.Encoder()
    start = time.perf_counter()
    with out.open("wb") as stream:
        stream.write(b"[\n")
        for sample in samples:
            stream.write(encoder.encode(sample) + b",\n")
    return time.perf_counter() - start


def crops(root: Path, count: int = 1200) -> None:
    """Region locating from JPEG files, against decoding and encoding the same pixels."""
    from migician.build import build

    rng = np.random.default_rng(1)
    train = root / "train2017"
    train.mkdir(parents=True)
    small = rng.integers(0, 255, (16, 24, 24, 3), dtype=np.uint8)
    for number in range(count):
        photo = Image.fromarray(small[number % 16]).resize((640, 480), Image.Resampling.BICUBIC)
        photo.save(train / f"{number:012d}.jpg", quality=90)
    boxes = [(200, 150, 320, 240)] + [(40 * at, 10, 30, 30) for at in range(11)]
    listed = {
        "images": [{"id": at, "file_name": f"{at:012d}.jpg", "width": 640, "height": 480} for at in range(count)],
        "annotations": [
            {"image_id": at, "category_id": 1, "bbox": box, "iscrowd": 0} for at in range(count) for box in boxes
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(listed))
    start = time.perf_counter()
    built = build(["region_locating"], {"coco": root}, root / "built", workers=CORES)
    ours = built.samples / (time.perf_counter() - start)
    start = time.perf_counter()
    with ProcessPoolExecutor(CORES) as pool:
        list(pool.map(decode_and_encode, sorted(train.iterdir()), chunksize=64))
    plain = count / (time.perf_counter() - start)
    row(
        f"{built.samples:,} region samples, one crop each, {CORES} processes", built.samples / ours, f"{ours:,.0f}/s", 0
    )
    row("floor: decoding and encoding the same pixels", count / plain, f"{plain:,.0f}/s", 0)
    print(f"\nregion samples at {ours / plain:.0%} of plain decoding and encoding")


def decode_and_encode(file: Path) -> None:
    with Image.open(file) as opened:
        crop = opened.convert("RGB").crop((200, 150, 520, 390))
    crop.save(file.with_suffix(".plain"), format="JPEG", quality=95, subsampling=0)


if __name__ == "__main__":
    main()
