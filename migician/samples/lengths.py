"""How many tokens a sample is for a base model under LLaMA-Factory, without the model.

Follows what LLaMA-Factory 0.9.5 does with the base's template (data/mm_plugin.py, data/template.py)
and then transformers' Qwen2-VL image processor, which all bases share; tests/samples/test_lengths.py
holds both against the originals, image by image and sample by sample.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from migician.boxes import TRAINED_PIXELS, Size
from migician.errors import UserError
from migician.files import conform, is_file, read_object
from migician.samples.bases import QWEN2_VL, Base, Template
from migician.samples.sample import IMAGE_MARK

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PIXELS_A_SIDE = 28
"""Of the square that becomes one token of Qwen2-VL: two patches of 14. LLaMA-Factory makes no image narrower."""
_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


@dataclass(frozen=True, slots=True)
class Resize:
    """How large images may be, in pixels: first by the training YAML, then by the checkpoint."""

    image_max_pixels: int = TRAINED_PIXELS
    """LLaMA-Factory's setting of this name."""
    image_min_pixels: int = 32 * 32
    processor_max_pixels: int = QWEN2_VL.max_pixels
    """Of `preprocessor_config.json`; the defaults are the released Qwen2-VL-7B-Instruct's."""
    processor_min_pixels: int = QWEN2_VL.min_pixels
    side: int = PIXELS_A_SIDE
    """Pixels a side of the square that becomes one token."""


@functools.lru_cache(maxsize=1 << 16)
def image_tokens(size: Size, resize: Resize | None = None) -> int:
    """How many tokens an image of `size` (width, height) becomes, the two around it not counted.

    Raises ValueError for an image so narrow that nothing is left of it.

    >>> image_tokens((640, 480)), image_tokens((4000, 3000)), image_tokens((10, 10))
    (391, 768, 4)
    """
    resize = resize or Resize()
    width, height = prepared(size, resize)
    columns, rows = cells(width, height, resize.processor_min_pixels, resize.processor_max_pixels, resize.side)
    return columns * rows


def prepared(size: Size, resize: Resize) -> Size:
    """The size that LLaMA-Factory hands to the image processor."""
    width, height = size
    if width * height > resize.image_max_pixels:
        width, height = _scaled(width, height, resize.image_max_pixels)
    if width * height < resize.image_min_pixels:
        width, height = _scaled(width, height, resize.image_min_pixels)
    if min(width, height) < PIXELS_A_SIDE:
        width, height = max(width, PIXELS_A_SIDE), max(height, PIXELS_A_SIDE)
    # What the processor would refuse is squeezed.
    if width / height > 200:
        width = height * 180
    if height / width > 200:
        height = width * 180
    return width, height


def _scaled(width: int, height: int, pixels: int) -> Size:
    """About the same shape with at most `pixels` pixels."""
    factor = math.sqrt(pixels / (width * height))
    scaled = int(width * factor), int(height * factor)
    if not all(scaled):
        raise ValueError(f"an image of {width} x {height} pixels is too narrow to be scaled")
    return scaled


def cells(width: int, height: int, min_pixels: int, max_pixels: int, side: int = PIXELS_A_SIDE) -> tuple[int, int]:
    """(columns, rows) of tokens, by Qwen2-VL's own resize.

    The image becomes `side` pixels for each of them: 28 for Qwen2-VL and Qwen2.5-VL, 32 since Qwen3-VL.
    """
    columns, rows = round(width / side), round(height / side)  # halves to even, as there
    if columns * rows * side * side > max_pixels:
        factor = math.sqrt(width * height / max_pixels)
        return max(1, math.floor(width / factor / side)), max(1, math.floor(height / factor / side))
    if columns * rows * side * side < min_pixels:
        factor = math.sqrt(min_pixels / (width * height))
        return math.ceil(width * factor / side), math.ceil(height * factor / side)
    return columns, rows


