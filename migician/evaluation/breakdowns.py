"""Records -> where a model is good: by the size of the true box, by the number of images, and which image it names.

The classes pool all tasks, and tasks are not spread evenly over them: two images are mostly a
difference or a correspondence. Percent, with intervals clustered by image tuple.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from migician.boxtext import final_answer
from migician.evaluation.records import RecordColumns, spread
from migician.imagenames import clear_names
from migician.metrics import estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from migician.benchmarks.scoring.boxes import Record

Figures = dict[str, Any]
"""n, clusters, some metrics in percent, and "interval": the 95% interval of each."""

AREA_EDGES = (0.01, 0.03, 0.1, 0.3)
"""Shares of an image between which true boxes are counted, the upper end belonging to the class."""
MANY_IMAGES = 8
"""From this number on, questions share one class."""

_ABSENT = (np.nan,) * 4
_LETTER = re.compile(r"[^\W\d_]")


def breakdowns(records: Sequence[Record], columns: RecordColumns) -> dict[str, dict[str, Figures]]:
    """All over records of questions for one box, and their columns: label -> figures."""
    return {
        **by_target(records, columns),
        "by_box_size": by_box_size(records, columns),
        "by_images": by_images(records, columns),
        "image_choice": image_choice(records, columns),
    }


def by_target(records: Sequence[Record], columns: RecordColumns) -> dict[str, dict[str, Figures]]:
    """All metrics where what is asked for is there, and where it is in none of the images; empty where it always is.

    Of those that are not there, each metric is the share of replies that refuse.
    """
    absent = np.array([record.truth is None for record in records], dtype=np.intp)
    return {"by_target": _by_class(columns, ["present", "absent"], absent)} if absent.any() else {}


def by_box_size(records: Sequence[Record], columns: RecordColumns) -> dict[str, Figures]:
    """All metrics by the share of its image that the true box covers; impossible boxes stand apart."""
    x1, y1, x2, y2 = np.array([record.truth or _ABSENT for record in records]).reshape(-1, 4).T
    proper = (x1 < x2) & (y1 < y2) & (np.minimum(x1, y1) >= 0) & (np.maximum(x2, y2) <= 1)
    # Rounded, as 0.1 x 0.1 is a little more than 0.01.
    with np.errstate(over="ignore"):  # of an impossible box
        areas = np.round((x2 - x1) * (y2 - y1), 9)
    classes = np.searchsorted(AREA_EDGES, areas, side="left")
    edges = [f"{edge:.0%}" for edge in AREA_EDGES]
    labels = [f"up to {edges[0]}", *(f"{low} to {high}" for low, high in pairwise(edges))]
    labels += [f"over {edges[-1]}", "impossible"]
    classes = np.where(proper, classes, len(AREA_EDGES) + 1)
    return _by_class(columns, labels, np.where(np.isnan(x1), -1, classes))


def by_images(records: Sequence[Record], columns: RecordColumns) -> dict[str, Figures]:
    """All metrics by the number of images of a question."""
    counts = np.array([min(len(record.images), MANY_IMAGES) for record in records], dtype=np.intp)
    return _by_class(columns, [*map(str, range(MANY_IMAGES)), f"{MANY_IMAGES} or more"], counts)


def _by_class(columns: RecordColumns, labels: Sequence[str], classes: NDArray[np.intp]) -> dict[str, Figures]:
    """The figures of each class that has rows, in the order of `labels`."""
    members = ((label, classes == place) for place, label in enumerate(labels))
    return {label: columns.figures(chosen) for label, chosen in members if chosen.any()}


def image_choice(records: Sequence[Record], columns: RecordColumns) -> dict[str, Figures]:
    """Where the right image is known, how often the image that a reply names is that one.

    For each task whose replies name an image, and "all tasks": `n` replies that name one, of
    `known` rows. `right_image` is the share of those n that name the right one, `chance` what
    guessing would give. Replies that name none, as most do when the question says which image is
    meant, say nothing and are not counted as wrong; questions over one image leave no choice.
    """
    known = np.array([record.target is not None and len(record.images) > 1 for record in records], dtype=bool)
    named = [_chosen_image(record) if asked else None for record, asked in zip(records, known, strict=True)]
    chose = np.array([image is not None for image in named], dtype=bool)
    right = np.array([image == record.target for image, record in zip(named, records, strict=True)], dtype=np.float64)
    guessed = np.array([1 / len(record.images) for record in records])

    def figures(rows: NDArray[np.bool_]) -> Figures:
        counted = rows & chose
        found = estimate(right[counted], columns.clusters[counted])
        return {
            "right_image": 100 * found.value,
            **spread({"right_image": found}),
            "chance": 100 * float(guessed[counted].mean()),
            "known": int((rows & known).sum()),
        }

    found = {task: figures(columns.tasks == task) for task in dict.fromkeys(columns.tasks[chose].tolist())}
    return {**found, "all tasks": figures(known)} if found else {}


def _chosen_image(record: Record) -> int | None:
    """The one image a reply says its answer is in: the one its box is tied to, else the only one it clearly names."""
    if record.image is not None:
        return record.image
    # Most replies are a box and no more: without a letter there is nothing to look for.
    if record.reply is None or not _LETTER.search(record.reply):
        return None
    images = {name.image for name in clear_names(final_answer(record.reply))}
    return images.pop() if len(images) == 1 else None
