"""Writes sequences of the miniature world in the native formats of the tracking datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from migician.miniature import drawing
from migician.miniature.drawing import STYLE, Style
from migician.miniature.saving import each, save, write_lines, xywh


def write_got10k(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training sequences as GOT-10k folders."""

    def write(rng: np.random.Generator, number: int) -> str:
        name = f"GOT-10k_Train_{number:06d}"
        frames, objects = drawing.sequence(rng, style)
        folder = root / "train" / name
        _save_frames(folder, "{:08d}.jpg", 1, frames)
        boxes = [",".join(f"{value:.4f}" for value in xywh(drawn.box)) for drawn in objects]
        write_lines(folder / "groundtruth.txt", boxes)
        write_lines(folder / "absence.label", ["0"] * len(frames))
        write_lines(folder / "cover.label", ["8"] * len(frames))
        write_lines(folder / "cut_by_image.label", ["0"] * len(frames))
        write_lines(folder / "meta_info.ini", _meta(objects[0].label, style))
        return name

    write_lines(root / "train" / "list.txt", each("got10k", count, seed, write))


def write_lasot(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training sequences as LaSOT folders, in the released form.

    Of more than two frames, one in the middle is without the object: it is flagged, and its row keeps the box before.
    """

    def write(rng: np.random.Generator, number: int) -> str:
        absent = int(rng.integers(1, style.frames - 1)) if style.frames > 2 else None
        frames, objects = drawing.sequence(rng, style, absent)
        boxes = [",".join(map(str, xywh(drawn.box))) for drawn in objects]
        flags = ["0"] * len(frames)
        if absent is not None:
            boxes[absent], flags[absent] = boxes[absent - 1], "1"
        kind = objects[0].label.replace(" ", "")  # such as "electricfan"
        folder = root / kind / f"{kind}-{number}"
        _save_frames(folder / "img", "{:08d}.jpg", 1, frames)
        write_lines(folder / "groundtruth.txt", boxes)
        write_lines(folder / "out_of_view.txt", [",".join(flags)])
        write_lines(folder / "full_occlusion.txt", [",".join("0" for _ in frames)])
        write_lines(folder / "nlp.txt", [f"{objects[0].label} gliding over the ground"], end="")
        return folder.name

    write_lines(root / "training_set.txt", each("lasot", count, seed, write))


def write_mot17(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training sequences of two or three objects each as MOT17 folders of one detector."""

    def write(rng: np.random.Generator, number: int) -> None:
        frames, objects = drawing.sequence_of_several(rng, style)
        name = f"MOT17-{number:02d}-FRCNN"
        folder = root / "train" / name
        _save_frames(folder / "img1", "{:06d}.jpg", 1, frames)
        rows = []
        for track, places in enumerate(zip(*objects, strict=True), start=1):
            for frame, (left, top, width, height) in enumerate((xywh(one.box) for one in places), start=1):
                rows.append(f"{frame},{track},{left + 1},{top + 1},{width},{height},1,1,1.0")
        write_lines(folder / "gt" / "gt.txt", rows)
        write_lines(folder / "seqinfo.ini", _sequence_info(name, len(frames), style))

    each("mot17", count, seed, write)


def write_trackingnet(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training sequences as TrackingNet, over all twelve parts in turn, with pytracking's list of classes."""

    def write(rng: np.random.Generator, number: int) -> str:
        frames, objects = drawing.sequence(rng, style)
        part, name = root / f"TRAIN_{number % 12}", f"-drawn{number:05d}_0"  # videos have eleven signs and a number
        _save_frames(part / "frames" / name, "{}.jpg", 0, frames)
        boxes = [",".join(f"{value:5.2f}" for value in xywh(drawn.box)) for drawn in objects]
        write_lines(part / "anno" / f"{name}.txt", boxes, end="\r\n")
        return f"{name}\t{objects[0].label}"

    write_lines(root / "trackingnet_classmap.txt", each("trackingnet", count, seed, write))


def _save_frames(folder: Path, name: str, first: int, frames: Sequence[Image.Image]) -> None:
    """Save `frames` under their numbers, counted from `first` and put into `name`."""
    for number, frame in enumerate(frames, start=first):
        save(frame, folder / name.format(number))


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


def _sequence_info(name: str, frames: int, style: Style) -> list[str]:
    return [
        "[Sequence]",
        f"name={name}",
        "imDir=img1",
        "frameRate=30",
        f"seqLength={frames}",
        f"imWidth={style.size}",
        f"imHeight={style.size}",
        "imExt=.jpg",
        "",
    ]
