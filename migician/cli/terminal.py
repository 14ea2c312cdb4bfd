"""What verbs print: results on stdout, notes on stderr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from migician.printable import LiteralConsole, one_line, printable


def show(report: dict[str, Any], out: Path, as_json: bool) -> None:
    """Print a report as a table or as JSON, and what there is to say of it."""
    import msgspec

    from migician.evaluation.report import Kept, notes
    from migician.reports.tables import one_run
    from migician.reports.writers import for_terminal

    if as_json:
        say(msgspec.json.encode(report).decode())
    else:
        console().print(for_terminal(one_run(report, str)))
    for sentence in notes(report):
        note(sentence)
    did = "done already" if isinstance(report, Kept) else "written"
    note(f"{did}: {out / 'report.json'}, {out / 'records.jsonl'}")


def console(piped: int = 160) -> LiteralConsole:
    """Where tables go; no text in them is markup."""
    # Piped output has no width of its own: give it room, so that no figure is cut.
    return LiteralConsole(width=None if sys.stdout.isatty() else piped)


def say(text: str) -> None:
    """A line or several on stdout."""
    print(printable(text))


def note(sentence: str) -> None:
    """A line on stderr."""
    print(one_line(sentence), file=sys.stderr)
