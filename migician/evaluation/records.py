"""Answers -> records, and records as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from migician.benchmarks import Benchmark
from migician.benchmarks.scoring.scoring import Answer, Reading, SizeOf
from migician.boxes import Size

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
    gives, else what `size_of` gives.
    """
    bench.scoring.check(reading)
    missing = Answer(-1, error=NO_ANSWER)

    def seen(question: Any, image: int) -> Size | None:
        sizes = answers[question.index].sizes
        return size_of(question, image) if sizes is None else sizes[image]

    return [
        bench.scoring.score_one(question, answers.get(question.index, missing), reading, seen)
        for question in bench.questions
        if not partial or question.index in answers
    ]


def write_records(stream: Any, records: Sequence[Any]) -> None:
    """Write records as JSON lines to a binary stream."""
    encoder = msgspec.json.Encoder()
    stream.writelines(encoder.encode(record) + b"\n" for record in records)
