"""Runs as tables for a terminal, a README or a paper: per task, by box size, by number of images, and image choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from migician.benchmarks.published.figures import TASK_NAMES, Published, caution
from migician.benchmarks.scoring.values import Value, p_text, value_of
from migician.evaluation.headings import check_one_measure, describe, headed, mark, title, title_of, unreplied
from migician.evaluation.report import HEADINGS, Report, headline_metric, metric_names, notes

Cell = str | Value

_PERCENT = "Percent, with 95% intervals clustered by image tuple."
_SHORT = "percent, with 95% intervals"


@dataclass(frozen=True, slots=True)
class Table:
    """What any format writes (see `writers`)."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: int
    """How many of the columns, from the right, are numbers."""
    remarks: Sequence[str] = ()
    averages: int = 0
    """How many of the rows, from the end, are averages over the others."""
    grouped: bool = False
    """Whether a row without a label belongs to the one above it."""
    ruled: bool = True
    """Whether a terminal rules off the columns' heads."""


def tables(reports: Mapping[str, Report], published: Sequence[Published] = ()) -> list[Table]:
    """All tables over runs by name; published figures stand in the first, with what makes them another measure.

    Runs that are not like for like are headed each with its own words, and every table says so. Raises `UserError` for
    runs of different benchmarks.
    """
    check_one_measure(reports)
    told = [_PERCENT, *remarks(reports, published)]
    names, marked = headed(reports), mark(reports)
    runs = {names[name]: report for name, report in reports.items()}
    found = [by_task(runs, published), _averages(runs)]
    for key, heading in _BREAKDOWNS.items():
        if all(report.get("breakdowns", {}).get(key) for report in runs.values()):
            found.append(_breakdown(runs, key, heading))
    choices = {name: report.get("breakdowns", {}).get("image_choice") for name, report in runs.items()}
    if any(choices.values()):
        found.append(_image_choice({name: some for name, some in choices.items() if some}))
    first, *others = (replace(one, title=f"{one.title}: {title_of(reports)}") for one in found)
    marks = [marked] if marked else []
    return [replace(first, remarks=told), *(replace(one, remarks=[*one.remarks, *marks]) for one in others)]


_BREAKDOWNS = {
    "by_target": "Whether what is asked for is there",
    "by_box_size": "Share of the image that the true box covers",
    "by_images": "Images of a question",
}


def task_order(reports: Mapping[str, Report]) -> list[str]:
    """The tasks of all runs: in the paper's order where it has them, else as they come."""
    tasks = list(dict.fromkeys(task for report in reports.values() for task in report["per_task"]))
    known = list(TASK_NAMES)
    return sorted(tasks, key=lambda task: known.index(task) if task in known else len(known))


def name_of_task(task: str) -> str:
    """As the paper calls it, else as the file does, without underscores."""
    return TASK_NAMES.get(task, task.replace("_", " "))


def remarks(reports: Mapping[str, Report], published: Sequence[Published]) -> list[str]:
    """What every figure belongs to: what runs and published rows were scored on and how, what has no reply; then where
    these differ.
    """
    told = [describe(name, report) for name, report in reports.items()]
    told += [one.describe() + "." for one in published]
    found = [unreplied(reports), mark(reports), *(caution(reports, one) for one in published)]
    return [*told, *(line for line in found if line is not None)]


def by_task(reports: Mapping[str, Report], published: Sequence[Published] = ()) -> Table:
    """The headline metric of each task and on average, a column for each run and each published row."""
    metric = headline_metric(next(iter(reports.values()))["average"])
    parts = [
        (
            name_of_task(task),
            [report["per_task"].get(task) for report in reports.values()],
            [one.per_task.get(task) for one in published],
        )
        for task in task_order(reports)
    ]
    averages = [report["average"] for report in reports.values()]
    parts.append(("average of tasks", averages, [one.average for one in published]))
    rows: list[list[Cell]] = []
    for label, found, printed in parts:
        theirs: list[Cell] = ["" if value is None else Value(value) for value in printed]
        rows.append([label, _count(found), *_values(found, metric), *theirs])
    columns = ["task", "n", *reports, *(f"{one.name}, published" for one in published)]
    return Table(f"{HEADINGS.get(metric, metric)} by task", columns, rows, len(columns) - 1)


