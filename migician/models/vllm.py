"""A checkpoint run by vLLM in this process: named "vllm:MODEL".

Follows the documented `vllm.LLM.chat` (docs.vllm.ai, "LLM Class" and "Multimodal Inputs"): a list
of conversations, one SamplingParams each, images as `image_pil` parts. Not run against vLLM itself
here, only against a module that honours that call. vLLM forms its own batches and shares equal
prefixes, so give it large batches. Its sums differ in the last bits from transformers', so a few
greedy replies do too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from migician.boxes import Size
from migician.boxtext import BoxStyle
from migician.checkpoints import WANTED, Checkpoint, commit_of, locate, read_checkpoint
from migician.errors import UserError
from migician.families import Family
from migician.models import Request
from migician.models.conversation import chat_messages, conversation
from migician.models.pictures import ImageInput
from migician.models.sending import given_pictures, given_sizes, processor_says, sent_limits, sent_size


class VllmModel:
    """A vLLM engine and the family it is asked as; made by `load`."""

    def __init__(
        self, engine: Any, vllm: Any, checkpoint: Checkpoint, family: Family, *, name: str, max_pixels: int | None
    ) -> None:
        self.engine, self.checkpoint, self.family = engine, checkpoint, family
        self.name, self.max_pixels = name, max_pixels
        self._scaling = partial(sent_size, family=family, max_pixels=max_pixels)
        self._vllm = vllm

    @property
    def box_style(self) -> BoxStyle:
        """The family's."""
        return self.family.style

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One reply for each request, greedy, box tokens kept; see `Model.answer`."""
        if not requests:
            return []
        outputs = self.engine.chat(
            [self._messages(request) for request in requests],
            sampling_params=[
                self._vllm.SamplingParams(temperature=0, max_tokens=request.max_new_tokens, skip_special_tokens=False)
                for request in requests
            ],
            use_tqdm=False,
        )
        return [output.outputs[0].text for output in outputs]

    def seen_sizes(self, images: Sequence[ImageInput], max_side_px: int | None = None) -> list[Size]:
        """(width, height) of each image as it is given; for families that count pixels."""
        return given_sizes(images, max_side_px, self._scaling)

    def describe(self) -> dict[str, Any]:
        """Weights, engine, decoding and versions, for a report."""
        return {
            "name": self.name,
            "family": self.family.name,
            "engine": "vllm",
            "revision": commit_of(self.checkpoint.folder),
            "weights_fingerprint": self.checkpoint.fingerprint(),
            "parameters": self.checkpoint.n_parameters,
            **sent_limits(self.family, self.max_pixels),
            "image_processor": processor_says(self.checkpoint.folder),
            "decoding": {"method": "greedy", "temperature": 0},
            "box_style": self.box_style.name,
            "vllm": self._vllm.__version__,
        }

    def _messages(self, request: Request) -> list[dict[str, Any]]:
        pictures = given_pictures(request, self._scaling)
        parts = [{"type": "image_pil", "image_pil": picture} for picture in pictures]
        return chat_messages(conversation(request, self.family), parts)


def load(
    reference: str,
    family: Family,
    *,
    dtype: str | None = None,
    max_pixels: int | None = None,
    most_images: int = 32,
    revision: str | None = None,
) -> VllmModel:
    """The model of a folder or a Hub id; `most_images` is how many one request may hold."""
    try:
        import vllm  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise UserError(
            f"vllm:{reference} needs vLLM: pip install 'migician[vllm]' (0.21 goes with this project's torch 2.11), "
            f"or run `vllm serve` elsewhere and name it as server:ADDRESS#{reference}"
        ) from None
    folder = locate(reference, revision, [*WANTED, "*.py"] if family.ships_code else WANTED)
    engine = vllm.LLM(
        model=str(folder),
        dtype=dtype or "auto",
        trust_remote_code=family.ships_code,
        limit_mm_per_prompt={"image": family.most_images or most_images},
        # Its own generation_config.json may sample, and penalise repeated digits.
        generation_config="vllm",
        seed=0,
    )
    return VllmModel(engine, vllm, read_checkpoint(folder), family, name=reference, max_pixels=max_pixels)
