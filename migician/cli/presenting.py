"""Verbs that show runs to others: table, plot."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from migician.cli.terminal import note
from migician.errors import writing

if TYPE_CHECKING:
    from migician.benchmarks.published_figures import Published

Folders = Annotated[list[Path], typer.Argument(help="One or more folders that score or eval wrote.")]
PublishedNames = Annotated[
    str, typer.Option("--published", help="Published figures to set beside them, such as migician,qwen2-vl-7b.")
]


class Format(StrEnum):
    """How tables are written."""

    text = "text"
    markdown = "markdown"
    latex = "latex"


def table(
    folders: Folders,
    form: Annotated[Format, typer.Option("--format", help="For a terminal, a README or a paper.")] = Format.text,
    published: PublishedNames = "",
) -> None:
    """Tables over one or several runs: per task, by box size and number of images, image choice."""
    from migician.tables import WRITERS, tables

    found = tables(_runs(folders), _published(published))
    sys.stdout.write("\n".join(map(WRITERS[form.value], found)))


def plot(
    folders: Folders,
    out: Annotated[Path, typer.Option("--out", help="The folder for radar.png and bars.png.")],
    published: PublishedNames = "",
) -> None:
    """A radar and a bar picture of one or several runs."""
    from migician.figures import PICTURES

    runs, beside = _runs(folders), _published(published)
    for name, draw in PICTURES.items():
        picture = draw(runs, beside)
        with writing(out / f"{name}.png") as stream:
            stream.write(picture)
        note(f"written: {out / f'{name}.png'}")


def _runs(folders: list[Path]) -> dict[str, Any]:
    """The reports by the names of their folders, or by their paths where two have one name."""
    from migician.report import read_report

    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return {name: read_report(folder) for name, folder in zip(names, folders, strict=True)}


def _published(names: str) -> list[Published]:
    from migician.benchmarks.published_figures import published_named

    return published_named([name.strip() for name in names.split(",") if name.strip()])