def _values(found: Sequence[Mapping[str, Any] | None], metric: str) -> list[Cell]:
    """A metric of each run; empty where a run has no such row."""
    return [value_of(figures, metric) if figures else "" for figures in found]


def _count(found: Sequence[Mapping[str, Any] | None]) -> str:
    """The n of a row: one number where the runs agree, else one for each; a dash for a run without the row."""
    counts = [str(figures["n"]) if figures else "-" for figures in found]
    return counts[0] if len(set(counts)) == 1 else " / ".join(counts)


def _shown(figures: Mapping[str, Any]) -> list[str]:
    """What has a column of its own: all metrics, and the level of chance where it is known."""
    return [*metric_names(figures), *(["chance"] if "chance" in figures else [])]


def _heads(shown: Sequence[str]) -> list[str]:
    return [HEADINGS.get(name, name) for name in shown]


def _cells(figures: Mapping[str, Any], shown: Sequence[str], *, signed: bool = False) -> list[Cell]:
    """The figures below those heads; empty for a level of chance that is not known."""
    return [
        value_of(figures, name, signed=signed) if name != "chance" else Value(figures[name]) if name in figures else ""
        for name in shown
    ]


def _averages(reports: Mapping[str, Report]) -> Table:
    shown = _shown(next(iter(reports.values()))["average"])
    rows: list[list[Cell]] = [
        [name, over, str(report[key]["n"]), *_cells(report[key], shown)]
        for name, report in reports.items()
        for over, key in (("average of tasks", "average"), ("all rows", "micro"))
    ]
    return Table("Averages", ["run", "over", "n", *_heads(shown)], rows, len(shown) + 1)


def _breakdown(reports: Mapping[str, Report], key: str, title: str) -> Table:
    classes = [report["breakdowns"][key] for report in reports.values()]
    metrics = ("acc@0.5", "mean_iou")
    rows: list[list[Cell]] = []
    for label in dict.fromkeys(label for one in classes for label in one):
        found = [one.get(label) for one in classes]
        values = [value for figures in found for metric in metrics for value in _values([figures], metric)]
        rows.append([label, _count(found), *values])
    of = [f"{name}, " for name in reports] if len(reports) > 1 else [""]
    columns = ["class", "n", *(f"{run}{HEADINGS[metric]}" for run in of for metric in metrics)]
    remark = "Over the rows of all tasks, which fill the classes unevenly."
    return Table(title, columns, rows, len(columns) - 1, [remark])


