"""A LoRA adapter merged into its base: W + (alpha / r) B A, a piece of a tensor at a time."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from migician.again import making
from migician.errors import UserError
from migician.files import is_file, read_object
from migician.models.checkpoint import INDEX, ITEM_BYTES, Checkpoint, Tensor, locate, read_checkpoint, read_header
from migician.training.checkpoint_forms import canonical
from migician.training.merge import COMPANIONS, PIECE, TORCH_NAMES, check_space, header_bytes, read_part

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


class AdapterConfig(msgspec.Struct):
    """What is read of peft's adapter_config.json."""

    peft_type: str = ""
    base_model_name_or_path: str | None = None
    r: int = 8
    lora_alpha: float = 8
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    fan_in_fan_out: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)


@dataclass(frozen=True, slots=True)
class _Change:
    """What becomes of one tensor of the base."""

    low: tuple[Tensor, Tensor] | None = None
    """(A, B) of shapes (r, in) and (out, r)."""
    whole: Tensor | None = None
    """What stands in its place (`modules_to_save`)."""


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter instead of a model."""
    return is_file(Path(folder) / CONFIG) and not is_file(Path(folder) / "config.json")


def read_adapter(folder: Path) -> Checkpoint:
    """The tensors of an adapter, from the header alone; its config is peft's. `UserError` where it is damaged."""
    file = folder / WEIGHTS
    if not is_file(file):
        raise UserError(f"{folder}: holds no {WEIGHTS}; save the adapter as safetensors first")
    return Checkpoint(folder, read_object(folder / CONFIG), (file,), {one.name: one for one in read_header(file)})


