"""What verbs print: results on stdout, notes on stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console


def show(report: dict[str, Any], out: Path, as_json: bool) -> None:
    """Print a report as a table or as JSON, and what there is to say of it."""
    import msgspec

    from migician.report import notes, table

    if as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        console().print(table(report))
    for sentence in notes(report):
        note(sentence)
    note(f"written: {out / 'report.json'}, {out / 'records.jsonl'}")


def console() -> Console:
    """Where tables go."""
    # Piped output has no width of its own: give it room, so that no figure is cut.
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def note(sentence: str) -> None:
    """A line on stderr."""
    print(sentence, file=sys.stderr)
