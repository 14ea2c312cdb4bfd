"""How much memory the training of a base model needs on each GPU, from its config and settings alone.

Computed, not measured: the peak of a step with the longest batch. tests/training/test_memory.py compares it with what
torch allocates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from migician.training.check.options import GB
from migician.training.check.settings.learning import Layer, Learning, is_embedding
from migician.training.check.settings.training_yaml import TrainingSettings, Zero

RUNTIME = 1.5 * GB
"""CUDA's context, NCCL's buffers, the kernels."""
_SLACK = 1.05
"""Fragmentation in the allocator."""
_LIVE = 1e9
"""The most parameters that ZeRO-3 gathers at once: `stage3_max_live_parameters`."""
_BLOCK = 64
"""Weights per scale in bitsandbytes' 4-bit format; 256 scales share another if they are quantised too."""


@dataclass(frozen=True, slots=True)
class Load:
    """One batch on one GPU, and how it is computed."""

    tokens: int
    """Of the largest batch, padding included."""
    patches: int
    """Of 14 x 14 or 16 x 16 pixels, in all images of that batch."""
    compute: int
    """Bytes of a number in the forward pass: 2 or 4."""
    checkpointing: bool
    """Whether layers that learn are recomputed for the backward pass: LLaMA-Factory's default."""
    fused_loss: bool
    """Whether the loss is computed in pieces (`enable_liger_kernel`), without all logits at once."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Bytes of a parameter."""

    frozen: float
    """One that does not learn."""
    linear: float
    """The same in a linear layer: fewer if the base is quantised."""
    weight: float
    """One that learns."""
    gradient: float
    optimizer: float
    copy: float = 0.0
    """Autocast's 16-bit copy of what learns in 32 bits, during a forward pass."""


def numbers_of(settings: TrainingSettings, stored: int) -> Numbers:
    """What LLaMA-Factory keeps in which precision; `stored` is the checkpoint's own bytes per parameter.

    It loads the base as stored and casts what learns to float32, except with DeepSpeed, whose optimizer has a float32
    copy, and with `pure_bf16`.
    """
    linear = _quantised(settings) or stored
    if settings.text("deepspeed"):
        if settings.halves:
            return Numbers(2, min(2, linear), 2, 2, 12)
        return Numbers(stored, linear, 4, 4, 8)
    if settings.flag("pure_bf16"):
        return Numbers(stored, linear, 2, 2, 4)
    return Numbers(stored, linear, 4, 4, 8, 2 if settings.halves else 0)


def _quantised(settings: TrainingSettings) -> float | None:
    """Bytes of a weight with `quantization_bit`; None without it."""
    bits = int(settings.number("quantization_bit"))
    if not bits:
        return None
    scale = (1 + 4 / 256) if settings.flag("double_quantization") else 4.0
    return bits / 8 + (scale / _BLOCK if bits == 4 else 0)


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes on each GPU."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    """What is kept from the forward pass for the backward pass."""
    transient: float
    """The larger of the recomputation of one layer and the logits, which never coincide."""
    runtime: float

    @property
    def total(self) -> float:
        """The sum, with fragmentation."""
        held = self.parameters + self.gradients + self.optimizer + self.activations + self.transient
        return held * _SLACK + self.runtime


def memory_need(
    learning: Learning, load: Load, numbers: Numbers, zero: Zero, gpus: int, *, runtime: float = RUNTIME
) -> Need:
    """The bytes on each of `gpus` at the peak.

    States follow Rajbhandari et al. (arXiv 1910.02054): with Adam in mixed precision 2 bytes per parameter, 2 per
    gradient and 12 in the optimizer (in float32 4, 4 and 8); stage 1 splits the last over the GPUs, stage 2 the last
    two, stage 3 all.
    """
    split = [gpus if zero.stage >= stage else 1 for stage in (3, 2, 1)]
    held = weight_bytes(learning, numbers)
    live = held * min(1.0, _LIVE / max(1, learning.shape.count()))
    parameters = held / split[0]
    if zero.stage == 3:
        parameters += live if gpus > 1 else 0
    if zero.offloads_parameters:
        parameters = live
    kept, transient = _activations(learning, load)
    return Need(
        parameters + numbers.copy * learning.trained,
        numbers.gradient * learning.trained / split[1],
        0.0 if zero.offloads_optimizer else numbers.optimizer * learning.trained / split[2],
        kept,
        transient,
        runtime,
    )


def weight_bytes(learning: Learning, numbers: Numbers) -> float:
    """All weights of a model and its adapter, in memory."""
    total = numbers.weight * learning.adapter
    for name, shape in learning.shape.parameters().items():
        if name in learning.base:
            each = numbers.weight
        else:
            # bitsandbytes does not quantise the head.
            quantised = len(shape) == 2 and not is_embedding(name) and "lm_head" not in name
            each = numbers.linear if quantised else numbers.frozen
        total += each * math.prod(shape)
    return total


def _activations(learning: Learning, load: Load) -> tuple[float, float]:
    """(kept, transient): what the backward pass needs of the forward pass, and what is added at the peak.

    Attention is computed without its matrix (sdpa, flash). In the backward pass a layer that learns is recomputed; one
    that gradients only pass through keeps its activations, because LLaMA-Factory does not recompute it; before the
    first layer that learns nothing is kept. Later layers have been freed by then.
    """
    number, shape = load.compute, learning.shape
    # The gradients through the widest part.
    flowing = 2 * number * shape.feed_forward
    seen = (8 * number + 8) * shape.vision_width + 2 * number * shape.vision_feed_forward
    kept = float(
        sum(
            load.patches * (number * shape.vision_width + (0 if _redone(layer, load) else seen))
            for layer in learning.layers("vision")
            if layer.reached
        )
    )
    worst = kept + load.patches * seen
    for layer in learning.layers("language"):
        if not layer.reached:
            continue
        inside = _inside(layer, learning, number)
        again = inside if _redone(layer, load) else 0.0
        kept += load.tokens * (number * shape.hidden + inside - again)
        worst = max(worst, kept + load.tokens * (again + flowing))
    # The head's output, its float32 copy, the softmax and the gradient of each: before any layer is recomputed.
    logits = 0 if load.fused_loss else 12 * load.tokens * shape.vocabulary
    return kept, max(worst, kept + logits) - kept


def _redone(layer: Layer, load: Load) -> bool:
    """Whether a layer only keeps its input, and is recomputed for the backward pass."""
    return load.checkpointing and (layer.learns or layer.adapted)


def _inside(layer: Layer, learning: Learning, number: int) -> float:
    """Bytes that a layer of the language model keeps per token.

    Norms (in 16 bits with a float32 copy), queries, keys, values, residuals, and the feed-forward part; the inputs of
    norms and linear layers only if these learn.
    """
    shape = learning.shape
    widths, wide = (11, 4) if layer.learns else (9, 4) if layer.adapted else (7, 3)
    return (widths * number + (8 if number == 2 else 0)) * shape.hidden + wide * number * shape.feed_forward


def smallest_fit(learning: Learning, load: Load, numbers: Numbers, zero: Zero, gpu_bytes: float) -> int | None:
    """The fewest GPUs (1, 2, 4, ... 512) that hold the run at this stage; None where no number does."""
    counts = (2**power for power in range(10))
    return next((n for n in counts if memory_need(learning, load, numbers, zero, n).total <= gpu_bytes), None)
