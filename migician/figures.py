"""Runs as pictures: a radar of the tasks, and bars with their intervals; published figures beside them, told apart."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migician.benchmarks.published_figures import Published
from migician.canvas import FAINT, GRID, INK, canvas, png
from migician.draw import PALETTE
from migician.errors import UserError
from migician.report import HEADINGS, Report, averages, check_alike, headline_metric
from migician.tables import name_of_task, remarks, task_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.projections.polar import PolarAxes

_WIDTH = 11.0
_LINE = 0.19
"""Inches that a line of the remarks takes."""
_COLOURS = 256
_MARKERS = "os^Dv*"


@dataclass(frozen=True, slots=True)
class _Series:
    """One run or one published row: values in percent, in the order of the tasks; NaN for those it does not have."""

    name: str
    values: list[float]
    averages: list[float]
    """One for each set of tasks that a run is over, NaN but for its own."""
    spans: list[tuple[float, float]] | None
    """95% intervals of both, one after the other; None for published ones, which have none."""
    colour: str
    marker: str

    @property
    def line(self) -> str:
        return "--" if self.spans is None else "-"


def radar(reports: Mapping[str, Report], published: Sequence[Published] = ()) -> bytes:
    """A PNG: one axis a task, 0 to 100%, one line a run, a dashed one for what is published.

    Raises `UserError` for fewer than three tasks.
    """
    tasks, series = _series(reports, published)
    lines = _wrapped(reports, published)
    if len(tasks) < 3:
        raise UserError(f"a radar needs three tasks or more, and here are {len(tasks)}: the bars show them")
    with canvas(_WIDTH, 6.9 + _LINE * len(lines)) as figure:
        foot = _write_remarks(figure, lines)
        axes: PolarAxes = figure.add_axes((0.13, foot + 0.07, 0.48, 0.83 - foot), projection="polar")  # type: ignore[assignment]
        angles = [2 * math.pi * place / len(tasks) for place in range(len(tasks))]
        for one in series:
            ring = [*one.values, one.values[0]]
            axes.plot([*angles, 0.0], ring, one.line, color=one.colour, marker=one.marker, markersize=5, linewidth=2)
            if one.spans is not None:
                axes.fill([*angles, 0.0], ring, color=one.colour, alpha=0.10)
        _rule(axes, angles, tasks)
        figure.text(0.02, 1 - 0.35 / figure.get_figheight(), _title(reports), size=13, weight="bold", va="center")
        _key(figure, series)
        return png(figure, colours=_COLOURS)


def bars(reports: Mapping[str, Report], published: Sequence[Published] = ()) -> bytes:
    """A PNG: a group of bars a task and one for the average, with 95% intervals; hatched what is published."""
    tasks, series = _series(reports, published)
    labels = [label for label, _ in averages(reports)]
    lines = _wrapped(reports, published)
    with canvas(max(_WIDTH, 0.95 * len(tasks)), 5.2 + _LINE * len(lines)) as figure:
        height = figure.get_figheight()
        foot = _write_remarks(figure, lines)
        axes = figure.add_axes((0.05, foot + 0.55 / height, 0.94, 1 - foot - 1.4 / height))
        width = 0.84 / len(series)
        for position, one in enumerate(series):
            # Averages stand a little apart.
            places = [place + (place >= len(tasks)) * 0.25 for place in range(len(tasks) + len(labels))]
            middles = [place + (position - (len(series) - 1) / 2) * width for place in places]
            _bar(axes, middles, one, width * 0.92)
        axes.set_xticks(places, [_broken(name) for name in [*tasks, *labels]])
        for label in axes.get_xticklabels()[len(tasks) :]:
            label.set_fontweight("bold")
        axes.set_xlim(-0.5, places[-1] + 0.5)
        axes.set_ylim(0, 100)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")
        axes.yaxis.grid(True, color=GRID)
        axes.set_axisbelow(True)
        axes.tick_params("both", length=0, labelsize=9, labelcolor=INK)
        axes.spines[["top", "right", "left"]].set_visible(False)
        figure.text(0.02, 1 - 0.3 / height, _title(reports), size=13, weight="bold", va="center")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4, frameon=False, borderaxespad=0.2)
        return png(figure, colours=_COLOURS)


PICTURES = {"bars": bars, "radar": radar}
"""Name of the file, without ending -> what draws it."""


def _series(reports: Mapping[str, Report], published: Sequence[Published]) -> tuple[list[str], list[_Series]]:
    """The tasks of the runs, by name, and a series for each run and each published row."""
    check_alike(reports)
    tasks = task_order(reports)
    metric = headline_metric(next(iter(reports.values()))["average"])
    looks = [(PALETTE[place % len(PALETTE)], _MARKERS[place % len(_MARKERS)]) for place in range(99)]
    series = []
    groups = averages(reports)
    gap = {metric: math.nan, "interval": {metric: (math.nan, math.nan)}}
    for (name, report), look in zip(reports.items(), looks, strict=False):
        figures = [report["per_task"].get(task, gap) for task in tasks]
        means = [found.get(name, gap) for _, found in groups]
        spans = [tuple(one["interval"][metric]) for one in [*figures, *means]]
        series.append(_Series(name, [one[metric] for one in figures], [one[metric] for one in means], spans, *look))
    for one, look in zip(published, looks[len(reports) :], strict=False):
        values = [one.per_task.get(task, math.nan) for task in tasks]
        means = [one.average, *(math.nan for _ in groups[1:])]
        series.append(_Series(f"{one.name}, published", values, means, None, *look))
    return [name_of_task(task) for task in tasks], series


def _bar(axes: Axes, middles: Sequence[float], one: _Series, width: float) -> None:
    values = [*one.values, *one.averages]
    if one.spans is None:
        axes.bar(middles, values, width, label=one.name, color="white", edgecolor=one.colour, hatch="////")
        return
    axes.bar(middles, values, width, label=one.name, color=one.colour)
    below = [value - low for value, (low, _) in zip(values, one.spans, strict=True)]
    above = [high - value for value, (_, high) in zip(values, one.spans, strict=True)]
    axes.errorbar(middles, values, [below, above], fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.2)


def _rule(axes: PolarAxes, angles: Sequence[float], tasks: Sequence[str]) -> None:
    """The first task on top, the others clockwise, their names outside."""
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_ylim(0, 100)
    axes.set_yticks([20, 40, 60, 80, 100], ["20", "40", "60", "80", "100%"], size=8.5, color=FAINT)
    axes.set_rlabel_position(math.degrees(angles[1]) / 2 if len(angles) > 1 else 18)
    axes.set_xticks(angles, [])
    for angle, task in zip(angles, tasks, strict=True):
        side = math.sin(angle)
        across = "center" if abs(side) < 0.1 else "left" if side > 0 else "right"
        along = "bottom" if math.cos(angle) > 0.95 else "top" if math.cos(angle) < -0.95 else "center"
        axes.text(angle, 106, _broken(task), ha=across, va=along, size=10.5)
    axes.grid(True, color=GRID, linewidth=1)
    axes.spines["polar"].set_color(GRID)


def _key(figure: Figure, series: Sequence[_Series]) -> None:
    """Right of the radar: each line with its average."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=one.colour, linestyle=one.line, marker=one.marker, linewidth=2) for one in series]
    labels = []
    for one in series:
        own = next(place for place, value in enumerate(one.averages) if not math.isnan(value))
        low, high = one.spans[len(one.values) + own] if one.spans else (math.nan, math.nan)
        span = f" ({low:.1f}–{high:.1f})" if one.spans else ""
        of = f" of {sum(not math.isnan(value) for value in one.values)} tasks" if len(one.averages) > 1 else ""
        labels.append(f"{one.name}\naverage{of} {one.averages[own]:.2f}{span}")
    figure.legend(handles, labels, loc="center left", bbox_to_anchor=(0.715, 0.56), frameon=False, labelspacing=1.1)


def _title(reports: Mapping[str, Report]) -> str:
    metric = headline_metric(next(iter(reports.values()))["average"])
    return f"{HEADINGS.get(metric, metric)} by task, percent"


def _wrapped(reports: Mapping[str, Report], published: Sequence[Published]) -> list[str]:
    told = ["Intervals are of 95%, clustered by image tuple.", *remarks(reports, published)]
    return [line for sentence in told for line in textwrap.wrap(sentence, 158, subsequent_indent="    ")]


def _write_remarks(figure: Figure, lines: Sequence[str]) -> float:
    """What belongs under every picture; gives the height it takes, as a fraction of the figure's."""
    height = figure.get_figheight()
    foot = _LINE * (len(lines) + 1)
    for place, line in enumerate(lines):
        figure.text(0.02, (foot - _LINE * (place + 0.5)) / height, line, size=8.5, color=FAINT, va="top")
    return foot / height


def _broken(task: str) -> str:
    """On two lines, if it is of two words."""
    return task.replace(" ", "\n", 1)
