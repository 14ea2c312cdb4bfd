"""What torch's profiler says of the GPU, for scripts/benchmark_gpu.py."""

from __future__ import annotations

from typing import Any

import torch


def profiler(device: str) -> torch.profiler.profile:
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device == "cuda" else []
    return torch.profiler.profile(activities=kinds)


def top_kernels(averages: Any, most: int) -> list[tuple[str, float, int]]:
    """(name, seconds on the GPU, how often) of those that took longest; none on the CPU."""
    found = [one for one in averages if one.device_type != torch.autograd.DeviceType.CPU]
    found = [one for one in found if not one.is_user_annotation and not one.key.startswith("part ")]
    found.sort(key=lambda one: -one.self_device_time_total)
    return [(one.key, one.self_device_time_total / 1e6, one.count) for one in found[:most]]
