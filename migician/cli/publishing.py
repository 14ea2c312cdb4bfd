"""Verbs that publish data and models: export, card, push."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import Force, MediaDir, Roots
from migician.cli.terminal import note, say
from migician.errors import UserError
from migician.printable import counted


def export(
    dataset: Annotated[
        Path,
        typer.Argument(help="A dataset's folder, dataset_info.json or file of samples; with --coco, a run's folder."),
    ],
    to: Annotated[Path, typer.Option("--to", help="The folder to write to.")],
    no_images: Annotated[bool, typer.Option("--no-images", help="Store image paths instead of the images.")] = False,
    media_dir: MediaDir = None,
    coco: Annotated[
        bool, typer.Option("--coco", help="Write a run's boxes in COCO format: truths and predictions.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="With --coco: the image folder; default: the one eval used.")
    ] = None,
    roots: Roots = None,
    force: Force = False,
) -> None:
    """Write a dataset as parquet, images included, for the Hub and for datasets.load_dataset.

    With --coco, the boxes of a run for pycocotools and FiftyOne instead.
    """
    if coco:
        _export_run(dataset, to, images, roots or (), no_images or media_dir is not None, force)
        return
    if images is not None:
        raise UserError("--images needs --coco; for a dataset give --media-dir")
    if (dataset / "report.json").is_file():
        raise UserError(
            f"{dataset} is a run: --coco writes its boxes in COCO's form, and migician report {dataset} --parquet FILE "
            "its records"
        )
    from migician.hub.archives import gigabytes
    from migician.hub.export import export as export_dataset

    done = export_dataset(dataset, to, images=not no_images, media_dir=media_dir, roots=roots or (), force=force)
    for name, count in done.samples.items():
        note(f"{name}: {counted(count, 'sample')}")
    note(f"{done.folder}: {counted(done.shards, 'parquet file')}, {gigabytes(done.size)}")


def _export_run(
    run: Path, to: Path, images: Path | None, roots: Sequence[Path], of_datasets: bool, force: bool
) -> None:
    from migician.reports.coco import write_coco

    if of_datasets:
        raise UserError("--no-images and --media-dir are for datasets; with --coco, give --images")
    done = write_coco(run, to, images=images, roots=roots, force=force)
    if done.impossible:
        rows = ", ".join(map(str, done.impossible))
        note(f"questions {rows}: left out, because a true box has its corners swapped, which COCO cannot store")
    if not done.predictions:
        note("no reply has a box, so predictions.json is an empty list, which pycocotools' loadRes does not accept")
    note(
        f"{done.folder}: {counted(done.truths, 'true box')} and {counted(done.predictions, 'prediction')} "
        f"on {counted(done.images, 'image')}"
    )


def card(
    model: Annotated[Path, typer.Argument(help="The model's folder, which gets README.md.")],
    reports: Annotated[
        list[Path] | None, typer.Option("--report", help="A folder written by eval or score; repeatable.")
    ] = None,
    datasets: Annotated[
        list[Path] | None, typer.Option("--dataset", help="A built dataset it was trained on; repeatable.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="The Hub id it was finetuned from.")] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="The weights' license, by its name on the Hub: apache-2.0.")
    ] = None,
    force: Force = False,
) -> None:
    """Write a model card for the Hub, with figures from reports of exactly these weights."""
    from migician.reports.model_card import write_model_card

    written = write_model_card(model, reports or (), datasets=datasets or (), base=base, licence=licence, force=force)
    note(f"written: {written}")


def push(
    dataset: Annotated[Path, typer.Argument(help="A folder written by build --collect or data export.")],
    repo: Annotated[str, typer.Option(help="USER/NAME on the Hub; created if missing.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be uploaded; upload nothing.")] = False,
) -> None:
    """Upload a dataset to the Hub. Run it again to resume."""
    from migician.hub.archives import gigabytes
    from migician.hub.push import MANY, upload_of
    from migician.hub.push import push as push_dataset

    load = upload_of(dataset, private=private)
    if dry_run:
        for path, size in load.files:
            say(f"{path}\t{size}")
    for line in load.terms:
        note(f"terms of {line}")
    if len(load.files) > MANY:
        note(f"more than {MANY:,} files, the most the Hub recommends: migician data export makes fewer")
    note(
        f"{counted(len(load.files), 'file')}, {gigabytes(load.size)}, to {'private ' if private else ''}dataset {repo}"
    )
    if not dry_run:
        push_dataset(load, repo)
        note(f"https://huggingface.co/datasets/{repo}")
