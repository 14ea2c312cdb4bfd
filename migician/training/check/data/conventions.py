"""Whether records write boxes as the base model learns them, and whether the boxes of its JSON can be right."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from migician.boxes import Box
from migician.boxtext import BOX_START, REF_START
from migician.errors import UserError
from migician.files import is_file
from migician.samples.bases import QWEN2_VL, Base
from migician.samples.convention_card import ConventionCard, read_convention
from migician.samples.conventions import CONVENTIONS, JsonConvention
from migician.samples.dataset_info import INFO, NotRead, files_of, read_info
from migician.samples.segments import Boxed
from migician.training.check.data.samples import box_faults

_JSON_BOX = re.compile(r'"bbox(?:_2d)?"\s*:\s*\[')


def card_faults(card: ConventionCard, learned: str, max_pixels: int) -> Iterator[str]:
    """What is wrong with a convention for a model that learns `learned`, from images of at most `max_pixels`.

    Of files in Qwen2-VL's, which need no card, the records say it.
    """
    if card.convention not in (learned, QWEN2_VL.convention):
        yield f"its boxes are written as {card.convention}, and the model learns {learned}"
    elif card.max_pixels not in (None, max_pixels):
        limits = f"images of at most {card.max_pixels} pixels, and image_max_pixels is {max_pixels}"
        yield f"its boxes are pixels of {limits}"


def check_convention(data: Path, media: Path, base: Base, names: Sequence[str]) -> None:
    """Raise `UserError`, with the commands that convert it, where a dataset of the folder `data` is in another
    convention than `base` learns, and where its card cannot be read. What is not there is left to the check.
    """
    info = data / INFO
    entries = read_info(info) if is_file(info) else {}
    files: list[Path] = []
    for name in names:
        with contextlib.suppress(UserError, NotRead):
            files += files_of(info, entries[name]) if "file_name" in entries.get(name, {}) else []
    wrong = [(file, one) for file in files if (one := read_convention(file).convention) != base.convention]
    if not wrong:
        return
    home = data if data.name else data.resolve()
    new = home.parent / f"{home.name}-{base.convention}"
    into = ["--media", str(media), "--to", base.convention, "--out"]
    commands = [
        shlex.join(["migician", "data", "convert", "records", "--from", str(file), *into, str(new / file.name)])
        for file, _ in wrong
    ]
    raise UserError(
        f"{wrong[0][0]}: its boxes are written as {wrong[0][1]}, and {base.title} learns {base.convention}; convert it "
        f"first: {'; '.join(commands)}; then set --data {shlex.quote(str(new))}"
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
