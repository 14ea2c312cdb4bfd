"""Runs as tables for a terminal, a README or a paper: per task, by box size, by number of images, and image choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from migician.benchmarks.published.figures import TASK_NAMES, Published, caution
from migician.benchmarks.scoring.values import Value, value_of
from migician.evaluation.headings import check_one_measure, describe, headed, mark, title, title_of, unreplied
from migician.evaluation.report import HEADINGS, Report, headline_metric, metric_names, notes

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

    Runs that are not like for like are headed each with its own words, and every table says so. Raises `UserError` for
    runs of different benchmarks.
    """
    check_one_measure(reports)
    told = ["Percent, with 95% intervals clustered by image tuple.", *remarks(reports, published)]
    names, marked = headed(reports), mark(reports)
    runs = {names[name]: report for name, report in reports.items()}
    found = [_by_task(runs, published), _all_metrics(runs)]
    for key, heading in _BREAKDOWNS.items():
        if all(report.get("breakdowns", {}).get(key) for report in runs.values()):
            found.append(_breakdown(runs, key, heading))
    choices = {name: report.get("breakdowns", {}).get("image_choice") for name, report in runs.items()}
    if any(choices.values()):
        found.append(_image_choice({name: some for name, some in choices.items() if some}))
    first, *others = (replace(one, title=f"{one.title}: {title_of(reports)}") for one in found)
    marks = [marked] if marked else []
    return [replace(first, remarks=told), *(replace(one, remarks=[*one.remarks, *marks]) for one in others)]


_BREAKDOWNS = {"by_box_size": "Share of the image that the true box covers", "by_images": "Images of a question"}


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


def _by_task(reports: Mapping[str, Report], published: Sequence[Published]) -> Table:
    metric = headline_metric(next(iter(reports.values()))["average"])
    rows: list[list[Cell]] = []
    for task in task_order(reports):
        found = [report["per_task"].get(task) for report in reports.values()]
        theirs: list[Cell] = [Value(one.per_task[task]) if task in one.per_task else "" for one in published]
        rows.append([name_of_task(task), _count(found), *_values(found, metric), *theirs])
    averages = [report["average"] for report in reports.values()]
    theirs = [Value(one.average) for one in published]
    rows.append(["average of tasks", _count(averages), *_values(averages, metric), *theirs])
    columns = ["task", "n", *reports, *(f"{one.name}, published" for one in published)]
    return Table(f"{HEADINGS.get(metric, metric)} by task", columns, rows, len(columns) - 1)


def _values(found: Sequence[Mapping[str, Any] | None], metric: str) -> list[Cell]:
    """A metric of each run; empty where a run has no such row."""
    return [value_of(figures, metric) if figures else "" for figures in found]


def _count(found: Sequence[Mapping[str, Any] | None]) -> str:
    """The n of a row: one number where the runs agree, else one for each; a dash for a run without the row."""
    counts = [str(figures["n"]) if figures else "-" for figures in found]
    return counts[0] if len(set(counts)) == 1 else " / ".join(counts)


def _all_metrics(reports: Mapping[str, Report]) -> Table:
    metrics = list(next(iter(reports.values()))["average"]["interval"])
    rows: list[list[Cell]] = [
        [name, over, str(report[key]["n"]), *(value_of(report[key], metric) for metric in metrics)]
        for name, report in reports.items()
        for over, key in (("average of tasks", "average"), ("all rows", "micro"))
    ]
    columns = ["run", "over", "n", *(HEADINGS.get(metric, metric) for metric in metrics)]
    return Table("Averages", columns, rows, len(metrics) + 1)


def _breakdown(reports: Mapping[str, Report], key: str, title: str) -> Table:
    classes = [report["breakdowns"][key] for report in reports.values()]
    metrics = ("acc@0.5", "mean_iou")
    rows: list[list[Cell]] = []
    for label in dict.fromkeys(label for one in classes for label in one):
        found = [one.get(label) for one in classes]
        values = [value for figures in found for metric in metrics for value in _values([figures], metric)]
        rows.append([label, _count(found), *values])
    several = len(reports) > 1
    heads = [f"{name}, {HEADINGS.get(metric, metric)}" for name in reports for metric in metrics]
    columns = ["class", "n", *(heads if several else (HEADINGS[metric] for metric in metrics))]
    return Table(
        title, columns, rows, len(columns) - 1, ["Over the rows of all tasks, which fill the classes unevenly."]
    )


def _image_choice(choices: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: list[list[Cell]] = [
        [name, name_of_task(task), str(one["known"]), str(one["n"]), value_of(one, "right_image"), Value(one["chance"])]
        for name, found in choices.items()
        for task, one in found.items()
    ]
    columns = ["run", "task", "right image known", "n (name an image)", "name the right one", "by chance"]
    told = "Only group grounding leaves the image open; elsewhere the question says which one is meant."
    return Table("Image choice", columns, rows, 4, [told])


def write_text(table: Table) -> str:
    """Columns aligned with blanks."""
    lines = [list(table.columns), *([str(cell) for cell in row] for row in table.rows)]
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
    lines += [_piped([str(cell) for cell in row]) for row in table.rows]
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
        return [task, str(figures["n"]), *(value_of(figures, metric) for metric in metrics)]

    rows = [row(name_of_task(task), figures) for task, figures in report["per_task"].items()]
    rows += [row("average of tasks", report["average"]), row("all rows", report["micro"])]
    columns = ["task", "n", *(HEADINGS.get(metric, metric) for metric in metrics)]
    told = ["Percent, with 95% intervals clustered by image tuple.", *notes(report)]
    return Table(f"{name}: {title(report)}", columns, rows, len(columns) - 1, told)


WRITERS: dict[str, Callable[[Table], str]] = {"text": write_text, "markdown": write_markdown, "latex": write_latex}
"""Format by the name that `--format` takes."""


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_markdown, cells)) + " |"


def _markdown(text: str) -> str:
    return "".join("\\" + sign if sign in "\\`*_[]<|" else sign for sign in text)


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return _latex(cell)
    return cell.text + (rf" {{\scriptsize ({'--'.join(cell.ends)})}}" if cell.span else "")


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
