"""Whether records write boxes as the base model learns them, and whether the boxes of its JSON can be right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from migician.boxes import Box
from migician.boxtext import BOX_START, REF_START
from migician.errors import UserError
from migician.files import decoded, is_file
from migician.samples.bases import QWEN2_VL, Base
from migician.samples.conventions import CONVENTIONS, JsonConvention
from migician.samples.dataset_info import INFO, read_info
from migician.samples.segments import Boxed
from migician.training.check.data.samples import box_faults

_JSON_BOX = re.compile(r'"bbox(?:_2d)?"\s*:\s*\[')


class StatedConvention(msgspec.Struct, frozen=True):
    """What NAME.convention.json says of the file NAME beside it."""

    convention: str
    max_pixels: int | None = None
    """Of an image, where boxes are in pixels of the image as training resizes it."""


def stated_convention(file: Path) -> StatedConvention | None:
    """How the card of a file of records says that it writes boxes; None without one."""
    card = file.with_suffix(".convention.json")
    return decoded(card.read_bytes(), StatedConvention) if is_file(card) else None


def stated_faults(stated: StatedConvention, learned: str, max_pixels: int) -> Iterator[str]:
    """What is wrong with a convention for a model that learns `learned`, from images of at most `max_pixels`."""
    if stated.convention != learned:
        yield f"its boxes are written as {stated.convention}, and the model learns {learned}"
    elif stated.max_pixels not in (None, max_pixels):
        yield (
            f"its boxes are pixels of images of at most {stated.max_pixels} pixels, and image_max_pixels is "
            f"{max_pixels}"
        )


def check_convention(data: Path, media: Path, base: Base, names: Sequence[str]) -> None:
    """Raise `UserError`, with the commands that convert it, where a dataset of the folder `data` is in another
    convention than `base` learns; one without a card is in Qwen2-VL's. What is not there is left to the check.
    """
    info = data / INFO
    entries = read_info(info) if is_file(info) else {}
    files = [data / str(entries[name]["file_name"]) for name in names if "file_name" in entries.get(name, {})]
    stated = [one.convention if (one := stated_convention(file)) else QWEN2_VL.convention for file in files]
    wrong = [(file, one) for file, one in zip(files, stated, strict=True) if one != base.convention]
    if not wrong:
        return
    new = data.with_name(f"{data.name}-{base.convention}")
    commands = [
        f"migician data convert records --from {file} --media {media} --to {base.convention} --out {new / file.name}"
        + ("" if one == QWEN2_VL.convention else f" --style {one}")
        for file, one in wrong
    ]
    raise UserError(
        f"{wrong[0][0]}: its boxes are written as {wrong[0][1]}, and {base.title} learns {base.convention}; convert it "
        f"first: {'; '.join(commands)}; then set --data {new}"
    )


def text_faults(text: str, convention: str) -> Iterator[tuple[str, str]]:
    """(kind, value) of what is wrong with the boxes of `text` in a convention; nothing for a text without any.

    >>> list(text_faults('[{"bbox_2d": [5, 5, 5, 9], "label": "dog"}]', "qwen3_vl"))
    [('box_area', '(0.005, 0.005, 0.005, 0.009)')]
    >>> list(text_faults("<|box_start|>(1,1),(2,2)<|box_end|>", "qwen3_vl"))
    [('convention', '<|box_start|>, which is not qwen3_vl')]
    """
    known = CONVENTIONS.get(convention)
    if not isinstance(known, JsonConvention):
        if '"bbox' in text and (found := _JSON_BOX.search(text)):
            yield "convention", f"{found[0]}, which is not {convention}"
        yield from box_faults(text)
        return
    for token in (BOX_START, REF_START):
        if token in text:
            yield "convention", f"{token}, which is not {convention}"
            break
    if known.key not in text:
        return
    try:
        _, segments = known.read("", text)
    except ValueError as error:
        yield "box_text", str(error)
        return
    for box in (box for one in segments if isinstance(one, Boxed) for box in one.boxes):
        if fault := _fault(box, known):
            yield fault, str(box.as_tuple())


def _fault(box: Box, convention: JsonConvention) -> str:
    """A key of `KINDS`; boxes in pixels are so here too, and their images are not known."""
    numbers = box.as_tuple()
    if min(numbers) < 0 or (max(numbers) > 1 and not convention.counts_pixels):
        return "box_scale"
    if box.x2 < box.x1 or box.y2 < box.y1:
        return "box_corners"
    return "box_area" if box.x1 == box.x2 or box.y1 == box.y2 else ""
