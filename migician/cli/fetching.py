"""The verb about released datasets: fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import names_in
from migician.cli.terminal import note, say
from migician.printable import counted


def fetch(
    dataset: Annotated[
        str,
        typer.Argument(
            help="mgrounding-630k, mig-bench, mmiu or mibench.",
            autocompletion=names_in("migician.hub.released", "DATASETS"),
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="The folder that gets the dataset's folder.")],
    only: Annotated[list[str] | None, typer.Option(help="Only this part, such as Difference; repeatable.")] = None,
    revision: Annotated[str | None, typer.Option(help="A commit or branch other than the known one.")] = None,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep the unpacked archives, in archives/.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List files, sizes and the disk space needed; download nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Check everything again; fetch and unpack whatever is missing.")
    ] = False,
) -> None:
    """Download a released dataset, check it and unpack it. Run it again to resume."""
    from migician.hub.archives import gigabytes
    from migician.hub.released import fetch as fetch_planned
    from migician.hub.released import plan

    planned = plan(dataset, to, only or [], revision, keep_archives, force=force)
    if dry_run:
        for part in planned.parts:
            for file in part.files:
                say(f"{file.path}\t{file.size}")
        note(f"{planned.listing.repository} at {planned.listing.revision}")
        note(f"to download: {gigabytes(planned.download)}; space needed in {to}: {gigabytes(planned.room)}")
        return
    state = f"{gigabytes(planned.download)} to download" if planned.parts else f"{planned.folder}: done already"
    note(f"{planned.listing.repository} at {planned.listing.revision}: {state}")
    checked = fetch_planned(planned, keep_archives, note)
    for line in checked.unchecked:
        note(line)
    if planned.dataset.trains:
        note(f"for LLaMA-Factory: dataset_dir: {planned.folder}, media_dir: {to}")
    else:
        note(f"data: {', '.join(map(str, checked.files)) or planned.folder}; images: {to}")
    if checked.missing:
        note(f"missing {checked.missing:,} of {counted(checked.named, 'image')} in the data, for example:")
        for line in checked.first_missing:
            note(f"  {line}")
        note("--force restores files that were removed after unpacking")
        raise typer.Exit(1)
    note(f"found {counted(checked.named, 'image')} in {counted(checked.records, 'record')}, none missing")
