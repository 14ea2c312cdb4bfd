"""What a training will take: steps, hours, memory and disk."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import msgspec

from migician.files import is_file, is_folder
from migician.training.check.options import GB, Cluster
from migician.training.check.report import Counts, Lengths, TrainingCost
from migician.training.check.settings.learning import Learning, learning_of
from migician.training.check.settings.memory import (
    RUNTIME,
    Load,
    Numbers,
    memory_need,
    numbers_of,
    smallest_fit,
    weight_bytes,
)
from migician.training.check.settings.model_shape import RELEASED, ModelShape
from migician.training.check.settings.training_yaml import Fault, TrainingSettings
from migician.training.merge import COMPANIONS

QWEN2_VL_7B = RELEASED["qwen2-vl-7b"]
"""What the authors trained."""
AUTHORS_RATE = 0.69
"""Samples per second and A100, from the authors' 50 hours for a million samples on 8 of them."""
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
"""Dense bfloat16, by NVIDIA's data sheets (H100 and H200: SXM)."""
PUBLISHED = {"language": 6.0, "projector": 2.0, "vision": 2.0}
"""Operations per weight and token if only the language model learns."""
_MFU = 0.3
_SMALL_FILES = 15_000_000
"""Bytes of Qwen2-VL's tokenizer and processor, which are in each checkpoint."""
_STATE = 24_000
"""Bytes of a trainer's own small files in a checkpoint."""


def peak_of(gpu: str) -> float | None:
    """Operations per second of one GPU by its name; None if it is not in `PEAK_FLOPS`.

    >>> peak_of("NVIDIA A100-SXM4-80GB"), peak_of("")
    (312000000000000.0, None)
    """
    return next((peak for name, peak in PEAK_FLOPS.items() if name in gpu), None)


def cost_of(
    settings: TrainingSettings, lengths: Lengths | None, counts: Counts, seen: float, cluster: Cluster
) -> TrainingCost:
    """What a training takes whose samples have these lengths and counts, and that sees `seen` samples in all."""
    gpus, gpu_memory_gb = cluster.gpus, cluster.gpu_memory_gb
    shape, known = shape_of(settings)
    learning = learning_of(settings, shape)
    longest = min(lengths.longest, lengths.cutoff_len or lengths.longest) if lengths else 0
    if settings.packs and lengths and lengths.cutoff_len:
        longest = lengths.cutoff_len  # each sequence is filled to it
    mean, mean_in_images = (lengths.mean, lengths.mean_in_images) if lengths else (0.0, 0.0)
    each, _ = settings.batch
    config = settings.base_config() or {}
    stored = 4 if config.get("dtype", config.get("torch_dtype")) == "float32" else 2
    numbers, zero = numbers_of(settings, stored), settings.zero()
    load = Load(
        tokens=each * longest,
        patches=4 * each * longest,
        compute=2 if settings.halves else 4,
        checkpointing=not settings.flag("disable_gradient_checkpointing"),
        fused_loss=settings.flag("enable_liger_kernel"),
    )
    need = memory_need(learning, load, numbers, zero, gpus, runtime=RUNTIME if gpu_memory_gb else 0.0)
    each_takes = operations_of(
        shape, {part: learning.passes(part) for part in ("language", "projector", "vision")}, mean, mean_in_images
    )
    operations = seen * each_takes
    hours = {}
    if shape == QWEN2_VL_7B and settings.method == "full":
        hours["A100 at the authors' rate"] = seen / (AUTHORS_RATE * gpus) / 3600
    hours |= {
        f"{name} at {_MFU:.0%} MFU": operations / (_MFU * PEAK_FLOPS[name] * gpus) / 3600 for name in ("A100", "H100")
    }
    return TrainingCost(
        **msgspec.structs.asdict(counts),
        gpu_memory_gb=gpu_memory_gb,
        checkpoint_gb=_checkpoint_bytes(settings, learning, numbers) / GB,
        zero_stage=zero.stage,
        memory_gb={name: round(value / GB, 2) for name, value in (asdict(need) | {"total": need.total}).items()},
        smallest=smallest_fit(learning, load, numbers, zero, gpu_memory_gb * GB),
        parameters=shape.count() + learning.adapter,
        trained=learning.trained,
        shape_known=known,
        petaflops=operations / 1e15,
        hours={name: round(value, 2) for name, value in hours.items()},
        gpu=cluster.gpu,
        tokens_a_sample=mean,
        images_a_sample=lengths.mean_images if lengths else 0.0,
        flop_a_sample=each_takes,
        method=settings.method,
        result_gb=_saved_weights(settings, learning, numbers) / GB,
    )


