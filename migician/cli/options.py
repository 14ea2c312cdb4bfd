"""Options that several verbs share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from migician.benchmarks import BENCHMARKS
from migician.boxtext import STYLES
from migician.errors import UserError

BenchmarkName = Annotated[str, typer.Argument(help=f"One of {', '.join(BENCHMARKS)}.")]
DataFile = Annotated[Path, typer.Option("--data", help="The benchmark's file (a folder for some: docs/evaluation.md).")]
OutFolder = Annotated[Path, typer.Option("--out", help="The folder to write into.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")]


class ProtocolName(StrEnum):
    """How replies are read."""

    strict = "strict"
    published = "published"


class PromptName(StrEnum):
    """What follows each question."""

    corrected = "corrected"
    published = "published"


Protocol = Annotated[ProtocolName, typer.Option(help="How replies are read: this project's way, or the paper's.")]
Style = Annotated[str | None, typer.Option(help=f"How the boxes are spelled, under strict: {', '.join(STYLES)}.")]
YStretch = Annotated[
    bool, typer.Option("--y-stretch", help="Stretch boxes downwards as published for the Migician weights.")
]


def named(given: str, option: str) -> tuple[str, str]:
    """The two parts of NAME=VALUE; raises `UserError` naming the option."""
    name, separator, value = given.partition("=")
    if not (name and separator and value):
        raise UserError(f"{option} {given!r}: expected two parts joined by =")
    return name, value
