"""Mixes of several files of samples by share, and the YAML that describes one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from migician.errors import NOT_JSON, UserError, writing
from migician.files import conform, is_file, read_yaml
from migician.samples.dataset_info import layout_beside
from migician.samples.layouts import LayoutReader, Record
from migician.samples.record_file import JsonRecords, lines_of
from migician.samples.sample import Sample
from migician.sampling import shares, stream


@dataclass(frozen=True, slots=True)
class MixFile:
    """One file of a mix and its weight; weights need not sum to 1."""

    file: Path
    weight: float
    repeat: bool = False
    """Whether samples may repeat if the file has fewer than its share."""


def mix(
    parts: Mapping[str, MixFile],
    out: str | Path,
    count: int,
    seed: int = 0,
    *,
    force: bool = False,
    through: Callable[[Iterator[bytes]], Iterator[bytes]] = iter,
) -> dict[str, int]:
    """Write `count` samples from several files, shuffled, to `out`; gives the number from each part.

    Samples are drawn without repetition, except from parts that allow it, and copied byte for byte. Only what
    `datasets` could not load beside the rest is changed: an id that is a number becomes text, images become a list, and
    fields that not every part has, other than those of `Sample`, are removed. Records of another layout (by the
    dataset_info.json beside their file, or by their own fields) are written as samples. `through` may change the
    records on their way, each given as its bytes. `out` is a JSON list, or JSON lines if its name ends in `.jsonl`:
    `datasets` streams lines, but holds a whole list in memory. Same parts, count and seed, same bytes. Memory grows
    with the number of records, not with their size. Raises `Done` if `out` is this mix already, and `UserError` for
    records that are not samples (with file and position), files with too few samples, and an `out` that is another
    file, unless `force` replaces it.
    """
    counts = shares({name: part.weight for name, part in parts.items()}, count)
    with ExitStack() as opened:
        files = {name: opened.enter_context(JsonRecords(part.file)) for name, part in parts.items()}
        _refuse_small(parts, files, counts, count)
        sources = [_Source(files[name]) for name in parts]
        drawn = [_draw(len(files[name]), counts[name], stream(seed, "mix", name)) for name in parts]
        source_of = np.repeat(np.arange(len(drawn)), [len(one) for one in drawn])
        position_of = np.concatenate(drawn)
        order = stream(seed, "mix").permutation(len(position_of))
        with writing(out, force=force) as target:
            records = _in_order(sources, source_of[order], position_of[order])
            target.writelines(lines_of(through(records), as_list=Path(out).suffix != ".jsonl"))
    return counts


def _refuse_small(
    parts: Mapping[str, MixFile], files: Mapping[str, JsonRecords], counts: Mapping[str, int], count: int
) -> None:
    """Raise `UserError` naming every part that is smaller than its share."""
    short = []
    for name, part in parts.items():
        has = len(files[name])
        if has == 0 < counts[name] or (has < counts[name] and not part.repeat):
            most = int(count * has / counts[name])
            short.append(
                f"{part.file}: the mix needs {counts[name]} samples of {name!r} and the file has {has}; "
                f"mix at most {most} in all, or build more"
            )
    if short:
        raise UserError("; ".join(short))


def _draw(available: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which of `available` records make up `count`; none is repeated until all have been drawn equally often."""
    rounds = max(1, math.ceil(count / available)) if available else 0
    drawn = [rng.permutation(available) for _ in range(rounds)]
    return np.concatenate([*drawn, np.empty(0, np.int64)])[:count].astype(np.int64)


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Source:
    """One file of a mix, and its records as a mix writes them."""

    def __init__(self, records: JsonRecords) -> None:
        self.records = records
        self._reader = LayoutReader(layout_beside(records.file), records.file.stem)

    def first_fields(self) -> set[str] | None:
        """The fields of its first record; none for other layouts, None if the file is empty."""
        if not len(self.records):
            return None
        self._read(0)
        return set(_FIELDS.decode(self._reader.content)) if self._reader.layout.is_own else set()

    def take(self, position: int, columns: frozenset[str]) -> bytes:
        """A record with no fields but `columns`; raises `UserError` if it is not a sample."""
        content = self.records[position]
        images = None
        if not self._reader.is_plain(content):
            images = self._read(position).images
            content = self._reader.content
            if not self._reader.layout.is_own:
                sample = self._reader.sample(content, position)
                return msgspec.json.encode(msgspec.structs.replace(sample, id=str(sample.id)))
        fields = _FIELDS.decode(content)
        id_is_number = "id" in fields and bytes(fields["id"])[:1] not in (b'"', b"n")
        has_list = images is None or bytes(fields.get("images", b""))[:1] == b"["
        if fields.keys() <= columns and not id_is_number and has_list:
            return content
        if id_is_number:
            fields["id"] = msgspec.Raw(b'"' + bytes(fields["id"]) + b'"')
        if not has_list:
            fields["images"] = msgspec.Raw(msgspec.json.encode(images))
        return msgspec.json.encode({name: value for name, value in fields.items() if name in columns})

    def _read(self, position: int) -> Record:
        try:
            record = self._reader.read(self.records[position], position)
            self._reader.refuse_strangers(record)
        except NOT_JSON as error:
            raise UserError(f"{self.records.file}: record {position} is not a sample: {error}") from None
        if not isinstance(record.id, str | int | float | None):
            raise UserError(
                f"{self.records.file}: record {position} is not a sample: its id is {record.id!r:.40}, not text"
            )
        if record.tools:
            raise UserError(f"{self.records.file}: record {position} has tools, which a mix has no column for; drop it")
        return record


