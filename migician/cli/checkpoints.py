"""Verbs about checkpoints: tiny, merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import Force, OutFolder
from migician.cli.terminal import note, say
from migician.errors import UserError
from migician.progress import progress_bar


def tiny(
    out: OutFolder,
    texts: Annotated[list[Path], typer.Option(help="JSON files of samples: the tokenizer learns from their text.")],
    seed: Annotated[int, typer.Option(help="Of the random weights.")] = 0,
    force: Force = False,
) -> None:
    """Make a tiny Qwen2-VL with random weights, to train without a download."""
    from migician.models.stand_ins.tiny import make_tiny
    from migician.samples.sample import read_samples

    words = [turn.value for file in texts for one in read_samples(file) for turn in one.conversations]
    if not words:
        raise UserError(f"{texts[0]}: holds no sample, so there is nothing to learn words from")
    make_tiny(out, seed=seed, texts=words, force=force)
    note(f"written: {out}")


def merge(
    checkpoints: Annotated[
        list[str],
        typer.Argument(help="Two or more: folders or Hub ids of one shape. Or one LoRA adapter, for its base."),
    ],
    out: OutFolder,
    weight: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="The share of the second of two; or one for each, repeated. Equal without it."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Of an adapter: the folder or Hub id it was trained on, if it does not say.")
    ] = None,
    force: Force = False,
) -> None:
    """Average checkpoints, or merge a LoRA adapter into its base, a piece of a tensor at a time."""
    from migician.training.adapters import is_adapter, merge_adapter
    from migician.training.merge import merge as average

    adapters = [one for one in checkpoints if is_adapter(one)]
    if adapters and len(checkpoints) > 1:
        raise UserError(f"{adapters[0]}: is an adapter: merge it into its base first, alone")
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


def setting(
    config: Annotated[Path, typer.Argument(help="A training YAML.")],
    key: Annotated[str, typer.Argument(help="The setting to print.")],
    changed: Annotated[list[str] | None, typer.Argument(help="KEY=VALUE instead of what the YAML says.")] = None,
) -> None:
    """Print one setting of a training YAML, for scripts."""
    from migician.training.check.settings.training_yaml import read_given

    value = read_given(config, changed or ()).get(key)
    say("" if value is None else str(value))


def resume(
    output_dir: Annotated[Path, typer.Argument(help="The output_dir of a training.")],
    processes: Annotated[int, typer.Option(min=1, help="How many will go on: GPUs in all.")],
    deepspeed: Annotated[
        Path | None, typer.Option(help="The DeepSpeed file of the training, for a converted checkpoint.")
    ] = None,
) -> None:
    """Print what LLaMA-Factory must be told to go on exactly, a setting a line; nothing where it begins anew."""
    from migician.training.resume import resume_point, saved_in

    for saved in saved_in(output_dir):
        if not saved.fault:
            break
        note(f"passed over {saved.folder}: {saved.fault}")
    whole = resume_point(output_dir, processes)
    if whole is None:
        note(f"{output_dir}: no whole checkpoint, so training begins anew")
        return
    overrides = list(whole.overrides)
    if whole.needs_conversion(processes):
        from migician.training.universal_checkpoint import universal_config

        if deepspeed is None:
            raise UserError(f"{whole.folder}: is converted for any number of processes: name the --deepspeed file too")
        overrides.append(f"deepspeed={universal_config(deepspeed, output_dir / 'universal.json')}")
    note(f"going on from {whole.folder}")
    for line in overrides:
        say(line)
