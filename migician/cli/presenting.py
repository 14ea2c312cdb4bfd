"""Verbs that show runs and datasets to people: report, table, plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from migician.cli.options import CORES, Roots, names_in
from migician.cli.terminal import console, note, say
from migician.errors import UserError, writing
from migician.printable import counted

if TYPE_CHECKING:
    from migician.benchmarks.published.figures import Published

Folders = Annotated[list[Path], typer.Argument(help="One or more folders written by eval or score.")]
PublishedNames = Annotated[
    str,
    typer.Option(
        "--published",
        help="Published figures to show beside them, such as migician,qwen2-vl-7b.",
        autocompletion=names_in("migician.benchmarks.published.figures", "PUBLISHED"),
    ),
]


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders written by eval or score; or one dataset: its folder or JSON file.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="The image folder; default: the one eval used, or the dataset's own.")
    ] = None,
    roots: Roots = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder for the page; default: in the first run, or beside the dataset."),
    ] = None,
    published: Annotated[
        str | None,
        typer.Option(help="Published figures to show beside the runs, such as migician,univg-r1; empty for none."),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="For a dataset: samples to show; default: 1000.")] = None,
    seed: Annotated[int, typer.Option(help="For a dataset: which samples.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that make thumbnails.")] = CORES,
    parquet: Annotated[
        Path | None, typer.Option(help="Write all records of the runs to this file as one table, instead of the page.")
    ] = None,
) -> None:
    """Write a page that shows runs over one benchmark file, or a dataset; it opens without a server."""
    if len(folders) == 1 and _is_dataset(folders[0]):
        if parquet is not None or published is not None:
            raise UserError(f"{folders[0]} is a dataset: --parquet and --published are for runs")
        from migician.reports.page.dataset import COUNT, write_dataset_page

        # Not into the dataset, which may be published as it is.
        where = out or folders[0].resolve().with_name(f"{folders[0].resolve().stem}-page")
        page = write_dataset_page(
            folders[0], where, images=images, roots=roots or (), count=count or COUNT, seed=seed, processes=workers
        )
        note(f"open {page}")
        return
    if count is not None:
        raise UserError("--count is for datasets: the page over runs shows every question")
    from migician.evaluation.answer_log import images_of
    from migician.evaluation.headings import check_same_questions
    from migician.reports.page.runs import write_page
    from migician.reports.parquet import write_table
    from migician.reports.tables import side_by_side
    from migician.reports.writers import for_terminal

    beside = None if published is None else _published(published)
    reports = _runs(folders)
    if parquet is not None:
        console().print(for_terminal(side_by_side(reports)))
        note(f"{parquet}: {counted(write_table(folders, [str(one) for one in folders], parquet), 'record')}")
        return
    root = images or next((found for one in folders if (found := images_of(one)) is not None), None)
    if root is None:
        raise UserError(f"{folders[0]} does not say where its images are: add --images")
    check_same_questions(reports)
    console().print(for_terminal(side_by_side(reports)))
    where = out or folders[0] / "page"
    page = write_page(folders, list(reports), root, where, roots=roots or (), published=beside, processes=workers)
    note(f"open {page}")


def _is_dataset(path: Path) -> bool:
    """Whether a path is a dataset, and not a run, finished or not."""
    from migician.reports.page.dataset import dataset_files

    if path.is_file():
        return True
    return not any((path / name).is_file() for name in ("report.json", "run.json")) and bool(dataset_files(path))


def table(
    folders: Folders,
    form: Annotated[
        Literal["text", "markdown", "latex"], typer.Option("--format", help="For a terminal, a README or a paper.")
    ] = "text",
    published: PublishedNames = "",
) -> None:
    """Tables over one or several runs: per task, by box size and number of images, image choice."""
    from migician.reports.tables import tables
    from migician.reports.writers import WRITERS

    found = tables(_runs(folders), _published(published))
    say("\n".join(map(WRITERS[form], found)).rstrip("\n"))


def plot(
    folders: Folders,
    out: Annotated[Path, typer.Option("--out", help="The folder for radar.png and bars.png.")],
    published: PublishedNames = "",
) -> None:
    """Draw a radar chart and a bar chart of one or more runs."""
    from migician.reports.figures import PICTURES

    runs, beside = _runs(folders), _published(published)
    for name, draw in PICTURES.items():
        picture = draw(runs, beside)
        with writing(out / f"{name}.png") as stream:
            stream.write(picture)
        note(f"written: {out / f'{name}.png'}")


def _runs(folders: list[Path]) -> dict[str, Any]:
    """The reports by the names of their folders, or by their paths where two have one name."""
    from migician.evaluation.run_folder import read_report

    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return {name: read_report(folder) for name, folder in zip(names, folders, strict=True)}


def _published(names: str) -> list[Published]:
    from migician.benchmarks.published.figures import published_named

    return published_named([name.strip() for name in names.split(",") if name.strip()])
