"""The verb that looks before the leap: check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from migician.boxes import TRAINED_PIXELS
from migician.cli.options import AsJson
from migician.cli.terminal import console, note, say
from migician.errors import writing


def check(
    path: Annotated[
        Path,
        typer.Argument(help="A dataset folder, its dataset_info.json, a JSON file of samples, or a training YAML."),
    ],
    media_dir: Annotated[
        Path | None, typer.Option(help="Where the paths of images begin, as in LLaMA-Factory; else beside the file.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read only the headers of images.")] = False,
    mig_bench: Annotated[
        Path | None, typer.Option(help="MIG-Bench's JSON file, to say which of its images is here.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="The folder that holds MIG-Bench/: find its images under other names too.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A checkpoint's folder, to count text exactly.")] = None,
    cutoff_len: Annotated[int | None, typer.Option(min=1, help="List the samples with more tokens.")] = None,
    image_max_pixels: Annotated[int, typer.Option(min=784, help="As in the training YAML.")] = TRAINED_PIXELS,
    image_min_pixels: Annotated[int, typer.Option(min=1, help="As in the training YAML.")] = 32 * 32,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="For a training YAML: GPUs in all, or processes; those here, without any 8."),
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(min=0, help="For a training YAML: GB of each, 0 for none; those here, without any 80."),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="For a training YAML: the name of the GPU, for the MFU in its log.")
    ] = None,
    changed: Annotated[
        list[str] | None,
        typer.Option("--set", help="For a training YAML: KEY=VALUE in its place; repeated."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that decode images; one a core.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Write what --json prints to this file too.")] = None,
) -> None:
    """Check a dataset, or all that a training YAML names, before a GPU is touched. Status 1 where there are problems.

    Records, boxes, images, lengths, leakage of MIG-Bench; of a YAML also keys, paths, tokenizer, resume, memory, disk.
    """
    import msgspec

    from migician.samples.lengths import Resize, processor_pixels
    from migician.training.check import check as check_path
    from migician.training.check.options import CheckOptions, Cluster, cluster_of
    from migician.training.check.report import sentences, tables

    fewest, most = (
        processor_pixels(tokenizer) if tokenizer else (Resize().processor_min_pixels, Resize().processor_max_pixels)
    )
    is_training = path.suffix in (".yaml", ".yml")
    cluster, assumed = cluster_of(gpus, gpu_memory, gpu) if is_training else (Cluster(), "")
    if assumed:
        note(assumed)
    options = CheckOptions(
        media_dir=media_dir,
        quick=quick,
        workers=workers or os.cpu_count() or 1,
        mig_bench=mig_bench,
        mig_bench_images=images,
        tokenizer=tokenizer,
        cutoff_len=cutoff_len,
        resize=Resize(image_max_pixels, image_min_pixels, most, fewest),
        cluster=cluster,
        overrides=tuple(changed or ()),
    )
    report = check_path(path, options)
    if out:
        with writing(out) as stream:
            stream.write(msgspec.json.encode(report))
    if as_json:
        say(msgspec.json.encode(report).decode())
    else:
        console().print(tables(report))
    for sentence in sentences(report):
        note(sentence)
    if report.fails(strict):
        raise typer.Exit(1)
