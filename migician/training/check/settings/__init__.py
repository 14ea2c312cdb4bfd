"""`migician check STAGE.yaml`: all that would stop or spoil a training, before a GPU is touched.

    parsing    the YAML through LLaMA-Factory's own parser, in a process of its own
    settings   what that gives; a table of defaults where it is not installed
    faults     what is wrong with the settings
    counting   examples, steps, warm-up, checkpoints
    learning   which parameters learn, and which an adapter adds
    memory     bytes on each GPU
    cost       all of it in a report: steps, hours, memory, disk

The datasets that the YAML names are checked as any dataset is (`check.data`), under its own pixel limit and
`cutoff_len`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from migician.errors import UserError, closest
from migician.files import is_file, read_json
from migician.samples.dataset_info import Inputs, Samples, read_info, samples_of
from migician.samples.lengths import Resize, TokenizerTokens, processor_pixels
from migician.training.check.data import Options, check_inputs
from migician.training.check.data.findings import Findings, Place
from migician.training.check.data.report import Report
from migician.training.check.settings.cost import Machine, Training, checkpoint_faults, cost_of, memory_fault
from migician.training.check.settings.counting import Dataset, count
from migician.training.check.settings.faults import setting_faults, streaming_faults
from migician.training.check.settings.parsing import parse_settings
from migician.training.check.settings.training_yaml import Settings

__all__ = ["Machine", "Preflight", "preflight"]


class Preflight(Report, kw_only=True):
    """A report on a training YAML: what is wrong with it and its data, and what the training will take."""

    training: Training


def preflight(file: str | Path, machine: Machine, options: Options, overrides: Sequence[str] = ()) -> Preflight:
    """All that is wrong with a training YAML, `overrides` ("key=value") included, and with the data it names.

    `options` are those of a dataset's check; pixel limit, `cutoff_len`, media folder and tokenizer come from the
    YAML. Raises `UserError` only for a file that is no YAML of settings.
    """
    settings = parse_settings(Path(file), overrides)
    findings = Findings()

    def find(faults: Iterator[tuple[str, str]]) -> None:
        for kind, value in faults:
            findings.add(kind, Place(str(settings.file), value=value))

    find(setting_faults(settings, machine))
    sets = list(_datasets(settings, findings))
    files = tuple(samples for one in sets for samples in one.files)
    options = dataclasses.replace(
        options,
        cutoff_len=int(settings.number("cutoff_len")),
        resize=_resize(settings, options.resize),
        preprocessing_workers=int(settings.number("preprocessing_num_workers")),
        tokenizer=options.tokenizer or _tokenizer(settings.path("model_name_or_path"), settings, findings),
    )
    inputs = Inputs(files, options.media_dir or settings.media_dir)
    report, lengths = check_inputs(str(file), inputs, findings, options)
    ahead = iter(lengths)
    known = []
    for one in sets:
        rows = [next(ahead) for _ in one.files]
        known.append(Dataset(np.concatenate(rows) if rows else [], one.num_samples))
    n = len(settings.datasets)
    counts = count(settings, known[:n], known[n:], machine.gpus)
    training = cost_of(settings, report, counts, machine)
    find(streaming_faults(settings, report.images.distinct))
    find(memory_fault(training))
    find(checkpoint_faults(settings, training))
    return Preflight(**{**msgspec.structs.asdict(report), "findings": findings.listed()}, training=training)


def _resize(settings: Settings, given: Resize) -> Resize:
    """How images are scaled: by the YAML, then by the checkpoint's own processor where it is here."""
    limits = int(settings.number("image_max_pixels")), int(settings.number("image_min_pixels"))
    try:
        fewest, most = processor_pixels(settings.path("model_name_or_path"))
    except UserError:
        return dataclasses.replace(given, image_max_pixels=limits[0], image_min_pixels=limits[1])
    return Resize(*limits, most, fewest)


def _tokenizer(model: Path, settings: Settings, findings: Findings) -> Path | None:
    """The folder of the model if it has a tokenizer; what is wrong with that is found."""
    if not is_file(model / "tokenizer.json"):
        return None
    try:
        TokenizerTokens(model)
    except UserError as error:
        findings.add("setting_path", Place(str(settings.file), value=str(error)))
        return None
    return model


@dataclasses.dataclass(frozen=True, slots=True)
class _Set:
    files: tuple[Samples, ...]
    num_samples: int | None = None


class _Entry(msgspec.Struct):
    num_samples: int | None = None


def _datasets(settings: Settings, findings: Findings) -> Iterator[_Set]:
    """The datasets that the YAML names, then those it evaluates on; one without files where it cannot be read."""
    names = [*settings.datasets, *settings.eval_datasets]
    try:
        if not is_file(settings.info):
            value = f"dataset_dir: there is no {settings.info}"
            findings.add("setting_path", Place(str(settings.file), value=value))
            entries, drawn = {}, {}
        else:
            entries = read_info(settings.info)
            drawn = read_json(settings.info, dict[str, _Entry], "a dataset_info.json of LLaMA-Factory")
    except UserError as error:
        findings.add("info", Place(str(settings.info), value=str(error)))
        entries, drawn = {}, {}
    for name in names:
        if name in entries:
            yield _Set(tuple(samples_of(settings.info, name, entries[name], findings.in_file)), drawn[name].num_samples)
            continue
        if entries:
            value = f"{name!r} is not in {settings.info}. Known: {', '.join(entries)}.{closest(name, entries)}"
            findings.add("dataset_unknown", Place(str(settings.file), value=value))
        yield _Set(())
