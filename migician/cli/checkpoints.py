"""Verbs about checkpoints: tiny, merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import OutFolder
from migician.cli.terminal import note
from migician.progress import progress_bar


def tiny(
    out: OutFolder,
    texts: Annotated[list[Path], typer.Option(help="JSON files of samples: the tokenizer learns from their text.")],
    seed: Annotated[int, typer.Option(help="Of the random weights.")] = 0,
) -> None:
    """Make a tiny Qwen2-VL with random weights, to train without a download."""
    from migician.models.tiny import make_tiny
    from migician.samples import read_samples

    words = (turn.value for file in texts for one in read_samples(file) for turn in one.conversations)
    make_tiny(out, seed=seed, texts=words)
    note(f"written: {out}")


def merge(
    checkpoints: Annotated[list[str], typer.Argument(help="Two or more: folders or Hub ids of one shape.")],
    out: OutFolder,
    weight: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="The share of the second of two; or one for each, repeated. Equal without it."),
    ] = None,
) -> None:
    """Average checkpoints, a piece of a tensor at a time."""
    from migician.merging import merge as average

    shares = [1 - weight[0], weight[0]] if weight and len(weight) == 1 and len(checkpoints) == 2 else weight
    with progress_bar("averaging (bytes)") as progress:
        average(checkpoints, out, shares, on_progress=progress)
    note(f"written: {out}")