def rendered(turns: Sequence[tuple[str, str]], template: Template = QWEN2_VL.template) -> list[str]:
    """The texts of a sample as they are tokenized, one after the other, each image as one pad token between its two.

    `turns` are (role, text) with the roles human, gpt and system, in the right order.
    """
    system, spoken = template.system, turns
    if turns and turns[0][0] == "system":
        system, spoken = turns[0][1] or system, turns[1:]
    texts = [f"<|im_start|>system\n{system}<|im_end|>\n"] if system else []
    for role, text in spoken:
        content = text.replace(IMAGE_MARK, _IMAGE)
        if role == "human":
            texts.append(f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n")
            continue
        if template.thought and "<think>" not in text and "</think>" not in text:
            texts.append(template.thought)
        texts.append(f"{content}<|im_end|>\n")
    return texts


class TextTokens(Protocol):
    """Counts the tokens of texts."""

    exact: bool

    def count(self, samples: Sequence[list[str]]) -> list[int]:
        """Of each sample, given as its `rendered` texts."""
        ...


class EstimatedTokens:
    """Counts words, digits, runs of punctuation and special tokens, and adds a little.

    Against Qwen's vocabulary of 151,643 pieces the sum was right within 5% on each of: the questions of
    MIG-Bench, replies of Qwen2-VL and Migician, sentences of Spot-the-Diff, instructions of MagicBrush.
    A digit is always a token of its own there, so boxes are counted nearly exactly.
    """

    exact = False

    def count(self, samples: Sequence[list[str]]) -> list[int]:
        """Of each sample, about."""
        return [round(_ABOVE * sum(_pieces(text) for text in texts)) for texts in samples]


_ABOVE = 1.04
_PAIRED = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # scripts of about two characters a token
_PIECE = re.compile(
    r"[A-Za-z]++|[0-9]|<\|[a-z_]++\|>|[^\w\s<]++|\n++|"
    rf"[{_PAIRED}]{{1,2}}+|[^\W\d_A-Za-z{_PAIRED}]++|[\d_<]"
)


@functools.lru_cache(maxsize=1 << 12)
def _pieces(text: str) -> int:
    """Counted once per text: the same system prompt, and often the same answer, repeats."""
    return len(_PIECE.findall(text))


class TokenizerTokens:
    """Counts by the tokenizer of a checkpoint."""

    exact = True

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _tokenizer(folder)

    def count(self, samples: Sequence[list[str]]) -> list[int]:
        """Of each sample, exactly."""
        flat = [text for texts in samples for text in texts]
        lengths = [len(one.ids) for one in self._tokenizer.encode_batch(flat, add_special_tokens=False)]
        ends = iter(lengths)
        return [sum(next(ends) for _ in texts) for texts in samples]


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UserError("--tokenizer needs the models extra: pip install 'migician[models]'") from None
    file = folder / "tokenizer.json"
    if not is_file(file):
        raise UserError(f"{file}: no such file; --tokenizer must name the folder of a checkpoint")
    try:
        found = Tokenizer.from_file(str(file))
        found.encode("\ue000")  # some fail only at what they do not know
        return found
    except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
        raise UserError(f"{file}: cannot be read as a tokenizer: {error}") from None


class _Sizes(msgspec.Struct):
    shortest_edge: int | None = None
    longest_edge: int | None = None


class _Processor(msgspec.Struct):
    min_pixels: int | None = None
    max_pixels: int | None = None
    size: _Sizes = msgspec.field(default_factory=_Sizes)


def processor_settings(folder: Path) -> Any:
    """What the checkpoint in `folder` says of its image processor, in either of its files; empty where it does not."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        if is_file(folder / name):
            content = read_object(folder / name)
            return content.get("image_processor", content)
    return {}


def processor_pixels(folder: Path, base: Base = QWEN2_VL) -> tuple[int, int]:
    """(fewest, most) pixels of an image by the checkpoint in `folder`; the released base's where it does not say.

    Raises `UserError` for a file that cannot be read.
    """
    found = conform(processor_settings(folder), _Processor, folder, "the settings of an image processor")
    fewest = found.min_pixels or found.size.shortest_edge or base.min_pixels
    most = found.max_pixels or found.size.longest_edge or base.max_pixels
    return fewest, most