def shape_of(settings: TrainingSettings) -> tuple[ModelShape, bool]:
    """(sizes of the model, whether they are known): by its config, or by its name on the Hub."""
    name, config = settings.text("model_name_or_path").lower(), settings.base_config()
    released = {start: shape for start, shape in RELEASED.items() if shape.base == settings.base.name}
    assumed = [*released.values()][-1]
    if config is None:
        sizes = {start.rpartition("-")[2]: shape for start, shape in released.items()}
        named = [shape for size, shape in sizes.items() if re.search(rf"(?<![0-9.]){size}", name)]
        return (named[0], True) if named else (assumed, False)
    try:
        return ModelShape.of(config), True
    except (AttributeError, LookupError, TypeError, ValueError):
        return assumed, False


def _saved_weights(settings: TrainingSettings, learning: Learning, numbers: Numbers) -> float:
    """Bytes of what `save_model` writes: an adapter alone, or the whole model."""
    return numbers.weight * learning.adapter if settings.method == "lora" else weight_bytes(learning, numbers)


def _checkpoint_bytes(settings: TrainingSettings, learning: Learning, numbers: Numbers) -> float:
    """Bytes of a `checkpoint-N`."""
    folder = settings.path("model_name_or_path")
    there = [file.stat().st_size for name in COMPANIONS if is_file(file := folder / name)]
    total = _saved_weights(settings, learning, numbers) + (sum(there) or _SMALL_FILES)
    if settings.flag("save_only_model"):
        return total
    return total + _STATE + numbers.optimizer * learning.trained


def operations_of(shape: ModelShape, passes: Mapping[str, float], tokens: float, in_images: float) -> float:
    """Floating-point operations for one sample, forward and backward, recomputation not counted.

    `tokens` includes `in_images`, those of images; `passes` are the operations per weight and token of "language",
    "projector" and "vision": 2 forward, 2 more if gradients pass through, 2 more if it learns.
    """
    words = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    layers = shape.count("language") - words + shape.vocabulary * shape.hidden
    attention = (12 if passes["language"] > 2 else 4) / 2 * shape.attending * shape.queries * tokens * tokens
    vision = passes["vision"] * shape.count("vision") * 4 * in_images
    projector = passes["projector"] * shape.count("projector") * in_images
    return passes["language"] * layers * tokens + attention + vision + projector


def cost_faults(settings: TrainingSettings, cost: TrainingCost) -> Iterator[Fault]:
    """Whether the run does not fit on the GPUs, or its checkpoints on the disk."""
    need, have = cost.memory_gb["total"], cost.gpu_memory_gb
    if need > have > 0:
        instead = f"fewest such GPUs: {cost.smallest}" if cost.smallest else "no number of such GPUs is enough"
        each = f"{need:.0f} GB per GPU of {have:g} GB (GPUs: {cost.gpus}, ZeRO stage {cost.zero_stage})"
        yield "memory", f"{each}; {instead}"
    folder = settings.path("output_dir").absolute()
    there = next((one for one in (folder, *folder.parents) if is_folder(one)), Path("/"))
    free = shutil.disk_usage(there).free / GB
    wanted = cost.checkpoints * cost.checkpoint_gb + cost.result_gb
    if wanted > free:
        saved = f"{cost.checkpoints} x {cost.checkpoint_gb:.1f} GB of checkpoints and the result"
        yield "disk", f"{saved} need {wanted:,.0f} GB; {free:,.0f} GB free in {there}"
