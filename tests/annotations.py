"""The real samples of each source laid out whole, and their boxes read in the plainest way, to check builds against.

Nothing here goes through the readers. Images that the samples lack are blank, of the size that their annotation states.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from native import patched
from PIL import Image
from tracks import place_frames, rows_of, write

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 in thousandths of the image, within it."""
Annotations = dict[str, list[Corners]]
"""By the image's path below the root."""


def corners(x1: float, y1: float, x2: float, y2: float, size: tuple[int, int]) -> Corners:
    """Two corners in pixels, cut to the image."""
    low, high = (max(x1, 0), max(y1, 0)), (min(x2, size[0]), min(y2, size[1]))
    return (*(1000 * value / side for value, side in zip((*low, *high), (*size, *size), strict=True)),)  # type: ignore[return-value]


def xywh(box: Iterable[float], size: tuple[int, int]) -> Corners:
    x, y, width, height = box
    return corners(x, y, x + width, y + height, size)


def blank(file: Path, size: tuple[int, int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(file)


def _instances(content: Any, place: Callable[[str], str]) -> Annotations:
    images = {one["id"]: one for one in content["images"]}
    found: Annotations = {place(one["file_name"]): [] for one in content["images"]}
    for one in content["annotations"]:
        if not (one.get("iscrowd") or one.get("isfake") or one.get("isreflected")):
            image = images[one["image_id"]]
            found[place(image["file_name"])].append(xywh(one["bbox"], (image["width"], image["height"])))
    return found


def coco(real: Path, root: Path) -> Annotations:
    shutil.copytree(real / "coco", root, dirs_exist_ok=True)
    content = json.loads((root / "annotations/instances_train2017.json").read_text())
    return _instances(content, lambda name: f"train2017/{name}")


def objects365(real: Path, root: Path) -> Annotations:
    content = json.loads((real / "objects365/annotations/zhiyuan_objv2_train_viewer_excerpt.json").read_text())
    write(root / "zhiyuan_objv2_train.json", json.dumps(content))

    def place(name: str) -> str:
        return "/".join(["train", *name.split("/")[-2:]])

    for image in content["images"]:
        blank(root / place(image["file_name"]), (image["width"], image["height"]))
    return _instances(content, place)


def imagenet(real: Path, root: Path) -> Annotations:
    shutil.copytree(real / "imagenet", root, dirs_exist_ok=True)
    found: Annotations = {}
    for file in (root / "ILSVRC/Annotations/CLS-LOC/train").rglob("*.xml"):
        text = file.read_text()
        numbers = {tag: [int(value) for value in re.findall(rf"<{tag}>(\d+)<", text)] for tag in _TAGS}
        size = (numbers["width"][0], numbers["height"][0])
        image = f"ILSVRC/Data/CLS-LOC/train/{file.parent.name}/{file.stem}.JPEG"
        blank(root / image, size)
        boxes = zip(*(numbers[tag] for tag in _TAGS[2:]), strict=True)
        found[image] = [corners(x1, y1, x2 + 1, y2 + 1, size) for x1, y1, x2, y2 in boxes]
    return found


_TAGS = ("width", "height", "xmin", "ymin", "xmax", "ymax")


def sa1b(real: Path, root: Path) -> Annotations:
    """SA-1B's own boxes have no words: GranD files made here name each, with the box as its pipeline copies it."""
    found: Annotations = {}
    for number, file in enumerate(sorted((real / "sa1b/sa_000000").glob("*.json"))):
        content = json.loads(file.read_text())
        size = (content["image"]["width"], content["image"]["height"])
        image = f"sa_000000/{file.stem}.jpg"
        write(root / "sa_000000" / file.name, json.dumps(content))
        blank(root / image, size)
        objects = []
        found[image] = []
        for at, mask in enumerate(content["annotations"]):
            x, y, width, height = mask["bbox"]
            box, words = [x, y, x + width, y + height], f"a thing numbered {number} and {at}"
            objects.append({"bbox": box, "labels": [words], "attributes": [words], "segmentation_source": "SAM"})
            found[image].append(corners(x, y, x + width + 1, y + height + 1, size))
        write(root / "GranD" / file.name, json.dumps({f"{file.stem}.jpg": {"objects": objects}}))
    return found


def clevr_change(real: Path, root: Path) -> Annotations:
    """Real images, and boxes made here: the dataset's own were never seen."""
    shutil.copytree(real / "clevr_change", root, dirs_exist_ok=True)
    boxes = {str(n): {"bbox_before": [37 * n, 41, 90, 77], "bbox_after": [37 * n + 5, 38, 91, 76]} for n in range(5)}
    boxes["3"]["bbox_after"] = []
    write(root / "data/change_captions_with_bbox.json", json.dumps(boxes))
    write(root / "data/splits.json", json.dumps({"train": [4, 0, 3, 1, 2, 5]}))
    found: Annotations = {}
    for number, record in boxes.items():
        for stem, box in zip(("images/CLEVR_default", "sc_images/CLEVR_semantic"), record.values(), strict=True):
            found[f"data/{stem}_{int(number):06d}.png"] = [xywh(box, (480, 320))] if box else []
    return found


def img_diff(real: Path, root: Path) -> Annotations:
    """The published records, on images without the red frame."""
    found: Annotations = {}
    for kind in ("replacement", "removal"):
        name = f"img_diff_object_{kind}.json"
        content = json.loads((real / "img_diff" / name).read_text())
        write(root / name, json.dumps(content))
        for record in content:
            numbers = [float(value) for value in re.findall(r"[\d.]+", str(record["bbox"]))]
            for side in (0, 1):
                image = f"{record['path'].removeprefix('./')}_{side}.jpg"
                blank(root / image, (400, 300))
                found[image] = [corners(*numbers, (1, 1))]  # type: ignore[arg-type]
    return found


def magicbrush(real: Path, root: Path) -> Annotations:
    """The real sessions, with masks painted here."""
    sessions = json.loads((real / "magicbrush/dev/edit_sessions.json").read_text())
    few = dict(list(sessions.items())[:12])
    write(root / "train/edit_sessions.json", json.dumps(few))
    found: Annotations = {}
    for at, (session, turns) in enumerate(few.items()):
        folder = f"train/images/{session}"
        blank(root / folder / turns[0]["input"], (300, 200))
        for number, turn in enumerate(turns):
            box = (11 + 7 * at, 20 + 5 * number, 90 + 7 * at, 90 + 5 * number)
            patched(box, (255, 255, 255), (300, 200)).save(root / folder / turn["mask"])
            patched(box, (200, 30 + number, 30), (300, 200)).save(root / folder / turn["output"])
            for image in (turn["input"], turn["output"]):
                found.setdefault(f"{folder}/{image}", []).append(corners(*box, (300, 200)))
    return found


def spot_the_diff(real: Path, root: Path) -> Annotations:
    """The official sentences, with images painted here for the first pairs."""
    records = json.loads((real / "spot_the_diff/data/annotations/val.json").read_text())
    write(root / "data/annotations/train.json", json.dumps(records))
    found: Annotations = {}
    for at, name in enumerate(dict.fromkeys(record["img_id"] for record in records[:60])):
        box = (20 + at, 31 + at // 2, 60 + at, 62 + at // 2)
        for image, colour in ((f"{name}.png", (90, 90, 90)), (f"{name}_2.png", (200, 40, 40))):
            file = root / "data/resized_images" / image
            file.parent.mkdir(parents=True, exist_ok=True)
            patched(box, colour, (224, 224)).save(file)
            found[f"data/resized_images/{image}"] = [corners(*box, (224, 224))]
    return found


_FRAMES = 500
"""Of a sequence; the annotations go on."""


def lasot(real: Path, root: Path) -> Annotations:
    size = (1280, 720)
    shutil.copytree(real / "lasot/toolkit_layout/annos", root / "annos")
    shutil.copy(real / "lasot/LaSOT/training_set.txt", root)
    found: Annotations = {}
    for file in sorted((root / "annos").glob("*.txt")):
        folder = f"{file.stem.rpartition('-')[0]}/{file.stem}/img"
        rows, absent = rows_of(file), (root / "annos/absent" / file.name).read_text().split()
        names = [f"{number:08d}.jpg" for number in range(1, min(_FRAMES, len(rows)) + 1)]
        place_frames(root / folder, names, size)
        for name, row, flag in zip(names, rows, absent, strict=False):
            found[f"{folder}/{name}"] = [] if flag == "1" or min(row[2:]) <= 0 else [xywh(row, size)]
    return found


def trackingnet(real: Path, root: Path) -> Annotations:
    size = (640, 360)
    shutil.copytree(real / "trackingnet", root, dirs_exist_ok=True)
    found: Annotations = {}
    for file in sorted((root / "TRAIN_0/anno").glob("*.txt")):
        folder = f"TRAIN_0/frames/{file.stem}"
        rows = rows_of(file)[:_FRAMES]
        place_frames(root / folder, [f"{number}.jpg" for number in range(len(rows))], size)
        for number, row in enumerate(rows):
            found[f"{folder}/{number}.jpg"] = [xywh(row, size)] if min(row[2:]) > 0 else []
    return found


def mot17(real: Path, root: Path) -> Annotations:
    """All persons to be considered, of whom a sample follows one."""
    shutil.copytree(real / "mot17/MOT17", root, dirs_exist_ok=True)
    found: Annotations = {}
    for file in sorted((root / "train").rglob("gt.txt")):
        folder = file.parent.parent.relative_to(root)
        for frame, _, x, y, width, height, flag, kind, visible in rows_of(file):
            boxes = found.setdefault(f"{folder}/img1/{int(frame):06d}.jpg", [])
            if (flag, kind) == (1, 1) and visible >= 0.25:
                boxes.append(xywh((x - 1, y - 1, width, height), (1920, 1080)))
    return found


SOURCES: dict[str, Callable[[Path, Path], Annotations]] = {
    "clevr_change": clevr_change,
    "coco": coco,
    "imagenet": imagenet,
    "img_diff": img_diff,
    "lasot": lasot,
    "magicbrush": magicbrush,
    "mot17": mot17,
    "objects365": objects365,
    "sa1b": sa1b,
    "spot_the_diff": spot_the_diff,
    "trackingnet": trackingnet,
}
