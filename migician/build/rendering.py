"""From plans to records on disk: the part of a build that any number of processes do at the same time."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

from migician.boxes import Size
from migician.build.balance import Balance, balance_of
from migician.build.decontamination import Decontaminator, refuser
from migician.build.images import Placer
from migician.errors import writing
from migician.samples.box_places import Copying, count_seen
from migician.samples.sample import sample
from migician.sources.index import Index, open_index
from migician.sources.scenes import Tally, Track
from migician.tasks import TASKS
from migician.tasks.draft import Draft, Plan


@dataclass(frozen=True, slots=True)
class Job:
    """What all pieces of one task and source share."""

    task: str
    settings: dict[str, Any]
    seed: int
    index: str
    """The folder of the source's index."""
    data: str
    """The folder that images go into, and that their paths in the records begin at."""
    place: str
    """Below it, the folder of this task and source."""
    collect: bool
    """Whether whole images are opened, compared and brought into the dataset; else a link leads to the source."""
    exclude: Decontaminator | None
    """Which images no sample may have."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some plans of a job, the number of the first, and the file that their records go to."""

    job: Job
    first: int
    plans: list[Plan]
    file: str


class Rendered(msgspec.Struct, frozen=True):
    """The result of a piece: the first line of its file."""

    made: int
    refused: dict[str, int]
    balance: Balance
    frame_sizes: dict[str, Size] = {}
    """See `migician.build.card.readme.BuiltPart`."""


def render(piece: Piece) -> Rendered:
    """Write the records of a piece, one a line with commas between; does nothing where its file is there already.

    The file appears when it is complete. Which process does it, and when, changes no byte.
    """
    file = Path(piece.file)
    if file.exists():
        with file.open("rb") as stream:
            return msgspec.json.decode(stream.readline(), type=Rendered)
    job, task = piece.job, TASKS[piece.job.task]
    index, settings = _opened(job.index), msgspec.convert(job.settings, task.settings)
    placer = _placer(index.root, Path(job.data), job.place, job.collect, task.takes is Track)
    refusal = refuser(job.exclude, f"{index.root}/")
    encoder = msgspec.json.Encoder()
    lines: list[bytes] = []
    kept: list[Draft] = []
    refused = Tally()
    sizes: dict[str, Size] = {}
    copying: dict[str, Copying] = {}
    for number, draft in enumerate(task.drafts(index.items, piece.plans, job.seed, settings), start=piece.first):
        if isinstance(draft, str):
            refused.add(draft)
            continue
        placed = refusal([picture.image for picture in draft.pictures]) or placer.place_all(draft)
        if isinstance(placed, str):
            refused.add(placed)
        else:
            kept.append(draft)
            name = f"{task.type}_{index.source}_{number:06d}"
            if placer.measure:
                sizes |= _differing(placed, draft)
            turns = draft.conversation()
            count_seen(task.type, placed, turns, copying)
            lines.append(encoder.encode(sample(name, placed, turns, task.type)))
    balance = balance_of(kept)
    balance.copying = copying
    rendered = Rendered(len(lines), refused.counts, balance, sizes)
    with writing(file, durable=False) as stream:
        stream.write(encoder.encode(rendered) + b"\n")
        stream.write(b",\n".join(lines))
    return rendered


def _differing(placed: list[str], draft: Draft) -> dict[str, Size]:
    """The sizes of a draft's pictures by their paths, where there is more than one size."""
    sizes = {path: one.size for path, one in zip(placed, draft.pictures, strict=True) if one.size}
    return sizes if len(set(sizes.values())) > 1 else {}


@functools.lru_cache(maxsize=4)
def _opened(folder: str) -> Index:
    Image.init()  # the plug-ins load once
    return open_index(folder)


_placer = functools.lru_cache(maxsize=4)(Placer)
"""Kept from piece to piece for the sizes it has seen."""
