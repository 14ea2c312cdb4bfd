"""Files of samples for LLaMA-Factory: its `dataset_info.json`, and mixes of several files by share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from migician.errors import UserError, writing
from migician.seeds import stream


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a mix and its weight; weights need not sum to 1."""

    file: Path
    weight: float


def dataset_entry(file_name: str) -> dict[str, Any]:
    """How LLaMA-Factory 0.9 is told to read a JSON file of samples (data/README.md of hiyouga/LLaMA-Factory)."""
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "images": "images"},
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "system_tag": "system",
        },
    }


def write_dataset_info(folder: str | Path, files: Mapping[str, str | Path]) -> Path:
    """Write `folder/dataset_info.json` for datasets by name, and give its path.

    Files are named relative to `folder`, which becomes `dataset_dir` in the training YAML,
    where they lie in it. Raises `UserError` for a file that is not there.
    """
    target = Path(folder) / "dataset_info.json"
    entries = {}
    for name, file in files.items():
        path = Path(folder) / file
        if not path.is_file():
            raise UserError(f"{path}: no such file, so dataset {name!r} cannot be described")
        entries[name] = dataset_entry(str(file))
    with writing(target) as stream_:
        stream_.write(msgspec.json.format(msgspec.json.encode(entries), indent=2) + b"\n")
    return target


def add_dataset(file: str | Path) -> Path:
    """Name one file of samples, by its stem, in the `dataset_info.json` beside it, and give that path."""
    path = Path(file)
    target = path.with_name("dataset_info.json")
    entries = {}
    if target.exists():
        try:
            entries = msgspec.json.decode(target.read_bytes(), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise UserError(f"{target}: not JSON: {error}. Remove it to have it made anew") from None
    entries[path.stem] = dataset_entry(path.name)
    with writing(target) as stream_:
        stream_.write(msgspec.json.format(msgspec.json.encode(entries), indent=2) + b"\n")
    return target


def shares(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """`total` split into whole numbers in proportion to `weights`, summing to `total` exactly.

    >>> shares({"stage-1": 0.27, "free-form": 0.49}, 100)
    {'stage-1': 36, 'free-form': 64}
    """
    everything = sum(weights.values())
    if everything <= 0 or min(weights.values()) < 0:
        raise ValueError(f"weights must be 0 or more and not all 0, not {dict(weights)}")
    exact = {name: total * weight / everything for name, weight in weights.items()}
    counts = {name: int(value) for name, value in exact.items()}
    # The largest remainders are rounded up; the order given breaks ties.
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def mix(parts: Mapping[str, Part], out: str | Path, count: int, seed: int = 0) -> dict[str, int]:
    """Write `count` samples from several files, shuffled, to `out`; gives how many came from each part.

    Samples are drawn without repetition and copied byte for byte, so that fields unknown here
    survive. Same parts, count and seed, same bytes. Raises `UserError` naming the file that
    cannot be read or has too few samples.
    """
    counts = shares({name: part.weight for name, part in parts.items()}, count)
    drawn: list[msgspec.Raw] = []
    for name, part in parts.items():
        records = _records(part.file)
        if len(records) < counts[name]:
            most = int(count * len(records) / counts[name])
            raise UserError(
                f"{part.file}: the mix needs {counts[name]} samples of {name!r} and the file has {len(records)}; "
                f"mix at most {most} in all, or build more"
            )
        chosen = stream(seed, "mix", name).permutation(len(records))[: counts[name]]
        drawn.extend(records[position] for position in chosen.tolist())
    order = stream(seed, "mix").permutation(len(drawn)).tolist()
    with writing(out) as target:
        for line in _lines(drawn[position] for position in order):
            target.write(line)
    return counts


def _records(file: Path) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[msgspec.Raw])
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise UserError(f"{file}: not a list of samples: {error}") from None


def _lines(records: Iterator[msgspec.Raw]) -> Iterator[bytes]:
    opening = b"[\n"
    for record in records:
        yield opening + bytes(record)
        opening = b",\n"
    yield b"[]\n" if opening == b"[\n" else b"\n]\n"
