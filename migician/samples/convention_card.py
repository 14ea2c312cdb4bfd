"""What stands beside a file of records in another convention than Qwen2-VL's: NAME.convention.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from migician.errors import UserError, unknown
from migician.files import read_json, write_json
from migician.samples import ms_swift
from migician.samples.conventions import CONVENTIONS, MS_SWIFT, RECORD_STYLES


class ConventionCard(msgspec.Struct, frozen=True):
    """What the numbers of a file mean, and what was lost when it was written."""

    convention: str = "qwen2_vl"
    """One of `RECORD_STYLES`."""
    converted_from: str = "qwen2_vl"
    max_pixels: int | None = None
    """Of an image as training must resize it, where the numbers are pixels: `image_max_pixels`; else None."""
    documented_by: str = ""
    counts: dict[str, int] = {}
    """How many records were converted, left out or changed, each with the reason."""


def read_convention(file: Path) -> ConventionCard:
    """The card of a file of records; one of Qwen2-VL's convention where none stands beside it.

    Raises `UserError` naming the card where it cannot be read, or is of a convention that is not known.
    """
    card = _beside(file)
    found = read_json(card, ConventionCard, "the card of a file of records") if card.exists() else ConventionCard()
    if found.convention not in RECORD_STYLES:
        raise UserError(f"{card}: {unknown('style of boxes', found.convention, RECORD_STYLES)}")
    return found


def write_convention(
    file: Path, target: str, *, source: str, max_pixels: int, counts: Mapping[str, int]
) -> ConventionCard:
    """Write the card of `file`; `max_pixels` is kept only by conventions in pixels.

    What is and was in Qwen2-VL's convention needs none: one that a replaced file left behind is deleted.
    """
    if target == source == ConventionCard().convention:
        _beside(file).unlink(missing_ok=True)
        return ConventionCard(counts=dict(sorted(counts.items())))
    convention = CONVENTIONS.get(target)
    pixels = max_pixels if convention and convention.counts_pixels else None
    documented = convention.source if convention else ms_swift.SOURCE
    card = ConventionCard(target, source, pixels, documented, dict(sorted(counts.items())))
    write_json(_beside(file), card)
    return card


def refuse_card_of(sources: Iterable[Path], out: Path) -> None:
    """Raise `UserError` where the card of `out` would be that of a file it is converted from, as of a.json, a.jsonl."""
    for file in sources:
        if _beside(file).resolve() == _beside(out).resolve():
            raise UserError(f"{out}: {_beside(out).name} would be the card of {file} too; choose another name")


def shared_convention(files: Iterable[Path]) -> ConventionCard:
    """The convention that all `files` follow, as a card without counts.

    Raises `UserError` naming two that differ, and one whose boxes stand beside its text, as ms-swift's do.
    """
    known: dict[tuple[str, int | None], Path] = {}
    for file in files:
        card = read_convention(file)
        if card.convention == MS_SWIFT:
            raise UserError(f"{file}: records of ms-swift cannot be mixed; mix samples, with --style {MS_SWIFT}")
        known.setdefault((card.convention, card.max_pixels), file)
    if len(known) > 1:
        (one, file), (other, another) = list(known.items())[:2]
        raise UserError(
            f"boxes are written in two ways: {file} as {_said(one)}, {another} as {_said(other)}; "
            "convert one with 'migician data convert records'"
        )
    (convention, pixels), *_ = known or [(ConventionCard().convention, None)]
    return ConventionCard(convention, convention, pixels)


def _beside(file: Path) -> Path:
    return file.parent / f"{file.stem}.convention.json"


def _said(kind: tuple[str, int | None]) -> str:
    convention, pixels = kind
    return convention if pixels is None else f"{convention} for images of at most {pixels} pixels"
