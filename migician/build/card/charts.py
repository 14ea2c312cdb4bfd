"""A dataset in numbers, as one picture: samples per task, images and questions per sample, sizes of boxes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from migician.plotting import FAINT, GRID, canvas, png
from migician.samples.survey import AREA_EDGES, Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# From the palette of Okabe and Ito, distinguishable with any kind of colour vision; neighbours differ in lightness too.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#5B6770")


def histograms(tasks: Mapping[str, Figures]) -> bytes:
    """A PNG over the tasks by name; the same figures give the same bytes, whatever matplotlib's own settings are."""
    with canvas(12, 7.6) as figure:
        panels = figure.subplots(2, 2)
        # Room for the longest name of a task; matplotlib's own layouts take longer than all the drawing.
        figure.subplots_adjust(left=0.165, right=0.98, top=0.94, bottom=0.055, wspace=0.22, hspace=0.32)
        _tasks(panels[0, 0], tasks)
        for axes, title, counted in (
            (panels[0, 1], "Images per sample", [one.images for one in tasks.values()]),
            (panels[1, 0], "Questions per sample", [one.turns for one in tasks.values()]),
        ):
            labels, counts = _whole(counted)
            _stacked(axes, title, counts)
            axes.set_xticks(range(len(labels)), labels)
        _stacked(panels[1, 1], "Boxes by share of their image", [one.box_areas for one in tasks.values()])
        edges = [f"{edge * 100:g}%" for edge in AREA_EDGES]
        panels[1, 1].set_xticks([place - 0.5 for place in range(len(edges))], edges)
        return png(figure)


def _tasks(axes: Axes, tasks: Mapping[str, Figures]) -> None:
    """One bar per task: it is the key to the colours of the other panels."""
    counts = [one.samples for one in tasks.values()]
    places = range(len(counts))
    axes.barh(places, counts, color=_COLOURS, edgecolor="white", height=0.74)
    axes.set_yticks(places, [name.replace("_", " ") for name in tasks])
    axes.invert_yaxis()
    for place, count in zip(places, counts, strict=True):
        axes.annotate(f"{count:,}", (count, place), (5, 0), textcoords="offset points", va="center", color=FAINT)
    axes.set_title(f"{sum(counts):,} samples")
    axes.set_xlim(0, max([1, *counts]) * 1.18)
    axes.set_xticks([])
    axes.tick_params("y", length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _whole(counted: Sequence[Mapping[int, int]]) -> tuple[list[str], list[list[int]]]:
    """Classes and counts of whole numbers; what is rare and large shares the last class."""
    seen = sorted({number for one in counted for number in one})
    if not seen:
        return [], [[] for _ in counted]
    last = min(seen[-1], seen[0] + 11)
    numbers = range(seen[0], last + 1)
    labels = [str(number) for number in numbers]
    if seen[-1] > last:
        labels[-1] += " or more"
    counts = [[one.get(number, 0) for number in numbers] for one in counted]
    for own, one in zip(counts, counted, strict=True):
        own[-1] += sum(count for number, count in one.items() if number > last)
    return labels, counts


def _stacked(axes: Axes, title: str, counts: Sequence[Sequence[int]]) -> None:
    """One bar per class, stacked by task."""
    bottoms = [0] * max(map(len, counts), default=0)
    for colour, own in zip(itertools.cycle(_COLOURS), counts, strict=False):
        axes.bar(range(len(own)), own, bottom=bottoms, color=colour, edgecolor="white", width=0.82)
        bottoms = [below + count for below, count in zip(bottoms, own, strict=True)]
    total = sum(bottoms)
    for place, count in enumerate(bottoms):
        percent = f"{count / total:.0%}" if total and count / total >= 0.005 else "<1%" if count else ""
        axes.annotate(percent, (place, count), (0, 3), textcoords="offset points", ha="center", color=FAINT)
    axes.set_title(title)
    # A lone bar must not fill the panel.
    axes.set_xlim(-0.6, max(len(bottoms), 5) - 0.4)
    axes.set_ylim(0, max([1, *bottoms]) * 1.1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value == int(value) else "")
    axes.yaxis.grid(True, color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params("both", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
