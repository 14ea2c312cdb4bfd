"""Two runs over the same questions: the paired difference, its intervals, and McNemar's test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from migician.errors import UserError
from migician.evaluation.headings import check_same_questions, mark, own_words, title_of, unreplied
from migician.evaluation.records import RecordColumns, spread
from migician.evaluation.report import Report, scoring_of
from migician.evaluation.run_folder import read_run
from migician.metrics import bootstrap_differences, difference, mcnemar

if TYPE_CHECKING:
    from numpy.typing import NDArray
SEED = 0
"""Of the bootstrap: the same two runs always give the same intervals."""


ScoredRun = tuple[str, Report, dict[int, Any]]
"""What a run is called, its report, and its records by the question's index."""


def compare_folders(first: Path, second: Path) -> Report:
    """`compare` of the runs in two folders."""
    return compare((str(first), *read_run(first)), (str(second), *read_run(second)))


def compare(first: ScoredRun, second: ScoredRun) -> Report:
    """How `second` differs from `first`, row by row over the same questions, in percentage points.

    Each difference has two 95% intervals clustered by image tuple, the linearised one ("interval") and the
    paired cluster bootstrap's ("bootstrap"); "mcnemar" counts the questions that one of the two alone has
    right, with the exact test's p. "not_like_for_like" says in what else than the model the two differ, None where
    in nothing; "without_reply" how many questions of each have none. Raises `UserError` where they are not over the
    same benchmark, file and rows.
    """
    (name, report, records), (other_name, other, others) = first, second
    reports = {name: report, other_name: other}
    check_same_questions(reports)
    if records.keys() != others.keys():
        raise UserError(
            f"{name} and {other_name} do not hold the same rows ({len(records)} and {len(others)}): score both in full"
        )
    indices, scoring = sorted(records), scoring_of(report)
    left, right = (RecordColumns([some[index] for index in indices], scoring) for some in (records, others))
    everything = np.ones(len(indices), dtype=bool)
    words = own_words(reports)
    return {
        "benchmark": report["benchmark"],
        "scored": title_of(reports),
        "first": _identity(name, report, words),
        "second": _identity(other_name, other, words),
        "not_like_for_like": mark(reports),
        "without_reply": unreplied(reports),
        "n": len(indices),
        "bootstrap_seed": SEED,
        "per_task": {task: _differences(left, right, left.tasks == task) for task in left.task_names()},
        "average": _differences(left, right, everything, macro=True),
    }


def _differences(
    left: RecordColumns, right: RecordColumns, chosen: NDArray[np.bool_], *, macro: bool = False
) -> dict[str, Any]:
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


def _identity(name: str, report: Report, words: dict[str, str]) -> dict[str, Any]:
    stretched = report.get("y_stretch", False)
    return {"name": name, "protocol": report["protocol"], "y_stretch": stretched, "words": words[name]}
