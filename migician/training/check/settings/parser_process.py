"""LLaMA-Factory's own parser in its own process: a training YAML per line in, its settings per line out, as JSON.

Run by `parsing`, never imported, because it takes nine seconds and torch. What depends on the machine (precision,
DeepSpeed, GPUs) is removed before the parse and restored after it, so that a YAML for eight GPUs can be checked
without any.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

# Libraries print to standard output: answers go to a copy of it.
ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from llamafactory.hparams import parser as own  # type: ignore[import-untyped]  # noqa: E402

OF_THE_MACHINE = ("bf16", "fp16", "tf32", "pure_bf16", "deepspeed", "fsdp", "fsdp_config", "use_cpu")
_FIELDS = {field.name: kind for kind in own._TRAIN_ARGS for field in dataclasses.fields(kind) if field.init}
_missing_packages: list[str] = []


def _check_packages(check: Any, *arguments: Any) -> None:
    """LLaMA-Factory's check of installed packages; what is missing here may be installed where the training runs."""
    try:
        check(*arguments)
    except ImportError as error:
        _missing_packages.append(_line(error).removeprefix("No package metadata was found for "))


_needed = own._check_extra_dependencies
own._check_extra_dependencies = lambda *arguments: _check_packages(_needed, *arguments)


def parse(file: str, overrides: list[str]) -> dict[str, Any]:
    """What LLaMA-Factory makes of a YAML and of what follows it on the command line."""
    _missing_packages.clear()
    sys.argv = ["train", str(Path(file).absolute()), *overrides]
    given: dict[str, Any] = own.read_args()
    machine = {key: given[key] for key in OF_THE_MACHINE if key in given}
    kept = {key: value for key, value in given.items() if key in _FIELDS and key not in machine} | {"use_cpu": True}
    faults, parts = [], []
    try:
        parts = list(own.get_train_args(dict(kept)))
    except Exception as error:  # noqa: BLE001 - the question is what stops it
        faults.append(_line(error))
        for kind in own._TRAIN_ARGS:
            try:
                parts.append(kind(**{key: value for key, value in kept.items() if _FIELDS[key] is kind}))
            except Exception:  # noqa: BLE001, S112 - reported above
                continue
    values = {key: _default(kind, key) for key, kind in _FIELDS.items()} | kept
    for part in parts:
        values |= {one.name: getattr(part, one.name) for one in dataclasses.fields(part) if one.name in _FIELDS}
    values |= {key: machine.get(key, _default(_FIELDS[key], key)) for key in OF_THE_MACHINE if key in _FIELDS}
    return {
        "values": {key: _plain(value) for key, value in values.items()},
        "given": {key: _plain(value) for key, value in given.items()},
        "known": sorted(_FIELDS),
        "faults": faults,
        "packages": _missing_packages,
    }


def _default(kind: type, key: str) -> Any:
    field = next(one for one in dataclasses.fields(kind) if one.name == key)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _plain(value: Any) -> Any:
    """A value as JSON; other objects become text."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def main() -> None:
    """Answer until the other end is closed."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            os.chdir(asked["folder"])
            answer = parse(asked["file"], asked["overrides"])
        except Exception as error:  # noqa: BLE001 - reported by `parsing`
            answer = {"failed": _line(error)}
        ANSWERS.write(json.dumps(answer) + "\n")
        ANSWERS.flush()


if __name__ == "__main__":
    main()
