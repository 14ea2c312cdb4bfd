"""What a model's replies earn before anything is trained: each part by row, and how far it spreads.

A part that is 0 for every reply, or the same for all replies to a question, teaches nothing, however long it trains.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from migician.benchmarks import load_benchmark
from migician.benchmarks.scoring.boxes import BoxQuestion
from migician.boxes import Size
from migician.errors import UserError
from migician.evaluation.answer_files import read_answers
from migician.training.prompts import PromptReader
from migician.training.reward_replies import Replies
from migician.training.rewards import Truth, preset_named, reward

TOTAL = "total"


class Asked(msgspec.Struct, frozen=True):
    """A question with the replies to it."""

    record: int
    """The record in its file, or the row of the benchmark, from 0."""
    turn: int
    truths: list[Truth]
    replies: list[str]
    sizes: Sequence[Size] = ()


class RowReward(msgspec.Struct, frozen=True):
    """What the replies to one question earn."""

    record: int
    turn: int
    most: float
    """The most that a reply to it can earn."""
    replies: list[dict[str, float]]
    """The parts of each reply, and "total"."""


class Spread(msgspec.Struct, frozen=True):
    """One part over all replies."""

    part: str
    min: float
    mean: float
    max: float
    deviation: float
    zero: float
    """The share of replies that earn nothing of it."""


class RewardReport(msgspec.Struct, frozen=True):
    """What replies earn."""

    preset: str
    style: str
    replies: int
    unanswered: int
    """Questions without a reply."""
    spread: list[Spread]
    compared: int
    """Questions with several replies."""
    even: int
    """Those among them whose replies all earn the same total: no advantage, so GRPO learns nothing from them."""
    rows: list[RowReward]


def reward_report(asked: Iterable[Asked], preset: str, style: str) -> RewardReport:
    """What the replies earn by `preset`; raises `UserError` for an unknown name, and where there is no reply."""
    most = preset_named(preset).most
    rows, unanswered = [], 0
    for one in asked:
        try:
            parts = [reward(reply, one.truths, preset=preset, style=style, sizes=one.sizes) for reply in one.replies]
        except ValueError as error:
            raise UserError(f"question {one.record}: {error}") from None
        unanswered += not parts
        if parts:
            rows.append(RowReward(one.record, one.turn, most(len(one.truths)), parts))
    if not rows:
        raise UserError("no question has a reply, so there is nothing to reward")
    every = [parts for row in rows for parts in row.replies]
    several = [[parts[TOTAL] for parts in row.replies] for row in rows if len(row.replies) > 1]
    even = sum(max(totals) == min(totals) for totals in several)
    spread = [_spread(part, [parts[part] for parts in every]) for part in every[0]]
    return RewardReport(preset, style, len(every), unanswered, spread, len(several), even, rows)


def _spread(part: str, values: Sequence[float]) -> Spread:
    zero = sum(value == 0 for value in values) / len(values)
    return Spread(part, min(values), statistics.fmean(values), max(values), statistics.pstdev(values), zero)


def warnings(report: RewardReport) -> Iterator[str]:
    """What of it cannot teach anything, a sentence each."""
    for one in report.spread:
        if one.max == one.min == 0:
            yield f"{one.part} is 0 for every reply: training on it would change nothing"
        elif one.max == one.min:
            yield f"{one.part} is {one.max:g} for every reply: it adds the same to each, and teaches nothing"
    if report.even:
        share = report.even / report.compared
        yield (
            f"{report.even:,} of {report.compared:,} questions with several replies ({share:.1%}) have replies that "
            "all earn the same: GRPO learns nothing from them"
        )


def of_records(data: Path, answers: Path, media: Path | None = None) -> tuple[Iterator[Asked], str]:
    """The turns of a file of records that give boxes, with their replies, and the style of boxes that its card says.

    Raises `UserError`, also while they are taken, naming the record or the reply that cannot be read.
    """
    reader, replies = PromptReader(data, media), Replies.read(answers)

    def asked() -> Iterator[Asked]:
        for number, prompt in reader.all():
            truths: list[Truth] = [(one.image, one.box) for one in prompt.truths]
            yield Asked(number, prompt.turn, truths, replies.of(number, prompt.turn), prompt.sizes or ())
        replies.check_used()

    return asked(), reader.style


def of_benchmark(name: str, data: Path, answers: Path) -> Iterator[Asked]:
    """The questions of a benchmark for single boxes, with their answers as `migician score` reads them.

    Raises `UserError` for a benchmark of another kind, and naming the answer that cannot be read.
    """
    bench = load_benchmark(name, data)
    given = read_answers(answers, bench)
    for question in bench.questions:
        if not isinstance(question, BoxQuestion):
            raise UserError(f"{name}: rewards are for questions for a box; evaluate it with: migician score {name}")
        answer = given.get(question.index)
        replies = [answer.response] if answer and answer.response is not None else []
        sizes = answer.sizes if answer and answer.sizes else ()
        truths = [(question.target, question.truth.as_tuple())] if question.truth else []
        yield Asked(question.index, 0, truths, replies, sizes)
