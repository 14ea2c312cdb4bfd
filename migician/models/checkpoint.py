"""A folder of weights: where it is, what its files hold, and a fingerprint; reads headers, never loads a model."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from migician.errors import UserError
from migician.files import conform, decode, is_file, is_folder, read_object, status

INDEX = "model.safetensors.index.json"
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of one element, by safetensors' names of dtypes."""

_SAMPLE = 16 * 1024
"""Bytes of a tensor's start, middle and end in a fingerprint."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
WANTED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""What a model needs to run. Pickled weights are never fetched."""
_HEADER_LIMIT = 100_000_000  # safetensors' own limit on the header's bytes


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint and where its bytes are."""

    name: str
    dtype: str
    """In safetensors' notation: "BF16", "F32"."""
    shape: tuple[int, ...]
    file: Path
    begin: int
    """First byte in the file; the elements are row-major and little-endian."""
    n_bytes: int

    def read(self, start: int, length: int) -> bytearray:
        """`length` of its bytes from `start` on; `UserError` where the file has become shorter."""
        part = bytearray(length)
        view, done = memoryview(part), 0
        with self.file.open("rb", buffering=0) as stream:
            stream.seek(self.begin + start)
            while done < length:  # a raw read may give less at once
                count = stream.readinto(view[done:])
                if not count:
                    raise UserError(f"{self.file}: was changed while it was read")
                done += count
        return part


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with `config.json` and safetensors files, one or several."""

    folder: Path
    config: dict[str, Any]
    shards: tuple[Path, ...]
    tensors: dict[str, Tensor]

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(tensor.n_bytes for tensor in self.tensors.values())

    @property
    def n_parameters(self) -> int:
        """Elements of all tensors together."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    def fingerprint(self) -> str:
        """A sha256 that distinguishes two sets of weights without reading all of them.

        Over every tensor's name, dtype, shape and 16 KiB from its start, middle and end, in order of name: the same
        weights in other shards have the same fingerprint. It does not detect a change made to deceive.
        """
        digest = hashlib.sha256()
        for _, tensor in sorted(self.tensors.items()):
            digest.update(json.dumps([tensor.name, tensor.dtype, tensor.shape]).encode())
            n = tensor.n_bytes
            for start in range(0, n, _SAMPLE) if n <= 3 * _SAMPLE else (0, n // 2, n - _SAMPLE):
                digest.update(tensor.read(start, min(_SAMPLE, n - start)))
        return digest.hexdigest()


def locate(reference: str | Path, revision: str | None = None, wanted: Sequence[str] = WANTED) -> Path:
    """The local folder of a checkpoint: `reference` itself, or the Hub's cache after a download.

    `reference` is a folder with `config.json`, or a Hub id such as "Michael4933/Migician"; `revision` is a branch, tag
    or commit on the Hub, `wanted` the patterns of the files to fetch. Raises `UserError` for anything else.
    """
    folder = Path(reference).expanduser()
    if is_folder(folder):
        if revision is not None:
            raise UserError(f"{folder}: a folder has no revision {revision!r}; leave it out or name a Hub id")
        if not is_file(folder / "config.json"):
            adapter = is_file(folder / "adapter_config.json")
            merging = shlex.join(["migician", "merge", str(folder), "--out", "DIR"])
            merge = f"; it is an adapter: {merging} makes the model" if adapter else ""
            raise UserError(f"{folder}: not a model: it holds no config.json{merge}")
        return folder
    # A path such as out/stage-1 looks like a Hub id; the Hub is not asked about those.
    if status(folder) or not _HUB_ID.fullmatch(str(reference)) or is_folder(folder.parent):
        raise UserError(f"{folder}: no such model folder")
    return _fetched(str(reference), revision, wanted)


def commit_of(folder: Path) -> str | None:
    """The commit that a folder of the Hub's cache was downloaded at; None for any other folder."""
    in_cache = folder.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", folder.name)
    return folder.name if in_cache else None


def shown_name(reference: str | Path, folder: Path) -> str:
    """What a model is called in reports: its Hub id, or the name of its folder."""
    is_folder = folder.resolve() == Path(reference).expanduser().resolve()
    return folder.resolve().name if is_folder else str(reference)


def read_config(folder: Path) -> dict[str, Any]:
    """The model's `config.json`; `UserError` where it is missing or not a JSON object."""
    config = read_object(folder / "config.json")
    # The config of a model that ships its own class may lack it (CogVLM's does).
    if not isinstance(config.get("model_type"), str) and "auto_map" not in config:
        raise UserError(f"{folder / 'config.json'}: no 'model_type'; this is not the config of a transformers model")
    return config


def read_checkpoint(folder: Path) -> Checkpoint:
    """What a folder of safetensors holds, from the headers alone.

    Raises `UserError` for a missing or cut shard, a header that does not match its file, a tensor that appears twice,
    and for weights that are not safetensors.
    """
    shards = _shards(folder)
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        for tensor in read_header(shard):
            if tensor.name in tensors:
                raise UserError(f"{shard}: tensor {tensor.name!r} is also in {tensors[tensor.name].file.name}")
            tensors[tensor.name] = tensor
    return Checkpoint(folder, read_config(folder), shards, tensors)


class _Entry(msgspec.Struct):
    """One tensor in a header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_header(file: Path) -> list[Tensor]:
    """The tensors of one safetensors file, in the order of their bytes; `UserError` if the file is damaged."""
    damaged = f"{file}: damaged safetensors file, download or write it again: "
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _HEADER_LIMIT:
                raise UserError(f"{damaged}its header claims {length} bytes")
            content = stream.read(length)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    header = decode(content, dict[str, Any], damaged.rstrip(": "), "a readable header")
    header.pop("__metadata__", None)
    entries = conform(header, dict[str, _Entry], damaged.rstrip(": "), "a readable header")
    tensors = [
        Tensor(name, entry.dtype, entry.shape, file, 8 + length + begin, end - begin)
        for name, entry in entries.items()
        for begin, end in [entry.data_offsets]
    ]
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.n_bytes))
    position = 8 + length
    for tensor in tensors:
        if tensor.begin != position or tensor.n_bytes != math.prod(tensor.shape) * ITEM_BYTES.get(tensor.dtype, 0):
            raise UserError(f"{damaged}the place of tensor {tensor.name!r} ({tensor.dtype}) does not fit its shape")
        position += tensor.n_bytes
    if position != file.stat().st_size:
        raise UserError(f"{damaged}{file.stat().st_size} bytes, but its header says {position}")
    return tensors


def _shards(folder: Path) -> tuple[Path, ...]:
    index = folder / INDEX
    if is_file(index):
        places = read_object(index).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise UserError(f"{index}: no 'weight_map'")
        names = sorted({Path(str(name)).name for name in places.values()})
    else:
        names = ["model.safetensors"]
        if not is_file(folder / names[0]):
            raise UserError(f"{folder}: holds no model.safetensors and no {INDEX}; save the model as safetensors first")
    shards = tuple(folder / name for name in names)
    missing = [shard.name for shard in shards if not is_file(shard)]
    if missing:
        raise UserError(f"{folder}: {len(missing)} of {len(shards)} shards are missing: {', '.join(missing[:5])}")
    return shards


def _fetched(hub_id: str, revision: str | None, wanted: Sequence[str]) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise UserError(
            f"{hub_id}: no such folder, and the Hub's client is not installed: pip install 'migician[models]'"
        ) from None
    try:
        return Path(huggingface_hub.snapshot_download(hub_id, revision=revision, allow_patterns=list(wanted)))
    except errors.GatedRepoError:
        raise UserError(f"{hub_id}: asks for permission; accept its terms on the Hub and run: hf auth login") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{hub_id}: the Hub knows no revision {revision!r} of it") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{hub_id}: neither a local folder nor a public model on the Hub") from None
    except (errors.HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{hub_id}: no such local folder, and the Hub answers: {reason[0]}") from None
