"""The verb about released datasets: fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import released_names
from migician.cli.terminal import note, say


def fetch(
    dataset: Annotated[
        str, typer.Argument(help="mgrounding-630k, mig-bench, mmiu or mibench.", autocompletion=released_names)
    ],
    to: Annotated[Path, typer.Option("--to", help="The folder to make the dataset's folder in.")],
    only: Annotated[list[str] | None, typer.Option(help="A part, such as Difference; may be repeated.")] = None,
    revision: Annotated[str | None, typer.Option(help="Another commit or branch than the known one.")] = None,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep what was unpacked, in archives/.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List files, sizes and room needed; do nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Take nothing for done: fetch and unpack what is missing, check all again.")
    ] = False,
) -> None:
    """Download a released dataset, check it, unpack it; the same command goes on where it stopped."""
    from migician.hub.archives import gigabytes
    from migician.hub.released import fetch as fetch_planned
    from migician.hub.released import plan

    planned = plan(dataset, to, only or [], revision, keep_archives, force=force)
    if dry_run:
        for part in planned.parts:
            for file in part.files:
                say(f"{file.path}\t{file.size}")
        note(f"{planned.listing.repository} at {planned.listing.revision}")
        note(f"to download: {gigabytes(planned.download)}; room needed in {to}: {gigabytes(planned.room)}")
        return
    told = f"{gigabytes(planned.download)} to download" if planned.parts else f"{planned.folder}: done already"
    note(f"{planned.listing.repository} at {planned.listing.revision}: {told}")
    checked = fetch_planned(planned, keep_archives, note)
    for line in checked.unchecked:
        note(line)
    if planned.dataset.trains:
        note(f"for LLaMA-Factory: dataset_dir: {planned.folder}, media_dir: {to}")
    else:
        note(f"data: {', '.join(map(str, checked.files)) or planned.folder}; images: {to}")
    if checked.missing:
        note(f"{checked.missing} of {checked.named} images that the data names are missing, such as:")
        for line in checked.first_missing:
            note(f"  {line}")
        note("what was removed since it was unpacked comes again with --force")
        raise typer.Exit(1)
    note(f"all {checked.named} images that {checked.records} records name are there")
