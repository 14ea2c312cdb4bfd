"""Qwen2-VL and models trained from it, Migician above all, Qwen2.5-VL and Qwen3-VL: requests share images' work.

Prompts follow the processor's own chat template, replies keep the box tokens, decoding is greedy. Qwen3.5 is not among
them: three of four of its layers carry a running state in place of keys, which transformers 5.5 begins again with every
pass of several tokens, so that a question cannot follow a prefix that was computed before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from migician.boxes import Size
from migician.boxtext import BOX_END, BOX_START
from migician.errors import UserError, unknown
from migician.models import refuse_unknown
from migician.models.checkpoint import Checkpoint, locate, read_checkpoint, shown_name
from migician.models.engines.machine import Machine
from migician.models.engines.sent_images import given_picture, resized
from migician.models.engines.shared_prefix import (
    FeatureCache,
    Group,
    ImageFeatures,
    Positions,
    Prompt,
    SharedDecoder,
    mrope_positions,
    sequential_positions,
    share,
)
from migician.models.engines.transformers_auto import (
    SMALL_FILES,
    ImageTextModel,
    limit_pixels,
    load_processor,
    opened_thought,
)
from migician.models.families.qwen2_5_vl import FAMILY as QWEN2_5_VL
from migician.models.families.qwen3_vl import FAMILY as QWEN3_VL
from migician.models.family import QWEN2_VL, Family
from migician.models.pictures import ImageInput
from migician.models.protocol import Request

log = logging.getLogger(__name__)

STOPS = ("<|im_end|>", "<|endoftext|>")
_LONGEST_TO_SHORTEST = 200  # smart_resize of transformers' Qwen2-VL image processor refuses more
_FOR_ROWS = 0.4
"""Share of the memory beside the weights for the keys and values of a batch."""


FAMILIES = {"qwen2_vl": QWEN2_VL, "qwen2_5_vl": QWEN2_5_VL, "qwen3_vl": QWEN3_VL}
"""By the `model_type` of a config.json: all place text and images in the same way."""

POSITIONS: dict[str, Positions] = {"sequential": sequential_positions}
"""How tokens may be counted other than as the weights' makers do, by name."""


