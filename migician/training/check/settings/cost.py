"""What a training will take: steps, hours, memory and disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from migician.errors import UserError
from migician.files import is_file, is_folder
from migician.models.checkpoint import read_config
from migician.training.check.data.report import Report
from migician.training.check.settings.counting import Counts
from migician.training.check.settings.learning import Learning, Shape, learning_of
from migician.training.check.settings.memory import (
    GB,
    RUNTIME,
    Load,
    Need,
    Numbers,
    memory_need,
    numbers_of,
    smallest_fit,
    weight_bytes,
)
from migician.training.check.settings.training_yaml import Settings
from migician.training.merge import COMPANIONS

QWEN2_VL_7B = Shape(3584, 28, 18944, 28, 4, 152064, False, 1280, 32, 5120)
"""Of Qwen/Qwen2-VL-7B-Instruct; taken where the checkpoint is not here and its name does not say otherwise."""
QWEN2_VL_2B = Shape(1536, 28, 8960, 12, 2, 151936, True, 1280, 32, 5120)
"""Of Qwen/Qwen2-VL-2B-Instruct."""
AUTHORS_RATE = 0.69
"""Samples a second and A100, from the authors' 50 hours for a million samples on 8 of them."""
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
"""Dense bfloat16, by the maker's data sheets (H100 and H200: SXM)."""
PUBLISHED = {"language": 6.0, "projector": 2.0, "vision": 2.0}
"""Operations a weight and token where only the language model learns."""
_MFU = 0.3
_SMALL_FILES = 15_000_000
"""Bytes of Qwen2-VL's tokenizer and processor, which lie in each checkpoint."""
_STATE = 24_000
"""Bytes of a trainer's own small files in a checkpoint."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the training will run on."""

    gpus: int = 8
    """Processes in all, over all machines: one a GPU."""
    gpu_memory_gb: float = 80.0
    """Of each; 0 where there is no GPU."""
    gpu: str = ""
    """Its name, as nvidia-smi gives it; empty where it is not known."""


def peak_of(gpu: str) -> float | None:
    """Operations a second of one GPU by its name, None where that is not in `PEAK_FLOPS`.

    >>> peak_of("NVIDIA A100-SXM4-80GB"), peak_of("")
    (312000000000000.0, None)
    """
    return next((peak for name, peak in PEAK_FLOPS.items() if name in gpu), None)


class Training(msgspec.Struct):
    """What a training will take."""

    samples: int
    """That an epoch trains on."""
    gpus: Annotated[int, Meta(ge=1)]
    gpu_memory_gb: float
    """0 where there is no GPU."""
    batch: int
    """Samples a step, over all GPUs."""
    steps: int
    warmup_steps: int
    checkpoints: int
    """That are there at the end."""
    checkpoint_gb: float
    zero_stage: int
    memory_gb: dict[str, float]
    """On each GPU at the worst moment, by what it is for, and in all."""
    smallest: int | None
    """The fewest GPUs of that memory that hold the run at this ZeRO stage."""
    parameters: int
    """Those of an adapter included."""
    trained: int
    shape_known: bool
    """False where the checkpoint is not here, and the sizes of Qwen2-VL-7B are taken."""
    petaflops: float
    """10^15 operations for all samples: 6 a trained parameter and token, 2 a frozen one's (4 where gradients pass
    through it), attention included."""
    hours: dict[str, float]
    """At the authors' rate, and by kind of GPU at 30% of its peak."""
    gpu: str
    """Its name, where it was given."""
    samples_a_step: float
    """The batch; with packing, as many samples as on average fill its sequences."""
    tokens_a_sample: float
    images_a_sample: float
    flop_a_sample: float
    """On average; the operations that `petaflops` sums."""
    method: str = "full"
    """`finetuning_type`."""
    examples: int = 0
    """What LLaMA-Factory calls "Num examples": samples, or with packing sequences."""
    evaluated: int = 0
    """Samples that are evaluated on."""
    saved_at: list[int] = []
    """The steps of the checkpoints that are there at the end."""
    result_gb: float = 0.0
    """Of the weights in the output folder itself."""


