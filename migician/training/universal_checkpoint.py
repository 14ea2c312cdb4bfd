"""LLaMA-Factory on another number of processes: torchrun -m migician.training.universal_checkpoint YAML [key=value ...]

DeepSpeed 0.19.8 reads a ZeRO-3 checkpoint that its ds_to_universal converted into any number of processes, but gives
all pieces of the optimizer the same step counter: with G pieces it then counts G per step, and Adam's bias correction
runs ahead. Here each piece gets its own counter, and then LLaMA-Factory runs as usual.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from migician.errors import UserError, writing
from migician.files import read_object


def universal_config(file: Path, out: Path) -> Path:
    """Write the DeepSpeed file `file` to `out` with the setting that loads a universal checkpoint.

    Raises `UserError` for a file that is not a DeepSpeed config.
    """
    content = read_object(file)
    before = content.get("checkpoint", {})
    if "zero_optimization" not in content or not isinstance(before, dict):
        raise UserError(f"{file}: not a DeepSpeed file: expected 'zero_optimization', and 'checkpoint' to be an object")
    content["checkpoint"] = {**before, "load_universal": True}
    with writing(out) as stream:
        stream.write(json.dumps(content, indent=2).encode() + b"\n")
    return out


def part_counters(state: dict[Any, dict[str, Any]]) -> None:
    """Give each piece of an optimizer's state its own step counter.

    >>> import torch
    >>> shared = torch.tensor(4.0)
    >>> state = {0: {"step": shared}, 1: {"step": shared}}
    >>> part_counters(state)
    >>> _ = [one["step"].add_(1) for one in state.values()]
    >>> [one["step"].item() for one in state.values()]
    [5.0, 5.0]
    """
    for one in state.values():
        if hasattr(one.get("step"), "clone"):
            one["step"] = one["step"].clone()


def _patch() -> None:
    optimizer = importlib.import_module("deepspeed.runtime.zero.stage3").DeepSpeedZeroOptimizer_Stage3
    name = "load_hp_checkpoint_state_from_checkpoint_dir_stage3"
    load = getattr(optimizer, name)

    def fixed(self: Any, folder: str) -> None:
        load(self, folder)
        part_counters(self.optimizer.state)

    setattr(optimizer, name, fixed)


if __name__ == "__main__":
    _patch()
    importlib.import_module("llamafactory.train.tuner").run_exp()
