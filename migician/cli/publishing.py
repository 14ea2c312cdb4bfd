"""Verbs that pass data and models on: export, card, push."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import Force, Roots
from migician.cli.terminal import note, say
from migician.errors import UserError


def export(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="A dataset's folder, its dataset_info.json, a file of samples; with --coco, a run's folder."
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="The folder to write into.")],
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Keep the paths of images instead of the images.")
    ] = False,
    media_dir: Annotated[
        Path | None, typer.Option(help="Where the paths of images begin, as in LLaMA-Factory; else beside the file.")
    ] = None,
    coco: Annotated[
        bool, typer.Option("--coco", help="Write what eval or score wrote, in COCO's form: truths and predictions.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="With --coco, the image folder; without it, the one eval used.")
    ] = None,
    roots: Roots = None,
    force: Force = False,
) -> None:
    """Write a dataset as parquet with its images in it: for the Hub, and for datasets.load_dataset.

    With --coco, the boxes of a run for pycocotools and FiftyOne instead.
    """
    if coco:
        _export_run(dataset, to, images, roots or (), no_images or media_dir is not None, force)
        return
    if images is not None:
        raise UserError("--images is for --coco; where a dataset's images begin is --media-dir")
    if (dataset / "report.json").is_file():
        raise UserError(
            f"{dataset} is a run: --coco writes its boxes in COCO's form, and migician report {dataset} --parquet FILE "
            "its records"
        )
    from migician.hub.archives import gigabytes
    from migician.hub.export import export as export_dataset

    done = export_dataset(dataset, to, images=not no_images, media_dir=media_dir, roots=roots or (), force=force)
    for name, count in done.samples.items():
        note(f"{name}: {count:,} samples")
    note(f"{done.folder}: {done.shards} parquet files, {gigabytes(done.size)}")


def _export_run(
    run: Path, to: Path, images: Path | None, roots: Sequence[Path], of_datasets: bool, force: bool
) -> None:
    from migician.reports.coco import write_coco

    if of_datasets:
        raise UserError("--no-images and --media-dir are for datasets; with --coco, give --images")
    done = write_coco(run, to, images=images, roots=roots, force=force)
    if done.impossible:
        rows = ", ".join(map(str, done.impossible))
        note(f"questions {rows}: a true box has its corners in the wrong order, which COCO cannot hold; left out")
    if not done.predictions:
        note("no reply held a box, so predictions.json is an empty list, which loadRes of pycocotools does not take")
    note(f"{done.folder}: {done.truths:,} true boxes and {done.predictions:,} predictions on {done.images:,} images")


def card(
    model: Annotated[Path, typer.Argument(help="The folder of a model: README.md goes into it.")],
    reports: Annotated[
        list[Path] | None, typer.Option("--report", help="A folder that eval or score wrote; repeated.")
    ] = None,
    datasets: Annotated[
        list[Path] | None, typer.Option("--dataset", help="A built dataset it was trained on; repeated.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="The Hub id it was finetuned from.")] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Of the weights, by the Hub's name: apache-2.0.")
    ] = None,
    force: Force = False,
) -> None:
    """Write the card of a model for the Hub, its figures taken from reports of these very weights."""
    from migician.reports.model_card import write_model_card

    written = write_model_card(model, reports or (), datasets=datasets or (), base=base, licence=licence, force=force)
    note(f"written: {written}")


def push(
    dataset: Annotated[Path, typer.Argument(help="What migician build --collect or migician export wrote.")],
    repo: Annotated[str, typer.Option(help="USER/NAME on the Hub; made where there is none.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go; do nothing.")] = False,
) -> None:
    """Upload a dataset to the Hub; the same command goes on after an interruption."""
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
        note(f"{len(load.files):,} files are more than the Hub advises: migician export makes few of them")
    note(f"{len(load.files):,} files, {gigabytes(load.size)}, to {'private ' if private else ''}dataset {repo}")
    if not dry_run:
        push_dataset(load, repo)
        note(f"https://huggingface.co/datasets/{repo}")
