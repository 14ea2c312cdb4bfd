"""What this machine runs a checkpoint on: device, precision, attention, and room for pixels."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migician.boxes import TRAINED_PIXELS
from migician.errors import UserError
from migician.models import missing_extra
from migician.models.checkpoint import Checkpoint, commit_of
from migician.models.protocol import Model

try:
    import torch
    import transformers
    from transformers import AutoModelForImageTextToText

    from migician.models.engines.patches import use_product
    from migician.models.engines.threads import settle
except ModuleNotFoundError as error:
    raise UserError(missing_extra(error)) from None

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_ATTENTIONS = ("flash_attention_2", "sdpa", "eager")
# Room beside the weights -> pixels of one image. A 7B model needs about 2 GB for six images of
# 768 x 768; the steps below are that estimate with as much again in reserve.
_PIXELS = ((4e9, TRAINED_PIXELS), (2e9, 560 * 560), (0, 392 * 392))


@dataclass(frozen=True, slots=True)
class Machine:
    """The choices for one checkpoint."""

    device: str
    """In torch's notation, or "auto": spread over all GPUs."""
    dtype: torch.dtype
    attention: str
    room_bytes: float
    """Memory of the device minus the weights. Not what is free now, so that equal runs get equal limits."""
    notes: tuple[str, ...] = ()
    """Unexpected choices, and why."""

    @classmethod
    def choose(cls, checkpoint: Checkpoint, *, device: str | None, dtype: str | None, attention: str | None) -> Machine:
        """What was asked for, and the best of this machine for the rest; `UserError` for what it does not have."""
        if device is None and torch.cuda.is_available():
            # Of several processes on this machine each takes its own GPU; torchrun says which.
            device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
        device = device or ("mps" if torch.backends.mps.is_available() else "cpu")
        memory = _memory_bytes(device)
        notes: tuple[str, ...] = ()
        if dtype is None:
            kind, notes = _best_dtype(device, checkpoint, memory)
        elif dtype in _DTYPES:
            kind = _DTYPES[dtype]
        else:
            raise UserError(f"dtype {dtype!r}: expected one of {', '.join(_DTYPES)}")
        chosen = _attention(attention, device, kind)
        if device == "cpu":
            notes = (*notes, *settle(checkpoint.n_parameters))
        return cls(device, kind, chosen, memory - checkpoint.n_parameters * kind.itemsize, notes)

    def load(self, folder: Path) -> Any:
        """The model in `folder` by transformers' own class, on this device; `UserError` if it is incomplete."""
        model, loading = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=self.dtype,
            attn_implementation=self.attention,
            # The weights go to their device at once, not through the CPU's memory.
            device_map="auto" if self.device == "auto" else {"": self.device},
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        # transformers only warns, and continues with random weights.
        if lacking := sorted(loading["missing_keys"]):
            raise UserError(f"{folder}: tensors missing: {len(lacking)}, such as {lacking[0]}; the model is incomplete")
        use_product(model)
        return model.eval()

    def affordable_pixels(self) -> int:
        """Pixels of one image that leave room for half a dozen of them, at most those of training."""
        return next(pixels for room, pixels in _PIXELS if self.room_bytes >= room or room == 0)


def described(asked: Model, checkpoint: Checkpoint, model: Any) -> dict[str, Any]:
    """Weights, precision and versions of a model of transformers, for its `describe`."""
    return {
        "name": asked.name,
        "family": asked.family.name,
        "revision": commit_of(checkpoint.folder),
        "weights_fingerprint": checkpoint.fingerprint(),
        "parameters": checkpoint.n_parameters,
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": getattr(model.config, "_attn_implementation", None),
        "box_style": asked.box_style.name,
        **asked.family.template_facts,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }


def _memory_bytes(device: str) -> float:
    kind = device.partition(":")[0]
    if kind in ("cuda", "auto"):
        count = torch.cuda.device_count()
        if count == 0:
            raise UserError(f"device {device!r}: torch sees no GPU here; leave device out, or use device='cpu'")
        if kind == "auto":
            return sum(float(torch.cuda.get_device_properties(index).total_memory) for index in range(count))
        index = torch.device(device).index or 0
        if index >= count:
            raise UserError(f"device {device!r}: torch sees {count} GPU here, counted from cuda:0")
        return float(torch.cuda.get_device_properties(index).total_memory)
    if kind not in ("cpu", "mps"):
        raise UserError(f"device {device!r}: expected cuda, cuda:N, mps, cpu or auto")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"device {device!r}: there is no Apple GPU here")
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _best_dtype(device: str, checkpoint: Checkpoint, memory: float) -> tuple[torch.dtype, tuple[str, ...]]:
    if device.startswith(("cuda", "auto")):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, ()
        return torch.float16, ("float16 because this GPU has no bfloat16",)
    if device.startswith("mps"):
        return torch.bfloat16, ()
    # Half precision is slow on most CPUs, so it is only used if float32 does not fit.
    needed = 4.0 * checkpoint.n_parameters
    if needed > 0.6 * memory:
        return torch.bfloat16, (f"bfloat16 because float32 takes {needed / 1e9:.0f} of {memory / 1e9:.0f} GB",)
    return torch.float32, ()


def _attention(asked: str | None, device: str, dtype: torch.dtype) -> str:
    if asked is not None and asked not in _ATTENTIONS:
        raise UserError(f"attention {asked!r}: expected one of {', '.join(_ATTENTIONS)}")
    installed = importlib.util.find_spec("flash_attn") is not None
    possible = installed and device.startswith(("cuda", "auto")) and dtype != torch.float32
    if asked == "flash_attention_2" and not possible:
        why = (
            "it needs a GPU and half precision" if installed else "pip install 'migician[gpu]' on a machine with a GPU"
        )
        raise UserError(f"attention 'flash_attention_2' is not possible here: {why}; or leave attention out")
    return asked or ("flash_attention_2" if possible else "sdpa")
