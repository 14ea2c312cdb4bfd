"""Two runs over the same questions: the paired difference, its intervals, and McNemar's test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from migician.errors import UserError
from migician.metrics import bootstrap_differences, difference, mcnemar
from migician.report import HEADINGS, Report, Rows, headline_metric, metric_names, read_report, scoring_of, spread
from migician.scoring import read_records

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table

SEED = 0
"""Of the bootstrap: the same two runs always give the same intervals."""


def compare(first: Path, second: Path) -> Report:
    """How `second` differs from `first`, row by row over the same questions, in percentage points.

    Each difference has two 95% intervals clustered by image tuple, the linearised one ("interval") and the
    paired cluster bootstrap's ("bootstrap"); "mcnemar" counts the questions that one of the two alone has
    right, with the exact test's p. Both are folders with a report. Raises `UserError` where they are not
    over the same benchmark, file and rows.
    """
    reports = [read_report(folder) for folder in (first, second)]
    for key, what in (("benchmark", "benchmarks"), ("data_sha256", "benchmark files")):
        if reports[0][key] != reports[1][key]:
            shown = [report["data"] if key == "data_sha256" else report[key] for report in reports]
            raise UserError(
                f"{first} and {second} score different {what} ({shown[0]}, {shown[1]}): score both against the same"
            )
    scoring = scoring_of(reports[0])
    files = [folder / "records.jsonl" for folder in (first, second)]
    pair = [{record.index: record for record in read_records(file, scoring.record)} for file in files]
    if pair[0].keys() != pair[1].keys():
        raise UserError(
            f"{first} and {second} do not hold the same rows ({len(pair[0])} and {len(pair[1])}): score both in full"
        )
    indices = sorted(pair[0])
    left, right = (Rows([records[index] for index in indices], scoring) for records in pair)
    everything = np.ones(len(indices), dtype=bool)
    return {
        "benchmark": reports[0]["benchmark"],
        "first": _identity(first, reports[0]),
        "second": _identity(second, reports[1]),
        "n": len(indices),
        "bootstrap_seed": SEED,
        "per_task": {task: _differences(left, right, left.tasks == task) for task in left.task_names()},
        "average": _differences(left, right, everything, macro=True),
    }


def comparison_table(comparison: Report) -> Table:
    """A comparison as a table for the terminal: second minus first, with its 95% interval, and McNemar's p."""
    from rich.table import Table

    title = f"{comparison['second']['name']} minus {comparison['first']['name']}, percentage points"
    result = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    result.add_column("task")
    result.add_column("n", justify="right")
    names = metric_names(comparison["average"])
    for name in names:
        result.add_column(HEADINGS.get(name, name), justify="right")
    headline = headline_metric(comparison["average"])
    result.add_column(f"{HEADINGS.get(headline, headline)}, bootstrap", justify="right")
    result.add_column("right: one only", justify="right")
    result.add_column("p", justify="right")
    rows = [*comparison["per_task"].items(), ("average of the tasks", comparison["average"])]
    for task, figures in rows:
        cells = []
        for name in names:
            low, high = figures["interval"][name]
            cells.append(f"{figures[name]:+.2f} [dim]{low:+.1f} to {high:+.1f}[/dim]")
        low, high = figures["bootstrap"][headline]
        cells.append(f"[dim]{low:+.1f} to {high:+.1f}[/dim]")
        test = figures["mcnemar"]
        cells += [f"{test['first_only']} : {test['second_only']}", f"{test['p']:.2g}"]
        result.add_row(task, str(figures["n"]), *cells, style="bold" if task == rows[-1][0] else None)
    return result


def _differences(left: Rows, right: Rows, chosen: NDArray[np.bool_], *, macro: bool = False) -> dict[str, Any]:
    groups = left.tasks[chosen] if macro else None
    clusters = left.clusters[chosen]
    sides = [
        {name: (values[chosen], sizes[chosen]) for name, (values, sizes) in rows.measures.items()}
        for rows in (left, right)
    ]
    estimates = {
        name: difference(values, sides[1][name][0], clusters, groups, (sizes, sides[1][name][1]))
        for name, (values, sizes) in sides[0].items()
    }
    resampled = bootstrap_differences(sides[0], sides[1], clusters, groups, seed=SEED)
    test = mcnemar(left.outcomes[chosen] == "correct", right.outcomes[chosen] == "correct")
    return {
        **{name: 100 * one.value for name, one in estimates.items()},
        **spread(estimates),
        "bootstrap": {name: [100 * low, 100 * high] for name, (low, high) in resampled.items()},
        "mcnemar": msgspec.to_builtins(test),
    }


def _identity(folder: Path, report: Report) -> dict[str, Any]:
    return {"name": str(folder), "protocol": report["protocol"], "y_stretch": report.get("y_stretch", False)}
