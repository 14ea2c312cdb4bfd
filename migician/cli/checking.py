"""The verb that checks data and settings first: check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from migician.boxes import TRAINED_PIXELS
from migician.cli.options import AsJson, MediaDir, PresetName
from migician.cli.terminal import console, note, say
from migician.errors import writing


def check(
    path: Annotated[
        Path,
        typer.Argument(help="A dataset folder, its dataset_info.json, a JSON file of samples, or a training YAML."),
    ],
    media_dir: MediaDir = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read only the image headers.")] = False,
    mig_bench: Annotated[
        Path | None, typer.Option(help="MIG-Bench's JSON file, to name which of its images were found.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="The folder that holds MIG-Bench/, to find its images under other names too.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A checkpoint's folder, to count text exactly.")] = None,
    cutoff_len: Annotated[int | None, typer.Option(min=1, help="List the samples with more tokens.")] = None,
    image_max_pixels: Annotated[int, typer.Option(min=784, help="As in the training YAML.")] = TRAINED_PIXELS,
    image_min_pixels: Annotated[int, typer.Option(min=1, help="As in the training YAML.")] = 32 * 32,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="For a training YAML: total GPUs (processes); default: those here, or 8."),
    ] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(min=0, help="For a training YAML: GB per GPU, 0 for none; default: that of the GPUs here, or 80."),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="For a training YAML: the GPU's name, for the MFU in the log.")
    ] = None,
    changed: Annotated[
        list[str] | None,
        typer.Option("--set", help="For a training YAML: override KEY=VALUE; repeatable."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode images; default: one per core.")
    ] = None,
    rewards: Annotated[
        bool, typer.Option("--rewards", help="Also whether each record's own answer earns all that --preset gives.")
    ] = False,
    preset: PresetName = "mg-thinker",
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
) -> None:
    """Check a dataset, or everything a training YAML names, before using a GPU. Status 1 if there are problems.

    Checks records, boxes, images, lengths and MIG-Bench leakage; for a YAML also keys, paths, tokenizer, resume,
    memory and disk.
    """
    import msgspec

    from migician.samples.bases import QWEN2_VL, base_of
    from migician.samples.lengths import Resize, processor_pixels
    from migician.training.check import check as check_path
    from migician.training.check.options import CheckOptions, Cluster, cluster_of
    from migician.training.check.report import sentences, tables

    base = (base_of(tokenizer) if tokenizer else None) or QWEN2_VL
    fewest, most = processor_pixels(tokenizer, base) if tokenizer else (base.min_pixels, base.max_pixels)
    is_training = path.suffix in (".yaml", ".yml")
    cluster, assumed = cluster_of(gpus, gpu_memory, gpu) if is_training else (Cluster(), "")
    options = CheckOptions(
        media_dir=media_dir,
        quick=quick,
        workers=workers or os.cpu_count() or 1,
        mig_bench=mig_bench,
        mig_bench_images=images,
        tokenizer=tokenizer,
        cutoff_len=cutoff_len,
        base=base,
        template=base.template,
        preset=preset if rewards else "",
        resize=Resize(image_max_pixels, image_min_pixels, most, fewest, base.side),
        cluster=cluster,
        overrides=tuple(changed or ()),
    )
    report = check_path(path, options)
    if assumed:
        note(assumed)
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
