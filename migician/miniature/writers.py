"""Writes the miniature world in the native formats of its source datasets, one function a format."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from PIL import Image, ImageDraw

from migician.errors import UserError
from migician.miniature import drawing, held_out
from migician.miniature.drawing import STYLE, Drawn, Style
from migician.seeds import stream

_Written = TypeVar("_Written")
TRAIN, TEST = "train", "held-out"
"""First word of every stream's key, so that no training picture is drawn from a stream of the held-out set."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each source is drawn, and how many held-out questions a task."""

    got10k: int = 3000
    """Sequences."""
    coco: int = 4000
    """Images with one large object."""
    objects365: int = 1000
    """Crowded images."""
    magicbrush: int = 3400
    """Edits."""
    held_out: int = 100


def make_world(out: str | Path, seed: int, amounts: Amounts | None = None, style: Style = STYLE) -> dict[str, Path]:
    """Draw the world into the new folder `out`; gives the root of each source, and of "mig-bench".

    `out/sources/<name>` are roots for `migician build`; `out/MIG-Bench/MIG_data.json` is the
    held-out set, its image root `out`. Same arguments, same bytes. Raises `UserError` if `out` exists
    and is not empty; nothing half-drawn is left behind.
    """
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: exists and is not empty; remove it or choose another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    wanted = amounts or Amounts()
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        partial.chmod(0o755)
        for name, write in WRITERS.items():
            write(partial / "sources" / name, getattr(wanted, name), seed, style)
        held_out.write_bench(partial, wanted.held_out, lambda *key: stream(seed, TEST, *key), style)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {name: target / "sources" / name for name in WRITERS} | {"mig-bench": target}


def write_got10k(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training sequences as GOT-10k folders."""

    def write(number: int) -> str:
        name = f"GOT-10k_Train_{number:06d}"
        frames, objects = drawing.sequence(stream(seed, TRAIN, "got10k", number), style)
        folder = root / "train" / name
        folder.mkdir(parents=True)
        for position, frame in enumerate(frames, start=1):
            save_jpeg(frame, folder / f"{position:08d}.jpg")
        boxes = [",".join(f"{value:.4f}" for value in _xywh(drawn)) for drawn in objects]
        _write_lines(folder / "groundtruth.txt", boxes)
        _write_lines(folder / "absence.label", ["0"] * len(frames))
        _write_lines(folder / "cover.label", ["8"] * len(frames))
        _write_lines(folder / "cut_by_image.label", ["0"] * len(frames))
        _write_lines(folder / "meta_info.ini", _meta(objects[0].label, style))
        return name

    names = _each(count, write)
    (root / "train").mkdir(parents=True, exist_ok=True)
    _write_lines(root / "train" / "list.txt", names)


def write_coco(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training images as COCO instances; what is small counts as ground, the target alone is annotated."""
    folder = root / "train2017"
    folder.mkdir(parents=True)

    def write(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        image, target = drawing.still(stream(seed, TRAIN, "coco", number), style)
        name = f"{number:012d}.jpg"
        save_jpeg(image, folder / name)
        listed = {"license": 1, "file_name": name, "height": style.size, "width": style.size, "id": number}
        return listed, _annotation(number, number, target) | {"segmentation": []}

    written = _each(count, write)
    content = _instances([image for image, _ in written], [annotation for _, annotation in written])
    _write_json(root / "annotations" / "instances_train2017.json", content)


def write_objects365(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` crowded training images, all their objects annotated, as Objects365 v2."""

    def write(number: int) -> tuple[dict[str, Any], list[Drawn]]:
        image, objects = drawing.crowded(stream(seed, TRAIN, "objects365", number), style)
        patch, name = f"patch{number // 1000}", f"objects365_v2_{number:08d}.jpg"
        (root / "train" / patch).mkdir(parents=True, exist_ok=True)
        save_jpeg(image, root / "train" / patch / name)
        listed = {
            "height": style.size,
            "id": number,
            "license": 5,
            "width": style.size,
            "file_name": f"images/v2/{patch}/{name}",
            "url": "",
        }
        return listed, objects

    written = _each(count, write)
    boxes = [(image["id"], drawn) for image, objects in written for drawn in objects]
    flags = {"isfake": 0, "isreflected": 0}
    annotations = [
        _annotation(position, image, drawn) | flags for position, (image, drawn) in enumerate(boxes, start=1)
    ]
    root.mkdir(parents=True, exist_ok=True)
    _write_json(root / "zhiyuan_objv2_train.json", _instances([image for image, _ in written], annotations))


def write_magicbrush(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training sessions of one edit each as MagicBrush folders."""

    def write(number: int) -> tuple[str, list[dict[str, str]]]:
        before, after, box, instruction = drawing.edit(stream(seed, TRAIN, "magicbrush", number), style)
        mask = before.copy()
        ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(255, 255, 255))
        name = str(number)
        turn = {"input": f"{name}-input.png", "mask": f"{name}-mask1.png", "output": f"{name}-output1.png"}
        folder = root / "train" / "images" / name
        folder.mkdir(parents=True)
        for file, image in zip(turn.values(), (before, mask, after), strict=True):
            save_png(image, folder / file)
        return name, [turn | {"instruction": instruction}]

    sessions = dict(_each(count, write))
    _write_json(root / "train" / "edit_sessions.json", sessions)
    _write_json(root / "train" / "edit_turns.json", [turn for turns in sessions.values() for turn in turns])


def _each(count: int, write: Callable[[int], _Written]) -> list[_Written]:
    """What `write` gives for 1..count, in order; while one waits for the disk, another draws."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(write, range(1, count + 1)))


WRITERS: dict[str, Callable[[Path, int, int, Style], None]] = {
    "got10k": write_got10k,
    "coco": write_coco,
    "objects365": write_objects365,
    "magicbrush": write_magicbrush,
}


def save_jpeg(image: Image.Image, file: Path) -> None:
    """Save with next to no loss: a pixel of a tiny picture weighs much."""
    image.save(file, format="JPEG", quality=95, subsampling=0)


def save_png(image: Image.Image, file: Path) -> None:
    """Save fast rather than small."""
    image.save(file, format="PNG", compress_level=1)


def _xywh(drawn: Drawn) -> list[int]:
    x1, y1, x2, y2 = drawn.box
    return [x1, y1, x2 - x1, y2 - y1]


_CATEGORIES = {name: number for number, name in enumerate((*drawing.KINDS, drawing.MAT), start=1)}


def _annotation(number: int, image: int, drawn: Drawn) -> dict[str, Any]:
    box = _xywh(drawn)
    return {
        "id": number,
        "iscrowd": 0,
        "area": box[2] * box[3],
        "bbox": box,
        "image_id": image,
        "category_id": _CATEGORIES[drawn.label],
    }


def _instances(images: Sequence[Any], annotations: Sequence[Any]) -> dict[str, Any]:
    categories = [{"name": name, "id": number} for name, number in _CATEGORIES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _meta(label: str, style: Style) -> list[str]:
    return [
        "[METAINFO]",
        "url: drawn by migician.miniature",
        "begin: 00:00:00",
        "end: 00:00:01",
        "anno_fps: 10Hz",
        f"object_class: {label}",
        "motion_class: gliding",
        "major_class: shape",
        "root_class: object",
        "motion_adverb: slowly",
        f"resolution: ({style.size}, {style.size})",
    ]


def _write_lines(file: Path, lines: Sequence[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.encode(content))
