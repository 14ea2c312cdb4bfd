"""What a training will take: steps, hours, memory and disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from migician.checking.report import Report
from migician.checkpoints import read_config
from migician.errors import UserError
from migician.preflight.memory import GB, Load, Need, Shape, memory_need, smallest_fit
from migician.preflight.settings import Settings

QWEN2_VL_7B = Shape(3584, 28, 18944, 28, 4, 152064, False, 1280, 32, 5120)
"""Of Qwen/Qwen2-VL-7B-Instruct; taken where the checkpoint is not here and its name does not say otherwise."""
AUTHORS_RATE = 0.69
"""Samples a second and A100, from the authors' 50 hours for a million samples on 8 of them."""
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
"""Dense bfloat16, by the maker's data sheets (H100 and H200: SXM)."""
_MFU = 0.3


@dataclass(frozen=True, slots=True)
class Machine:
    """What the training will run on."""

    gpus: int = 8
    """In all, over all machines."""
    gpu_memory_gb: float = 80.0
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
    gpus: int
    gpu_memory_gb: float
    batch: int
    """Samples a step, over all GPUs."""
    steps: int
    warmup_steps: int
    checkpoints: int
    checkpoint_gb: float
    zero_stage: int
    memory_gb: dict[str, float]
    """On each GPU at the worst moment, by what it is for, and in all."""
    smallest: int | None
    """The fewest GPUs of that memory that hold the run at this ZeRO stage."""
    parameters: int
    trained: int
    shape_known: bool
    """False where the checkpoint is not here, and the sizes of Qwen2-VL-7B are taken."""
    petaflops: float
    """10^15 operations for all samples: 6 a trained parameter and token, 2 a frozen one's, attention included."""
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


def cost_of(settings: Settings, report: Report, machine: Machine) -> Training:
    """What training on the samples of `report` takes."""
    gpus, gpu_memory_gb = machine.gpus, machine.gpu_memory_gb
    shape, known = _shape(settings)
    lengths = report.lengths
    longest = min(lengths.longest, lengths.cutoff_len or lengths.longest) if lengths else 0
    packs = settings.flag("packing") or settings.flag("neat_packing")
    mean, mean_in_images = (lengths.mean, lengths.mean_in_images) if lengths else (0.0, 0.0)
    each, accumulated = settings.batch
    batch = each * accumulated * gpus
    samples = min(report.samples, int(settings.number("max_samples", report.samples) * max(1, len(settings.datasets))))
    epochs = settings.number("num_train_epochs", 3)
    if packs and lengths and lengths.cutoff_len:
        longest = lengths.cutoff_len  # each sequence is filled up to it
        a_step = batch * max(1.0, lengths.cutoff_len / mean) if mean else 0.0
    else:
        a_step = float(batch)
    steps = int(settings.number("max_steps", -1))
    if steps <= 0:
        steps = math.ceil(samples / a_step) * math.ceil(epochs) if samples and a_step else 0
    trained = _trained(settings)
    load = Load(
        tokens=each * longest,
        patches=4 * each * longest,
        bytes_a_number=2 if settings.flag("bf16") or settings.flag("fp16") else 4,
        checkpointing=not settings.flag("disable_gradient_checkpointing"),
        fused_loss=settings.flag("enable_liger_kernel"),
        trains_vision=trained["vision"],
        trains_projector=trained["projector"],
        trains_language=trained["language"],
    )
    zero = settings.zero()
    need = memory_need(shape, load, zero, gpus)
    learning = (
        shape.language_parameters * trained["language"]
        + shape.projector_parameters * trained["projector"]
        + shape.vision_parameters * trained["vision"]
    )
    whole = shape.language_parameters + shape.projector_parameters + shape.vision_parameters
    each_takes = operations_of(shape, trained, mean, mean_in_images)
    operations = samples * epochs * each_takes
    hours = {}
    if shape == QWEN2_VL_7B:
        hours["A100 at the authors' rate"] = samples * epochs / (AUTHORS_RATE * gpus) / 3600
    hours |= {
        f"{name} at {_MFU:.0%} MFU": operations / (_MFU * PEAK_FLOPS[name] * gpus) / 3600 for name in ("A100", "H100")
    }
    every = int(settings.number("save_steps", 500))
    count = math.ceil(steps / every) if every >= 1 else 1
    limit = int(settings.number("save_total_limit", 0))
    return Training(
        samples,
        gpus,
        gpu_memory_gb,
        batch,
        steps,
        math.ceil(steps * settings.number("warmup_ratio", 0.0)) or int(settings.number("warmup_steps", 0)),
        min(count, limit) if limit else count,
        (load.bytes_a_number * whole + (12 if load.bytes_a_number == 2 else 8) * learning) / GB,
        zero.stage,
        _in_gb(need),
        smallest_fit(shape, load, zero, gpu_memory_gb * GB),
        whole,
        learning,
        known,
        operations / 1e15,
        {name: round(value, 2) for name, value in hours.items()},
        machine.gpu,
        a_step,
        mean,
        lengths.mean_images if lengths else 0.0,
        each_takes,
    )


