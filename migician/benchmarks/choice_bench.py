"""A benchmark of multiple choice: all that one has to write is a `load` that gives a `ChoiceBench`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migician.benchmarks.scoring.choices import CHOICES, ChoiceQuestion
from migician.benchmarks.scoring.scoring import Scoring
from migician.boxes import Size
from migician.models.family import Family


@dataclass(frozen=True)
class ChoiceBench:
    """One file of multiple-choice questions."""

    name: str
    path: Path
    sha256: str
    questions: Sequence[ChoiceQuestion]
    ask: Callable[[ChoiceQuestion, str], str]
    """(question, wording) -> what a model is asked."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the report must say of the file."""
    max_side_px: int | None = None
    max_new_tokens: int = 128
    scoring: Scoring = CHOICES

    @property
    def malformed(self) -> list[int]:
        """Questions that no reply can get right, as the file has them."""
        return [question.index for question in self.questions if question.is_malformed]

    def prompt(self, question: ChoiceQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
        """What a model is asked: the same of every family, but for what the published script adds for some."""
        end = family.published_choice_ends.get(self.name, "") if wording == "published" else ""
        return self.ask(question, wording) + end

    def facts(self) -> Mapping[str, Any]:
        """See `told`."""
        return self.told
