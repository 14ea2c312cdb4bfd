"""One pass over a file of samples as this project writes it: what is in it by number, and a few of them to look at."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from migician.samples.sample import IMAGE_MARK
from migician.sampling import stream

AREA_EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Shares of an image that boxes are counted between, the upper end belonging to the class; 0 to the first."""

_BLOCK = 8 << 20
_MARK = IMAGE_MARK.encode()
# Within a string every quote is escaped, so these bytes are the field itself.
_REPLY = b'"from":"gpt"'
_IMAGES, _IMAGES_END = b'"images":["', b'"],"conversations":'
_64_BITS = (1 << 64) - 1
_BOX = re.compile(rb"<\|box_start\|>\(([0-9]{1,4},[0-9]{1,4}\),\([0-9]{1,4},[0-9]{1,4})\)<\|box_end\|>")


class Figures(msgspec.Struct):
    """What a file of samples holds, by number."""

    samples: int = 0
    images: dict[int, int] = {}
    """How many samples have each number of images."""
    turns: dict[int, int] = {}
    """How many samples have each number of questions."""
    box_areas: list[int] = []
    """Boxes in questions and answers by the share of their image, one count for each class of `AREA_EDGES`."""


class Survey(msgspec.Struct):
    """What one pass gives."""

    figures: Figures
    picked: list[bytes]
    """Some records as they are written, drawn by the seed, in random order."""
    sha256: str
    images: NDArray[np.uint64]
    """A hash of each image that the samples name, once; an image that two families use has one hash."""


def survey(file: Path, seed: int, picks: int) -> Survey:
    """Read `file`, a list with one record a line, in the memory of a few blocks; `picks` records are drawn."""
    rng, digest = stream(seed, "survey", file.name), hashlib.sha256()
    images: Counter[int] = Counter()
    turns: Counter[int] = Counter()
    areas = np.zeros(len(AREA_EDGES) - 1, np.int64)
    picked: list[tuple[float, bytes]] = []
    named: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
    with file.open("rb") as opened:
        while block := opened.readlines(_BLOCK):
            whole = b"".join(block)
            digest.update(whole)
            lines = [line for line in block if line.startswith(b"{")]
            images.update([line.count(_MARK) for line in lines])
            turns.update([line.count(_REPLY) for line in lines])
            areas += areas_of(whole)
            named.append(np.array([hash(name.split(b"/", 3)[-1]) & _64_BITS for name in _images(lines)], np.uint64))
            # The records with the lowest of random keys are a fair draw, whatever their number.
            keys = rng.random(len(lines))
            nearest = [int(at) for at in np.argsort(keys)[:picks]]
            picked = sorted(picked + [(float(keys[at]), lines[at].rstrip(b",\n")) for at in nearest])[:picks]
    figures = Figures(
        images.total(),
        dict(sorted(images.items())),
        dict(sorted(turns.items())),
        areas.tolist(),
    )
    return Survey(figures, [line for _, line in picked], digest.hexdigest(), np.unique(np.concatenate(named)))


def _images(lines: list[bytes]) -> set[bytes]:
    """The paths of records' images, "./MGrounding-630k/<Family>/<source>/...", each once."""
    paths: set[bytes] = set()
    for line in lines:
        paths.update(line[line.find(_IMAGES) + len(_IMAGES) : line.find(_IMAGES_END)].split(b'","'))
    return paths


def areas_of(block: bytes) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(classes of `AREA_EDGES`,): the boxes in `block` by the share of the image they cover."""
    written = b",".join(_BOX.findall(block)).translate(None, b"()")
    # Ten times as quick as to split and convert.
    corners = (np.fromstring(written, np.int64, sep=",") if written else np.empty(0, np.int64)).reshape(-1, 4)
    shares = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]) / 1e6
    classes = np.searchsorted(AREA_EDGES[1:-1], shares, side="left")
    return np.bincount(classes, minlength=len(AREA_EDGES) - 1)