def cost_of(settings: Settings, report: Report, counts: Counts, machine: Machine) -> Training:
    """What training on the samples of `report`, so counted, takes."""
    gpus, gpu_memory_gb = machine.gpus, machine.gpu_memory_gb
    shape, known = shape_of(settings)
    learning = learning_of(settings, shape)
    lengths = report.lengths
    longest = min(lengths.longest, lengths.cutoff_len or lengths.longest) if lengths else 0
    if settings.packs and lengths and lengths.cutoff_len:
        longest = lengths.cutoff_len  # each sequence is filled up to it
    mean, mean_in_images = (lengths.mean, lengths.mean_in_images) if lengths else (0.0, 0.0)
    each, accumulated = settings.batch
    batch = each * accumulated * gpus
    a_step = batch * counts.samples / counts.examples if settings.packs and counts.examples else float(batch)
    numbers, zero = numbers_of(settings, _stored(settings)), settings.zero()
    load = Load(
        tokens=each * longest,
        patches=4 * each * longest,
        compute=2 if settings.halves else 4,
        checkpointing=not settings.flag("disable_gradient_checkpointing"),
        fused_loss=settings.flag("enable_liger_kernel"),
    )
    each_takes = operations_of(
        shape, {part: learning.passes(part) for part in ("language", "projector", "vision")}, mean, mean_in_images
    )
    seen = counts.seen(a_step)
    operations = seen * each_takes
    hours = {}
    if shape == QWEN2_VL_7B and settings.method == "full":
        hours["A100 at the authors' rate"] = seen / (AUTHORS_RATE * gpus) / 3600
    hours |= {
        f"{name} at {_MFU:.0%} MFU": operations / (_MFU * PEAK_FLOPS[name] * gpus) / 3600 for name in ("A100", "H100")
    }
    return Training(
        samples=counts.samples,
        gpus=gpus,
        gpu_memory_gb=gpu_memory_gb,
        batch=batch,
        steps=counts.steps,
        warmup_steps=counts.warmup_steps,
        checkpoints=counts.checkpoints,
        checkpoint_gb=_checkpoint_bytes(settings, learning, numbers) / GB,
        zero_stage=zero.stage,
        memory_gb=_in_gb(memory_need(learning, load, numbers, zero, gpus, runtime=RUNTIME if gpu_memory_gb else 0.0)),
        smallest=smallest_fit(learning, load, numbers, zero, gpu_memory_gb * GB),
        parameters=shape.count() + learning.adapter,
        trained=learning.trained,
        shape_known=known,
        petaflops=operations / 1e15,
        hours={name: round(value, 2) for name, value in hours.items()},
        gpu=machine.gpu,
        samples_a_step=a_step,
        tokens_a_sample=mean,
        images_a_sample=lengths.mean_images if lengths else 0.0,
        flop_a_sample=each_takes,
        method=settings.method,
        examples=counts.examples,
        evaluated=counts.evaluated,
        saved_at=list(counts.saved_at),
        result_gb=_saved_weights(settings, learning, numbers) / GB,
    )


def _in_gb(need: Need) -> dict[str, float]:
    parts = {name: getattr(need, name) for name in need.__slots__} | {"total": need.total}
    return {name: round(value / GB, 2) for name, value in parts.items()}


def shape_of(settings: Settings) -> tuple[Shape, bool]:
    """(sizes of the model, whether they are known): by its config, or by its name on the Hub."""
    folder, name = settings.path("model_name_or_path"), settings.text("model_name_or_path").lower()
    if is_file(folder / "config.json"):
        try:
            return Shape.of(read_config(folder)), True
        except (UserError, AttributeError, LookupError, TypeError, ValueError):
            return QWEN2_VL_7B, False
    return (QWEN2_VL_2B, True) if "qwen2-vl-2b" in name else (QWEN2_VL_7B, "7b" in name)


def _stored(settings: Settings) -> int:
    """Bytes of a parameter in the checkpoint; 2 where its config does not say."""
    folder = settings.path("model_name_or_path")
    if not is_file(folder / "config.json"):
        return 2
    try:
        config = read_config(folder)
    except UserError:
        return 2
    return 4 if config.get("dtype", config.get("torch_dtype")) == "float32" else 2


def _saved_weights(settings: Settings, learning: Learning, numbers: Numbers) -> float:
    """Bytes of what `save_model` writes: an adapter alone, or the whole model."""
    return numbers.weight * learning.adapter if settings.method == "lora" else weight_bytes(learning, numbers)


