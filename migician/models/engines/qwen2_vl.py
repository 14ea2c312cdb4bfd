"""Qwen2-VL and what is trained from it, Migician above all, and Qwen2.5-VL, through transformers.

Prompts are the processor's own chat template, replies keep the box tokens, decoding is greedy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from migician.boxes import TRAINED_PIXELS, Size
from migician.boxtext import BOX_END, BOX_START, BoxStyle
from migician.errors import UserError
from migician.models import missing_extra, refuse_unknown
from migician.models.checkpoint import Checkpoint, commit_of, locate, read_checkpoint
from migician.models.conversation import chat_messages, conversation
from migician.models.engines.sent_images import given_picture, given_sizes, resize_limits, resized
from migician.models.families.qwen2_5_vl import FAMILY as QWEN2_5_VL
from migician.models.family import QWEN2_VL, Family
from migician.models.pictures import ImageInput
from migician.models.protocol import Request
from migician.samples.sample import IMAGE_MARK

try:
    import torch
    import transformers
    from transformers import (
        GenerationConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLForConditionalGeneration,
        Qwen2VLProcessor,
    )
    from transformers.image_utils import SizeDict

    from migician.models.engines.machine import Machine
    from migician.models.engines.patches import use_product
    from migician.models.engines.shared_prefix import Group, Picture, Pictures, Prompt, SharedDecoder, share
except ModuleNotFoundError as error:
    raise UserError(missing_extra(error)) from None

log = logging.getLogger(__name__)

STOPS = ("<|im_end|>", "<|endoftext|>")
# Tokens that stand for pixels; in a text they would be taken for an image that is not there.
_PIXEL_TOKENS = ("<|image_pad|>", "<|video_pad|>")
_LONGEST_TO_SHORTEST = 200  # smart_resize of transformers' Qwen2-VL image processor refuses more
_SIDE_PX = 28
"""Of the square that one token of an image stands for: two by two patches of 14."""
_FOR_ROWS = 0.4
"""The part of the memory beside the weights that keys and values of a batch may take."""


_KINDS: dict[str, tuple[Any, Any, Family]] = {
    "qwen2_vl": (Qwen2VLForConditionalGeneration, Qwen2VLProcessor, QWEN2_VL),
    "qwen2_5_vl": (Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, QWEN2_5_VL),
}
"""What is run here, by the `model_type` of its config.json: both place text and images in the same way."""


class Qwen2VL:
    """A Qwen2-VL or Qwen2.5-VL checkpoint that answers requests."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        checkpoint: Checkpoint,
        *,
        name: str,
        family: Family = QWEN2_VL,
        room_bytes: float = 8e9,
        notes: Sequence[str] = (),
    ) -> None:
        """Wrap a loaded model; use `from_pretrained`. `room_bytes` is the memory beside the weights."""
        self.model, self.processor, self.checkpoint = model, processor, checkpoint
        self.name, self.family = name, family
        self.notes = tuple(notes)
        """What was chosen for this machine and would not be expected."""
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"  # on the right, padding would stand between a prompt and its reply
        self._stops = [tokenizer.convert_tokens_to_ids(token) for token in STOPS]
        # The checkpoint's own settings would be mixed into ours: Qwen2-VL's sample, and penalise repeated digits.
        model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=self._stops, pad_token_id=tokenizer.pad_token_id
        )
        self._decoder = SharedDecoder(model, self._stops)
        self._pictures = Pictures()
        self.work = self._decoder.work
        """Images encoded, prefixes computed and more, so far."""
        self.room_tokens = int(_FOR_ROWS * room_bytes / _token_bytes(model))
        """Rows times tokens of the longest that fit beside the weights."""

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
    ) -> Self:
        """The model of a folder or a Hub id, with what suits this machine unless told otherwise.

        `dtype`: "bfloat16", "float16" or "float32"; by default bfloat16 on a GPU that has it,
        float32 on the CPU if it fits. `attention`: "flash_attention_2", "sdpa" or "eager"; the
        first where its package and a GPU are there. `device`: "cuda", "cuda:1", "mps", "cpu", or
        "auto" to spread over all GPUs. `min_pixels`, `max_pixels`: of one image, which is scaled
        into them; by default the checkpoint's own, at most 768 x 768, less on a small machine.
        `revision`: branch, tag or commit on the Hub. `print(model)` says what was chosen.

        Raises `UserError` if there is no such checkpoint, or a damaged or incomplete one.
        """
        folder = locate(path_or_hub_id, revision)
        checkpoint = read_checkpoint(folder)
        kind = checkpoint.config["model_type"]
        if kind not in _KINDS:
            raise UserError(f"{folder}: its model_type is {kind!r}, expected {' or '.join(map(repr, _KINDS))}")
        model_class, _, family = _KINDS[kind]
        machine = Machine.choose(checkpoint, device=device, dtype=dtype, attention=attention)
        processor = _processor(checkpoint)
        limits = _pixel_limits(processor.image_processor.size, machine, min_pixels, max_pixels)
        processor.image_processor.size = SizeDict(shortest_edge=limits.least, longest_edge=limits.most)
        model = machine.load(model_class, folder)
        use_product(model)
        in_hub = folder.resolve() != Path(path_or_hub_id).expanduser().resolve()
        name = str(path_or_hub_id) if in_hub else folder.resolve().name
        notes = (*machine.notes, *limits.notes)
        wrapped = cls(
            model, processor, checkpoint, name=name, family=family, room_bytes=machine.room_bytes, notes=notes
        )
        log.info("%r", wrapped)
        return wrapped

    @property
    def box_style(self) -> BoxStyle:
        """The family's."""
        return self.family.style

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One reply for each request, all in one batch, decoded greedily and whole but for the stop token.

        Requests over the same images share their work; see `shared_prefix`. In float32 a batch replies as
        its requests would alone; in bfloat16 rounding can differ. Raises `UserError` for images or
        marks that do not fit, `torch.OutOfMemoryError` as torch does.
        """
        return self.reply(self.prepare(requests))

    def prepare(self, requests: Sequence[Request]) -> Prepared:
        """Texts as tokens and images as patches, each image once; needs no model, and may run in another thread."""
        pictures: dict[Hashable, Picture] = {}
        prompts = []
        for request in requests:
            text, keys = self.prompt_text(request), []
            for position, image in enumerate(request.images, 1):
                keys.append(_identity(image, request.max_side_px))
                if keys[-1] not in pictures:
                    called = f"image {position} of {len(request.images)}"
                    pictures[keys[-1]] = self._picture(image, keys[-1], called, request.max_side_px)
            tokens = self._tokens(text, [pictures[key].tokens for key in keys])
            self._check_length(len(tokens), request.max_new_tokens)
            prompts.append(Prompt(tokens, tuple(keys), request.max_new_tokens))
        groups = share(prompts, self.model.config.image_token_id)
        return Prepared(groups, pictures, [prompt.new_tokens for prompt in prompts])

    def reply(self, prepared: Prepared) -> list[str]:
        """The replies to what `prepare` gave."""
        if not prepared.groups:
            return []
        replies = self._decoder.reply(prepared.groups, prepared.pictures, prepared.new_tokens)
        return [self._decoded(tokens) for tokens in replies]

    def speak(self, request: Request, heard: Callable[[str], None]) -> str:
        """The reply to one request; `heard` gets what there is of it after each token, and may raise to stop."""
        prepared, tokens = self.prepare([request]), list[int]()

        def on_token(token: int) -> None:
            tokens.append(token)
            heard(self._decoded(tokens))

        replies = self._decoder.reply(prepared.groups, prepared.pictures, prepared.new_tokens, on_token)
        return self._decoded(replies[0])

    def image_tokens(self, size: Size) -> int:
        """How many tokens an image of (width, height) takes; 0 for one too thin to be asked about."""
        if min(size) <= 0 or max(size) > _LONGEST_TO_SHORTEST * min(size):
            return 0
        width, height = resized(size, self.processor.image_processor)
        return width * height // _SIDE_PX**2

    def seen_sizes(self, images: Sequence[ImageInput], max_side_px: int | None = None) -> list[Size]:
        """(width, height) of each image as it is resized; for families that count pixels."""
        return [resized(size, self.processor.image_processor) for size in given_sizes(images, max_side_px)]

    def prompt_text(self, request: Request) -> str:
        """The whole prompt as the model gets it, one `<|image_pad|>` standing for all of an image's tokens."""
        for asked in (request.prompt, *(question for question, _ in request.history)):
            if bad := next((token for token in _PIXEL_TOKENS if token in asked), None):
                raise UserError(
                    f"the text holds {bad}, which stands for pixels; an image belongs where {IMAGE_MARK} is"
                )
        turns = conversation(request, self.family)
        messages = chat_messages(turns, [{"type": "image"}] * len(request.images))
        text: str = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    def describe(self) -> dict[str, Any]:
        """Weights, precision, limits, decoding and versions, for a report."""
        return {
            "name": self.name,
            "family": self.family.name,
            "revision": commit_of(self.checkpoint.folder),
            "weights_fingerprint": self.checkpoint.fingerprint(),
            "parameters": self.checkpoint.n_parameters,
            "device": self.model.device.type,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "attention": self.model.config._attn_implementation,
            "text_attention": self.model.config.text_config._attn_implementation,
            **resize_limits(self.processor.image_processor),
            "image_processor": type(self.processor.image_processor).__name__,
            "decoding": {"method": "greedy", "repetition_penalty": 1.0, "stop": list(STOPS)},
            "box_style": self.box_style.name,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        }

    def __repr__(self) -> str:
        size = self.processor.image_processor.size
        parts = [
            self.name,
            _count(self.checkpoint.n_parameters),
            f"{self.model.device} {str(self.model.dtype).removeprefix('torch.')}",
            self.model.config._attn_implementation,
            f"{size.shortest_edge}..{size.longest_edge} px an image",
            *self.notes,
        ]
        return f"{type(self).__name__}({', '.join(parts)})"

    def _picture(self, image: ImageInput, key: Hashable, called: str, max_side_px: int | None) -> Picture:
        """One image as patches, or as it was kept from an earlier batch."""
        if kept := self._pictures.get(key):
            return kept
        loaded = given_picture(image, called, max_side_px)
        if max(loaded.size) > _LONGEST_TO_SHORTEST * min(loaded.size):
            raise UserError(f"an image of {loaded.width} x {loaded.height} is too thin for Qwen2-VL; cut it up")
        inputs = self.processor.image_processor(images=[loaded], return_tensors="pt")
        time, height, width = inputs["image_grid_thw"][0].tolist()
        pixels = inputs["pixel_values"].to(self.model.dtype)
        picture = Picture((time, height, width), time * height * width // 4, pixels)
        if isinstance(key, tuple):  # a file: other objects may be gone tomorrow, and their ids be another's
            self._pictures.add(key, picture)
        return picture

    def _tokens(self, text: str, images: Sequence[int]) -> list[int]:
        """`text` as tokens, the mark of each image repeated as often as it has tokens."""
        mark, lengths = self.model.config.image_token_id, iter(images)
        ids: list[int] = self.processor.tokenizer(text)["input_ids"]
        return [token for one in ids for token in ([one] * next(lengths) if one == mark else (one,))]

    def _check_length(self, tokens: int, new_tokens: int) -> None:
        limit = self.model.config.text_config.max_position_embeddings
        if tokens + new_tokens > limit:
            raise UserError(
                f"a prompt of {tokens} tokens and {new_tokens} new ones exceed the model's {limit}: "
                "load it with a lower max_pixels, or give fewer images"
            )

    def _decoded(self, tokens: list[int]) -> str:
        """The text of a reply up to its first stop token; what follows that is padding."""
        ends = [tokens.index(stop) for stop in self._stops if stop in tokens]
        kept = tokens[: min(ends)] if ends else tokens
        text: str = self.processor.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch on its way to the model."""

    groups: list[Group]
    pictures: dict[Hashable, Picture]
    new_tokens: list[int]
    """The most of each reply, in the order of the requests."""


def load(reference: str, family: Family = QWEN2_VL, **options: Any) -> Qwen2VL:
    """The loader behind `load_model`: `reference` is a folder or a Hub id; UniVG-R1 is asked otherwise, not run so."""
    refuse_unknown(reference, Qwen2VL.from_pretrained, options)
    model = Qwen2VL.from_pretrained(reference, **options)
    model.family = family
    return model


@dataclass(frozen=True, slots=True)
class _PixelLimits:
    least: int
    most: int
    notes: tuple[str, ...] = ()


def _pixel_limits(own: Any, machine: Machine, least: int | None, most: int | None) -> _PixelLimits:
    notes: tuple[str, ...] = ()
    if most is None:
        affordable = machine.affordable_pixels(TRAINED_PIXELS)
        most = min(int(own.longest_edge), affordable)
        if most < min(int(own.longest_edge), TRAINED_PIXELS):
            notes = (f"max_pixels lowered for {machine.room_bytes / 1e9:.0f} GB beside the weights",)
    if least is None:
        least = min(int(own.shortest_edge), most)
    if most < 28 * 28 or not 1 <= least <= most:
        raise UserError(f"min_pixels {least} and max_pixels {most}: expected 1 <= min <= max, and max at least 784")
    return _PixelLimits(least, most, notes)


def _token_bytes(model: Any) -> int:
    """What one token of a prompt takes as keys and values, over all layers."""
    text = model.config.text_config
    width = text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * text.num_key_value_heads * width * model.dtype.itemsize)


def _identity(image: ImageInput, max_side_px: int | None) -> Hashable:
    """What tells one image, shrunk or not, from another: a tuple of a file, a text of what is asked about only now."""
    if not isinstance(image, str | Path):
        return f"object {id(image)} {max_side_px}"  # good while it lives
    path = Path(image).expanduser()
    try:
        about = path.stat()
    except OSError:
        return str(path)  # reading it will say what is wrong
    return str(path), about.st_mtime_ns, about.st_size, max_side_px


def _processor(checkpoint: Checkpoint) -> Any:
    """Tokenizer, chat template and image processor; training scripts often save the weights without them."""
    folder, cure = checkpoint.folder, "copy the small files of the model it was trained from"
    try:
        processor = _KINDS[checkpoint.config["model_type"]][1].from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder}: tokenizer or image processor cannot be loaded ({reason:.120}); {cure}") from None
    # A folder without a tokenizer gives an empty one, with no more than a warning.
    image_token = processor.tokenizer.convert_tokens_to_ids(_PIXEL_TOKENS[0])
    known = processor.tokenizer.get_vocab().keys()
    if image_token != checkpoint.config.get("image_token_id") or not {*STOPS, BOX_START, BOX_END} <= known:
        raise UserError(f"{folder}: its tokenizer does not have Qwen2-VL's tokens; {cure}")
    if not processor.chat_template:
        raise UserError(f"{folder}: no chat template; {cure}")
    return processor


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"
