"""Verbs that run a model: eval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from migician.cli.options import (
    AsJson,
    BenchmarkName,
    DataFile,
    Dtype,
    FamilyName,
    MaxPixels,
    OutFolder,
    ProtocolName,
    Revision,
    TrustRemoteCode,
    YStretch,
    model_names,
)
from migician.cli.terminal import note, say, show
from migician.models.faults import BEARING
from migician.printable import counted

if TYPE_CHECKING:
    from migician.evaluation import EvalConfig

Wording = Literal["corrected", "published", "official", "trained"]


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
    images: Annotated[
        Path,
        typer.Option(
            help="The folder that image paths start from, or its parent; images inside the data are written here."
        ),
    ],
    out: OutFolder,
    protocol: ProtocolName = "strict",
    y_stretch: YStretch = False,
    prompt: Annotated[Wording, typer.Option(help="What follows each question: see docs/evaluation.md.")] = "corrected",
    cot: Annotated[
        Literal["single", "multi"] | None,
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
    positions: Annotated[
        Literal["sequential"] | None,
        typer.Option(help="Ask a Qwen2-VL, 2.5 or 3 with 1-D positions, for weights that were trained with them."),
    ] = None,
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
    from migician.evaluation import EvalConfig, run
    from migician.evaluation.ranks import Ranks

    loading = {
        "max_pixels": max_pixels,
        "positions": positions,
        "dtype": dtype,
        "revision": revision,
        "family": family,
        "trust_remote_code": trust_remote_code or None,
        "concurrency": concurrency,
        "prices": prices,
        "timeout_s": timeout,
    }
    config = EvalConfig(
        benchmark,
        model,
        data,
        images,
        out,
        protocol=protocol,
        y_stretch=y_stretch,
        wording=prompt,
        chain=cot,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        tasks=[name for given in tasks or () for name in given.split(",")],
        limit=limit,
        loading={name: value for name, value in loading.items() if value is not None},
        fail_on_error=fail_on_error,
        retry_failed=retry_failed,
        check_images=check_images,
        force=force,
        meet=Ranks.meet,
        note=note,
    )
    if dry_run:
        _print_prompts(config)
        return
    report = run(config)
    if Ranks.meet().is_first:
        show(report, out, as_json)


def _print_prompts(config: EvalConfig) -> None:
    """The first question of each task as it would be asked, in each step of a chain of thought."""
    from migician.evaluation import prepare
    from migician.evaluation.ask import choose
    from migician.evaluation.chain_of_thought import rehearse

    ready = prepare(config)
    chosen, steps = {question.index for question in choose(ready.bench, ready.plan)}, {"": ready.bench}
    if config.chain:
        steps = dict(zip(("step 1, ", "step 2, "), rehearse(ready.bench, config.chain, config.wording), strict=True))
    in_pixels = ready.family.style.scale == "pixel"
    for step, bench in steps.items():
        first = {question.task: question for question in reversed(bench.questions) if question.index in chosen}
        for question in sorted(first.values(), key=lambda one: one.index):
            count = len(question.images)
            # How large a model sees an image is only known once it is loaded.
            sizes = [(1000, 1000)] * count if in_pixels else None
            text = ready.family.placed(bench.prompt(question, config.wording, ready.family, sizes), count)
            say(f"--- {step}row {question.index}, {question.task}, {counted(count, 'image')}\n{text}")
        if in_pixels:
            note(f"{ready.family.name} counts pixels: boxes above are as for images that it sees at 1000 x 1000")
        note(f"{step}{counted(len(chosen), 'question')}; shown is the first of each task")
