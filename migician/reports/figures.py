"""Runs as pictures: a radar of the tasks, and bars with their intervals; published figures stand beside them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from migician.benchmarks.published.figures import Published
from migician.benchmarks.scoring.values import Value
from migician.draw import PALETTE
from migician.errors import UserError
from migician.evaluation.headings import check_one_measure, own_words, title_of
from migician.evaluation.report import HEADINGS, Report, headline_metric
from migician.plotting import FAINT, GRID, INK, canvas, png
from migician.reports.tables import name_of_task, remarks, task_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.projections.polar import PolarAxes

_WIDTH = 11.0
_LINE = 0.19
"""Inches that a line of the remarks takes."""
_COLOURS = 256
_MARKERS = "os^Dv*"
_ACROSS = 4
"""Names in a row above the bars."""


@dataclass(frozen=True, slots=True)
class _Series:
    """One run or one published row: values in percent, in the order of the tasks, the average last."""

    name: str
    values: list[float]
    spans: list[tuple[float, float]] | None
    """95% intervals; None for published ones, which have none."""
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
        raise UserError(f"a radar needs at least three tasks, not {len(tasks)}: see the bars")
    with canvas(_WIDTH, 7.2 + _LINE * len(lines)) as figure:
        foot = _write_remarks(figure, lines)
        axes: PolarAxes = figure.add_axes((0.13, foot + 0.07, 0.48, 0.79 - foot), projection="polar")  # type: ignore[assignment]
        angles = [2 * math.pi * place / len(tasks) for place in range(len(tasks))]
        for one in series:
            ring = [*one.values[:-1], one.values[0]]
            axes.plot([*angles, 0.0], ring, one.line, color=one.colour, marker=one.marker, markersize=5, linewidth=2)
            if one.spans is not None:
                axes.fill([*angles, 0.0], ring, color=one.colour, alpha=0.10)
        _rule(axes, angles, tasks)
        _write_title(figure, reports)
        _key(figure, series, foot)
        return png(figure, colours=_COLOURS)


def bars(reports: Mapping[str, Report], published: Sequence[Published] = ()) -> bytes:
    """A PNG: a group of bars a task and one for the average, with 95% intervals; hatched what is published."""
    tasks, series = _series(reports, published)
    lines = _wrapped(reports, published)
    key = _LINE * sum(
        max(one.name.count("\n") + 1 for one in series[at : at + _ACROSS]) for at in range(0, len(series), _ACROSS)
    )
    with canvas(max(_WIDTH, 0.95 * len(tasks)), 5.0 + key + _LINE * len(lines)) as figure:
        height = figure.get_figheight()
        foot = _write_remarks(figure, lines)
        axes = figure.add_axes((0.05, foot + 0.55 / height, 0.94, 1 - foot - (1.2 + key) / height))
        width = 0.84 / len(series)
        for position, one in enumerate(series):
            # The average stands a little apart.
            places = [place + (place == len(tasks)) * 0.25 for place in range(len(one.values))]
            middles = [place + (position - (len(series) - 1) / 2) * width for place in places]
            _bar(axes, middles, one, width * 0.92)
        axes.set_xticks(places, [_broken(task) for task in tasks] + ["average\nof tasks"])
        axes.get_xticklabels()[-1].set_fontweight("bold")
        axes.set_xlim(-0.5, places[-1] + 0.5)
        axes.set_ylim(0, 100)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")
        axes.yaxis.grid(True, color=GRID)
        axes.set_axisbelow(True)
        axes.tick_params("both", length=0, labelsize=9, labelcolor=INK)
        axes.spines[["top", "right", "left"]].set_visible(False)
        _write_title(figure, reports)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=_ACROSS, frameon=False, borderaxespad=0.2)
        return png(figure, colours=_COLOURS)


_LABEL = 24
"""Letters in a line of a label."""
_NONE: Mapping[str, Any] = {"interval": {}}
"""Of a task that a run does not have."""

PICTURES = {"bars": bars, "radar": radar}
"""Name of the file, without ending -> what draws it."""


def _series(reports: Mapping[str, Report], published: Sequence[Published]) -> tuple[list[str], list[_Series]]:
    """The tasks of the runs, by name, and a series for each run and each published row."""
    check_one_measure(reports)
    tasks = task_order(reports)
    metric = headline_metric(next(iter(reports.values()))["average"])
    looks = [(PALETTE[place % len(PALETTE)], _MARKERS[place % len(_MARKERS)]) for place in range(99)]
    words = own_words(reports)
    series = []
    for (name, report), look in zip(reports.items(), looks, strict=False):
        figures = [*(report["per_task"].get(task, _NONE) for task in tasks), report["average"]]
        spans = [tuple(one["interval"].get(metric, (math.nan, math.nan))) for one in figures]
        # Its own words below its name, so that what is not like for like is seen as such.
        label = "\n".join([*textwrap.wrap(name, _LABEL), *textwrap.wrap(words[name], _LABEL)])
        series.append(_Series(label, [one.get(metric, math.nan) for one in figures], spans, *look))
    for one, look in zip(published, looks[len(reports) :], strict=False):
        values = [*(one.per_task.get(task, math.nan) for task in tasks), one.average]
        series.append(_Series(f"{one.name}, published", values, None, *look))
    return [name_of_task(task) for task in tasks], series


def _bar(axes: Axes, middles: Sequence[float], one: _Series, width: float) -> None:
    if one.spans is None:
        axes.bar(middles, one.values, width, label=one.name, color="white", edgecolor=one.colour, hatch="////")
        return
    axes.bar(middles, one.values, width, label=one.name, color=one.colour)
    below = [value - low for value, (low, _) in zip(one.values, one.spans, strict=True)]
    above = [high - value for value, (_, high) in zip(one.values, one.spans, strict=True)]
    axes.errorbar(middles, one.values, [below, above], fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.2)


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


def _key(figure: Figure, series: Sequence[_Series], foot: float) -> None:
    """Right of the radar and above the remarks, which end at `foot`: each line with its average."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=one.colour, linestyle=one.line, marker=one.marker, linewidth=2) for one in series]
    averages = [Value(one.values[-1], one.spans[-1] if one.spans else None) for one in series]
    labels = [f"{one.name}\naverage {average}" for one, average in zip(series, averages, strict=True)]
    lines = sum(label.count("\n") + 2 for label in labels)
    size = min(10.5, 72 * 0.9 * figure.get_figheight() * (1 - foot) / (1.25 * lines))
    middle = (0.715, (0.96 + foot) / 2)
    figure.legend(
        handles, labels, fontsize=size, loc="center left", bbox_to_anchor=middle, frameon=False, labelspacing=1.1
    )


def _write_title(figure: Figure, reports: Mapping[str, Report]) -> None:
    metric = headline_metric(next(iter(reports.values()))["average"])
    title = f"{HEADINGS.get(metric, metric)} by task, percent: {title_of(reports)}"
    size = 13 * min(1, _TITLE / len(title))
    figure.text(0.02, 1 - 0.3 / figure.get_figheight(), title, size=size, weight="bold", va="center")


_TITLE = 88
"""Letters that have room in the title at its full size."""


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
