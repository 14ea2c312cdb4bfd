"""Verbs that run a model: eval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migician.boxtext import QWEN
from migician.cli.options import (
    AsJson,
    BenchmarkName,
    DataFile,
    OutFolder,
    PromptName,
    Protocol,
    ProtocolName,
    YStretch,
)
from migician.cli.terminal import note, show
from migician.progress import progress_bar

if TYPE_CHECKING:
    from migician.benchmarks import Benchmark, Question


def evaluate(
    benchmark: BenchmarkName,
    model: Annotated[str, typer.Option(help="A known name, a folder with config.json, or a Hub id.")],
    data: DataFile,
    images: Annotated[Path, typer.Option(help="The folder that the file's image names start from, or its parent.")],
    out: OutFolder,
    protocol: Protocol = ProtocolName.strict,
    y_stretch: YStretch = False,
    prompt: Annotated[PromptName, typer.Option(help="What follows each question: see docs/evaluation.md.")] = (
        PromptName.corrected
    ),
    batch_size: Annotated[int, typer.Option(min=1, help="Most questions asked at once; fewer where memory ends.")] = (
        32
    ),
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest reply; without it, what the benchmark needs.")
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", "--tasks", help="Only these tasks: repeated, or joined by commas.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions of each task.")] = None,
    max_pixels: Annotated[int | None, typer.Option(min=784, help="Shrink larger images to so many pixels.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the first prompts; load no model.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a model every question and report; the same command again goes on where it stopped."""
    from migician.benchmarks import load_benchmark
    from migician.benchmarks.images import check_images
    from migician.evaluation import Plan, choose
    from migician.evaluation import evaluate as run
    from migician.models import load_model
    from migician.ranks import Ranks
    from migician.scoring import Reading

    bench = load_benchmark(benchmark, data)
    wanted = tuple(name for given in tasks or () for name in given.split(","))
    plan = Plan(prompt.value, batch_size, max_new_tokens or bench.max_new_tokens, wanted, limit)
    bench.scoring.check(Reading(protocol.value, QWEN, y_stretch))
    if dry_run:
        _print_prompts(bench, choose(bench, plan), plan.wording)
        return
    check_images(choose(bench, plan), images)
    options = {"max_pixels": max_pixels, "revision": revision}
    asked = load_model(model, **{name: value for name, value in options.items() if value is not None})
    reading = Reading(protocol.value, asked.box_style, y_stretch)
    ranks = Ranks.meet()
    with progress_bar(f"asking {asked.name}") as progress:
        report = run(bench, asked, images, out, reading=reading, plan=plan, ranks=ranks, progress=progress)
    if ranks.is_first:
        show(report, out, as_json)


def _print_prompts(bench: Benchmark, questions: Sequence[Question], wording: str) -> None:
    first = {question.task: question for question in reversed(questions)}
    for question in sorted(first.values(), key=lambda one: one.index):
        asked = bench.prompt(question, wording, QWEN)
        print(f"--- row {question.index}, {question.task}, {len(question.images)} images\n{asked}")
    note(f"{len(questions)} questions; shown is the first of each task")
