"""Two runs over the same questions: the paired difference and its interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migician.errors import UserError
from migician.metrics import METRICS, difference
from migician.report import HEADINGS, Report, Rows, read_report, spread
from migician.scoring import read_records

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table


def compare(first: Path, second: Path) -> Report:
    """How `second` differs from `first`, row by row over the same questions, in percentage points.

    Both are folders with a report. Raises `UserError` where they are not over the same
    benchmark file and rows.
    """
    reports = [read_report(folder) for folder in (first, second)]
    if reports[0]["data_sha256"] != reports[1]["data_sha256"]:
        raise UserError(
            f"{first} and {second} score different benchmark files ({reports[0]['data']}, {reports[1]['data']}): "
            "score both against the same file"
        )
    pair = [{record.index: record for record in read_records(folder / "records.jsonl")} for folder in (first, second)]
    if pair[0].keys() != pair[1].keys():
        raise UserError(
            f"{first} and {second} do not hold the same rows ({len(pair[0])} and {len(pair[1])}): score both in full"
        )
    indices = sorted(pair[0])
    left, right = (Rows([records[index] for index in indices]) for records in pair)
    chosen = {"average": None, **{task: left.tasks == task for task in left.task_names()}}
    return {
        "first": _identity(first, reports[0]),
        "second": _identity(second, reports[1]),
        "n": len(indices),
        "per_task": {task: _differences(left, right, mask) for task, mask in chosen.items() if mask is not None},
        "average": _differences(left, right, None),
    }


def comparison_table(comparison: Report) -> Table:
    """A comparison as a table for the terminal: second minus first, with its 95% interval."""
    from rich.table import Table

    title = f"{comparison['second']['name']} minus {comparison['first']['name']}, percentage points"
    result = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    result.add_column("task")
    result.add_column("n", justify="right")
    for name in METRICS:
        result.add_column(HEADINGS[name], justify="right")
    rows = [*comparison["per_task"].items(), ("average of the tasks", comparison["average"])]
    for task, figures in rows:
        cells = []
        for name in METRICS:
            low, high = figures["interval"][name]
            cells.append(f"{figures[name]:+.2f} [dim]{low:+.1f} to {high:+.1f}[/dim]")
        result.add_row(task, str(figures["n"]), *cells, style="bold" if task == rows[-1][0] else None)
    return result


def _differences(left: Rows, right: Rows, chosen: NDArray[np.bool_] | None) -> dict[str, Any]:
    mask = np.ones(len(left.tasks), dtype=bool) if chosen is None else chosen
    groups = left.tasks if chosen is None else None
    estimates = {
        name: difference(left.columns[name][mask], right.columns[name][mask], left.clusters[mask], groups)
        for name in METRICS
    }
    return {**{name: 100 * one.value for name, one in estimates.items()}, **spread(estimates)}


def _identity(folder: Path, report: Report) -> dict[str, Any]:
    return {"name": str(folder), "protocol": report["protocol"], "y_stretch": report["y_stretch"]}
