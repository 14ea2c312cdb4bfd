"""Verbs about answers that exist: score, baseline, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import (
    AsJson,
    BenchmarkName,
    DataFile,
    Force,
    OutFolder,
    ProtocolName,
    Style,
    YStretch,
)
from migician.cli.terminal import console, note, say, show
from migician.errors import writing


def score(
    benchmark: BenchmarkName,
    data: DataFile,
    answers: Annotated[
        Path,
        typer.Option(
            help='Lines like {"index": row, "response": "text"}; or a log of lmms-eval, VLMEvalKit, MIG_bench_eval.'
        ),
    ],
    out: OutFolder,
    protocol: ProtocolName = "strict",
    style: Style = None,
    y_stretch: YStretch = False,
    images: Annotated[
        Path | None,
        typer.Option(help="The image folder; needed for boxes in pixels, or read by another harness's rules."),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=784, help="The model's setting; for styles in pixels of a resized image.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Leave out rows without an answer.")] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Score answers you already have, without a model and without torch."""
    from migician.evaluation.answer_files import score_file

    report = score_file(
        benchmark,
        data,
        answers,
        out,
        protocol=protocol,
        style=style,
        y_stretch=y_stretch,
        images=images,
        max_pixels=max_pixels,
        partial=partial,
        force=force,
    )
    show(report, out, as_json)


def baseline(
    benchmark: BenchmarkName,
    data: DataFile,
    out: OutFolder,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Score the best constant answer per task, fitted on the test questions: an optimistic baseline."""
    from migician.benchmarks import load_benchmark
    from migician.benchmarks.scoring.scoring import Reading
    from migician.boxtext import QWEN
    from migician.evaluation.baseline import constant_answers
    from migician.evaluation.report import score_answers

    bench = load_benchmark(benchmark, data)
    what = "box" if bench.scoring.has_boxes else "option"
    spec = {"model": {"name": f"best constant {what} of each task"}}
    answers, reading = constant_answers(bench), Reading("strict", QWEN)
    report = score_answers(bench, answers, reading, out, images=None, partial=False, spec=spec, force=force)
    show(report, out, as_json)


def compare(
    first: Annotated[Path, typer.Argument(help="A folder written by eval or score.")],
    second: Annotated[Path, typer.Argument(help="Another, over the same questions.")],
    out: Annotated[Path | None, typer.Option("--out", help="Also write comparison.json into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the paired difference of two runs, second minus first, with its interval."""
    import msgspec

    from migician.evaluation.comparison import compare_folders
    from migician.reports.tables import differences, significance
    from migician.reports.writers import for_terminal

    comparison = compare_folders(first, second)
    content = msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n"
    if out is not None:
        with writing(out / "comparison.json") as stream:
            stream.write(content)
    if as_json:
        say(content.decode().rstrip())
    else:
        for shown in (differences(comparison, str), significance(comparison, str)):
            console().print(for_terminal(shown))
    for sentence in (comparison["not_like_for_like"], comparison["without_reply"]):
        if as_json and sentence:
            note(sentence)
