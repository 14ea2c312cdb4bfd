"""Verbs about a training that runs or has run: progress, curves, watch."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import AsJson
from migician.cli.terminal import console, note, say
from migician.errors import check_place, writing

_LOOK_S = 1.0
"""Between two checks whether a training still runs."""


def progress(
    output_dir: Annotated[Path, typer.Argument(help="A training's output_dir.")],
    follow: Annotated[
        float | None,
        typer.Option(min=0.1, help="Keep checking, every N seconds, until its processes have ended."),
    ] = None,
    parent: Annotated[
        int | None, typer.Option(min=1, help="Stop when this process ends: the script that started this command.")
    ] = None,
) -> None:
    """Print how far a training is: step, loss, tokens, samples and images per second, MFU, time left.

    With --follow the status is 0 when the training finished and 1 when it ended early. The lock of scripts/stage.sh
    says whether it runs.
    """
    from migician.training.log import is_held, progress_line, read_check, read_log

    printed, seen, waiting, due = "", False, False, 0.0
    while True:
        held = is_held(output_dir)  # asked before whether it is finished: it is that before its processes have ended
        left = parent is not None and os.getppid() != parent
        finished = (output_dir / "train_results.json").is_file()
        over = finished or left or (seen and not held)
        if over or time.monotonic() >= due:
            line = progress_line(read_log(output_dir), read_check(output_dir))
            if line != printed:
                note(f"{output_dir.name}: {line}")
                printed = line
            due = time.monotonic() + (follow or 0)
        if follow is None or over:
            break
        if not (held or seen or parent or waiting):
            note(f"{output_dir}: no training process found; waiting until it is finished")
            waiting = True
        seen = seen or held
        time.sleep(min(follow, _LOOK_S))
    if follow is None and not printed:
        note(f"{output_dir}: no loss logged yet")
    if follow is not None and not finished:
        if left:
            note(f"{output_dir}: the training script was killed; processes it started may still run")
        else:
            note(f"{output_dir}: its processes ended before the last step; the same command resumes it")
        raise typer.Exit(1)


def curves(
    output_dirs: Annotated[list[Path], typer.Argument(help="The output_dir of one or more trainings.")],
    out: Annotated[Path, typer.Option("--out", help="The PNG to write.")],
) -> None:
    """Draw the loss curves of trainings, as logged and smoothed."""
    from migician.training.log import diverged_at, read_log
    from migician.training.loss_curves import loss_curves

    logs = {folder.resolve().name: read_log(folder) for folder in output_dirs}
    with writing(out) as stream:
        stream.write(loss_curves(logs))
    for name, lines in logs.items():
        if (since := diverged_at(lines)) is not None:
            note(f"{name}: diverged, no valid loss since step {since:,}")
    note(f"written: {out}")


def gain(
    output_dir: Annotated[Path, typer.Argument(help="The output_dir of scripts/stage3.sh.")],
    as_json: AsJson = False,
) -> None:
    """Print greedy accuracy before and after stage 3, task by task, and whether it or only the sampled reward rose."""
    from migician.reports.tables import differences
    from migician.reports.writers import for_terminal
    from migician.training.gain import FILE, gain_of

    found = gain_of(output_dir)
    if as_json:
        say((output_dir / FILE).read_text(encoding="utf-8").rstrip())
    else:
        console().print(for_terminal(differences(found.comparison, str)))
    note(f"{output_dir.name}: {found.sentence()}")


def watch(
    output_dir: Annotated[Path, typer.Argument(help="The output_dir of a training, running or not.")],
    data: Annotated[Path, typer.Option("--data", help="MIG-Bench's file.")],
    images: Annotated[Path, typer.Option(help="The folder that the file's image paths start from, or its parent.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="The folder for one score per checkpoint, checkpoints.csv and checkpoints.png."),
    ],
    limit: Annotated[int, typer.Option(min=1, help="The first N questions of each task.")] = 20,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two checks.")] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Score what is there and stop.")] = False,
    options: Annotated[list[str] | None, typer.Argument(help="After --: options for migician eval.")] = None,
) -> None:
    """Score each complete checkpoint of a training as it appears, in its own process, on a fixed slice of MIG-Bench.

    Scored checkpoints are skipped. It ends when the training ends or diverges. A LoRA checkpoint is merged into its
    base while it is scored. Choose the GPU with CUDA_VISIBLE_DEVICES.
    """
    from migician.benchmarks import load_benchmark
    from migician.benchmarks.images import resolve_images
    from migician.training.log import diverged_at, read_log
    from migician.training.watch import PICTURE, TABLE, is_finished, score_new

    # What would fail for every checkpoint is reported before the first one.
    resolve_images(load_benchmark("mig-bench", data).questions[0], images)
    check_place(out)
    given = ["--data", str(data), "--images", str(images), "--limit", str(limit), *(options or [])]
    failed: set[str] = set()
    while True:
        finished = is_finished(output_dir)  # before looking, or the last checkpoint might be missed
        since = diverged_at(read_log(output_dir))
        if since is not None:
            note(f"{output_dir}: diverged, no valid loss since step {since:,}; later checkpoints are not scored")
        for name in score_new(output_dir, out, given, failed, before=since):
            note(f"{name} could not be scored and is left out; the reason is above")
            failed.add(name)
        if once or finished or since is not None:
            break
        time.sleep(every)
    if (out / TABLE).is_file():
        note(f"written: {out / TABLE}, {out / PICTURE}")
    else:
        note(f"{output_dir}: no complete checkpoint was scored")
    if failed or since is not None:
        raise typer.Exit(1)
