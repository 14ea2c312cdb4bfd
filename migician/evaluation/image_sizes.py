"""How large the images are that a reply counts pixels of."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from migician.benchmarks import Benchmark
from migician.benchmarks.images import resolve_images
from migician.benchmarks.scoring.peers import BOX_READINGS
from migician.benchmarks.scoring.scoring import Answer, Reading, SizeOf
from migician.boxes import Size
from migician.errors import UserError
from migician.samples.lengths import cells

_MIN_PIXELS = 56 * 56
"""Of Qwen2.5-VL's own processor."""


def sizes_for(
    bench: Benchmark,
    answers: Mapping[int, Answer],
    reading: Reading,
    *,
    images: Path | None,
    max_pixels: int | None = None,
) -> SizeOf:
    """What gives the size of an image to a style that counts pixels, where an answer does not say it.

    A style of pixels of the file asks the file below `images`, upright. One of pixels of a resized image needs
    `max_pixels` too, the model's setting, from which its own rule gives the size. Raises `UserError` where what is
    needed is missing, and for a `max_pixels` that nothing asks for. Protocols that try several scales (see
    `scoring.peers`) ask the file too; `oracle` leaves pixels out where `images` is None.
    """
    style = reading.style
    guesses = bench.scoring.has_boxes and reading.protocol in BOX_READINGS
    counts = bench.scoring.has_boxes and reading.protocol == "strict" and style.scale == "pixel"
    if max_pixels is not None and not (counts and style.resized_to):
        raise UserError(
            "--max-pixels says how images were resized, for styles that count those pixels, such as qwen2.5-vl"
        )
    silent = [answer.index for answer in answers.values() if answer.response is not None and answer.sizes is None]
    if guesses and images is None and reading.protocol != "oracle":
        raise UserError(
            f"--protocol {reading.protocol} takes boxes for pixels, too: say where the images are with --images"
        )
    if (images is None and guesses) or not (guesses or (counts and silent)):
        return lambda question, image: None
    if counts and style.resized_to and max_pixels is None:
        raise UserError(
            f"box style {style.name} counts pixels of the image as the model resized it, and {len(silent)} answers do "
            f"not say that size (first: index {silent[0]}). Add `sizes` to them, or --max-pixels N (as the model had "
            "it; 12845056 if nobody set it) with --images"
        )
    if images is None:
        raise UserError(f"box style {style.name} counts pixels: say where the images are with --images")
    root, side = images, style.resized_to if counts else None

    @functools.cache
    def size_in(path: Path, row: int) -> Size:
        from migician.models.pictures import upright_size

        try:
            size = upright_size(path)
        except (OSError, UserError):
            raise UserError(f"row {row}: {path} cannot be read as an image") from None
        if side is None or max_pixels is None:
            return size
        columns, rows = cells(*size, _MIN_PIXELS, max_pixels, side)
        return columns * side, rows * side

    return lambda question, image: size_in(resolve_images(question, root)[image], question.index)
