"""Verbs about a training that runs or has run: progress, curves, watch."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from migician.cli.terminal import note
from migician.errors import check_place, writing

_LOOK_S = 1.0
"""Between two looks whether a training still runs."""


def progress(
    output_dir: Annotated[Path, typer.Argument(help="The output_dir of a training.")],
    follow: Annotated[
        float | None,
        typer.Option(min=0.1, help="Go on, and look again after so many seconds, until its processes have ended."),
    ] = None,
    parent: Annotated[
        int | None, typer.Option(min=1, help="End when this process has: the script that started this command.")
    ] = None,
) -> None:
    """Say how far a training is: step, loss, tokens, samples and images a second, MFU, time left.

    With --follow the status is 0 where the training is finished, and 1 where it ended before. Whether it runs is seen
    by the lock of scripts/stage.sh.
    """
    from migician.training.log import is_held, progress_line, read_check, read_log

    told, seen, waiting, due = "", False, False, 0.0
    while True:
        held = is_held(output_dir)  # asked before whether it is finished: it is that before its processes have ended
        left = parent is not None and os.getppid() != parent
        finished = (output_dir / "train_results.json").is_file()
        over = finished or left or (seen and not held)
        if over or time.monotonic() >= due:
            line = progress_line(read_log(output_dir), read_check(output_dir))
            if line != told:
                note(f"{output_dir.name}: {line}")
                told = line
            due = time.monotonic() + (follow or 0)
        if follow is None or over:
            break
        if not (held or seen or parent or waiting):
            note(f"{output_dir}: no process is seen to train there; looking on until it is finished")
            waiting = True
        seen = seen or held
        time.sleep(min(follow, _LOOK_S))
    if follow is None and not told:
        note(f"{output_dir}: no loss is logged there yet")
    if follow is not None and not finished:
        if left:
            note(f"{output_dir}: the script that trains there was killed; what it started may still run")
        else:
            note(f"{output_dir}: its processes ended before its last step; the same command resumes it")
        raise typer.Exit(1)


def curves(
    output_dirs: Annotated[list[Path], typer.Argument(help="The output_dir of one or more trainings.")],
    out: Annotated[Path, typer.Option("--out", help="The picture to write, a PNG.")],
) -> None:
    """Draw the losses of trainings, as logged and smoothed."""
    from migician.training.log import diverged_at, read_log
    from migician.training.loss_curves import loss_curves

    logs = {folder.resolve().name: read_log(folder) for folder in output_dirs}
    with writing(out) as stream:
        stream.write(loss_curves(logs))
    for name, lines in logs.items():
        if (since := diverged_at(lines)) is not None:
            note(f"{name}: diverged, no loss is a number since step {since:,}")
    note(f"written: {out}")


def watch(
    output_dir: Annotated[Path, typer.Argument(help="The output_dir of a training, running or not.")],
    data: Annotated[Path, typer.Option("--data", help="MIG-Bench's file.")],
    images: Annotated[Path, typer.Option(help="The folder that the file's image names start from, or its parent.")],
    out: Annotated[Path, typer.Option("--out", help="A folder for a score each, checkpoints.csv and checkpoints.png.")],
    limit: Annotated[int, typer.Option(min=1, help="The first so many questions of each task: always the same.")] = 20,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Score what is there, and wait for no more.")] = False,
    options: Annotated[list[str] | None, typer.Argument(help="After --: options for migician eval.")] = None,
) -> None:
    """Score each whole checkpoint of a training as it appears, in a process of its own, on a fixed slice of MIG-Bench.

    What is scored is skipped; it ends when the training has, or has diverged. A LoRA checkpoint is merged into its base
    for as long as it is scored. Choose its GPU by CUDA_VISIBLE_DEVICES.
    """
    from migician.benchmarks import load_benchmark
    from migician.benchmarks.images import resolve_images
    from migician.training.log import diverged_at, read_log
    from migician.training.watch import PICTURE, TABLE, is_finished, score_new

    # What would fail at every checkpoint is said before the first is there.
    resolve_images(load_benchmark("mig-bench", data).questions[0], images)
    check_place(out)
    given = ["--data", str(data), "--images", str(images), "--limit", str(limit), *(options or [])]
    failed: set[str] = set()
    while True:
        finished = is_finished(output_dir)  # asked before the look, or the last checkpoint might be missed
        since = diverged_at(read_log(output_dir))
        if since is not None:
            note(f"{output_dir}: diverged, no loss is a number since step {since:,}; no checkpoint after it is scored")
        for name in score_new(output_dir, out, given, failed, before=since):
            note(f"{name} could not be scored and is left out; its reason stands above")
            failed.add(name)
        if once or finished or since is not None:
            break
        time.sleep(every)
    if (out / TABLE).is_file():
        note(f"written: {out / TABLE}, {out / PICTURE}")
    else:
        note(f"{output_dir}: no whole checkpoint was scored")
    if failed or since is not None:
        raise typer.Exit(1)
