"""Writes pairs of pictures that differ in one place as MagicBrush, CLEVR-Change, Img-Diff and Spot-the-Diff."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from migician.miniature import drawing
from migician.miniature.drawing import STYLE, Style
from migician.miniature.saving import each, save, write_json, xywh

CANVAS = (480, 320)
"""Size of all images of CLEVR-Change. The drawn picture lies on a table of one grey."""
TABLE = (122, 116, 104)
JITTER_PX = 6
"""Furthest that the camera of CLEVR-Change moves between two images."""

PLAIN = 40
"""Least difference of a colour, of 255, in every part of a change of Spot-the-Diff."""


def write_magicbrush(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training sessions of one edit each as MagicBrush folders."""

    def write(rng: np.random.Generator, number: int) -> tuple[str, list[dict[str, str]]]:
        before, after, box, instruction = drawing.edit(rng, style)
        mask = before.copy()
        ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(255, 255, 255))
        name = str(number)
        turn = {"input": f"{name}-input.png", "mask": f"{name}-mask1.png", "output": f"{name}-output1.png"}
        for file, image in zip(turn.values(), (before, mask, after), strict=True):
            save(image, root / "train" / "images" / name / file)
        return name, [turn | {"instruction": instruction}]

    sessions = dict(each("magicbrush", count, seed, write))
    write_json(root / "train" / "edit_sessions.json", sessions)
    write_json(root / "train" / "edit_turns.json", [turn for turns in sessions.values() for turn in turns])


def write_clevr_change(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training pairs as CLEVR-Change: the camera moves a little; no box on the side without the object.

    Pictures are pasted on a canvas of the dataset's own size, so `style.size` is at most 300.
    """
    folder = root / "data"

    def write(rng: np.random.Generator, number: int) -> tuple[int, dict[str, Any], str]:
        before, after, box, instruction = drawing.edit(rng, style)
        room = [side - style.size for side in CANVAS]
        x, y = (int(rng.integers(JITTER_PX, free - JITTER_PX, endpoint=True)) for free in room)
        moved = [int(value) for value in rng.integers(-JITTER_PX, JITTER_PX, size=2, endpoint=True)]
        corners = (x, y), (x + moved[0], y + moved[1])
        images = (f"images/CLEVR_default_{number:06d}.png", f"sc_images/CLEVR_semantic_{number:06d}.png")
        for name, picture, corner in zip(images, (before, after), corners, strict=True):
            canvas = Image.new("RGB", CANVAS, TABLE)
            canvas.paste(picture, corner)
            save(canvas, folder / name)
        absent = {"add": 0, "remove": 1}.get(instruction.split()[0])
        first, second = (
            [] if side == absent else xywh(drawing.shifted(box, *corner)) for side, corner in enumerate(corners)
        )
        return number, {"bbox_before": first, "bbox_after": second}, instruction

    written = each("clevr_change", count, seed, write)
    write_json(folder / "splits.json", {"train": [number for number, _, _ in written], "val": [], "test": []})
    write_json(folder / "change_captions_with_bbox.json", {str(number): boxes for number, boxes, _ in written})
    captions = {f"CLEVR_default_{number:06d}.png": [caption] for number, _, caption in written}
    write_json(folder / "change_captions.json", captions)


def write_img_diff(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` pairs as Img-Diff without its red frames: replacements and removals by turns.

    Boxes have the two decimals of the dataset.
    """

    def write(rng: np.random.Generator, number: int) -> dict[str, Any]:
        removal = number % 2 == 0
        before, after, box, instruction = drawing.edit(rng, style)
        while instruction.startswith("make") == removal:
            before, after, box, instruction = drawing.edit(rng, style)
        path = f"./{'inpaint' if removal else 'filtered_new_edit_data'}/{number}_0"
        for side, image in enumerate((before, after)):
            save(image, root / f"{path}_{side}.jpg")
        fractions = [round(value / style.size, 2) for value in box]
        return _removal(path, fractions, instruction) if removal else _replacement(path, fractions, instruction)

    written = each("img_diff", count, seed, write)
    write_json(root / "img_diff_object_replacement.json", written[::2])
    write_json(root / "img_diff_object_removal.json", written[1::2])


def write_spot_the_diff(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training pairs as Spot-the-Diff, without boxes; the second picture is lit and grained differently."""
    images = root / "data" / "resized_images"

    def write(rng: np.random.Generator, number: int) -> dict[str, Any]:
        before, after, instruction = _plain_edit(rng, style)
        save(before, images / f"{number}.png")
        light, grain = rng.integers(-8, 9), rng.integers(-3, 4, (style.size, style.size, 3))
        pixels = (np.asarray(after, dtype=np.int16) + light + grain).clip(0, 255)
        save(Image.fromarray(pixels.astype(np.uint8)), images / f"{number}_2.png")
        return {"img_id": str(number), "sentences": [instruction]}

    write_json(root / "data" / "annotations" / "train.json", each("spot_the_diff", count, seed, write))


def _plain_edit(rng: np.random.Generator, style: Style) -> tuple[Image.Image, Image.Image, str]:
    """An edit whose pixels show its whole box: no part of the object has the colour of what is behind it."""
    while True:
        before, after, box, instruction = drawing.edit(rng, style)
        plain = np.abs(np.asarray(before, dtype=np.int16) - np.asarray(after)).max(axis=2) >= PLAIN
        regions = ndimage.find_objects(ndimage.label(plain)[0])
        if regions == [(slice(box[1], box[3]), slice(box[0], box[2]))]:
            return before, after, instruction


def _replacement(path: str, box: list[float], instruction: str) -> dict[str, Any]:
    """The record of "make the red disc blue"."""
    _, _, colour, shape, other = instruction.split()
    question = "Analyse the left image and the right image. What is the difference between them?"
    answer = f"The {shape} is {colour} in the left image and {other} in the right image."
    return {
        "conversations": _conversation(question, answer),
        "bbox": f"[{', '.join(f'{value:.2f}' for value in box)}]",
        "captions1": f"A {colour} {shape}.",
        "captions2": f"A {other} {shape}.",
        "path": path,
    }


def _removal(path: str, box: list[float], instruction: str) -> dict[str, Any]:
    """The record of "add a red disc" or "remove the red disc"."""
    how, _, colour, shape = instruction.split()
    question = f'Which image has the object related to "A {colour} {shape}."?\nA. the left image\nB. the right image'
    return {"bbox": box, "conversations": _conversation(question, "B" if how == "add" else "A"), "path": path}


def _conversation(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
