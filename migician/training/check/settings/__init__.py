"""Everything that would stop or spoil a training, found in its YAML before a GPU is touched.

    parsing        the YAML through LLaMA-Factory's own parser, in a process of its own
    training_yaml  the result; a table of defaults where LLaMA-Factory is not installed
    faults         what is wrong with the settings
    counting       examples, steps, warm-up, checkpoints
    learning       which parameters learn, and which an adapter adds
    memory         bytes on each GPU
    cost           all of it together: steps, hours, memory, disk

The datasets that the YAML names are checked like any dataset (`check.data`), with its own pixel limit and `cutoff_len`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from migician.errors import UserError, closest
from migician.files import is_file, read_json
from migician.samples.dataset_info import Inputs, Samples, read_info, samples_of
from migician.samples.lengths import Resize, TokenizerTokens, processor_pixels
from migician.training.check.data import check_inputs
from migician.training.check.findings import Findings
from migician.training.check.options import CheckOptions
from migician.training.check.report import CheckReport
from migician.training.check.settings.cost import cost_faults, cost_of
from migician.training.check.settings.counting import DatasetRows, count
from migician.training.check.settings.faults import setting_faults, streaming_faults
from migician.training.check.settings.parsing import parse_settings
from migician.training.check.settings.training_yaml import Fault, TrainingSettings


def check_training(file: Path, options: CheckOptions) -> CheckReport:
    """Everything wrong with a training YAML and the data it names, and what the training will take.

    Raises `UserError` only for a file that is not a YAML of settings.
    """
    settings = parse_settings(file, options.overrides)
    findings = Findings()

    def find(faults: Iterator[Fault]) -> None:
        for kind, value in faults:
            findings.in_file(kind, file, value)

    find(setting_faults(settings, options.cluster))
    sets = list(_datasets(settings, findings))
    inputs = tuple(samples for files, _ in sets for samples in files)
    options = dataclasses.replace(
        options,
        cutoff_len=int(settings.number("cutoff_len")),
        base=settings.base,
        template=settings.template,
        training=True,
        resize=_resize(settings),
        preprocessing_workers=int(settings.number("preprocessing_num_workers")),
        tokenizer=options.tokenizer or _tokenizer(settings.path("model_name_or_path"), file, findings),
    )
    media_dir = options.media_dir or settings.media_dir
    report, lengths = check_inputs(file, Inputs(inputs, media_dir), findings, options)
    ahead = iter(lengths)
    known = []
    for files, num_samples in sets:
        rows = [next(ahead) for _ in files]
        known.append(DatasetRows(np.concatenate(rows) if rows else [], num_samples))
    n = len(settings.datasets)
    counts, seen = count(settings, known[:n], known[n:], options.cluster.gpus)
    cost = cost_of(settings, report.lengths, counts, seen, options.cluster)
    find(streaming_faults(settings, report.images.distinct))
    find(cost_faults(settings, cost))
    report.training, report.findings = cost, findings.listed()
    return report


def _resize(settings: TrainingSettings) -> Resize:
    """How images are scaled: by the YAML, then by the checkpoint's own processor if it is here."""
    base = settings.base
    try:
        fewest, most = processor_pixels(settings.path("model_name_or_path"), base)
    except UserError:
        fewest, most = base.min_pixels, base.max_pixels
    limits = int(settings.number("image_max_pixels")), int(settings.number("image_min_pixels"))
    return Resize(*limits, most, fewest, base.side)


def _tokenizer(model: Path, file: Path, findings: Findings) -> Path | None:
    """The folder of the model if it has a valid tokenizer; a damaged one is found."""
    if not is_file(model / "tokenizer.json"):
        return None
    try:
        TokenizerTokens(model)
    except UserError as error:
        findings.in_file("setting_path", file, str(error))
        return None
    return model


class _Entry(msgspec.Struct):
    num_samples: int | None = None


def _datasets(settings: TrainingSettings, findings: Findings) -> Iterator[tuple[tuple[Samples, ...], int | None]]:
    """(files, `num_samples`) of the datasets that the YAML trains on, then of those it evaluates on."""
    names = [*settings.datasets, *settings.eval_datasets]
    try:
        if not is_file(settings.info):
            findings.in_file("setting_path", settings.file, f"dataset_dir: there is no {settings.info}")
            entries, drawn = {}, {}
        else:
            entries = read_info(settings.info)
            drawn = read_json(settings.info, dict[str, _Entry], "a dataset_info.json of LLaMA-Factory")
    except UserError as error:
        findings.in_file("info", settings.info, str(error))
        entries, drawn = {}, {}
    for name in names:
        if name in entries:
            yield tuple(samples_of(settings.info, name, entries[name], findings.in_file)), drawn[name].num_samples
            continue
        if entries:
            value = f"{name!r} is not in {settings.info}. Known: {', '.join(entries)}.{closest(name, entries)}"
            findings.in_file("dataset_unknown", settings.file, value)
        yield (), None
