"""The average of checkpoints, shard by shard, in memory that does not grow with the model."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from migician.again import making
from migician.errors import UserError
from migician.files import is_file
from migician.models.checkpoint import INDEX, ITEM_BYTES, Checkpoint, Tensor, locate, read_checkpoint
from migician.training.checkpoint_forms import (
    as_named,
    config_differences,
    file_differences,
    is_tied_in_part,
    tied_faults,
)

if TYPE_CHECKING:
    import torch

PIECE = 1024 * 1024
"""Elements at a time: 4 MB as float32, which mostly fits a core's caches. A merge needs the memory of a few pieces."""
_THREADS = 4
"""At most; they read, average and write pieces in any order, each at its own place."""

COMPANIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
)
"""What is copied from A. The list is closed, so that no trainer or optimizer state is copied."""

MISNAMED, NAMED = "model.language_model.visual.", "model.visual."
"""How transformers 5.5.4 names the tower of a Qwen3.5 that it saves, and what all others look for: findings/
tower-names-of-qwen3.5.sh."""

TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def merge(
    checkpoints: Sequence[str | Path],
    out: str | Path,
    weights: Sequence[float] | None = None,
    *,
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_renamed: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write the weighted average of two or more checkpoints to the new folder `out` and give its path.

    Every tensor becomes the sum of each checkpoint's times its weight; `weights` are 0..1 and sum to 1. By default they
    are equal: for two, the average that the paper ends with (stage 1 and stage 2; arXiv 2501.05767). Sums are made in
    float32 (float64 for float32 tensors) and rounded once to the tensors' own dtype; tensors that are not floating
    point must be equal. Checkpoints are folders or Hub ids, with any shards; the result has the shards, tokenizer,
    processor and other small files of the first. `merge.json` in it records its sources. Versions of transformers use
    different names for tensors and settings: the result has those of the first; renames are recorded in `merge.json`
    and passed to `on_renamed`.

    `on_progress` gets (bytes written, bytes in all) after every piece. The folder appears complete or not at all.
    Raises `Done` if `out` is this average already, and `UserError`, before anything is written, if the checkpoints do
    not match, `out` holds anything else (`force` replaces another merge) or the disk is too small; later if a value is
    not finite, naming the tensor.
    """
    shares = _shares(len(checkpoints), weights)
    target = Path(out)
    first, *read = (read_checkpoint(locate(one)) for one in checkpoints)
    others: list[Checkpoint] = []
    renamed: list[str] = []
    for fault in (fault for one in (first, *read) for fault in tied_faults(one)):
        raise UserError(fault)
    for one in read:
        other, renames = as_named(one, first)
        problems = differences(first, other)
        if problems:
            shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
            raise UserError(
                f"{first.folder} (A) and {other.folder} (B) cannot be averaged: {shown}. Average stages that were "
                "trained from one base, with its tokenizer"
            )
        others.append(other)
        renamed += renames
    sources = [
        {"path": str(one.folder), "weight": share, "fingerprint": one.fingerprint()}
        for one, share in zip([first, *read], shares, strict=True)
    ]
    if any(one.folder.resolve() == target.resolve() for one in (first, *read)):
        raise UserError(f"{target}: is one of the checkpoints to average; choose another folder")
    made = {"formula": "sum of weight * checkpoint", "checkpoints": sources}
    with making(target, made, force=force, mark="merge.json") as folder:
        check_space(folder, first.n_bytes)
        write_weights(first, folder, partial(_averaged, [first, *others], shares), on_progress)
        if is_tied_in_part(first):
            config = json.dumps(first.config | {"tie_word_embeddings": True}, indent=2)
            (folder / "config.json").write_text(config + "\n", encoding="utf-8")
            renamed.append(f"tie_word_embeddings of {first.folder} is set where transformers 5 looks for it")
        if any(name.startswith(MISNAMED) for name in first.tensors):
            renamed.append(f"{MISNAMED}* of {first.folder} is written as {NAMED}*, which all versions read")
        content = json.dumps(made | {"renamed": renamed}, indent=2)
        (folder / "merge.json").write_text(content + "\n", encoding="utf-8")
    for line in renamed:
        on_renamed(line)
    return target


def _named(content: bytes) -> bytes:
    """A header or an index of safetensors with the names that all versions read, and as many bytes."""
    return content.replace(f'"{MISNAMED}'.encode(), f'"{NAMED}'.encode()).ljust(len(content))


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
    if count < 2:
        raise UserError(f"an average needs two checkpoints or more, not {count}")
    shares = [1 / count] * count if weights is None else list(weights)
    if len(shares) != count:
        raise UserError(f"{len(shares)} weights for {count} checkpoints: give one for each")
    if not all(0.0 <= share <= 1.0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise UserError(
            f"weights {', '.join(f'{share:g}' for share in shares)}: expected shares of 0 to 1 that sum to 1"
        )
    return shares


def differences(a: Checkpoint, b: Checkpoint) -> list[str]:
    """Why two checkpoints cannot be averaged: tensors, config and tokenizer; empty if they can."""
    found = [f"tensor {name} is only in A" for name in sorted(a.tensors.keys() - b.tensors.keys())]
    found += [f"tensor {name} is only in B" for name in sorted(b.tensors.keys() - a.tensors.keys())]
    for name, one in sorted(a.tensors.items()):
        other = b.tensors.get(name, one)
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            kinds = [f"{tensor.dtype} {list(tensor.shape)}" for tensor in (one, other)]
            fix = f"; save B again as {one.dtype}" if one.dtype != other.dtype else ""
            found.append(f"tensor {name} is {kinds[0]} in A and {kinds[1]} in B{fix}")
    found += config_differences(a, b)
    found += file_differences(a.folder, b.folder)
    return found


def check_space(folder: Path, n_bytes: int) -> None:
    """Raise `UserError` if the disk of `folder` has no room for a model of `n_bytes`."""
    free, needed = shutil.disk_usage(folder).free, int(n_bytes * 1.01) + 64 * 1024 * 1024
    if free < needed:
        raise UserError(f"{folder.parent}: {free / 1e9:.1f} GB free, the merged model needs {needed / 1e9:.1f} GB")


def write_weights(
    like: Checkpoint,
    folder: Path,
    made: Callable[[Tensor, int, int], memoryview],
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Write a model with the shards and small files of `like`, its tensors a piece at a time.

    `made(tensor, start, n_bytes)` gives the new bytes of a tensor from byte `start` on, in any order, from several
    threads. Pieces are whole rows unless a row is longer than `PIECE`.
    """
    done, threads = 0, min(_THREADS, len(os.sched_getaffinity(0)))
    for shard in like.shards:
        with (folder / shard.name).open("wb") as stream, ThreadPoolExecutor(threads) as pool:
            # Same tensors, same dtypes: the header is that of `like`, but for names that only one version reads.
            with shard.open("rb") as source:
                length = source.read(8)
                stream.write(length + _named(source.read(int.from_bytes(length, "little"))))
            stream.flush()
            for written in pool.map(partial(_write_piece, made, stream.fileno()), _pieces(like, shard)):
                done += written
                if on_progress is not None:
                    on_progress(done, like.n_bytes)
            os.fsync(stream.fileno())
    for name in (*COMPANIONS, INDEX):
        if is_file(like.folder / name):
            shutil.copyfile(like.folder / name, folder / name)
    if is_file(folder / INDEX):
        (folder / INDEX).write_bytes(_named((folder / INDEX).read_bytes()))


def _pieces(like: Checkpoint, shard: Path) -> Iterator[tuple[Tensor, int, int]]:
    """(tensor, start, bytes) of one file, in its order."""
    for tensor in sorted((one for one in like.tensors.values() if one.file == shard), key=lambda one: one.begin):
        row = math.prod(tensor.shape[1:]) or 1
        step = (PIECE // row * row or PIECE) * ITEM_BYTES[tensor.dtype]
        for start in range(0, tensor.n_bytes, step):
            yield tensor, start, min(step, tensor.n_bytes - start)


def _write_piece(made: Callable[[Tensor, int, int], memoryview], sink: int, piece: tuple[Tensor, int, int]) -> int:
    """Write a piece to its place in the file `sink`; gives its bytes."""
    tensor, start, n_bytes = piece
    content, written = made(*piece), 0
    while written < n_bytes:
        written += os.pwrite(sink, content[written:], tensor.begin + start + written)
    return written


def _averaged(
    checkpoints: Sequence[Checkpoint], shares: Sequence[float], tensor: Tensor, start: int, n_bytes: int
) -> memoryview:
    """A piece of one tensor, averaged over all checkpoints."""
    tensors = [one.tensors[tensor.name] for one in checkpoints]
    parts = [one.read(start, n_bytes) for one in tensors]
    if tensor.dtype not in TORCH_NAMES:
        if all(part == parts[0] for part in parts):
            return memoryview(parts[0])
        raise UserError(
            f"tensor {tensor.name} ({tensor.dtype}) differs, and only F64, F32, F16 and BF16 can be averaged"
        )
    import torch

    kind: torch.dtype = getattr(torch, TORCH_NAMES[tensor.dtype])
    wide = torch.float32 if ITEM_BYTES[tensor.dtype] == 2 else torch.float64
    values = [torch.frombuffer(part, dtype=kind) for part in parts]
    total = values[0].to(wide).mul_(shares[0])
    for more, share in zip(values[1:], shares[1:], strict=True):
        total.add_(more.to(wide), alpha=share)
    # What is not finite in one checkpoint is not finite in the sum, even with a weight of 0.
    if not math.isfinite(total.sum().item()):
        for one, value in zip(tensors, values, strict=True):
            if not bool(value.isfinite().all()):
                raise UserError(f"{one.file}: tensor {one.name} holds NaN or infinite values; that training diverged")
    return torch_bytes(total.to(kind))


def torch_bytes(values: torch.Tensor) -> memoryview:
    """The bytes of a tensor."""
    import torch

    content: memoryview = values.reshape(-1).view(torch.uint8).numpy().data
    return content