class Qwen2VL(ImageTextModel):
    """A Qwen2-VL, Qwen2.5-VL or Qwen3-VL checkpoint that answers requests."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        checkpoint: Checkpoint,
        *,
        name: str,
        family: Family = QWEN2_VL,
        room_bytes: float = 8e9,
        positions: str | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """Wrap a loaded model; use `from_pretrained`. `room_bytes` is the memory beside the weights."""
        super().__init__(model, processor, checkpoint, name=name, family=family, notes=notes)
        if positions is not None and positions not in POSITIONS:
            raise UserError(unknown("positions", positions, POSITIONS))
        self.positions = positions
        """A name in `POSITIONS`, or None for the 3-D ones (M-RoPE) of the weights' makers."""
        counted = POSITIONS[positions] if positions else mrope_positions
        self._decoder = SharedDecoder(model, self._stops, counted)
        self._pictures = FeatureCache()
        self.work = self._decoder.work
        """Images encoded, prefixes computed and more, so far."""
        self.token_budget = int(_FOR_ROWS * room_bytes / _token_bytes(model))
        """The largest batch that fits beside the weights: rows times tokens of the longest."""

    def _stop_ids(self) -> list[int]:
        return [self.processor.tokenizer.convert_tokens_to_ids(token) for token in STOPS]

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | Path,
        *,
        dtype: str | None = None,
        attention: str | None = None,
        device: str | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        revision: str | None = None,
        positions: str | None = None,
    ) -> Self:
        """The model of a folder or a Hub id, with the best settings for this machine unless given.

        `dtype`: "bfloat16", "float16" or "float32"; by default bfloat16 on a GPU that has it, float32 on the CPU if it
        fits. `attention`: "flash_attention_2", "sdpa" or "eager"; the first where its package and a GPU are there.
        `device`: "cuda", "cuda:1", "mps", "cpu", or "auto" to spread over all GPUs. `min_pixels`, `max_pixels`: of one
        image, which is scaled into them; by default the checkpoint's own, at most 768 x 768, less on a small machine.
        `revision`: branch, tag or commit on the Hub. `positions`: "sequential" asks with 1-D positions, the plain
        count of tokens, for weights that were trained so by mistake. `print(model)` shows what was chosen.

        Raises `UserError` if there is no such checkpoint, or a damaged or incomplete one.
        """
        checkpoint = read_checkpoint(locate(path_or_hub_id, revision))
        kind = checkpoint.config["model_type"]
        if kind not in FAMILIES:
            known = " or ".join(map(repr, FAMILIES))
            raise UserError(f"{checkpoint.folder}: its model_type is {kind!r}, expected {known}")
        machine = Machine.choose(checkpoint, device=device, dtype=dtype, attention=attention)
        processor = _processor(checkpoint)
        notes = (*machine.notes, *limit_pixels(processor.image_processor, machine, min_pixels, max_pixels))
        wrapped = cls(
            machine.load(checkpoint.folder),
            processor,
            checkpoint,
            name=shown_name(path_or_hub_id, checkpoint.folder),
            family=FAMILIES[kind],
            room_bytes=machine.room_bytes,
            positions=positions,
            notes=notes,
        )
        log.info("%r", wrapped)
        return wrapped

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One reply per request, all in one batch, decoded greedily and whole but for the stop token.

        Requests over the same images share their work; see `shared_prefix`. In float32 a batch replies as
        its requests would alone; in bfloat16 rounding can differ. Raises `UserError` for images or
        marks that do not fit, `torch.OutOfMemoryError` as torch does.
        """
        return self.reply(self.prepare(requests))

    def prepare(self, requests: Sequence[Request]) -> Prepared:
        """Texts as tokens and images as patches, each image once; needs no model, and may run in another thread."""
        pictures: dict[Hashable, ImageFeatures] = {}
        prompts, opened = [], []
        for request in requests:
            text, keys = self.prompt_text(request), []
            opened.append(opened_thought(text))
            for position, image in enumerate(request.images, 1):
                keys.append(_identity(image, request.max_side_px))
                if keys[-1] not in pictures:
                    called = f"image {position} of {len(request.images)}"
                    pictures[keys[-1]] = self._picture(image, keys[-1], called, request.max_side_px)
            tokens = self._tokens(text, [pictures[key].tokens for key in keys])
            self._check_length(len(tokens), request.max_new_tokens)
            prompts.append(Prompt(tokens, tuple(keys), request.max_new_tokens))
        groups = share(prompts, self.model.config.image_token_id)
        return Prepared(groups, pictures, [prompt.new_tokens for prompt in prompts], opened)

    def reply(self, prepared: Prepared) -> list[str]:
        """The replies to what `prepare` gave."""
        if not prepared.groups:
            return []
        replies = self._decoder.reply(prepared.groups, prepared.pictures, prepared.new_tokens)
        return [start + self._decoded(tokens) for start, tokens in zip(prepared.opened, replies, strict=True)]

    def speak(self, request: Request, on_token: Callable[[str], None]) -> str:
        """The reply to one request; `on_token` gets the text so far after each token, and may raise to stop."""
        prepared, tokens = self.prepare([request]), list[int]()

        def add(token: int) -> None:
            tokens.append(token)
            on_token(prepared.opened[0] + self._decoded(tokens))

        replies = self._decoder.reply(prepared.groups, prepared.pictures, prepared.new_tokens, add)
        return prepared.opened[0] + self._decoded(replies[0])

    def image_tokens(self, size: Size) -> int:
        """Tokens of an image of (width, height); 0 if it is too thin."""
        if min(size) <= 0 or max(size) > _LONGEST_TO_SHORTEST * min(size):
            return 0
        pictures = self.processor.image_processor
        width, height = resized(size, pictures)
        side: int = pictures.patch_size * pictures.merge_size
        return width * height // side**2

    def describe(self) -> dict[str, Any]:
        """Weights, precision, limits, decoding and versions, for a report."""
        about = super().describe() | {
            "text_attention": self.model.config.text_config._attn_implementation,
            "decoding": {"method": "greedy", "repetition_penalty": 1.0, "stop": list(STOPS)},
        }
        del about["image_size"]
        return about | ({"positions": self.positions} if self.positions else {})

    def __repr__(self) -> str:
        size = self.processor.image_processor.size
        parts = [
            self.name,
            _count(self.checkpoint.n_parameters),
            f"{self.model.device} {str(self.model.dtype).removeprefix('torch.')}",
            self.model.config._attn_implementation,
            f"{size.shortest_edge}..{size.longest_edge} px per image",
            *([f"{self.positions} positions"] if self.positions else ()),
            *self.notes,
        ]
        return f"{type(self).__name__}({', '.join(parts)})"

    def _picture(self, image: ImageInput, key: Hashable, called: str, max_side_px: int | None) -> ImageFeatures:
        """One image as patches, or as kept from an earlier batch."""
        if kept := self._pictures.get(key):
            return kept
        loaded = given_picture(image, called, max_side_px)
        if max(loaded.size) > _LONGEST_TO_SHORTEST * min(loaded.size):
            raise UserError(
                f"an image of {loaded.width} x {loaded.height} is too thin for {self.family.name}; cut it up"
            )
        inputs = self.processor.image_processor(images=[loaded], return_tensors="pt")
        time, height, width = inputs["image_grid_thw"][0].tolist()
        pixels = inputs["pixel_values"].to(self.model.dtype)
        picture = ImageFeatures((time, height, width), time * height * width // 4, pixels)
        if isinstance(key, tuple):  # a file: other objects may be freed, and their ids reused
            self._pictures.add(key, picture)
        return picture

    def _tokens(self, text: str, images: Sequence[int]) -> list[int]:
        """`text` as tokens, the mark of each image repeated once per token of it."""
        mark, lengths = self.model.config.image_token_id, iter(images)
        ids: list[int] = self.processor.tokenizer(text)["input_ids"]
        return [token for one in ids for token in ([one] * next(lengths) if one == mark else (one,))]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch ready for the model."""

    groups: list[Group]
    pictures: dict[Hashable, ImageFeatures]
    new_tokens: list[int]
    """The limit of each reply, in the order of the requests."""
    opened: list[str]
    """What each reply begins with: see `opened_thought`."""


