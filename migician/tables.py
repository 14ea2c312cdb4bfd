"""Runs as tables for a terminal, a README or a paper: per task, by box size, by number of images, and image choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from migician.benchmarks.published_figures import TASK_NAMES, Published, caution
from migician.report import (
    GAP,
    HEADINGS,
    Report,
    averages,
    check_alike,
    headline_metric,
    metric_names,
    notes,
    of_task,
    tasks_of,
    title,
)


@dataclass(frozen=True, slots=True)
class Value:
    """A figure in percent, with its 95% interval where there is one."""

    value: float
    span: tuple[float, float] | None = None


Cell = str | Value


@dataclass(frozen=True, slots=True)
class Table:
    """What any format writes."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: int
    """How many of the columns, from the right, are numbers."""
    remarks: Sequence[str] = ()


def tables(reports: Mapping[str, Report], published: Sequence[Published] = ()) -> list[Table]:
    """All tables over runs by name; published figures stand in the first, with what makes them another measure.

    A task that a run does not have leaves a gap. Raises `UserError` as `check_alike` does.
    """
    check_alike(reports)
    told = ["Percent, with 95% intervals clustered by image tuple.", *remarks(reports, published)]
    found = [_by_task(reports, published, told), _all_metrics(reports)]
    for key, heading in _BREAKDOWNS.items():
        # A class pools all tasks: over other tasks it is of other rows.
        if len(averages(reports)) == 1 and all(report.get("breakdowns", {}).get(key) for report in reports.values()):
            found.append(_breakdown(reports, key, heading))
    choices = {name: report.get("breakdowns", {}).get("image_choice") for name, report in reports.items()}
    if any(choices.values()):
        found.append(_image_choice({name: some for name, some in choices.items() if some}))
    return found


_BREAKDOWNS = {"by_box_size": "Share of the image that the true box covers", "by_images": "Images of a question"}


def task_order(reports: Mapping[str, Report]) -> list[str]:
    """The tasks of the runs: in the paper's order where it has them, else as they come."""
    tasks = tasks_of(reports)
    known = list(TASK_NAMES)
    return sorted(tasks, key=lambda task: known.index(task) if task in known else len(known))


def name_of_task(task: str) -> str:
    """As the paper calls it, else as the file does, without underscores."""
    return TASK_NAMES.get(task, task.replace("_", " "))


def remarks(reports: Mapping[str, Report], published: Sequence[Published]) -> list[str]:
    """What every figure belongs to: file and protocol of runs and of published rows; then where these differ."""
    told = [_describe(name, report) for name, report in reports.items()]
    told += [one.describe() + "." for one in published]
    return [*told, *(line for one in published if (line := caution(reports, one)) is not None)]


def _describe(name: str, report: Report) -> str:
    form = f", {report['file_kind']} file" if "file_kind" in report else ""
    protocol = f"{report['protocol']} protocol" + (" with y-stretch" if report.get("y_stretch") else "")
    part = "" if report["n"] == report["rows_in_file"] else f" of {report['rows_in_file']:,}"
    return (
        f"{name}: {report['benchmark']}{form} ({report['data']}, sha256 {report['data_sha256'][:12]}), "
        f"{report['n']:,}{part} rows, {protocol}."
    )


def _by_task(reports: Mapping[str, Report], published: Sequence[Published], told: Sequence[str]) -> Table:
    some = next(iter(reports.values()))
    metric = headline_metric(some["average"])
    rows: list[list[Cell]] = []
    for task in task_order(reports):
        found = of_task(reports, task)
        theirs = [Value(one.per_task[task]) if task in one.per_task else GAP for one in published]
        rows.append([name_of_task(task), _n(found), *_values(reports, found, metric), *theirs])
    for place, (label, found) in enumerate(averages(reports)):
        theirs = [GAP if place else Value(one.average) for one in published]
        rows.append([label, _n(found), *_values(reports, found, metric), *theirs])
    columns = ["task", "n", *reports, *(f"{one.name}, published" for one in published)]
    return Table(f"{HEADINGS.get(metric, metric)} by task", columns, rows, len(columns) - 1, told)


def _n(figures: Mapping[str, Any]) -> str:
    return str(next(iter(figures.values()))["n"])


def _values(reports: Mapping[str, Report], figures: Mapping[str, Any], metric: str) -> list[Cell]:
    """A cell for each run, from the figures of those that have some."""
    return [_value(figures[name], metric) if name in figures else GAP for name in reports]


