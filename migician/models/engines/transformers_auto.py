"""Any family that transformers has a class for: its processor, its chat template, greedy, in batches.

What a family wants differently is in its `Family`; nothing here asks for its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, GenerationConfig
from transformers.image_utils import SizeDict

from migician.boxes import TRAINED_PIXELS, Size
from migician.errors import UserError
from migician.models.checkpoint import Checkpoint, locate, read_checkpoint, shown_name
from migician.models.conversation import ConversationTurn, conversation
from migician.models.engines.machine import Machine, described
from migician.models.engines.sent_images import (
    Scaling,
    given_pictures,
    given_sizes,
    resize_limits,
    resized,
    sent_limits,
    sent_size,
)
from migician.models.family import THINK, Family
from migician.models.pictures import ImageInput
from migician.models.protocol import Model, Request
from migician.samples.sample import IMAGE_MARK


class ImageTextModel(Model):
    """A checkpoint behind transformers' Auto classes; made by `load`."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        checkpoint: Checkpoint,
        *,
        name: str,
        family: Family,
        max_pixels: int | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """Images are shrunk to `max_pixels` first for a processor that has no such limit of its own."""
        self.model, self.processor, self.checkpoint, self.family, self.name = model, processor, checkpoint, family, name
        self.max_pixels = max_pixels
        self.notes = tuple(notes)
        """Unexpected choices made for this machine."""
        self._scaling: Scaling | None = None
        if not _scales_by_area(processor.image_processor):
            self._scaling = partial(sent_size, family=family, max_pixels=max_pixels)
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"  # on the right, padding would stand between a prompt and its reply
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        # Tokens that stand for pixels; in a text they would be taken for an image that is not there.
        marks = (processor.image_token, getattr(processor, "video_token", None))
        self._pixel_tokens = [token for token in marks if token]
        self._stops = self._stop_ids()
        # The checkpoint's own settings may sample and penalise repeated digits; only its forbidden words are kept.
        model.generation_config = GenerationConfig(
            do_sample=False,
            eos_token_id=self._stops,
            pad_token_id=tokenizer.pad_token_id,
            bad_words_ids=model.generation_config.bad_words_ids,
        )

    def _stop_ids(self) -> list[int]:
        own, ends = self.model.generation_config.eos_token_id, self.processor.tokenizer.eos_token_id
        return sorted({stop for stop in (*(own if isinstance(own, list) else [own]), ends) if stop is not None})

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One reply per request, decoded greedily, whole but for the stop token; see `Model.answer`.

        Requests with images and those without are two batches: not every processor takes both in one.
        """
        replies = [""] * len(requests)
        for places in ([at for at, one in enumerate(requests) if bool(one.images) is shown] for shown in (True, False)):
            for place, reply in zip(places, self._replies([requests[place] for place in places]), strict=True):
                replies[place] = reply
        return replies

    def prompt_text(self, request: Request) -> str:
        """The whole prompt by the checkpoint's own chat template, one token standing for each image."""
        messages = [
            {"role": turn.role, "content": list(self._content(turn))} for turn in conversation(request, self.family)
        ]
        text: str = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **self.family.template_options
        )
        return text

    def seen_sizes(self, images: Sequence[ImageInput], max_side_px: int | None = None) -> list[Size]:
        """(width, height) of each image as the processor resizes it; for families that count pixels."""
        pictures, frames = self.processor.image_processor, self.family.frames
        return [resized(size, pictures, frames) for size in given_sizes(images, max_side_px)]

    def describe(self) -> dict[str, Any]:
        """Weights, precision, limits, decoding and versions, for a report."""
        pictures = self.processor.image_processor
        limits = sent_limits(self.family, self.max_pixels)
        if self._scaling is None:
            limits = resize_limits(pictures, self.family.frames)
        return {
            **described(self, self.checkpoint, self.model),
            **limits,
            "image_size": dict(pictures.size) if pictures.size else None,
            "image_processor": type(pictures).__name__,
            "decoding": {"method": "greedy", "stop": self.processor.tokenizer.convert_ids_to_tokens(self._stops)},
        }

    def _content(self, turn: ConversationTurn) -> Iterator[dict[str, str]]:
        text = "".join(part for part in turn.parts if isinstance(part, str))
        if bad := next((token for token in self._pixel_tokens if token in text), None):
            raise UserError(f"the text holds {bad}, which stands for pixels; write {IMAGE_MARK} where an image belongs")
        if self.family.marks_in_text:
            token = self.processor.image_token
            yield {"type": "text", "text": "".join(part if isinstance(part, str) else token for part in turn.parts)}
            return
        for part in turn.parts:
            yield {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}

    def _replies(self, requests: Sequence[Request]) -> list[str]:
        if not requests:
            return []
        texts = [self.prompt_text(request) for request in requests]
        inputs = self._inputs(requests, texts).to(self.model.device, self.model.dtype)
        length = inputs["input_ids"].shape[1]
        longest = max(request.max_new_tokens for request in requests)
        self._check_length(int(inputs["attention_mask"].sum(dim=1).max()), longest)
        with torch.inference_mode():
            output = self.model.generate(**inputs, max_new_tokens=longest)
        # Greedy, so a reply cut to its own limit is what a run with that limit would give.
        return [
            opened_thought(text) + self._decoded(row[length : length + request.max_new_tokens].tolist())
            for row, request, text in zip(output, requests, texts, strict=True)
        ]

    def _inputs(self, requests: Sequence[Request], texts: list[str]) -> Any:
        # One list per request: some processors treat a single image differently from one of several.
        pictures = [given_pictures(request, self._scaling) for request in requests]
        return self.processor(
            text=texts, images=pictures if requests[0].images else None, padding=True, return_tensors="pt"
        )

    def _check_length(self, tokens: int, new_tokens: int) -> None:
        limit = self.model.config.get_text_config().max_position_embeddings
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