def _in_order(sources: list[_Source], source_of: NDArray[np.int64], position_of: NDArray[np.int64]) -> Iterator[bytes]:
    """The records at some positions of some sources, each checked.

    They keep the fields of a sample, and those that the first records of all sources share: `datasets` reads a file in
    pieces and stops at a field that the first piece did not have.
    """
    first = [fields for source in sources if (fields := source.first_fields()) is not None]
    columns = frozenset(Sample.__struct_encode_fields__) | (set.intersection(*first) if first else set())
    for number, position in zip(source_of.tolist(), position_of.tolist(), strict=True):
        yield sources[number].take(position, columns)


Weight = Annotated[float, msgspec.Meta(gt=0)]


class MixPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of data in a mix."""

    share: Weight
    """Of the whole mix, relative to the other parts."""
    files: Annotated[dict[str, Weight], msgspec.Meta(min_length=1)]
    """Files of samples, and the share of each relative to the others."""
    repeat: bool = False
    """Whether samples may repeat."""


class MixRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mix."""

    count: Annotated[int, msgspec.Meta(ge=1)]
    parts: Annotated[dict[str, MixPart], msgspec.Meta(min_length=1)]
    seed: int = 0


def read_mix_recipe(file: str | Path) -> MixRecipe:
    """The mix described in a YAML file; raises `UserError` naming the file and what is wrong in it."""
    path = Path(file)
    return conform(read_yaml(path), MixRecipe, path)


def parts_of(recipe: MixRecipe, count: int) -> dict[str, MixFile]:
    """The files of a mix of `count` samples, each weighted by the whole number of samples it gives.

    Rounded per part, so that each part has its exact count before its files share it. Paths are relative to the current
    folder, as in LLaMA-Factory's YAML. Raises `UserError` listing all files that are missing or in two parts.
    """
    counts = shares({name: part.share for name, part in recipe.parts.items()}, count)
    parts: dict[str, MixFile] = {}
    bad = []
    for name, part in recipe.parts.items():
        for file, amount in shares(part.files, counts[name]).items():
            path = Path(file)
            if file in parts:
                bad.append(f"{file} is in more than one part")
            elif not is_file(path):
                bad.append(f"{file} of part {name!r}: no such file")
            parts[file] = MixFile(path, amount, part.repeat)
    if bad:
        raise UserError("; ".join(bad))
    return parts
