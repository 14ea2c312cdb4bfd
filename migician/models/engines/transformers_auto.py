"""Any family that transformers has a class for: its processor, its chat template, greedy, in batches.

What a family wants differently stands in its `Family`; nothing here asks for its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from migician.boxes import TRAINED_PIXELS, Size
from migician.boxtext import BoxStyle
from migician.errors import UserError
from migician.models import missing_extra
from migician.models.checkpoint import Checkpoint, commit_of, locate, read_checkpoint
from migician.models.conversation import Turn, conversation
from migician.models.engines.sent_images import (
    Scaling,
    given_pictures,
    given_sizes,
    resize_limits,
    resized,
    sent_limits,
    sent_size,
)
from migician.models.family import Family
from migician.models.pictures import ImageInput
from migician.models.protocol import Request

try:
    import torch
    import transformers
    from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig
    from transformers.image_utils import SizeDict

    from migician.models.engines.machine import Machine
    from migician.models.engines.patches import use_product
except ModuleNotFoundError as error:
    raise UserError(missing_extra(error)) from None


class ImageTextModel:
    """A checkpoint behind transformers' Auto classes; made by `load`."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        checkpoint: Checkpoint,
        family: Family,
        name: str,
        max_pixels: int | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """`max_pixels` is what images are shrunk to for a processor that has no such limit of its own."""
        self.model, self.processor, self.checkpoint, self.family, self.name = model, processor, checkpoint, family, name
        self.max_pixels = max_pixels
        self.notes = tuple(notes)
        """What was chosen for this machine and would not be expected."""
        self._scaling: Scaling | None = None
        if not _scales_by_area(processor.image_processor):
            self._scaling = partial(sent_size, family=family, max_pixels=max_pixels)
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"  # on the right, padding would stand between a prompt and its reply
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        own = model.generation_config
        stops = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
        self._stops = sorted({stop for stop in (*stops, tokenizer.eos_token_id) if stop is not None})
        # The checkpoint's own settings may sample; of these only the words it must not say are kept.
        model.generation_config = GenerationConfig(
            do_sample=False,
            eos_token_id=self._stops,
            pad_token_id=tokenizer.pad_token_id,
            bad_words_ids=own.bad_words_ids,
        )

    @property
    def box_style(self) -> BoxStyle:
        """The family's."""
        return self.family.style

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One reply for each request, decoded greedily, whole but for the stop token; see `Model.answer`.

        Requests with images and those without are two batches: not every processor takes both in one.
        """
        replies = [""] * len(requests)
        for places in ([at for at, one in enumerate(requests) if bool(one.images) is shown] for shown in (True, False)):
            for place, reply in zip(places, self._replies([requests[place] for place in places]), strict=True):
                replies[place] = reply
        return replies

    def prompt_text(self, request: Request) -> str:
        """The whole prompt by the checkpoint's own chat template, before images become tokens."""
        messages = [
            {"role": turn.role, "content": list(self._content(turn))} for turn in conversation(request, self.family)
        ]
        text: str = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    def seen_sizes(self, images: Sequence[ImageInput], max_side_px: int | None = None) -> list[Size]:
        """(width, height) of each image as the processor resizes it; for families that count pixels."""
        return [resized(size, self.processor.image_processor) for size in given_sizes(images, max_side_px)]

    def describe(self) -> dict[str, Any]:
        """Weights, precision, limits, decoding and versions, for a report."""
        pictures = self.processor.image_processor
        return {
            "name": self.name,
            "family": self.family.name,
            "revision": commit_of(self.checkpoint.folder),
            "weights_fingerprint": self.checkpoint.fingerprint(),
            "parameters": self.checkpoint.n_parameters,
            "device": self.model.device.type,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "attention": self.model.config._attn_implementation,
            **self._limits(),
            "image_size": dict(pictures.size),
            "image_processor": type(pictures).__name__,
            "decoding": {"method": "greedy", "stop": self.processor.tokenizer.convert_ids_to_tokens(self._stops)},
            "box_style": self.box_style.name,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        }

    def _limits(self) -> dict[str, Any]:
        if self._scaling is None:
            return resize_limits(self.processor.image_processor)
        return sent_limits(self.family, self.max_pixels)

    def _content(self, turn: Turn) -> Iterator[dict[str, str]]:
        token = self.processor.image_token
        for part in turn.parts:
            if isinstance(part, str) and token in part:
                raise UserError(f"the text holds {token}, which stands for an image; write <image> where one belongs")
        if self.family.marks_in_text:
            text = "".join(part if isinstance(part, str) else token for part in turn.parts)
            yield {"type": "text", "text": text}
            return
        for part in turn.parts:
            yield {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}

    def _replies(self, requests: Sequence[Request]) -> list[str]:
        if not requests:
            return []
        inputs = self._inputs(requests).to(self.model.device, self.model.dtype)
        length = inputs["input_ids"].shape[1]
        longest = max(request.max_new_tokens for request in requests)
        limit = self.model.config.get_text_config().max_position_embeddings
        needed = int(inputs["attention_mask"].sum(dim=1).max())
        if needed + longest > limit:
            raise UserError(
                f"a prompt of {needed} tokens and {longest} new ones exceed the model's {limit}: give fewer images"
            )
        with torch.inference_mode():
            output = self.model.generate(**inputs, max_new_tokens=longest)
        # Greedy, so a reply cut to its own limit is what a run with that limit would give.
        return [
            self._decoded(row[length : length + request.max_new_tokens].tolist())
            for row, request in zip(output, requests, strict=True)
        ]

    def _inputs(self, requests: Sequence[Request]) -> Any:
        texts = [self.prompt_text(request) for request in requests]
        # One list a request: some processors treat a single image otherwise than one of several.
        pictures = [given_pictures(request, self._scaling) for request in requests]
        return self.processor(
            text=texts, images=pictures if requests[0].images else None, padding=True, return_tensors="pt"
        )

    def _decoded(self, tokens: list[int]) -> str:
        ends = [tokens.index(stop) for stop in self._stops if stop in tokens]
        kept = tokens[: min(ends)] if ends else tokens
        text: str = self.processor.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


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

    Where a family's processor cuts images by a rule of its own, larger ones are shrunk to `max_pixels` before that.
    Raises `UserError` for a checkpoint that is damaged or not whole.
    """
    folder = locate(reference, revision)
    checkpoint = read_checkpoint(folder)
    machine = Machine.choose(checkpoint, device=device, dtype=dtype, attention=attention)
    processor = _processor(folder)
    _limit_pixels(processor.image_processor, machine.affordable_pixels(TRAINED_PIXELS), max_pixels)
    model = machine.load(AutoModelForImageTextToText, folder)
    use_product(model)
    name = reference if folder.resolve() != Path(reference).expanduser().resolve() else folder.resolve().name
    return ImageTextModel(model, processor, checkpoint, family, name, max_pixels, machine.notes)


def _scales_by_area(pictures: Any) -> bool:
    """Whether an image processor has limits in pixels, as those of the Qwen family do."""
    return hasattr(pictures, "merge_size")


def _limit_pixels(pictures: Any, affordable: int, asked: int | None) -> None:
    """Set the pixels of one image where the processor scales by area."""
    if not _scales_by_area(pictures):
        return
    least, own = pictures.size.shortest_edge, pictures.size.longest_edge
    most = min(own, affordable) if asked is None else asked
    pictures.size = SizeDict(shortest_edge=min(least, most), longest_edge=most)


def _processor(folder: Path) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{folder}: tokenizer or image processor cannot be loaded ({reason:.120})") from None
    if not getattr(processor, "chat_template", None):
        raise UserError(f"{folder}: no chat template; copy the small files of the model it was trained from")
    return processor
