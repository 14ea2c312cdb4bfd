"""How to check, and the GPUs that a training will run on."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from migician.samples.bases import QWEN2_VL, Base, Template
from migician.samples.lengths import Resize

GB = 1e9
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the training will run on; by default what the authors had."""

    gpus: int = 8
    """Processes in all, over all machines: one per GPU."""
    gpu_memory_gb: float = 80.0
    """Of each; 0 where there is no GPU."""
    gpu: str = ""
    """Its name, as nvidia-smi gives it; empty if unknown."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How to check."""

    media_dir: Path | None = None
    """What image paths are relative to; the folder of the file if None."""
    quick: bool = False
    """Read only the headers of images."""
    workers: int = 1
    """Processes that decode images."""
    mig_bench: Path | None = None
    """MIG-Bench's JSON file, to say which of its images was found; they are known by name without it too."""
    mig_bench_images: Path | None = None
    """Its root, to find its images under other names."""
    tokenizer: Path | None = None
    """Folder of a checkpoint; without it text lengths are estimated."""
    cutoff_len: int | None = None
    base: Base = QWEN2_VL
    """What the data is for."""
    template: Template = QWEN2_VL.template
    training: bool = False
    """Whether the data must be in the convention of the base; else any may be stated beside a file."""
    preset: str = ""
    """The reward whose maximum each record's own answer must earn: one of `migician.training.rewards.PRESETS`; "" for
    none."""
    resize: Resize = field(default_factory=Resize)
    preprocessing_workers: int = 1
    """LLaMA-Factory's `preprocessing_num_workers`: each prepares a part of a file."""
    cluster: Cluster = field(default_factory=Cluster)
    """For a training YAML."""
    overrides: tuple[str, ...] = ()
    """For a training YAML: "key=value" that replace its settings."""


def cluster_of(gpus: int | None, gpu_memory_gb: float | None, gpu: str | None) -> tuple[Cluster, str]:
    """What a training will run on, and a sentence that says what of it is assumed; empty if nothing is.

    What is not given is taken from the GPUs of this machine; if it has none, 8 GPUs of 80 GB as published.
    """
    found = gpus_here()
    if found or (gpus is not None and gpu_memory_gb is not None):
        least = round(min((memory for _, memory in found), default=0.0), 1)
        memory = least if gpu_memory_gb is None else gpu_memory_gb
        return Cluster(gpus or len(found), memory, gpu or (found[0][0] if found else "")), ""
    assumed = Cluster()
    memory = assumed.gpu_memory_gb if gpu_memory_gb is None else gpu_memory_gb
    cluster = Cluster(gpus or assumed.gpus, memory, gpu or "")
    said = f"no GPU here: assuming --gpus {cluster.gpus} --gpu-memory {memory:g}"
    return cluster, said if memory else ""


def gpus_here() -> list[tuple[str, float]]:
    """(name, memory in GB) of each GPU that nvidia-smi lists; empty without a GPU or without nvidia-smi."""
    words = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(  # noqa: S603 - fixed words
            words, capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rpartition(",") for line in listed.splitlines())
    return [(name.strip(), float(mib) * _MIB / GB) for name, _, mib in rows if mib.strip().isdigit()]
