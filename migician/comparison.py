"""Two runs over the same questions: the paired difference, its intervals, and McNemar's test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from migician.errors import UserError
from migician.metrics import bootstrap_differences, difference, mcnemar
from migician.report import GAP, HEADINGS, Report, Rows, headline_metric, metric_names, read_report, scoring_of, spread
from migician.scoring import read_records

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table
    from rich.text import Text

SEED = 0
"""Of the bootstrap: the same two runs always give the same intervals."""


def compare(first: Path, second: Path) -> Report:
    """How `second` differs from `first`, row by row over the same questions, in percentage points.

    A task that only one of the two has is not compared: "unshared" has its name and its n, by whose it is.
    Each difference has two 95% intervals clustered by image tuple, the linearised one ("interval") and the
    paired cluster bootstrap's ("bootstrap"); "mcnemar" counts the questions that one of the two alone has
    right, with the exact test's p. Both are folders with a report. Raises `UserError` where they are not
    over the same benchmark and file, share no task, or do not hold the same rows of the tasks they share.
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
    held = [Counter(record.task for record in records.values()) for records in pair]
    shared = held[0].keys() & held[1].keys()
    if not shared:
        raise UserError(f"{first} and {second} have no task in common ({', '.join(held[0])}; {', '.join(held[1])})")
    pair = [{row: record for row, record in records.items() if record.task in shared} for records in pair]
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
        "unshared": {
            side: {task: n for task, n in counts.items() if task not in shared}
            for side, counts in zip(("first", "second"), held, strict=True)
        },
        "bootstrap_seed": SEED,
        "per_task": {task: _differences(left, right, left.tasks == task) for task in left.task_names()},
        "average": _differences(left, right, everything, macro=True),
    }


def comparison_table(comparison: Report) -> Table:
    """A comparison as a table for the terminal: second minus first, with its 95% interval."""
    names = metric_names(comparison["average"])
    title = f"{comparison['second']['name']} minus {comparison['first']['name']}, percentage points"
    result = _table(title, [HEADINGS.get(name, name) for name in names])
    for task, figures, style in _rows(comparison):
        result.add_row(task, str(figures["n"]), *(_cell(figures, name, "interval") for name in names), style=style)
    _add_gaps(result, comparison)
    return result


def significance_table(comparison: Report) -> Table:
    """The headline figure again with its bootstrap interval, and McNemar's test, as a table for the terminal."""
    name = headline_metric(comparison["average"])
    heading = f"{HEADINGS.get(name, name)}, paired bootstrap"
    result = _table("What the difference rests on", [heading, "right: first only", "second only", "McNemar's p"])
    for task, figures, style in _rows(comparison):
        test = figures["mcnemar"]
        counts = (str(test["first_only"]), str(test["second_only"]), f"{test['p']:.2g}")
        result.add_row(task, str(figures["n"]), _cell(figures, name, "bootstrap"), *counts, style=style)
    _add_gaps(result, comparison)
    return result


def gaps(comparison: Report) -> list[tuple[str, int, str]]:
    """The tasks that only one run has: (task, n, the run's name)."""
    sides = ((comparison[side]["name"], comparison["unshared"][side]) for side in ("first", "second"))
    return [(task, n, name) for name, tasks in sides for task, n in tasks.items()]


def average_label(comparison: Report) -> str:
    """What to call the average of a comparison, which is over the tasks that both runs have."""
    shared = len(comparison["per_task"])
    return f"average of {shared} shared task{'s' * (shared > 1)}" if gaps(comparison) else "average of the tasks"


def _table(title: str, headings: Sequence[str]) -> Table:
    from rich.table import Table

    result = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    result.add_column("task")
    for heading in ("n", *headings):
        result.add_column(heading, justify="right")
    return result


def _rows(comparison: Report) -> list[tuple[str, dict[str, Any], str | None]]:
    tasks = [(task, figures, None) for task, figures in comparison["per_task"].items()]
    return [*tasks, (average_label(comparison), comparison["average"], "bold")]


def _add_gaps(table: Table, comparison: Report) -> None:
    for task, n, _ in gaps(comparison):
        table.add_row(task, str(n), *[GAP] * (len(table.columns) - 2))


def _cell(figures: dict[str, Any], name: str, interval: str) -> Text:
    from rich.text import Text

    low, high = figures[interval][name]
    return Text.assemble(f"{figures[name]:+.2f} ", (f"{low:+.1f} to {high:+.1f}", "dim"))


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
