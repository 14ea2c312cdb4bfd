"""Two runs over the same questions: the paired difference, its intervals, and McNemar's test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from migician.errors import UserError
from migician.evaluation.headings import check_same_questions, mark, own_words, title_of, unreplied
from migician.evaluation.report import Report, Rows, scoring_of, spread
from migician.evaluation.run_folder import read_run
from migician.metrics import bootstrap_differences, difference, mcnemar

if TYPE_CHECKING:
    from numpy.typing import NDArray
SEED = 0
"""Of the bootstrap: the same two runs always give the same intervals."""


def compare(first: Path, second: Path) -> Report:
    """How `second` differs from `first`, row by row over the same questions, in percentage points.

    Each difference has two 95% intervals clustered by image tuple, the linearised one ("interval") and the
    paired cluster bootstrap's ("bootstrap"); "mcnemar" counts the questions that one of the two alone has
    right, with the exact test's p. "not_like_for_like" says in what else than the model the two differ, None where
    in nothing; "without_reply" how many questions of each have none. Both are folders with a report. Raises
    `UserError` where they are not over the same benchmark, file and rows.
    """
    runs = [read_run(folder) for folder in (first, second)]
    sides, pair = [report for report, _ in runs], [records for _, records in runs]
    reports = {str(folder): report for folder, report in zip((first, second), sides, strict=True)}
    check_same_questions(reports)
    scoring = scoring_of(sides[0])
    if pair[0].keys() != pair[1].keys():
        raise UserError(
            f"{first} and {second} do not hold the same rows ({len(pair[0])} and {len(pair[1])}): score both in full"
        )
    indices = sorted(pair[0])
    left, right = (Rows([records[index] for index in indices], scoring) for records in pair)
    everything = np.ones(len(indices), dtype=bool)
    words = own_words(reports)
    return {
        "benchmark": sides[0]["benchmark"],
        "scored": title_of(reports),
        "first": _identity(first, sides[0], words),
        "second": _identity(second, sides[1], words),
        "not_like_for_like": mark(reports),
        "without_reply": unreplied(reports),
        "n": len(indices),
        "bootstrap_seed": SEED,
        "per_task": {task: _differences(left, right, left.tasks == task) for task in left.task_names()},
        "average": _differences(left, right, everything, macro=True),
    }


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


def _identity(folder: Path, report: Report, words: dict[str, str]) -> dict[str, Any]:
    name = str(folder)
    stretched = report.get("y_stretch", False)
    return {"name": name, "protocol": report["protocol"], "y_stretch": stretched, "words": words[name]}