def _in_gb(need: Need) -> dict[str, float]:
    parts = {name: getattr(need, name) for name in need.__slots__} | {"total": need.total}
    return {name: round(value / GB, 2) for name, value in parts.items()}


def _shape(settings: Settings) -> tuple[Shape, bool]:
    folder = settings.path("model_name_or_path")
    if (folder / "config.json").is_file():
        try:
            return Shape.of(read_config(folder)), True
        except (UserError, KeyError):
            return QWEN2_VL_7B, False
    return QWEN2_VL_7B, "7b" in settings.text("model_name_or_path").lower()


def _trained(settings: Settings) -> dict[str, bool]:
    """Which parts learn, by LLaMA-Factory's defaults: tower and projector are frozen."""
    return {
        "language": not settings.flag("freeze_language_model"),
        "projector": not settings.flag("freeze_multi_modal_projector", True),
        "vision": not settings.flag("freeze_vision_tower", True),
    }


def operations_of(shape: Shape, trained: dict[str, bool], tokens: float, in_images: float) -> float:
    """Floating-point operations for one sample, forward and backward, recomputation not counted.

    `tokens` in all, `in_images` of them of images; `trained` says of "language", "projector" and "vision" whether
    they learn.
    """
    words = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    layers = shape.language_parameters - words + shape.vocabulary * shape.hidden
    # 6 a weight that learns; one that is frozen below what learns is only passed through.
    language = (6 if trained["language"] else 4) * layers * tokens
    attention = (12 if trained["language"] else 8) / 2 * shape.layers * shape.hidden * tokens * tokens
    vision = (6 if trained["vision"] else 2) * shape.vision_parameters * 4 * in_images
    return language + attention + vision + (6 if trained["projector"] else 2) * shape.projector_parameters * in_images


def memory_fault(training: Training) -> Iterator[tuple[str, str]]:
    """Where the run does not fit."""
    need, have = training.memory_gb["total"], training.gpu_memory_gb
    if need <= have:
        return
    cure = f"{training.smallest} GPUs hold it" if training.smallest else "no number of such GPUs holds it at this stage"
    yield (
        "memory",
        f"{need:.0f} GB on each of {training.gpus} GPUs of {have:g} GB, ZeRO stage {training.zero_stage}: {cure}",
    )


def checkpoint_faults(settings: Settings, training: Training) -> Iterator[tuple[str, str]]:
    """Where the disk cannot hold the checkpoints."""
    folder = settings.path("output_dir").absolute()
    there = next((one for one in (folder, *folder.parents) if one.is_dir()), Path("/"))
    free = shutil.disk_usage(there).free / GB
    wanted = training.checkpoints * training.checkpoint_gb
    if wanted > free:
        yield (
            "disk",
            f"{training.checkpoints} checkpoints of {training.checkpoint_gb:.1f} GB are {wanted:,.0f} GB; "
            f"{free:,.0f} GB free in {there}",
        )


def sentences(training: Training) -> Iterator[str]:
    """What a training will take, in lines for a person."""
    one = training
    yield (
        f"{one.samples:,} samples / {one.batch} a step = {one.steps:,} steps, {one.warmup_steps:,} of them warm-up; "
        f"{one.checkpoints} checkpoints of {one.checkpoint_gb:.1f} GB"
    )
    parts = ", ".join(f"{name} {value:.1f}" for name, value in one.memory_gb.items() if name != "total")
    yield (
        f"memory on each of {one.gpus} GPUs, ZeRO stage {one.zero_stage}: about {one.memory_gb['total']:.1f} of "
        f"{one.gpu_memory_gb:g} GB ({parts}); "
        + (f"{one.smallest} such GPUs are enough" if one.smallest else "no number of such GPUs is enough")
    )
    hours = ", ".join(f"{value:,.1f} h ({name})" for name, value in one.hours.items())
    yield f"{one.petaflops:,.2f} petaFLOP: {hours}, computed, not measured"
    if not one.shape_known:
        yield "the checkpoint is not here: the sizes of Qwen2-VL-7B were taken"
