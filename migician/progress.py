"""A bar with the time left, on a terminal; elsewhere nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from migician.printable import LiteralConsole, one_line

Report = Callable[[int, int | None], None]
"""Told how much is done, and of how much (None where that is not known)."""


@contextlib.contextmanager
def progress_bar(label: str, *, in_bytes: bool = False) -> Iterator[Report]:
    """A bar on stderr for the length of the block; what is counted may be bytes."""
    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = [TextColumn("{task.description}", markup=False), BarColumn(), amount, TimeElapsedColumn()]
    console = LiteralConsole(stderr=True)
    with Progress(
        *columns, TextColumn("left"), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(one_line(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
