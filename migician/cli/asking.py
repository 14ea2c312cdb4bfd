"""Verbs that run a model: eval."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migician.cli.options import (
    AsJson,
    BenchmarkName,
    ChainMode,
    DataFile,
    Dtype,
    FamilyName,
    MaxPixels,
    OutFolder,
    PromptName,
    Protocol,
    ProtocolName,
    Revision,
    TrustRemoteCode,
    YStretch,
    model_names,
)
from migician.cli.terminal import note, say, show
from migician.models.faults import BEARING, Tolerance
from migician.models.protocol import Metered
from migician.printable import counted
from migician.progress import progress_bar

if TYPE_CHECKING:
    from migician.benchmarks import Benchmark
    from migician.models.family import Family


def evaluate(
    benchmark: BenchmarkName,
    model: Annotated[
        str,
        typer.Option(
            help="A known name, a folder, a Hub id; vllm: before it, or server:ADDRESS#MODEL.",
            autocompletion=model_names,
        ),
    ],
    data: DataFile,
    images: Annotated[Path, typer.Option(help="The folder that the file's image paths start from, or its parent.")],
    out: OutFolder,
    protocol: Protocol = ProtocolName.strict,
    y_stretch: YStretch = False,
    prompt: Annotated[PromptName, typer.Option(help="What follows each question: see docs/evaluation.md.")] = (
        PromptName.corrected
    ),
    cot: Annotated[
        ChainMode | None,
        typer.Option(help="Chain of thought, for mig-bench: describe, then locate in the target's image or in all."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions per batch at most; fewer when memory runs out.")] = (
        32
    ),
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Longest reply in tokens; by default what the benchmark and the family need."),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", "--tasks", help="Only these tasks; repeat it, or separate them with commas."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N questions of each task.")] = None,
    max_pixels: MaxPixels = None,
    dtype: Dtype = None,
    revision: Revision = None,
    family: FamilyName = None,
    trust_remote_code: TrustRemoteCode = False,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests in flight at once, to a server.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds to wait for a server's reply; by default 45, plus 0.25 per new token."),
    ] = None,
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Price of a million input and output tokens, to add up a server's cost."),
    ] = None,
    fail_on_error: Annotated[
        float, typer.Option(min=0, max=1, help="Stop without a report when a larger share of the questions failed.")
    ] = BEARING.share,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask the questions that failed before again.")
    ] = False,
    check_images: Annotated[
        bool, typer.Option("--check-images", help="Compare images by content, not by size and time.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Discard everything in --out, answers included, and ask all questions again."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the first prompts without loading a model.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a model every question and report the scores. Run it again to resume."""
    from migician.benchmarks import load_benchmark
    from migician.benchmarks.images import check_readable
    from migician.benchmarks.scoring.scoring import Reading
    from migician.evaluation.ask import Plan, choose
    from migician.evaluation.ask import evaluate as run
    from migician.evaluation.chain_of_thought import evaluate_chain, rehearse
    from migician.evaluation.ranks import Ranks
    from migician.models import find_family, load_model

    bench = load_benchmark(benchmark, data)
    asked_as = find_family(model, family, revision)
    bench.scoring.check(Reading(protocol.value, asked_as.style, y_stretch))
    longest = max_new_tokens or max(bench.max_new_tokens, asked_as.new_tokens)
    wanted = tuple(name for given in tasks or () for name in given.split(","))
    plan = Plan(prompt.value, batch_size, longest, wanted, limit)
    steps = {"": bench}
    if cot:  # also where it is no dry run: what cannot be asked is said before a model is loaded
        steps = dict(zip(("step 1, ", "step 2, "), rehearse(bench, cot.value, plan.wording), strict=True))
    if dry_run:
        chosen = {question.index for question in choose(bench, plan)}
        for step, asked_then in steps.items():
            _print_prompts(step, asked_then, chosen, plan.wording, asked_as)
        return
    check_readable(choose(bench, plan), images)
    options = {
        "max_pixels": max_pixels,
        "dtype": dtype,
        "revision": revision,
        "family": family,
        "trust_remote_code": trust_remote_code or None,
        "concurrency": concurrency,
        "prices": prices,
        "timeout_s": timeout,
    }
    asked = load_model(model, **{name: value for name, value in options.items() if value is not None})
    for line in getattr(asked, "notes", ()):
        note(f"{asked.name}: {line}")
    reading = Reading(protocol.value, asked.box_style, y_stretch)
    ranks = Ranks.meet()
    with progress_bar(f"asking {asked.name}") as progress:
        evaluated = run if cot is None else partial(evaluate_chain, mode=cot.value)
        report = evaluated(
            bench,
            asked,
            images,
            out,
            reading=reading,
            plan=plan,
            tolerance=Tolerance(fail_on_error, retry_failed),
            by_content=check_images,
            ranks=ranks,
            progress=progress,
            force=force,
        )
    if ranks.is_first:
        show(report, out, as_json)
    if isinstance(asked, Metered):
        note(asked.spent())


def _print_prompts(step: str, bench: Benchmark, chosen: set[int], wording: str, family: Family) -> None:
    first = {question.task: question for question in reversed(bench.questions) if question.index in chosen}
    for question in sorted(first.values(), key=lambda one: one.index):
        count = len(question.images)
        # How large a model sees an image is only known once it is loaded.
        sizes = [(1000, 1000)] * count if family.style.scale == "pixel" else None
        text = family.placed(bench.prompt(question, wording, family, sizes), count)
        say(f"--- {step}row {question.index}, {question.task}, {counted(count, 'image')}\n{text}")
    if family.style.scale == "pixel":
        note(f"{family.name} counts pixels: boxes above are as for images that it sees at 1000 x 1000")
    note(f"{step}{counted(len(chosen), 'question')}; shown is the first of each task")
