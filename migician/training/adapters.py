"""A LoRA adapter merged into its base: W + (alpha / r) B A, a piece of a tensor at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from migician.again import making
from migician.errors import UserError
from migician.files import is_file, read_object
from migician.models.checkpoint import ITEM_BYTES, Checkpoint, Tensor, locate, read_checkpoint, read_header
from migician.training.checkpoint_forms import canonical
from migician.training.merge import TORCH_NAMES, check_space, torch_bytes, write_weights

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


class AdapterConfig(msgspec.Struct):
    """The fields of peft's adapter_config.json that matter here."""

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


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter instead of a model."""
    return is_file(Path(folder) / CONFIG) and not is_file(Path(folder) / "config.json")


def read_trained(folder: Path) -> Checkpoint:
    """A checkpoint or an adapter, from headers alone; the config of an adapter is peft's. `UserError` where damaged."""
    if not is_adapter(folder):
        return read_checkpoint(folder)
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

    `base` is a folder or a Hub id; by default the one named in the adapter's config. Sums are made in float32 and
    rounded once to the base's own dtype; the result has the base's shards, files and tokenizer. An adapter trained on a
    quantised base is merged into the unquantised weights. `merge.json` records the sources. The folder appears complete
    or not at all. Raises `Done` if `out` is this merge already, and `UserError`, before anything is written, if the
    adapter is not a plain LoRA or does not match the base, `out` holds anything else (`force` replaces another merge)
    or the disk is too small.
    """
    source, target = Path(adapter), Path(out)
    if not is_adapter(source):
        raise UserError(f"{source}: not an adapter: it has no {CONFIG}, or is a whole model")
    trained = read_trained(source)
    config = read_object(source / CONFIG, AdapterConfig)
    plain = config.peft_type == "LORA" and not config.use_dora and config.bias == "none" and not config.fan_in_fan_out
    if not plain or config.rank_pattern or config.alpha_pattern:
        raise UserError(
            f"{source / CONFIG}: not a plain LoRA (peft_type {config.peft_type!r}, use_dora {config.use_dora}, bias "
            f"{config.bias!r}); merge it with: llamafactory-cli export"
        )
    reference = base or config.base_model_name_or_path
    if not reference:
        raise UserError(f"{source / CONFIG}: does not name its base; set --base")
    own = read_checkpoint(locate(reference))
    changes = _changes(trained, own)
    scale = config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r)
    made = {
        "formula": "base + scale * B A",
        "scale": scale,
        "rank": config.r,
        "base": {"path": str(reference), "fingerprint": own.fingerprint()},
        "adapter": {"path": str(source), "fingerprint": trained.fingerprint()},
    }
    with making(target, made, force=force, mark="merge.json") as folder:
        check_space(folder, own.n_bytes)
        write_weights(own, folder, partial(_changed, changes, scale), on_progress)
        (folder / "merge.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return target


def _changes(adapter: Checkpoint, base: Checkpoint) -> dict[str, tuple[Tensor, ...]]:
    """What the adapter does, by the name of the base's tensor: (A, B) of shapes (r, in) and (out, r) to add, or a
    tensor to replace it (`modules_to_save`). Raises `UserError` where it does not fit.
    """
    names = {canonical(name): name for name in base.tensors}
    changes: dict[str, tuple[Tensor, ...]] = {}
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
        changes[own.name] = (tensor, other) if other else (tensor,)
    if not changes:
        raise UserError(f"{adapter.folder}: the adapter is empty")
    return changes


def _changed(
    changes: Mapping[str, tuple[Tensor, ...]], scale: float, tensor: Tensor, start: int, n_bytes: int
) -> memoryview:
    """A piece of one tensor of the base, changed by the adapter."""
    if tensor.name not in changes:
        return memoryview(tensor.read(start, n_bytes))
    import torch

    change = changes[tensor.name]
    first, last = start // ITEM_BYTES[tensor.dtype], (start + n_bytes) // ITEM_BYTES[tensor.dtype]
    if len(change) == 2:
        (a, b), (rank, columns) = change, change[0].shape
        top, bottom = first // columns, -(-last // columns)
        rows = _loaded(b, top * rank, bottom * rank).reshape(-1, rank)
        added = rows @ _loaded(a, 0, rank * columns).reshape(rank, columns)
        made = _loaded(tensor, first, last) + scale * added.reshape(-1)[first - top * columns : last - top * columns]
    else:
        made = _loaded(change[0], first, last)
    if not bool(made.isfinite().all()):
        raise UserError(
            f"{change[0].file}: tensor {change[0].name} makes values that are not finite; that training diverged"
        )
    return torch_bytes(made.to(getattr(torch, TORCH_NAMES[tensor.dtype])))


def _loaded(tensor: Tensor, first: int, last: int) -> torch.Tensor:
    """The elements from `first` up to `last` of a tensor, in float32, flat."""
    import torch

    item = ITEM_BYTES[tensor.dtype]
    part = tensor.read(first * item, (last - first) * item)
    return torch.frombuffer(part, dtype=getattr(torch, TORCH_NAMES[tensor.dtype])).to(torch.float32)
