"""The GPUs of this machine, as nvidia-smi tells of them."""

from __future__ import annotations

import subprocess

from migician.training.check.settings.cost import Machine
from migician.training.check.settings.memory import GB

_MIB = 1024 * 1024
_ASSUMED = Machine()


def machine_of(gpus: int | None, gpu_memory_gb: float | None, gpu: str | None) -> tuple[Machine, str]:
    """What a training will run on, and a sentence on what of it is assumed; empty where nothing is.

    What is not given is that of the GPUs here; where there is none, eight of 80 GB as published.
    """
    found = gpus_here()
    if gpus is not None and gpu_memory_gb is not None:
        return Machine(gpus, gpu_memory_gb, gpu or (found[0][0] if found else "")), ""
    if found:
        least = round(min(memory for _, memory in found), 1)
        memory = least if gpu_memory_gb is None else gpu_memory_gb
        return Machine(gpus or len(found), memory, gpu or found[0][0]), ""
    memory = _ASSUMED.gpu_memory_gb if gpu_memory_gb is None else gpu_memory_gb
    machine = Machine(gpus or _ASSUMED.gpus, memory, gpu or "")
    said = f"no GPU is here: {machine.gpus} of {machine.gpu_memory_gb:g} GB are assumed; say --gpus and --gpu-memory"
    return machine, said if machine.gpu_memory_gb else ""


def gpus_here() -> list[tuple[str, float]]:
    """(name, memory in GB) of each GPU; empty where there is none, or no nvidia-smi."""
    words = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(  # noqa: S603 - fixed words
            words, capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rpartition(",") for line in told.splitlines())
    return [(name.strip(), float(mib) * _MIB / GB) for name, _, mib in rows if mib.strip().isdigit()]