def opened_thought(prompt: str) -> str:
    """What a reply begins with where the chat template opens the thought: without it, a thought that is cut off would
    look like an answer."""
    return THINK if prompt.rstrip().endswith(THINK) else ""


def load(
    reference: str,
    family: Family,
    *,
    dtype: str | None = None,
    attention: str | None = None,
    device: str | None = None,
    max_pixels: int | None = None,
    revision: str | None = None,
) -> ImageTextModel:
    """The model of a folder or a Hub id; the options are those of `Migician.from_pretrained`.

    If a family's processor cuts images by a rule of its own, larger ones are shrunk to `max_pixels` first.
    Raises `UserError` for a checkpoint that is damaged or incomplete.
    """
    checkpoint = read_checkpoint(locate(reference, revision))
    machine = Machine.choose(checkpoint, device=device, dtype=dtype, attention=attention)
    processor = load_processor(checkpoint.folder)
    limited = limit_pixels(processor.image_processor, machine, None, max_pixels, family.frames)
    notes = (*machine.notes, *limited)
    model = machine.load(checkpoint.folder)
    name = shown_name(reference, checkpoint.folder)
    return ImageTextModel(model, processor, checkpoint, name=name, family=family, max_pixels=max_pixels, notes=notes)


def _scales_by_area(pictures: Any) -> bool:
    """Whether an image processor has limits in pixels, as those of the Qwen family do."""
    return hasattr(pictures, "merge_size")


def limit_pixels(
    pictures: Any, machine: Machine, min_pixels: int | None, max_pixels: int | None, frames: int = 1
) -> tuple[str, ...]:
    """Set the pixels of one image if the processor scales by area; gives a note where they were lowered.

    `frames` is the family's. Raises `UserError` for limits that contradict each other.
    """
    if not _scales_by_area(pictures):
        return ()
    notes: tuple[str, ...] = ()
    own_max = int(pictures.size.longest_edge) // frames
    if max_pixels is None:
        max_pixels = min(own_max, machine.affordable_pixels())
        if max_pixels < min(own_max, TRAINED_PIXELS):
            notes = (f"max_pixels lowered for {machine.room_bytes / 1e9:.0f} GB beside the weights",)
    if min_pixels is None:
        min_pixels = min(int(pictures.size.shortest_edge) // frames, max_pixels)
    if max_pixels < 28 * 28 or not 1 <= min_pixels <= max_pixels:
        raise UserError(
            f"min_pixels {min_pixels} and max_pixels {max_pixels}: expected 1 <= min <= max, and max at least 784"
        )
    pictures.size = SizeDict(shortest_edge=min_pixels * frames, longest_edge=max_pixels * frames)
    return notes


def load_processor(folder: Path) -> Any:
    """Tokenizer, chat template and image processor; training scripts often save the weights without them.

    Raises `UserError` naming the folder where one is missing, or cannot be loaded.
    """
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except ImportError as error:
        raise UserError(f"{folder}: {' '.join(str(error).split())}") from None
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{folder}: tokenizer or image processor cannot be loaded ({reason:.120}); {SMALL_FILES}"
        ) from None
    if not getattr(processor, "chat_template", None):
        raise UserError(f"{folder}: no chat template; {SMALL_FILES}")
    return processor


SMALL_FILES = "copy the small files of the model it was trained from"
