"""What can be asked and scored: each benchmark is one module here and one line in `BENCHMARKS`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migician.errors import UserError, unknown

if TYPE_CHECKING:
    from migician.benchmarks.scoring.scoring import Reading, Scoring
    from migician.boxes import Size
    from migician.models.family import Family

BENCHMARKS: dict[str, str] = {
    "mig-bench": "migician.benchmarks.mig_bench",
    "mig-bench-one-shot": "migician.benchmarks.mig_bench_one_shot",
    "mmiu": "migician.benchmarks.mmiu",
    "mibench": "migician.benchmarks.mibench",
    "refcoco": "migician.benchmarks.refcoco",
    "muirbench": "migician.benchmarks.muirbench",
    "blink": "migician.benchmarks.blink",
    "mantis-eval": "migician.benchmarks.mantis_eval",
    "vstar": "migician.benchmarks.vstar",
    "mc-bench": "migician.benchmarks.mc_bench",
}
"""Name -> the module whose `load(path)` gives the `Benchmark`; imported when it is named."""


@dataclass(frozen=True, slots=True)
class Question:
    """What every question has, whatever is asked."""

    index: int
    """Its place in the benchmark, from 0: what answers name it by."""
    task: str
    """What figures are given for, one by one."""
    images: tuple[str, ...]
    """As the file names them; questions with equal ones are one cluster of the intervals."""
    text: str
    """The question as the file has it."""

    @property
    def is_absent(self) -> bool:
        """Whether what it asks for is in none of its images, so that the right answer gives no box."""
        return False


@dataclass(frozen=True)
class Benchmark:
    """One benchmark, loaded from a file or a folder."""

    name: str
    """As in `BENCHMARKS`."""
    path: Path
    """What it was loaded from."""
    sha256: str
    """Of the file's bytes: the benchmark's version."""
    questions: Sequence[Any]
    """Each a `Question`, `questions[i].index == i`, with `is_malformed`."""
    scoring: Scoring
    """How replies become records and figures."""
    prompt: Callable[[Any, str, Family, Sequence[Size] | None], str]
    """(question, wording, family, sizes) -> what a model of `family` is asked.

    `wording` is "corrected", "published", "official" or "trained"; `sizes` are those of the images as the model sees
    them, for families that count pixels.
    """
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What a report must say of the file beside its name and sha256, as JSON."""
    max_side_px: int | None = None
    """Images are shrunk to fit a square of this side before they are asked about; None to leave them."""
    max_new_tokens: int = 128
    """The longest reply it needs."""
    pictures: Callable[[], Iterator[tuple[str, bytes]]] | None = None
    """The images that are inside the file, as (name, bytes), read when called; None where images are files."""

    @property
    def malformed(self) -> list[int]:
        """The questions whose truth is impossible, by index: kept, and listed in the report."""
        return [question.index for question in self.questions if question.is_malformed]

    def check(self, reading: Reading) -> None:
        """Raise `UserError` for a reading that does not apply to these questions."""
        self.scoring.check(reading)
        absent = sum(question.is_absent for question in self.questions)
        if absent and reading.protocol != "strict":
            raise UserError(
                f"{self.path}: {absent} of its questions ask for what is not there, for which --protocol "
                f"{reading.protocol} has no rule: use strict"
            )


def no_official(name: str, wording: str) -> None:
    """Raise `UserError` where `wording` is "official", for a benchmark that asks for something other than one box."""
    if wording == "official":
        raise UserError(
            f"--prompt official is how a model's makers ask for one box; {name} asks otherwise: leave it out"
        )


def load_benchmark(name: str, path: str | Path) -> Benchmark:
    """The benchmark of that name; raises `UserError` for another name, and for a file that is not one of its."""
    if name not in BENCHMARKS:
        raise UserError(unknown("benchmark", name, BENCHMARKS))
    bench: Benchmark = importlib.import_module(BENCHMARKS[name]).load(path)
    return bench