def load(reference: str, family: Family = QWEN2_VL, **options: Any) -> Qwen2VL:
    """The loader for `load_model`: `reference` is a folder or a Hub id; `family` decides how it is asked, not run."""
    refuse_unknown(reference, Qwen2VL.from_pretrained, options)
    model = Qwen2VL.from_pretrained(reference, **options)
    model.family = family
    return model


def _token_bytes(model: Any) -> int:
    """Bytes of the keys and values of one token, over all layers."""
    text = model.config.text_config
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * text.num_key_value_heads * width * model.dtype.itemsize)


def _identity(image: ImageInput, max_side_px: int | None) -> Hashable:
    """The key of an image at its limit: a tuple for a file, a text for an object, which is not kept."""
    if not isinstance(image, str | Path):
        return f"object {id(image)} {max_side_px}"  # valid while it lives
    path = Path(image).expanduser()
    try:
        about = path.stat()
    except OSError:
        return str(path)  # reading it will say what is wrong
    return str(path), about.st_mtime_ns, about.st_size, max_side_px


def _processor(checkpoint: Checkpoint) -> Any:
    processor = load_processor(checkpoint.folder)
    # A folder without a tokenizer gives an empty one, with no more than a warning.
    tokenizer = processor.tokenizer
    image_token = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    if image_token != checkpoint.config.get("image_token_id") or not {*STOPS, BOX_START, BOX_END} <= {
        *tokenizer.get_vocab()
    }:
        raise UserError(f"{checkpoint.folder}: its tokenizer does not have Qwen2-VL's tokens; {SMALL_FILES}")
    return processor


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"
