"""How much memory a full finetune of a Qwen2-VL needs on each GPU, from its config alone.

An estimate from arithmetic: what must be held at the worst moment of a step, for the longest batch.
tests/test_preflight.py holds it against measured peaks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migician.preflight.settings import Zero

GB = 1e9
_RUNTIME = 1.5 * GB
"""CUDA's context, NCCL's buffers, the kernels."""
_SLACK = 1.05
"""What the allocator cannot use."""
_LIVE = 1e9
"""Parameters that ZeRO-3 gathers at once, at most: `stage3_max_live_parameters`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Qwen2-VL that decide over memory and work."""

    hidden: int
    layers: int
    feed_forward: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool
    vision_width: int
    vision_layers: int
    vision_feed_forward: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """Of a checkpoint's config.json; raises KeyError for a size that it does not give."""
        text: Mapping[str, Any] = config.get("text_config") or config
        vision: Mapping[str, Any] = config["vision_config"]
        width = int(vision.get("embed_dim", 1280))
        return cls(
            int(text["hidden_size"]),
            int(text["num_hidden_layers"]),
            int(text["intermediate_size"]),
            int(text["num_attention_heads"]),
            int(text["num_key_value_heads"]),
            int(text["vocab_size"]),
            bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            width,
            int(vision.get("depth", 32)),
            int(vision.get("mlp_ratio", 4)) * width,
        )

    @property
    def language_parameters(self) -> int:
        """Of the language model with its embedding and head."""
        head = self.hidden // self.heads
        keys = self.key_value_heads * head
        attention = self.hidden * (2 * self.hidden + 2 * keys) + self.hidden + 2 * keys
        layer = attention + 3 * self.hidden * self.feed_forward + 2 * self.hidden
        words = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * layer + words + self.hidden

    @property
    def projector_parameters(self) -> int:
        """Of what joins the two: four patches become one token."""
        four = 4 * self.vision_width
        return four * four + four + four * self.hidden + self.hidden + 2 * self.vision_width

    @property
    def vision_parameters(self) -> int:
        """Of the vision tower without the projector."""
        width = self.vision_width
        layer = 4 * width * width + 4 * width + 2 * width * self.vision_feed_forward + self.vision_feed_forward
        return self.vision_layers * (layer + width + 4 * width) + 3 * 2 * 14 * 14 * width


@dataclass(frozen=True, slots=True)
class Load:
    """What is trained, and on how much at once."""

    tokens: int
    """Of the largest batch on one GPU, padding included."""
    patches: int
    """Of 14 x 14 pixels, of all images of that batch."""
    bytes_a_number: int
    """2 for bfloat16 with a float32 copy in the optimizer, 4 for float32."""
    checkpointing: bool
    """Whether the layers' insides are computed again for the backward pass: LLaMA-Factory's default."""
    fused_loss: bool
    """Whether the loss is taken in pieces (`enable_liger_kernel`), so that not all logits are there at once."""
    trains_vision: bool
    trains_projector: bool
    trains_language: bool


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes on each GPU."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    """What is kept from the forward pass for the backward pass."""
    transient: float
    """The larger of what one layer needs while it is computed again, and of the logits: they never meet."""
    runtime: float

    @property
    def total(self) -> float:
        """All of them at once, with what the allocator loses."""
        held = self.parameters + self.gradients + self.optimizer + self.activations + self.transient
        return held * _SLACK + self.runtime


def memory_need(shape: Shape, load: Load, zero: Zero, gpus: int, *, runtime: float = _RUNTIME) -> Need:
    """The bytes that each of `gpus` holds at the worst moment.

    States follow Rajbhandari et al. (arXiv 1910.02054): with Adam in mixed precision 2 bytes a parameter, 2 a gradient,
    12 in the optimizer, of which stage 1 splits the last, stage 2 the last two, stage 3 all; in
    float32 4, 4 and 8.
    """
    whole = shape.language_parameters + shape.projector_parameters + shape.vision_parameters
    learning = (
        shape.language_parameters * load.trains_language
        + shape.projector_parameters * load.trains_projector
        + shape.vision_parameters * load.trains_vision
    )
    number = load.bytes_a_number
    split = [gpus if zero.stage >= stage else 1 for stage in (3, 2, 1)]
    parameters = number * whole / split[0]
    if zero.stage == 3:
        parameters += number * min(_LIVE, whole) if gpus > 1 else 0
    if zero.offloads_parameters:
        parameters = number * min(_LIVE, whole)
    optimizer = (12 if number == 2 else 8) * learning / split[2]
    kept, inside = _activations(shape, load)
    return Need(
        parameters,
        number * learning / split[1],
        0.0 if zero.offloads_optimizer else optimizer,
        kept,
        max(inside, _logits(shape, load)),
        runtime,
    )


def _activations(shape: Shape, load: Load) -> tuple[float, float]:
    """(kept, transient): what the backward pass needs of the forward pass, and what one layer does while it is redone.

    Attention is computed without its matrix (sdpa, flash).
    """
    number = load.bytes_a_number
    # Of one token in one layer: two norms with their float32 insides, queries, keys, values, two residuals; then the
    # four widths of the feed-forward part.
    inside = (11 * number + 8) * shape.hidden + 4 * number * shape.feed_forward
    entrance = number * shape.hidden
    # The gradients that flow through the widest part.
    flowing = 2 * number * shape.feed_forward
    seen = (8 * number + 8) * shape.vision_width + 2 * number * shape.vision_feed_forward
    if load.checkpointing:
        kept = load.tokens * shape.layers * entrance
        kept += load.patches * shape.vision_layers * number * shape.vision_width * load.trains_vision
        return float(kept), float(max(load.tokens * (inside + flowing), load.patches * seen))
    kept = load.tokens * shape.layers * (inside + entrance)
    kept += load.patches * shape.vision_layers * seen * load.trains_vision
    return float(kept), float(max(load.tokens * flowing, load.patches * seen))


def _logits(shape: Shape, load: Load) -> float:
    """The head's output, its float32 copy, the softmax and the gradient of each."""
    if load.fused_loss:
        return 0.0
    copies = 2 * load.bytes_a_number + 8 if load.bytes_a_number == 2 else 12
    return float(load.tokens * shape.vocabulary * copies)


def smallest_fit(shape: Shape, load: Load, zero: Zero, gpu_bytes: float, most: int = 512) -> int | None:
    """The fewest GPUs (1, 2, 4, 8, ...) that hold the run at this stage; None where no number does."""
    counts = [2**power for power in range(int(math.log2(most)) + 1)]
    return next((count for count in counts if memory_need(shape, load, zero, count).total <= gpu_bytes), None)
