"""Answers -> records, records as files, and records as columns that figures are taken of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from migician.benchmarks import Benchmark
from migician.benchmarks.scoring.scoring import Answer, Reading, Scoring, SizeOf
from migician.boxes import Size
from migician.metrics import Estimate, estimate

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_ANSWER = "no answer in the file"


def score(
    bench: Benchmark,
    answers: Mapping[int, Answer],
    reading: Reading,
    *,
    partial: bool = False,
    size_of: SizeOf = lambda question, image: None,
) -> list[Any]:
    """A record for each question of the benchmark, in order.

    Questions without an answer count as failed, so that leaving out the hard ones gains nothing;
    with `partial` they are left out. For styles that count pixels, sizes are those that an answer
    gives, else what `size_of` gives; other harnesses' protocols count those of the file.
    """
    bench.scoring.check(reading)
    missing = Answer(-1, error=NO_ANSWER)

    def seen(question: Any, image: int) -> Size | None:
        sizes = answers[question.index].sizes
        return size_of(question, image) if sizes is None or reading.protocol != "strict" else sizes[image]

    return [
        bench.scoring.score_one(question, answers.get(question.index, missing), reading, seen)
        for question in bench.questions
        if not partial or question.index in answers
    ]


def write_records(stream: Any, records: Sequence[Any]) -> None:
    """Write records as JSON lines to a binary stream."""
    encoder = msgspec.json.Encoder()
    stream.writelines(encoder.encode(record) + b"\n" for record in records)


class RecordColumns:
    """Records as columns, (N,) each; rows over one tuple of images are one cluster."""

    def __init__(self, records: Sequence[Any], scoring: Scoring) -> None:
        self.tasks = np.array([record.task for record in records])
        labels: dict[tuple[str, ...], int] = {}
        self.clusters = np.array([labels.setdefault(record.images, len(labels)) for record in records], dtype=np.intp)
        self.outcomes = np.array([record.outcome for record in records])
        self.measures = {
            name: (np.asarray(values), np.ones(len(records)) if sizes is None else np.asarray(sizes))
            for name, (values, sizes) in scoring.measures(records).items()
        }
        self.chances = np.array([scoring.chance(record) for record in records]) if scoring.chance else None

    def figures(self, chosen: NDArray[np.bool_], *, macro: bool = False) -> dict[str, Any]:
        """Each metric over some rows, in percent, with its interval; `macro` averages over the tasks."""
        groups = self.tasks[chosen] if macro else None
        clusters = self.clusters[chosen]
        estimates = {
            name: estimate(values[chosen], clusters, groups, sizes[chosen])
            for name, (values, sizes) in self.measures.items()
        }
        figures = {**{name: 100 * one.value for name, one in estimates.items()}, **spread(estimates)}
        if self.chances is not None:
            figures["chance"] = 100 * estimate(self.chances[chosen], clusters, groups).value
        return figures

    def task_names(self) -> list[str]:
        """The tasks, in order of first appearance."""
        return list(dict.fromkeys(self.tasks.tolist()))


def spread(estimates: dict[str, Estimate]) -> dict[str, Any]:
    """n, clusters and the intervals in percent, as they stand in a report."""
    some = next(iter(estimates.values()))
    return {
        "n": some.n,
        "clusters": some.clusters,
        "interval": {name: [100 * one.low, 100 * one.high] for name, one in estimates.items()},
    }
