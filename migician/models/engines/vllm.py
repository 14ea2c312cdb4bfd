"""A checkpoint run by vLLM in this process: named "vllm:MODEL".

Follows the documented `vllm.LLM.chat` (docs.vllm.ai, "LLM Class" and "Multimodal Inputs"): a list of conversations, one
SamplingParams each, images as `image_pil` parts. `scripts/real_vllm.sh` runs it against vLLM itself, the tests against
a stand-in module. vLLM forms its own batches and shares equal prefixes, so give it large batches. Its sums differ in
the last bits from those of transformers, so a greedy reply can differ where two tokens tie.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from migician.boxes import Size
from migician.errors import UserError
from migician.models.checkpoint import WANTED, Checkpoint, commit_of, locate, read_checkpoint
from migician.models.conversation import chat_messages, conversation, template_arguments
from migician.models.engines.sent_images import given_pictures, given_sizes, processor_says, sent_limits, sent_size
from migician.models.family import Family
from migician.models.faults import RunStopped
from migician.models.pictures import ImageInput
from migician.models.protocol import Model, Request

_DEAD_ENGINE = "EngineDeadError"
"""The name of vLLM's error for an engine process that has ended."""
_DTYPES = ("bfloat16", "float16", "float32")


@dataclass
class VllmModel(Model):
    """A vLLM engine and the family it is asked as; made by `load`."""

    engine: Any
    vllm: Any
    """The module."""
    checkpoint: Checkpoint
    family: Family
    name: str
    max_pixels: int | None

    def __post_init__(self) -> None:
        self._scaling = partial(sent_size, family=self.family, max_pixels=self.max_pixels)

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One reply per request, greedy, box tokens kept; see `Model.answer`."""
        if not requests:
            return []
        with _refusing():
            outputs = self.engine.chat(
                [self._messages(request) for request in requests],
                sampling_params=[
                    self.vllm.SamplingParams(
                        temperature=0, max_tokens=request.max_new_tokens, skip_special_tokens=False
                    )
                    for request in requests
                ],
                use_tqdm=False,
                **template_arguments(self.family),
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
            **self.family.template_facts,
            "vllm": self.vllm.__version__,
            **_chosen(self.engine.llm_engine.vllm_config),
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
    max_images: int = 32,
    revision: str | None = None,
) -> VllmModel:
    """The model of a folder or a Hub id; `max_images` limits one request.

    `dtype` is "bfloat16", "float16" or "float32"; by default that of the weights, if this machine supports it. A
    float32 checkpoint stays float32: vLLM's own "auto" would make it bfloat16. Raises `UserError` for another dtype,
    and without vLLM.
    """
    if dtype not in (None, *_DTYPES):
        raise UserError(f"dtype {dtype!r}: expected one of {', '.join(_DTYPES)}")
    try:
        import vllm  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise UserError(
            f"vllm:{reference} needs vLLM: pip install 'migician[vllm]' (0.21 goes with this project's torch 2.11), "
            f"or run `vllm serve` elsewhere and name it as server:ADDRESS#{reference}"
        ) from None
    folder = locate(reference, revision, [*WANTED, "*.py"] if family.ships_code else WANTED)
    checkpoint = read_checkpoint(folder)
    engine = vllm.LLM(
        model=str(folder),
        dtype=dtype or _dtype(checkpoint),
        trust_remote_code=family.ships_code,
        limit_mm_per_prompt={"image": family.max_images or max_images},
        # The generation_config.json of a checkpoint may sample, and penalise repeated digits.
        generation_config="vllm",
        seed=0,
    )
    return VllmModel(engine, vllm, checkpoint, family, reference, max_pixels)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Raise what vLLM refuses (a long prompt, too many images, a thin image) as a ValueError in its words."""
    try:
        from vllm.exceptions import VLLMClientError  # type: ignore[import-not-found, unused-ignore]

        refusals: tuple[type[Exception], ...] = (ValueError, VLLMClientError)
    except ImportError:  # once all of them were ValueErrors
        refusals = (ValueError,)
    try:
        yield
    except refusals as error:
        # For an image the cause says what is wrong with it, and the text only its address in memory.
        raise ValueError(f"vLLM: {error.__cause__ or error}") from None
    except Exception as error:
        if type(error).__name__ != _DEAD_ENGINE:
            raise
        raise RunStopped(f"vLLM: {error}: the same command again resumes here") from None


def _dtype(checkpoint: Checkpoint) -> str:
    """The default dtype: "float32" if most of the weights are, else "auto"."""
    n_bytes: Counter[str] = Counter()
    for tensor in checkpoint.tensors.values():
        n_bytes[tensor.dtype] += tensor.n_bytes
    return "float32" if n_bytes.most_common(1)[0][0] == "F32" else "auto"


def _chosen(config: Any) -> dict[str, Any]:
    """What the engine runs with; None for what this version of vLLM does not say."""
    dtype = _attribute(config, "model_config.dtype")
    return {
        "device": _attribute(config, "device_config.device_type"),
        "dtype": dtype and str(dtype).removeprefix("torch."),
        "attention": _attention(config),
        "quantization": _attribute(config, "model_config.quantization"),
        "max_model_len": _attribute(config, "model_config.max_model_len"),
        "tensor_parallel": _attribute(config, "parallel_config.tensor_parallel_size"),
    }


def _attribute(config: Any, path: str) -> Any:
    """The attribute at a dotted path; None if there is none."""
    for name in path.split("."):
        config = getattr(config, name, None)
    return config


def _attention(config: Any) -> str | None:
    """The attention backend that vLLM chooses for the language model; its workers only log it."""
    try:
        from vllm.config import set_current_vllm_config  # type: ignore[import-not-found, unused-ignore]
        from vllm.v1.attention.selector import get_attn_backend  # type: ignore[import-not-found, unused-ignore]

        model = config.model_config
        with set_current_vllm_config(config):
            return str(get_attn_backend(model.get_head_size(), model.dtype, config.cache_config.cache_dtype).get_name())
    except (ImportError, AttributeError, TypeError, ValueError, AssertionError):  # not vLLM's public interface
        return None
