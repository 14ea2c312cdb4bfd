"""How much memory the training of a Qwen2-VL needs on each GPU, from its config and settings alone.

An estimate from arithmetic: what must be held at the worst moment of a step, for the longest batch.
tests/training/test_memory.py holds it against what torch allocates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from migician.training.check.options import GB
from migician.training.check.settings.learning import Layer, Learning
from migician.training.check.settings.training_yaml import TrainingSettings, Zero

RUNTIME = 1.5 * GB
"""CUDA's context, NCCL's buffers, the kernels."""
_SLACK = 1.05
"""What the allocator cannot use."""
_LIVE = 1e9
"""Parameters that ZeRO-3 gathers at once, at most: `stage3_max_live_parameters`."""
_BLOCK = 64
"""Weights that share a scale in bitsandbytes' 4-bit form; 256 scales share one more where they are quantised too."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much is trained on at once, and how."""

    tokens: int
    """Of the largest batch on one GPU, padding included."""
    patches: int
    """Of 14 x 14 pixels, of all images of that batch."""
    compute: int
    """Bytes of a number in the forward pass: 2 or 4."""
    checkpointing: bool
    """Whether layers that learn are computed again for the backward pass: LLaMA-Factory's default."""
    fused_loss: bool
    """Whether the loss is taken in pieces (`enable_liger_kernel`), so that not all logits are there at once."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Bytes of a parameter."""

    frozen: float
    """One that does not learn."""
    linear: float
    """The same in a linear layer: fewer where the base is quantised."""
    weight: float
    """One that learns."""
    gradient: float
    optimizer: float
    copy: float = 0.0
    """Of autocast: a 16-bit copy of what learns in 32 bits, as long as a forward pass lasts."""


def numbers_of(settings: TrainingSettings, stored: int) -> Numbers:
    """What LLaMA-Factory keeps in which precision; `stored` is the checkpoint's own bytes per parameter.

    It loads the base as it is stored and casts what learns to float32, but under DeepSpeed, which has a float32 copy
    in its optimizer, and with `pure_bf16`.
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
    """Bytes of a weight under `quantization_bit`; None without it."""
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
    """The larger of what one layer needs while it is computed again, and of the logits: they never meet."""
    runtime: float

    @property
    def total(self) -> float:
        """All of them at once, with what the allocator loses."""
        held = self.parameters + self.gradients + self.optimizer + self.activations + self.transient
        return held * _SLACK + self.runtime


def memory_need(
    learning: Learning, load: Load, numbers: Numbers, zero: Zero, gpus: int, *, runtime: float = RUNTIME
) -> Need:
    """The bytes that each of `gpus` holds at the worst moment.

    States follow Rajbhandari et al. (arXiv 1910.02054): with Adam in mixed precision 2 bytes a parameter, 2 a gradient,
    12 in the optimizer, of which stage 1 splits the last, stage 2 the last two, stage 3 all; in float32 4, 4 and 8.
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
    """All weights of a model and its adapter, as they are held."""
    total = numbers.weight * learning.adapter
    for name, shape in learning.shape.parameters().items():
        if name in learning.base:
            each = numbers.weight
        else:
            # The head stays as it is stored, as bitsandbytes leaves it.
            quantised = len(shape) == 2 and "embed_tokens" not in name and "lm_head" not in name
            each = numbers.linear if quantised else numbers.frozen
        total += each * math.prod(shape)
    return total


def _activations(learning: Learning, load: Load) -> tuple[float, float]:
    """(kept, transient): what the backward pass needs of the forward pass, and what comes on top at the worst moment.

    Attention is computed without its matrix (sdpa, flash). Backwards, a layer that learns is computed again; one that
    gradients only pass through has kept its inside, as LLaMA-Factory recomputes none of these; below all that learns
    nothing is kept. What is behind has been freed by then.
    """
    number, shape = load.compute, learning.shape
    # The gradients that flow through the widest part.
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
    # The head's output, its float32 copy, the softmax and the gradient of each: before any layer is redone.
    logits = 0 if load.fused_loss else 12 * load.tokens * shape.vocabulary
    return kept, max(worst, kept + logits) - kept


def _redone(layer: Layer, load: Load) -> bool:
    """Whether a layer keeps nothing but its input, and is computed again for the backward pass."""
    return load.checkpointing and (layer.learns or layer.adapted)


def _inside(layer: Layer, learning: Learning, number: int) -> float:
    """Bytes that a layer of the language model keeps of one token.

    Norms (in 16 bits with a float32 copy), queries, keys, values, residuals, and the widths of the feed-forward part:
    the inputs of norms and linear layers only where these learn.
    """
    shape = learning.shape
    widths, wide = (11, 4) if layer.learns else (9, 4) if layer.adapted else (7, 3)
    return (widths * number + (8 if number == 2 else 0)) * shape.hidden + wide * number * shape.feed_forward


def smallest_fit(learning: Learning, load: Load, numbers: Numbers, zero: Zero, gpu_bytes: float) -> int | None:
    """The fewest GPUs (1, 2, 4, ... 512) that hold the run at this stage; None where no number does."""
    counts = (2**power for power in range(10))
    return next((n for n in counts if memory_need(learning, load, numbers, zero, n).total <= gpu_bytes), None)