def _checkpoint_bytes(settings: Settings, learning: Learning, numbers: Numbers) -> float:
    """Bytes of a `checkpoint-N`."""
    folder = settings.path("model_name_or_path")
    there = [file.stat().st_size for name in COMPANIONS if is_file(file := folder / name)]
    total = _saved_weights(settings, learning, numbers) + (sum(there) or _SMALL_FILES)
    if settings.flag("save_only_model"):
        return total
    return total + _STATE + numbers.optimizer * learning.trained


def operations_of(shape: Shape, passes: Mapping[str, float], tokens: float, in_images: float) -> float:
    """Floating-point operations for one sample, forward and backward, recomputation not counted.

    `tokens` in all, `in_images` of them of images; `passes` are the operations a weight and token of "language",
    "projector" and "vision": 2 forward, 2 more where gradients pass through, 2 more where it learns.
    """
    words = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    layers = shape.count("language") - words + shape.vocabulary * shape.hidden
    attention = (12 if passes["language"] > 2 else 4) / 2 * shape.layers * shape.hidden * tokens * tokens
    vision = passes["vision"] * shape.count("vision") * 4 * in_images
    projector = passes["projector"] * shape.count("projector") * in_images
    return passes["language"] * layers * tokens + attention + vision + projector


def memory_fault(training: Training) -> Iterator[tuple[str, str]]:
    """Where the run does not fit."""
    need, have = training.memory_gb["total"], training.gpu_memory_gb
    if need <= have or not have:
        return
    instead = f"{training.smallest} GPUs hold it" if training.smallest else "no number of such GPUs holds it so"
    yield (
        "memory",
        f"{need:.0f} GB on each of {training.gpus} GPUs of {have:g} GB, ZeRO stage {training.zero_stage}: {instead}",
    )


def checkpoint_faults(settings: Settings, training: Training) -> Iterator[tuple[str, str]]:
    """Where the disk cannot hold the checkpoints."""
    folder = settings.path("output_dir").absolute()
    there = next((one for one in (folder, *folder.parents) if is_folder(one)), Path("/"))
    free = shutil.disk_usage(there).free / GB
    wanted = training.checkpoints * training.checkpoint_gb + training.result_gb
    if wanted > free:
        yield (
            "disk",
            f"{training.checkpoints} checkpoints of {training.checkpoint_gb:.1f} GB and the result are "
            f"{wanted:,.0f} GB; {free:,.0f} GB free in {there}",
        )


def sentences(training: Training) -> Iterator[str]:
    """What a training will take, in lines for a person."""
    one = training
    packed = f" in {one.examples:,} sequences" if one.examples not in (0, one.samples) else ""
    held_out = f", {one.evaluated:,} to evaluate on" if one.evaluated else ""
    yield (
        f"{one.samples:,} samples{packed} / {one.batch} a step: {one.steps:,} steps, {one.warmup_steps:,} of them "
        f"warm-up; {one.checkpoints} checkpoints of {_size(one.checkpoint_gb)}{held_out}"
    )
    yield f"{one.method}: {one.trained:,} of {one.parameters:,} parameters learn ({one.trained / one.parameters:.2%})"
    parts = ", ".join(f"{name} {value:.1f}" for name, value in one.memory_gb.items() if name != "total")
    if one.gpu_memory_gb:
        yield (
            f"memory on each of {one.gpus} GPUs, ZeRO stage {one.zero_stage}: about {one.memory_gb['total']:.1f} of "
            f"{one.gpu_memory_gb:g} GB ({parts}); "
            + (f"{one.smallest} such GPUs are enough" if one.smallest else "no number of such GPUs is enough")
        )
    else:
        processes = f"{one.gpus} processes" if one.gpus > 1 else "one process"
        yield f"no GPU: {processes} on the CPU, about {one.memory_gb['total']:.1f} GB each ({parts})"
    hours = ", ".join(f"{value:,.1f} h ({name})" for name, value in one.hours.items())
    yield f"{one.petaflops:,.2f} petaFLOP: {hours}, computed, not measured"
    if not one.shape_known:
        yield "the checkpoint is not here, or is no Qwen2-VL: the sizes of Qwen2-VL-7B were taken"


def _size(gb: float) -> str:
    return f"{gb:.1f} GB" if gb >= 1 or math.isclose(gb, 0) else f"{1000 * gb:.1f} MB"