def _all_metrics(reports: Mapping[str, Report]) -> Table:
    metrics = list(next(iter(reports.values()))["average"]["interval"])
    rows: list[list[Cell]] = [
        [name, over, str(report[key]["n"]), *(_value(report[key], metric) for metric in metrics)]
        for name, report in reports.items()
        for over, key in (("average of tasks", "average"), ("all rows", "micro"))
    ]
    columns = ["run", "over", "n", *(HEADINGS.get(metric, metric) for metric in metrics)]
    return Table("Averages", columns, rows, len(metrics) + 1)


def _breakdown(reports: Mapping[str, Report], key: str, title: str) -> Table:
    found = {name: report["breakdowns"][key] for name, report in reports.items()}
    metrics = ("acc@0.5", "mean_iou")
    labels = dict.fromkeys(label for one in found.values() for label in one)
    rows: list[list[Cell]] = []
    for label in labels:
        of_class = {name: one[label] for name, one in found.items() if label in one}
        cells = [_value(of_class[name], metric) if name in of_class else GAP for name in found for metric in metrics]
        rows.append([label, _n(of_class), *cells])
    several = len(reports) > 1
    heads = [f"{name}, {HEADINGS.get(metric, metric)}" for name in reports for metric in metrics]
    columns = ["class", "n", *(heads if several else (HEADINGS[metric] for metric in metrics))]
    return Table(
        title, columns, rows, len(columns) - 1, ["Over the rows of all tasks, which fill the classes unevenly."]
    )


def _image_choice(choices: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: list[list[Cell]] = [
        [name, name_of_task(task), str(one["known"]), str(one["n"]), _value(one, "right_image"), Value(one["chance"])]
        for name, found in choices.items()
        for task, one in found.items()
    ]
    columns = ["run", "task", "right image known", "n (name an image)", "name the right one", "by chance"]
    told = "Only group grounding leaves the image open; elsewhere the question says which one is meant."
    return Table("Image choice", columns, rows, 4, [told])


def _value(figures: Mapping[str, Any], metric: str) -> Value:
    low, high = figures["interval"][metric]
    return Value(figures[metric], (low, high))


def write_text(table: Table) -> str:
    """Columns aligned with blanks."""
    lines = [list(table.columns), *([_plain(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = len(table.columns) - table.numbers
    written = [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    rule = "-" * max(map(len, written))
    return "\n".join([table.title, rule, written[0], rule, *written[1:], rule, *table.remarks]) + "\n"


def write_markdown(table: Table) -> str:
    """As GitHub and most of Markdown's relatives read it."""
    lines = [f"**{_markdown(table.title)}**", ""]
    lines.append(_piped(table.columns))
    lines.append("|" + "---|" * (len(table.columns) - table.numbers) + "---:|" * table.numbers)
    lines += [_piped([_plain(cell) for cell in row]) for row in table.rows]
    if table.remarks:
        lines += ["", *(f"- {_markdown(remark)}" for remark in table.remarks)]
    return "\n".join(lines) + "\n"


def write_latex(table: Table) -> str:
    r"""A `table` that needs `\usepackage{booktabs}`."""
    columns = "l" * (len(table.columns) - table.numbers) + "r" * table.numbers
    lines = [
        r"\begin{table}[t]",
        r"\centering\small",
        rf"\caption{{{_latex(table.title)}.}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_latex, table.columns)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if table.remarks:
        lines += [r"\par\smallskip\raggedright\footnotesize", "\\\\\n".join(map(_latex, table.remarks))]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def one_run(name: str, report: Report) -> Table:
    """Every metric of one run, task by task, with what a reader must know."""
    metrics = metric_names(report["average"])

    def row(task: str, figures: Mapping[str, Any]) -> list[Cell]:
        return [task, str(figures["n"]), *(_value(figures, metric) for metric in metrics)]

    rows = [row(name_of_task(task), figures) for task, figures in report["per_task"].items()]
    rows += [row("average of tasks", report["average"]), row("all rows", report["micro"])]
    columns = ["task", "n", *(HEADINGS.get(metric, metric) for metric in metrics)]
    told = ["Percent, with 95% intervals clustered by image tuple.", *notes(report)]
    return Table(f"{name}: {title(report)}", columns, rows, len(columns) - 1, told)


WRITERS: dict[str, Callable[[Table], str]] = {"text": write_text, "markdown": write_markdown, "latex": write_latex}
"""Format by the name that `--format` takes."""


def _plain(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    span = f" ({cell.span[0]:.1f}-{cell.span[1]:.1f})" if cell.span else ""
    return f"{cell.value:.2f}{span}"


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_markdown, cells)) + " |"


def _markdown(text: str) -> str:
    return "".join("\\" + sign if sign in "\\`*_[]<|" else sign for sign in text)


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return _latex(cell)
    span = rf" {{\scriptsize ({cell.span[0]:.1f}--{cell.span[1]:.1f})}}" if cell.span else ""
    return f"{cell.value:.2f}{span}"


_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
