"""Verbs that run a model: eval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migician.cli.options import AsJson, Benchmark, DataFile, OutFolder, PromptName, Protocol, ProtocolName, YStretch
from migician.cli.terminal import note, show
from migician.progress import progress_bar

if TYPE_CHECKING:
    from migician.benchmarks.mig_bench import Question


def evaluate(
    benchmark: Annotated[Benchmark, typer.Argument(help="What to ask.")],
    model: Annotated[str, typer.Option(help="A known name, a folder with config.json, or a Hub id.")],
    data: DataFile,
    images: Annotated[Path, typer.Option(help="The folder that holds MIG-Bench/, or that folder itself.")],
    out: OutFolder,
    protocol: Protocol = ProtocolName.strict,
    y_stretch: YStretch = False,
    prompt: Annotated[PromptName, typer.Option(help="What follows each question: see docs/evaluation.md.")] = (
        PromptName.corrected
    ),
    batch_size: Annotated[int, typer.Option(min=1, help="Most questions asked at once; fewer where memory ends.")] = (
        32
    ),
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest reply.")] = 128,
    tasks: Annotated[list[str] | None, typer.Option("--task", help="Only this task; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions of each task.")] = None,
    max_pixels: Annotated[int | None, typer.Option(min=784, help="Shrink larger images to so many pixels.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the first prompts; load no model.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a model every question and report; the same command again goes on where it stopped."""
    from migician.benchmarks import mig_bench
    from migician.evaluation import Plan, choose
    from migician.evaluation import evaluate as run
    from migician.models import load_model
    from migician.ranks import Ranks
    from migician.scoring import Reading

    bench = mig_bench.load(data)
    plan = Plan(prompt.value, batch_size, max_new_tokens, tuple(tasks or ()), limit)
    if dry_run:
        _print_prompts(choose(bench, plan), plan.wording)
        return
    mig_bench.check_images(choose(bench, plan), images)
    options = {"max_pixels": max_pixels, "revision": revision}
    asked = load_model(model, **{name: value for name, value in options.items() if value is not None})
    reading = Reading(protocol.value, asked.box_style, y_stretch)
    ranks = Ranks.meet()
    with progress_bar(f"asking {asked.name}") as progress:
        report = run(bench, asked, images, out, reading=reading, plan=plan, ranks=ranks, progress=progress)
    if ranks.is_first:
        show(report, out, as_json)


def _print_prompts(questions: Sequence[Question], wording: str) -> None:
    from migician.benchmarks.mig_bench import prompt

    first = {question.task: question for question in reversed(questions)}
    for question in sorted(first.values(), key=lambda one: one.index):
        print(f"--- row {question.index}, {question.task}, {len(question.images)} images\n{prompt(question, wording)}")
    note(f"{len(questions)} questions; shown is the first of each task")
