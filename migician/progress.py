"""A bar with the time left, on a terminal; elsewhere nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from migician.printable import LiteralConsole, one_line

OnProgress = Callable[[int, int | None], None]
"""Called with how much is done, and of how much (None where that is not known)."""


@contextlib.contextmanager
def progress_bar(label: str, *, in_bytes: bool = False) -> Iterator[OnProgress]:
    """A bar on stderr for the length of the block; what is counted may be bytes."""
    from rich import progress  # only here: `migician --help` is quicker without it

    amount = progress.DownloadColumn() if in_bytes else progress.MofNCompleteColumn()
    label_column = progress.TextColumn("{task.description}", markup=False)
    left = (progress.TextColumn("left"), progress.TimeRemainingColumn())
    console = LiteralConsole(stderr=True)
    with progress.Progress(
        label_column,
        progress.BarColumn(),
        amount,
        progress.TimeElapsedColumn(),
        *left,
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(one_line(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