def merge_adapter(
    adapter: str | Path,
    out: str | Path,
    base: str | Path | None = None,
    *,
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the base of a LoRA adapter with the adapter merged into it to the new folder `out` and give its path.

    `base` is a folder or a Hub id; without it, what the adapter says it was trained on. Sums are made in float32 and
    rounded once to the base's own dtype; the result has the base's form, files and tokenizer. An adapter that was
    trained on a quantised base is merged into the weights before they were quantised. `merge.json` says what it was
    made from. The folder appears whole or not at all. Raises `Done` where `out` is this merge already, and `UserError`,
    before anything is written, where the adapter is no plain LoRA or does not fit the base, `out` holds anything else
    (another merge is replaced with `force`) or the disk is too small.
    """
    source, target = Path(adapter), Path(out)
    if not is_adapter(source):
        raise UserError(f"{source}: not an adapter: it holds no {CONFIG}, or a whole model")
    trained = read_adapter(source)
    config = read_object(source / CONFIG, AdapterConfig)
    _check_kind(source, config)
    reference = base or config.base_model_name_or_path
    if not reference:
        raise UserError(f"{source / CONFIG}: does not name its base; say --base")
    own = read_checkpoint(locate(reference))
    changes = _changes(trained, own)
    made = {
        "formula": "base + scale * B A",
        "scale": config.scale,
        "rank": config.r,
        "base": {"path": str(reference), "fingerprint": own.fingerprint()},
        "adapter": {"path": str(source), "fingerprint": trained.fingerprint()},
    }
    with making(target, made, force=force, mark="merge.json") as partial:
        check_space(partial, own.n_bytes)
        _write(own, changes, config.scale, partial, on_progress)
        (partial / "merge.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return target


def _check_kind(folder: Path, config: AdapterConfig) -> None:
    plain = config.peft_type == "LORA" and not config.use_dora and config.bias == "none" and not config.fan_in_fan_out
    if not plain or config.rank_pattern or config.alpha_pattern:
        raise UserError(
            f"{folder / CONFIG}: not a plain LoRA (peft_type {config.peft_type!r}, use_dora {config.use_dora}, bias "
            f"{config.bias!r}); merge it with: llamafactory-cli export"
        )


def _changes(adapter: Checkpoint, base: Checkpoint) -> dict[str, _Change]:
    """What the adapter does, by the name of the base's tensor; `UserError` where it does not fit."""
    names = {canonical(name): name for name in base.tensors}
    changes: dict[str, _Change] = {}
    for name, tensor in adapter.tensors.items():
        module = name.removeprefix(_PREFIX)
        if module.endswith(_B):
            if name.removesuffix(_B) + _A not in adapter.tensors:
                raise UserError(f"{adapter.folder}: tensor {name} is there without its lora_A")
            continue
        low = module.endswith(_A)
        wanted = canonical(module.removesuffix(_A) + ".weight" if low else module)
        if wanted not in names:
            raise UserError(
                f"{adapter.folder}: tensor {name} has no place in {base.folder}; name the --base it was trained on"
            )
        own = base.tensors[names[wanted]]
        other = adapter.tensors.get(name.removesuffix(_A) + _B) if low else None
        if low and other is None:
            raise UserError(f"{adapter.folder}: tensor {name} is there without its lora_B")
        shape = (other.shape[0], tensor.shape[1]) if other else tensor.shape
        if shape != own.shape or own.dtype not in TORCH_NAMES:
            raise UserError(
                f"{adapter.folder}: tensor {name} is for {list(shape)}, and {own.name} of {base.folder} is "
                f"{own.dtype} {list(own.shape)}; name the --base it was trained on"
            )
        changes[own.name] = _Change((tensor, other), None) if other else _Change(None, tensor)
    if not changes:
        raise UserError(f"{adapter.folder}: the adapter is empty")
    return changes


def _write(
    base: Checkpoint,
    changes: Mapping[str, _Change],
    scale: float,
    folder: Path,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    done = 0
    for shard in base.shards:
        with (folder / shard.name).open("wb") as stream:
            stream.write(header_bytes(shard))
            inside = (one for one in base.tensors.values() if one.file == shard)
            for tensor in sorted(inside, key=lambda one: one.begin):
                done = _write_tensor(tensor, changes.get(tensor.name, _Change()), scale, stream.write, done)
                if on_progress is not None:
                    on_progress(done, base.n_bytes)
            stream.flush()
            os.fsync(stream.fileno())
    for name in (*COMPANIONS, INDEX):
        if is_file(base.folder / name):
            shutil.copyfile(base.folder / name, folder / name)


def _write_tensor(
    tensor: Tensor, change: _Change, scale: float, write: Callable[[bytes | memoryview], int], done: int
) -> int:
    """Write one tensor of the result, some rows at a time; gives the bytes written so far."""
    row = math.prod(tensor.shape[1:]) or 1
    step = max(1, PIECE // row) * row * ITEM_BYTES[tensor.dtype]
    low = [_loaded(one, 0, one.n_bytes) for one in change.low] if change.low else None
    for start in range(0, tensor.n_bytes, step):
        n_bytes = min(step, tensor.n_bytes - start)
        write(_piece(tensor, change, low, scale, start, n_bytes))
        done += n_bytes
    return done


def _piece(
    tensor: Tensor, change: _Change, low: list[torch.Tensor] | None, scale: float, start: int, n_bytes: int
) -> bytes | memoryview:
    """The rows of the result from `start` on."""
    if change.whole is None and low is None:
        return bytes(read_part(tensor, start, n_bytes))
    import torch

    kind: torch.dtype = getattr(torch, TORCH_NAMES[tensor.dtype])
    item = ITEM_BYTES[tensor.dtype]
    if low:
        columns = tensor.shape[1]
        first, count = start // item // columns, n_bytes // item // columns
        made = _loaded(tensor, start, n_bytes) + scale * (low[1][first : first + count] @ low[0])
    else:
        whole = change.whole or tensor
        other = ITEM_BYTES[whole.dtype]
        made = _loaded(whole, start // item * other, n_bytes // item * other)
    if not bool(made.isfinite().all()):
        where = change.low[0] if change.low else change.whole or tensor
        raise UserError(f"{where.file}: tensor {where.name} makes values that are not finite; that training diverged")
    bytes_: memoryview = made.to(kind).reshape(-1).view(torch.uint8).numpy().data
    return bytes_


def _loaded(tensor: Tensor, start: int, n_bytes: int) -> torch.Tensor:
    """Some whole rows of a tensor in float32."""
    import torch

    kind: torch.dtype = getattr(torch, TORCH_NAMES[tensor.dtype])
    flat = torch.frombuffer(read_part(tensor, start, n_bytes), dtype=kind).to(torch.float32)
    return flat.reshape(-1, *tensor.shape[1:])
