"""What the answers of a dataset point to: which image, which label, how large, how far in the middle.

A model learns what is frequent before it learns to look, so a task whose answers lean to one side gets a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from migician.samples.box_places import Copying
from migician.samples.survey import AREA_EDGES
from migician.tasks.draft import Draft

MIN_ANSWERS = 200
"""With fewer answers than this, a share says nothing."""
UNEVEN, DEVIATIONS = 1.25, 4.0
"""How many times its even share the image asked most often may have, plus this many standard deviations."""
MIDDLE, ONE_AREA, ONE_LABEL = 0.7, 0.9, 0.25
"""Highest shares of the answers: with their centre in the middle ninth, in one class of `AREA_EDGES`, of one label.
MIG-Bench has at most 69% (object tracking) and 88% (common object) of a task."""
KINDS = 8
"""With fewer labels than this, one label may have any share."""
_KEPT = 20


class Balance(msgspec.Struct):
    """Counts over the answers of one task."""

    answers: int = 0
    reasoned: int = 0
    """Of the answers: those that reason their way to the box."""
    absent: int = 0
    """Of the answers: those that what is asked for is in none of the images."""
    asked: dict[int, list[int]] = {}
    """By number of images: how many boxes are in each of them."""
    areas: list[int] = msgspec.field(default_factory=lambda: [0] * (len(AREA_EDGES) - 1))
    """Boxes by the share of their image, one count for each class of `AREA_EDGES`."""
    ninths: list[int] = msgspec.field(default_factory=lambda: [0] * 9)
    """Boxes by the place of their centre on a grid of three by three, row after row."""
    labels: dict[str, int] = {}
    """Boxes by label, where they have one."""
    copying: dict[str, Copying] = {}
    """By source: answers in other images than a box that their question gives."""

    @property
    def boxes(self) -> int:
        """How many were pointed to."""
        return sum(self.areas)

    def add(self, other: Balance) -> None:
        """Count in what `other` counted."""
        self.answers += other.answers
        self.reasoned += other.reasoned
        self.absent += other.absent
        for images, counts in other.asked.items():
            self.asked[images] = np.add(self.asked.get(images, [0] * images), counts).tolist()
        self.areas = np.add(self.areas, other.areas).tolist()
        self.ninths = np.add(self.ninths, other.ninths).tolist()
        for label, count in other.labels.items():
            self.labels[label] = self.labels.get(label, 0) + count
        for source, one in other.copying.items():
            self.copying.setdefault(source, Copying()).add(one.answers, one.copyable, one.shuffled)

    def summary(self) -> dict[str, object]:
        """For a card, with the most frequent labels and the number of all: all but `copying`, and an `absent` of 0."""
        frequent = sorted(self.labels.items(), key=lambda one: (-one[1], one[0]))
        fields: dict[str, object] = msgspec.to_builtins(self, str_keys=True)
        del fields["copying"]
        if not self.absent:
            del fields["absent"]
        return fields | {"labels": dict(frequent[:_KEPT]), "kinds": len(self.labels)}


def balance_of(drafts: Sequence[Draft]) -> Balance:
    """The balance of some drafts, without `copying`: their images have no paths yet."""
    targets = [target for draft in drafts for target in draft.targets]
    asked = Counter([(len(draft.pictures), target.image) for draft in drafts for target in draft.targets])
    labels = Counter([target.label for target in targets])
    del labels[""]
    x1, y1, x2, y2 = np.array([msgspec.structs.astuple(target.box) for target in targets]).reshape(-1, 4).T
    areas = np.searchsorted(AREA_EDGES[1:-1], (x2 - x1) * (y2 - y1), side="left")
    columns, rows = (np.minimum((low + high) * 1.5, 2).astype(np.int64) for low, high in ((x1, x2), (y1, y2)))
    by_images: dict[int, list[int]] = {}
    for (images, image), count in sorted(asked.items()):
        by_images.setdefault(images, [0] * images)[image] = count
    return Balance(
        sum(len(draft.turns) for draft in drafts),
        sum(draft.reasoned for draft in drafts),
        sum(draft.absent for draft in drafts),
        by_images,
        np.bincount(areas, minlength=len(AREA_EDGES) - 1).tolist(),
        np.bincount(rows * 3 + columns, minlength=9).tolist(),
        dict(labels),
    )


def warnings(balance: Balance, asks: tuple[int, int | None]) -> Iterator[str]:
    """What is beyond the declared bounds; `asks` says which images a task can ask for; see `Task.asks`."""
    for count, all_asked in sorted(balance.asked.items()):
        asked = all_asked[slice(*asks)]
        total, even = sum(asked), sum(asked) / max(1, len(asked))
        if total >= MIN_ANSWERS and max(asked) > UNEVEN * even + DEVIATIONS * even**0.5:
            most = all_asked.index(max(asked)) + 1
            yield f"of {count} images, Image-{most} is asked for in {max(asked) / total:.0%}, evenly {even / total:.0%}"
    boxes, labelled = balance.boxes, sum(balance.labels.values())
    if boxes >= MIN_ANSWERS and balance.ninths[4] > MIDDLE * boxes:
        yield f"{balance.ninths[4] / boxes:.0%} of the boxes are in the middle of their image, at most {MIDDLE:.0%}"
    if boxes >= MIN_ANSWERS and max(balance.areas) > ONE_AREA * boxes:
        at = balance.areas.index(max(balance.areas))
        yield f"{max(balance.areas) / boxes:.0%} of the boxes cover {area_words(at)}, at most {ONE_AREA:.0%}"
    if labelled >= MIN_ANSWERS and len(balance.labels) >= KINDS:
        label = max(balance.labels, key=lambda one: balance.labels[one])
        share = balance.labels[label] / labelled
        if share > ONE_LABEL:
            yield f"{share:.0%} of the boxes are of {label!r}, at most {ONE_LABEL:.0%}"


def area_words(number: int) -> str:
    """A class of `AREA_EDGES` in words.

    >>> area_words(5)
    '10% to 30% of the image'
    """
    low, high = (f"{edge * 100:g}%" for edge in AREA_EDGES[number : number + 2])
    return f"{low} to {high} of the image"
