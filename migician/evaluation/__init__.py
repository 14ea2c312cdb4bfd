"""A model measured on a benchmark: questions -> replies -> records -> a report; `run` does all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from migician.benchmarks import Benchmark
    from migician.benchmarks.scoring.scoring import Reading
    from migician.evaluation.ask import Plan
    from migician.evaluation.chain_of_thought import Mode
    from migician.evaluation.ranks import Ranks
    from migician.evaluation.report import Report
    from migician.models.family import Family
    from migician.models.protocol import Model


@dataclass(frozen=True)
class EvalConfig:
    """One evaluation as a person asks for it, on the command line or in a notebook."""

    benchmark: str
    """A name in `BENCHMARKS`."""
    model: Model | str | Path
    """A model, or what `load_model` loads it by."""
    data: str | Path
    images: str | Path
    """The folder that the benchmark's image names start from, or its parent; those inside its file are written here."""
    out: str | Path
    """The run's folder."""
    protocol: str = "strict"
    y_stretch: bool = False
    wording: str = "corrected"
    chain: Mode | None = None
    """What step 2 of a chain of thought shows; None to ask in one step."""
    batch_size: int = 32
    max_new_tokens: int | None = None
    """The longest reply; None for what the benchmark and the family need."""
    tasks: Sequence[str] = ()
    """Only these tasks; empty for all."""
    limit: int | None = None
    """Only the first N questions of each task."""
    loading: Mapping[str, Any] = field(default_factory=dict)
    """Options of `load_model`."""
    fail_on_error: float = 0.05
    """The share of questions, 0..1, that may fail."""
    retry_failed: bool = False
    check_images: bool = False
    force: bool = False
    meet: Callable[[], Ranks] | None = None
    """Finds the other processes of the same run; None for one that asks alone."""
    note: Callable[[str], None] = lambda line: None
    """Gets what there is to say of the model, a line each."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known of an evaluation before its model is loaded."""

    bench: Benchmark
    family: Family
    plan: Plan
    reading: Reading


def prepare(config: EvalConfig) -> Prepared:
    """Read the benchmark and check all that needs no model; raises `UserError` for what does not fit together."""
    from migician.benchmarks import load_benchmark
    from migician.benchmarks.scoring.scoring import reading_named
    from migician.evaluation.ask import Plan, choose
    from migician.evaluation.chain_of_thought import rehearse
    from migician.models import check_positions, find_family
    from migician.models.protocol import Model

    bench = load_benchmark(config.benchmark, config.data)
    if isinstance(config.model, Model):
        family = config.model.family
    else:
        family = find_family(config.model, config.loading.get("family"), config.loading.get("revision"))
        if config.loading.get("positions"):
            check_positions(config.model, family)
    reading = replace(reading_named(config.protocol, None, config.y_stretch), style=family.style)
    bench.check(reading)
    longest = config.max_new_tokens or max(bench.max_new_tokens, family.new_tokens)
    plan = Plan(config.wording, config.batch_size, longest, tuple(config.tasks), config.limit)
    for question in choose(bench, plan)[:1]:  # what cannot be asked is said before anything is loaded
        bench.prompt(question, config.wording, family, [(1000, 1000)] * len(question.images))
    if config.chain:
        rehearse(bench, config.chain, config.wording)
    return Prepared(bench, family, plan, reading)


def run(config: EvalConfig) -> Report:
    """Ask every question that the run has no answer to, score the replies, write the report and give it.

    The same config again resumes where the last run stopped. All that can be checked without the model is, before it is
    loaded. Raises what `prepare`, `load_model` and `migician.evaluation.ask.evaluate` raise.
    """
    from migician.benchmarks.images import check_readable, unpack_images
    from migician.evaluation.ask import Asking, choose, evaluate
    from migician.evaluation.chain_of_thought import evaluate_chain
    from migician.evaluation.ranks import Ranks
    from migician.models import load_model
    from migician.models.faults import Tolerance
    from migician.models.protocol import Metered, Model
    from migician.progress import progress_bar

    ready, images = prepare(config), Path(config.images)
    questions = choose(ready.bench, ready.plan)
    if count := unpack_images(ready.bench, questions, images):
        config.note(f"{images}: {count:,} images of {ready.bench.path} written")
    check_readable(questions, images)
    model = config.model if isinstance(config.model, Model) else load_model(config.model, **config.loading)
    for line in getattr(model, "notes", ()):
        config.note(f"{model.name}: {line}")
    reading = replace(ready.reading, style=model.box_style)
    ranks = config.meet() if config.meet else Ranks()
    with progress_bar(f"asking {model.name}") as progress:
        asking = Asking(
            model,
            images,
            Path(config.out),
            ready.plan,
            Tolerance(config.fail_on_error, config.retry_failed),
            config.check_images,
            config.force,
            ranks,
            progress,
        )
        if config.chain:
            report = evaluate_chain(ready.bench, asking, reading, config.chain)
        else:
            report = evaluate(ready.bench, asking, reading)
    if isinstance(model, Metered):
        config.note(model.spent())
    return report
