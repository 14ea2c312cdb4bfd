"""Verbs that pass a dataset on: export, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migician.cli.terminal import note


def export(
    dataset: Annotated[Path, typer.Argument(help="A dataset's folder, its dataset_info.json, or a file of samples.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to write into.")],
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Keep the paths of images instead of the images.")
    ] = False,
    media_dir: Annotated[
        Path | None, typer.Option(help="Where the paths of images begin, as in LLaMA-Factory; else beside the file.")
    ] = None,
) -> None:
    """Write a dataset as parquet with its images in it: for the Hub, and for datasets.load_dataset."""
    from migician.archives import gigabytes
    from migician.export import export as export_dataset

    done = export_dataset(dataset, to, images=not no_images, media_dir=media_dir)
    for name, count in done.samples.items():
        note(f"{name}: {count:,} samples")
    note(f"{done.folder}: {done.shards} parquet files, {gigabytes(done.size)}")


def push(
    dataset: Annotated[Path, typer.Argument(help="What migician build --collect or migician export wrote.")],
    repo: Annotated[str, typer.Option(help="USER/NAME on the Hub; made where there is none.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would go; do nothing.")] = False,
) -> None:
    """Upload a dataset to the Hub; the same command goes on after an interruption."""
    from migician.archives import gigabytes
    from migician.push import MANY, cargo
    from migician.push import push as push_dataset

    load = cargo(dataset, private=private)
    if dry_run:
        for path, size in load.files:
            print(f"{path}\t{size}")
    for line in load.terms:
        note(f"terms of {line}")
    if len(load.files) > MANY:
        note(f"{len(load.files):,} files are more than the Hub advises: migician export makes few of them")
    note(f"{len(load.files):,} files, {gigabytes(load.size)}, to {'private ' if private else ''}dataset {repo}")
    if not dry_run:
        push_dataset(load, repo)
        note(f"https://huggingface.co/datasets/{repo}")
