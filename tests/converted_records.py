"""Records to convert between conventions of boxes: three images and four boxes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import msgspec

from migician.boxes import Box
from migician.boxtext import QWEN, reference
from migician.build.converters.records import Conversion, converted

SIZES = [(640, 480), (333, 500), (1920, 1080)]
DOG, CAT = reference("the dog"), reference("a cat")


def box(*numbers: int) -> str:
    return QWEN.write(Box.from_permille(*numbers))


def record(*turns: tuple[str, str], images: int = 3) -> bytes:
    said = [{"from": who, "value": text} for turn in turns for who, text in zip(("human", "gpt"), turn, strict=True)]
    names = [f"{number}.png" for number in range(images)]
    return msgspec.json.encode({"id": "a", "images": names, "conversations": said, "type": "ff_train"})


def convert(contents: list[bytes], source: str, target: str, media: Path) -> tuple[list[bytes], Counter[str]]:
    """Records in another convention, and what was counted."""
    counts: Counter[str] = Counter()
    conversion = Conversion(source, target, media)
    return list(converted(iter(contents), len(contents), conversion, "file.json", counts)), counts


def one(content: bytes, source: str, target: str, media: Path) -> bytes:
    (made,), _ = convert([content], source, target, media)
    return made


def answers(content: bytes) -> list[str]:
    return [turn["value"] for turn in json.loads(content)["conversations"] if turn["from"] == "gpt"]


# Three images and four boxes: one given, an answer of two images, one within a sentence.
THREE = record(
    (
        f"<image><image><image>Find {DOG} of Image-1 {box(100, 200, 300, 400)} in the others.",
        f"Image-2: {box(0, 0, 500, 1000)}\nImage-3: {box(250, 250, 750, 999)}",
    ),
    (f"And {CAT}?", f"It is in the third image. {box(1, 2, 3, 1000)}"),
)
