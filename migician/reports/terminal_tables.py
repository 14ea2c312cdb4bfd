"""Reports and comparisons as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from migician.benchmarks.scoring.values import Value, p_text, value_of
from migician.evaluation.headings import check_one_measure, mark, title, title_of, unreplied
from migician.evaluation.report import HEADINGS, Report, headline_metric, metric_names

if TYPE_CHECKING:
    from rich.table import Table


def table(report: Report) -> Table:
    """The report as a table for the terminal: each figure with its 95% interval."""
    result = _figure_table(report, title(report), ["task", "n"])
    for task, figures in report["per_task"].items():
        result.add_row(task, str(figures["n"]), *_cells(figures))
    for label, key in ((f"average of {report['average']['tasks']} tasks", "average"), ("over all rows", "micro")):
        result.add_row(label, str(report[key]["n"]), *_cells(report[key]), style="bold")
    return result


def side_by_side(reports: Mapping[str, Report]) -> Table:
    """Several reports over one benchmark as one table, by name: task by task, a row for each.

    Where they are not like for like, the title says so and heads each run with its own words. Raises `UserError` for
    reports of different benchmarks.
    """
    check_one_measure(reports)
    heading = "\n".join(filter(None, [title_of(reports), mark(reports), unreplied(reports)]))
    result = _figure_table(next(iter(reports.values())), heading, ["task", "n", "model"])
    tasks = dict.fromkeys(task for report in reports.values() for task in report["per_task"])
    parts = [(task, {name: one["per_task"].get(task) for name, one in reports.items()}, None) for task in tasks]
    averages = {name: report["average"] for name, report in reports.items()}
    for label, rows, style in [*parts, ("average", averages, "bold")]:
        there = {name: figures for name, figures in rows.items() if figures is not None}
        counts = [str(figures["n"]) for figures in there.values()]
        for position, (name, figures) in enumerate(there.items()):
            n = "" if position and len(set(counts)) == 1 else counts[position]
            result.add_row("" if position else label, n, name, *_cells(figures), style=style)
        result.add_section()
    return result


def _figure_table(report: Report, heading: str, leading: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    result = Table(
        title=f"{heading}\npercent, with 95% intervals",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
    )
    for name in leading:
        result.add_column(name, justify="right" if name == "n" else "left")
    for name in metric_names(report["average"]):
        result.add_column(HEADINGS.get(name, name), justify="right")
    if "chance" in report["average"]:
        result.add_column("chance", justify="right")
    return result


def _cells(figures: Mapping[str, Any]) -> list[str]:
    """Each metric as "63.37 (61.1-65.6)", in percent; last the level of chance, if known."""
    chance = [Value(figures["chance"]).text] if "chance" in figures else []
    return [*(str(value_of(figures, name)) for name in metric_names(figures)), *chance]


def comparison_table(comparison: Report) -> Table:
    """A comparison as a table for the terminal: second minus first, with its 95% interval."""
    names = metric_names(comparison["average"])
    sides = [comparison[side] for side in ("second", "first")]
    heads = [f"{one['name']} ({one['words']})" if one["words"] else one["name"] for one in sides]
    told = [f"{' minus '.join(heads)}, percentage points", comparison["scored"]]
    told += [comparison["not_like_for_like"], comparison["without_reply"]]
    result = _table("\n".join(filter(None, told)), [HEADINGS.get(name, name) for name in names])
    for task, figures, style in _rows(comparison):
        values = (str(value_of(figures, name, signed=True)) for name in names)
        result.add_row(task, str(figures["n"]), *values, style=style)
    return result


def significance_table(comparison: Report) -> Table:
    """The headline figure again with its bootstrap interval, and McNemar's test, as a table for the terminal."""
    name = headline_metric(comparison["average"])
    heading = f"{HEADINGS.get(name, name)}, paired bootstrap"
    result = _table("What the difference rests on", [heading, "right: first only", "second only", "McNemar's p"])
    for task, figures, style in _rows(comparison):
        test = figures["mcnemar"]
        counts = (str(test["first_only"]), str(test["second_only"]), p_text(test["p"]))
        difference = value_of(figures, name, signed=True, interval="bootstrap")
        result.add_row(task, str(figures["n"]), str(difference), *counts, style=style)
    return result


def _table(title: str, headings: Sequence[str]) -> Table:
    from rich.table import Table

    result = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    result.add_column("task")
    for heading in ("n", *headings):
        result.add_column(heading, justify="right")
    return result


def _rows(comparison: Report) -> list[tuple[str, dict[str, Any], str | None]]:
    """(task, figures, style) of each row."""
    tasks = [(task, figures, None) for task, figures in comparison["per_task"].items()]
    return [*tasks, ("average of the tasks", comparison["average"], "bold")]
