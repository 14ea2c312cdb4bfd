"""Verbs about a training that runs or has run: progress, curves."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from migician.cli.terminal import note
from migician.errors import writing


def progress(
    output_dir: Annotated[Path, typer.Argument(help="The output_dir of a training.")],
    follow: Annotated[
        float | None, typer.Option(min=0.1, help="Go on, and look again after so many seconds, until it is finished.")
    ] = None,
) -> None:
    """Say how far a training is: step, loss, tokens, samples and images a second, MFU, time left."""
    from migician.training_log import progress_line, read_check, read_log

    told, parent = "", os.getppid()
    while True:
        finished = (output_dir / "train_results.json").is_file()
        line = progress_line(read_log(output_dir), read_check(output_dir))
        if line != told:
            note(f"{output_dir.name}: {line}")
            told = line
        # The script that asked may have been killed, and is no longer there to say so.
        if follow is None or finished or os.getppid() != parent:
            break
        time.sleep(follow)
    if follow is None and not told:
        note(f"{output_dir}: no loss is logged there yet")


def curves(
    output_dirs: Annotated[list[Path], typer.Argument(help="The output_dir of one or more trainings.")],
    out: Annotated[Path, typer.Option("--out", help="The picture to write, a PNG.")],
) -> None:
    """Draw the losses of trainings, as logged and smoothed."""
    from migician.curves import loss_curves
    from migician.training_log import read_log

    picture = loss_curves({folder.resolve().name: read_log(folder) for folder in output_dirs})
    with writing(out) as stream:
        stream.write(picture)
    note(f"written: {out}")
