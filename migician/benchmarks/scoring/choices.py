"""Multiple choice: a question with options, the option a reply chooses, and whether it is the right one.

A question without options asks for a word or two: the answer must be one of those accepted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np

from migician.benchmarks import Question
from migician.benchmarks.scoring import peers
from migician.benchmarks.scoring.option_mentions import clean
from migician.benchmarks.scoring.option_text import read_option
from migician.benchmarks.scoring.scoring import Answer, Count, Reading, Scoring, Shown, SizeOf, shared_fields
from migician.benchmarks.wordings import place_of
from migician.boxtext import final_answer
from migician.metrics import Measure

_ANNOUNCED = re.compile(r"\banswer(?:\s+is|\s*[:：])\s*", re.IGNORECASE)
_ARTICLE = re.compile(r"\A(?:the|an?)\s")

ChoiceOutcome = Literal["correct", "wrong_choice", "undecided", "failed"]


@dataclass(frozen=True, slots=True)
class ChoiceQuestion(Question):
    """A question with options."""

    options: tuple[str, ...]
    """Their texts, in the order shown; empty where the file does not separate them."""
    gold: str | None
    """The right answer as the file writes it: a letter, or an option's text."""
    answer: int | None
    """The option (0-based) that `gold` is; None where it is none of them."""
    lettered: bool = True
    """Whether the options are shown with letters."""
    context: str = ""
    """What the file gives beside the question."""
    accepted: tuple[str, ...] = ()
    """Of a question without options: the texts of which each is right."""
    lmms_eval: str = ""
    """The task of lmms-eval whose rule reads its answers, in `peers`; empty where it has none."""

    @property
    def is_malformed(self) -> bool:
        """Whether no reply can be right."""
        return self.answer is None and not self.accepted


class ChoiceRecord(msgspec.Struct, frozen=True):
    """One scored reply to a multiple-choice question, whole."""

    index: Count
    task: str
    question: str
    images: tuple[str, ...]
    options: tuple[str, ...]
    gold: str | None
    answer: Count | None
    reply: str | None
    settled: list[Count]
    """The options that the reply settles on: one where it decides; empty under `published`, which asks for none."""
    outcome: ChoiceOutcome
    error: str | None = None
    seconds: float | None = None
    reasoning: str | None = None
    """As in `Answer`."""

    def __post_init__(self) -> None:
        chosen = self.settled if self.answer is None else [self.answer, *self.settled]
        if chosen and max(chosen) >= len(self.options):
            raise ValueError(f"option {max(chosen)} of {len(self.options)}")

    @property
    def is_correct(self) -> bool:
        """Whether the right option was chosen."""
        return self.outcome == "correct"


def _score_choice(question: ChoiceQuestion, answer: Answer, reading: Reading, size_of: SizeOf) -> ChoiceRecord:
    settled: tuple[int, ...] = ()
    outcome: ChoiceOutcome
    if answer.response is None:
        outcome = "failed"
    elif reading.protocol == "published":
        outcome = "correct" if is_published_match(answer.response, question.gold) else "wrong_choice"
    elif reading.protocol in ("lmms-eval", "vlmevalkit"):
        settled, outcome = _as_peers_read(question, answer.response, reading.protocol)
    elif question.accepted:
        outcome = "correct" if is_accepted(answer.response, question.accepted) else "wrong_choice"
    else:
        settled = read_option(answer.response, question.options, question.lettered)
        outcome = "undecided" if len(settled) != 1 else "correct" if settled[0] == question.answer else "wrong_choice"
    return ChoiceRecord(
        **shared_fields(question, answer),
        options=question.options,
        gold=question.gold,
        answer=question.answer,
        settled=list(settled),
        outcome=outcome,
    )


def _as_peers_read(question: ChoiceQuestion, reply: str, protocol: str) -> tuple[tuple[int, ...], ChoiceOutcome]:
    if protocol == "vlmevalkit":
        said = peers.vlmevalkit_option(reply, question.options)
        is_right = said is not None and place_of(said, question.options) == question.answer
    else:
        said, is_right = peers.lmms_eval_option(question.lmms_eval, reply, question.options, question.gold or "")
    place = place_of(said or "", question.options)
    outcome: ChoiceOutcome = "correct" if is_right else "undecided" if said is None else "wrong_choice"
    return (() if place is None else (place,)), outcome


def is_published_match(reply: str, gold: str | None) -> bool:
    """Whether the published script counts `reply` as right: the gold answer, without blanks and points at its
    ends, stands anywhere in it; so "A" is in "Answer: B". Without a gold answer nothing is right.

    Source: eval/MIG_bench_eval.py of thunlp/Migician.
    """
    wanted = (gold or "").strip().strip(".")
    return bool(wanted) and wanted in reply


def is_accepted(reply: str, accepted: Sequence[str]) -> bool:
    """Whether a reply's final answer is one of the accepted texts: all of it, but for case, an article and a full stop.

    What "Answer:" or "the answer is" announces is the answer, where the reply says so.

    >>> is_accepted("Final Answer: The Dog.", ["dog"]), is_accepted("There is a dog.", ["dog"])
    (True, False)
    """
    said = _ANNOUNCED.split(clean(final_answer(reply)))[-1]
    return _bare(said) in map(_bare, accepted)


def _bare(text: str) -> str:
    return _ARTICLE.sub("", " ".join(text.split()).strip(" .!\"'").casefold())


def _measures(records: Sequence[ChoiceRecord]) -> dict[str, Measure]:
    return {"accuracy": (np.array([float(record.is_correct) for record in records]), None)}


def _chance(record: ChoiceRecord) -> float:
    return 1 / len(record.options) if record.options and record.answer is not None else 0.0


def _show(record: ChoiceRecord) -> Shown:
    if not record.options:
        return Shown(answer=record.gold or "none")
    right = "none" if record.answer is None else record.options[record.answer]
    chosen = " | ".join(record.options[option] for option in record.settled)
    return Shown(answer=f"{right}; of {' | '.join(record.options)}", remark=f"chose {chosen}" if chosen else "")


CHOICES = Scoring(
    name="choices",
    record=ChoiceRecord,
    outcomes=("correct", "wrong_choice", "undecided", "failed"),
    score_one=_score_choice,
    measures=_measures,
    show=_show,
    has_boxes=False,
    protocols=("strict", "published"),
    chance=_chance,
)
"""Of questions with options: accuracy, beside what guessing would give."""
PEER_CHOICES = replace(CHOICES, protocols=(*CHOICES.protocols, "lmms-eval", "vlmevalkit"))
"""The same, for benchmarks that lmms-eval and VLMEvalKit have, too."""
