"""Verbs about checkpoints: tiny, merge, base, setting, resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import Force, OutFolder
from migician.cli.terminal import note, say
from migician.errors import NOT_JSON, UserError
from migician.progress import progress_bar
from migician.samples.bases import BASES


def tiny(
    out: OutFolder,
    texts: Annotated[list[Path], typer.Option(help="Files of samples, whose text the tokenizer is trained on.")],
    base: Annotated[str, typer.Option(help=f"What it is in small: {', '.join(BASES)}.")] = "qwen2_vl",
    seed: Annotated[int, typer.Option(help="Seed of the random weights.")] = 0,
    force: Force = False,
) -> None:
    """Make a tiny model with random weights, for training without a download."""
    from migician.models.stand_ins.tiny import make_tiny

    words = [text for file in texts for text in _texts(file)]
    if not words:
        raise UserError(f"{texts[0]}: no samples, so the tokenizer has no text to learn from")
    make_tiny(out, seed=seed, base=base, texts=words, force=force)
    note(f"written: {out}")


def _texts(file: Path) -> Iterator[str]:
    """All that is said in a file of samples."""
    from migician.samples.layouts import LayoutReader
    from migician.samples.record_file import JsonRecords

    reader = LayoutReader(name=file.name)
    with JsonRecords(file) as records:
        for number, content in enumerate(records):
            try:
                sample = reader.sample(content, number)
            except NOT_JSON as error:
                raise UserError(f"{file}: record {number}: {error}") from None
            yield from (turn.value for turn in sample.conversations)


def merge(
    checkpoints: Annotated[
        list[str],
        typer.Argument(help="Two or more folders or Hub ids of the same shape, or one LoRA adapter."),
    ],
    out: OutFolder,
    weight: Annotated[
        list[float] | None,
        typer.Option(
            min=0, max=1, help="Weight of the second of two; or repeat it, one per checkpoint. Default: equal."
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="For an adapter that does not name its base: the folder or Hub id it was trained on."),
    ] = None,
    force: Force = False,
) -> None:
    """Average checkpoints, or merge a LoRA adapter into its base, in little memory."""
    from migician.training.adapters import is_adapter, merge_adapter
    from migician.training.merge import merge as average

    adapters = [one for one in checkpoints if is_adapter(one)]
    if adapters and len(checkpoints) > 1:
        raise UserError(f"{adapters[0]}: is an adapter: merge it into its base first, on its own")
    if base and not adapters:
        raise UserError(f"--base {base}: only an adapter has a base, and {checkpoints[0]} is none")
    if adapters:
        with progress_bar("merging (bytes)") as progress:
            merge_adapter(adapters[0], out, base, force=force, on_progress=progress)
        note(f"written: {out}")
        return
    shares = [1 - weight[0], weight[0]] if weight and len(weight) == 1 and len(checkpoints) == 2 else weight
    with progress_bar("averaging (bytes)") as progress:
        average(checkpoints, out, shares, force=force, on_progress=progress, on_renamed=note)
    note(f"written: {out}")


def base(
    reference: Annotated[str, typer.Argument(help="A base model's name, a checkpoint's folder, or a Hub id.")],
    data: Annotated[
        Path, typer.Option("--data", help="A folder with dataset_info.json; its stage1 and stage2 must suit the base.")
    ],
    media: Annotated[Path, typer.Option(help="The folder that image paths start from.")],
) -> None:
    """Print the name of a base model, for scripts; refuse data whose boxes are in another convention than it learns."""
    from migician.samples.bases import base_named
    from migician.training.check.data.conventions import check_convention

    found = base_named(reference)
    check_convention(data, media, found, ("stage1", "stage2"))
    say(found.name)


def setting(
    config: Annotated[Path, typer.Argument(help="A training YAML.")],
    key: Annotated[str, typer.Argument(help="The setting to print.")],
    changed: Annotated[list[str] | None, typer.Argument(help="KEY=VALUE to override what the YAML says.")] = None,
) -> None:
    """Print one setting of a training YAML, for scripts."""
    from migician.training.check.settings.training_yaml import read_given

    value = read_given(config, changed or ()).get(key)
    say("" if value is None else str(value))


def resume(
    output_dir: Annotated[Path, typer.Argument(help="The output_dir of a training.")],
    processes: Annotated[int, typer.Option(min=1, help="Processes that will resume it: total GPUs.")],
    deepspeed: Annotated[
        Path | None, typer.Option(help="The training's DeepSpeed file, for a converted checkpoint.")
    ] = None,
) -> None:
    """Print the LLaMA-Factory settings that resume a training exactly, one per line; none if it starts over."""
    from migician.training.resume import resume_point, saved_in

    for saved in saved_in(output_dir):
        if not saved.fault:
            break
        note(f"skipped {saved.folder}: {saved.fault}")
    whole = resume_point(output_dir, processes)
    if whole is None:
        note(f"{output_dir}: no complete checkpoint, so training starts over")
        return
    overrides = list(whole.overrides)
    if whole.needs_conversion(processes):
        from migician.training.universal_checkpoint import universal_config

        if deepspeed is None:
            raise UserError(f"{whole.folder}: was converted for any number of processes: add --deepspeed FILE")
        overrides.append(f"deepspeed={universal_config(deepspeed, output_dir / 'universal.json')}")
    note(f"resuming from {whole.folder}")
    for line in overrides:
        say(line)