def _image_choice(choices: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: list[list[Cell]] = [
        [name, name_of_task(task), str(one["known"]), str(one["n"]), value_of(one, "right_image"), Value(one["chance"])]
        for name, found in choices.items()
        for task, one in found.items()
    ]
    columns = ["run", "task", "right image known", "n (name an image)", "name the right one", "by chance"]
    remark = "Only group grounding leaves the image open; elsewhere the question says which one is meant."
    return Table("Image choice", columns, rows, 4, [remark])


def one_run(report: Report, name_of: Callable[[str], str] = name_of_task) -> Table:
    """Every metric of one run, task by task, then averaged."""
    count = report["average"]["tasks"]
    parts = [(name_of(task), figures) for task, figures in report["per_task"].items()]
    parts += [(f"average of {count} task{'s' * (count != 1)}", report["average"]), ("over all rows", report["micro"])]
    shown = _shown(report["average"])
    rows: list[list[Cell]] = [[label, str(figures["n"]), *_cells(figures, shown)] for label, figures in parts]
    columns = ["task", "n", *_heads(shown)]
    return Table(title(report), columns, rows, len(columns) - 1, [_SHORT], averages=2)


def one_run_told(name: str, report: Report, more: Sequence[str] = ()) -> Table:
    """`one_run` with all that a reader must know, to stand by itself."""
    shown = one_run(report)
    return replace(shown, title=f"{name}: {shown.title}", remarks=[_PERCENT, *notes(report), *more])


def side_by_side(reports: Mapping[str, Report]) -> Table:
    """Every metric of several runs over one benchmark, task by task and on average, a row for each run.

    Where they are not like for like, the remarks say so and head each run with its own words. Raises `UserError` for
    reports of different benchmarks.
    """
    check_one_measure(reports)
    tasks = dict.fromkeys(task for report in reports.values() for task in report["per_task"])
    parts = [(task, {name: one["per_task"].get(task) for name, one in reports.items()}) for task in tasks]
    shown = _shown(next(iter(reports.values()))["average"])
    rows: list[list[Cell]] = []
    for label, found in [*parts, ("average", {name: report["average"] for name, report in reports.items()})]:
        there = {name: figures for name, figures in found.items() if figures is not None}
        counts = [str(figures["n"]) for figures in there.values()]
        for position, (name, figures) in enumerate(there.items()):
            n = "" if position and len(set(counts)) == 1 else counts[position]
            rows.append(["" if position else label, n, name, *_cells(figures, shown)])
    told = [*filter(None, [mark(reports), unreplied(reports)]), _SHORT]
    columns = ["task", "n", "model", *_heads(shown)]
    return Table(title_of(reports), columns, rows, len(shown), told, averages=len(reports), grouped=True)


def every_metric(reports: Mapping[str, Report]) -> Table:
    """Every metric of several runs over the same questions, task by task, each row with all its words."""
    shown = _shown(next(iter(reports.values()))["average"])
    rows: list[list[Cell]] = [
        [name_of_task(task), name, str(report["per_task"][task]["n"]), *_cells(report["per_task"][task], shown)]
        for task in task_order(reports)
        for name, report in reports.items()
    ]
    return Table("Every metric by task", ["task", "run", "n", *_heads(shown)], rows, len(shown) + 1)


def differences(comparison: Report, name_of: Callable[[str], str] = name_of_task) -> Table:
    """The paired differences of two runs, second minus first, in percentage points."""
    sides = [comparison[side] for side in ("second", "first")]
    heads = [f"{one['name']} ({one['words']})" if one["words"] else one["name"] for one in sides]
    told = [comparison[name] for name in ("scored", "not_like_for_like", "without_reply") if comparison[name]]
    shown = metric_names(comparison["average"])
    rows = [[label, str(one["n"]), *_cells(one, shown, signed=True)] for label, one in _compared(comparison, name_of)]
    columns = ["task", "n", *_heads(shown)]
    title = f"{' minus '.join(heads)}, percentage points"
    return Table(title, columns, rows, len(columns) - 1, told, averages=1, ruled=False)


def significance(comparison: Report, name_of: Callable[[str], str] = name_of_task) -> Table:
    """The headline figure again with its bootstrap interval, and McNemar's test."""
    name = headline_metric(comparison["average"])
    rows: list[list[Cell]] = []
    for label, one in _compared(comparison, name_of):
        test = one["mcnemar"]
        counts = [str(test["first_only"]), str(test["second_only"]), p_text(test["p"])]
        difference = value_of(one, name, signed=True, interval="bootstrap")
        rows.append([label, str(one["n"]), difference, *counts])
    heads = [f"{HEADINGS.get(name, name)}, paired bootstrap", "right: first only", "second only", "McNemar's p"]
    return Table("What the difference rests on", ["task", "n", *heads], rows, 5, averages=1, ruled=False)


def _compared(comparison: Report, name_of: Callable[[str], str]) -> list[tuple[str, dict[str, Any]]]:
    tasks = [(name_of(task), figures) for task, figures in comparison["per_task"].items()]
    return [*tasks, ("average of the tasks", comparison["average"])]
