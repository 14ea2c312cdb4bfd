"""`migician check STAGE.yaml`: all that would stop or spoil a training, before a GPU is touched.

    settings   the YAML as LLaMA-Factory reads it
    keys       which keys there are
    memory     bytes on each GPU
    cost       steps, hours, disk

The datasets that the YAML names are checked as any dataset is (`migician.checking`), under its own pixel limit and
`cutoff_len`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from migician.boxtext import BOX_END, BOX_START, REF_END, REF_START
from migician.checking import Options, check_inputs
from migician.checking.findings import Findings, Place
from migician.checking.inputs import Inputs, Samples, dataset_files
from migician.checking.report import Report
from migician.checkpoints import read_config
from migician.errors import UserError, closest
from migician.files import read_object
from migician.lengths import Resize, TokenizerTokens
from migician.preflight.cost import Machine, Training, checkpoint_faults, cost_of, memory_fault
from migician.preflight.keys import GONE, known_keys
from migician.preflight.settings import Settings, read_settings

__all__ = ["Machine", "Preflight", "preflight"]

_REQUIRED = ("model_name_or_path", "dataset", "output_dir", "template")
_TOKENS = (BOX_START, BOX_END, REF_START, REF_END)
_POSITIVE = ("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "cutoff_len")


class Preflight(Report, kw_only=True):
    """A report on a training YAML: what is wrong with it and its data, and what the training will take."""

    training: Training


def preflight(file: str | Path, machine: Machine, options: Options, overrides: Sequence[str] = ()) -> Preflight:
    """All that is wrong with a training YAML, `overrides` ("key=value") included, and with the data it names.

    `options` are those of a dataset's check; pixel limit, `cutoff_len`, media folder and tokenizer come from the
    YAML. Raises `UserError` only for a file that is no YAML of settings.
    """
    settings = read_settings(Path(file), overrides)
    findings = Findings()
    for kind, value in _faults(settings):
        findings.add(kind, Place(str(settings.file), value=value))
    files = tuple(_datasets(settings, findings))
    resize = dataclasses.replace(
        options.resize,
        image_max_pixels=int(settings.number("image_max_pixels", Resize().image_max_pixels)),
        image_min_pixels=int(settings.number("image_min_pixels", Resize().image_min_pixels)),
    )
    options = dataclasses.replace(
        options,
        cutoff_len=int(settings.number("cutoff_len", 2048)),
        resize=resize,
        tokenizer=options.tokenizer or _tokenizer(settings.path("model_name_or_path"), settings, findings),
    )
    report = check_inputs(str(file), Inputs(files, options.media_dir or settings.media_dir), findings, options)
    training = cost_of(settings, report, machine)
    for kind, value in (*memory_fault(training), *checkpoint_faults(settings, training)):
        findings.add(kind, Place(str(settings.file), value=value))
    return Preflight(**{**msgspec.structs.asdict(report), "findings": findings.listed()}, training=training)


def _faults(settings: Settings) -> Iterator[tuple[str, str]]:
    """(kind, value) of what is wrong with the settings themselves."""
    yield from _key_faults(settings)
    yield from _value_faults(settings)
    yield from _path_faults(settings)
    yield from _resume_faults(settings)
    yield from _tokenizer_faults(settings)


def _key_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    known = known_keys()
    if not known:
        yield "keys_unknown", "LLaMA-Factory is not installed here"
    for key in settings.values:
        if key in GONE and key not in known:
            instead = f"say {GONE[key]} instead" if GONE[key] else "nothing is needed in its place"
            yield "setting_unknown", f"{key}: older versions took it; {instead}"
        elif known and key not in known:
            yield "setting_unknown", f"{key}.{closest(key, known)}"


def _value_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    for key in _REQUIRED:
        if not settings.text(key):
            yield "setting_value", f"{key} is missing"
    for key in _POSITIVE:
        if key in settings.values and settings.number(key, -1) <= 0:
            yield "setting_value", f"{key}: {settings.values[key]!r}, expected a number above 0"
    if settings.flag("neat_packing") and settings.batch[0] > 1:
        yield (
            "setting_value",
            f"per_device_train_batch_size: {settings.batch[0]}, but neat_packing takes 1: raise cutoff_len",
        )
    template = settings.text("template")
    if template and _family(settings) == "qwen2_vl" and template != "qwen2_vl":
        yield "setting_value", f"template: {template!r}, but the model is a Qwen2-VL: its template is qwen2_vl"


def _family(settings: Settings) -> str:
    """The model's type, by its folder's config or by its name on the Hub; empty where neither tells."""
    folder = settings.path("model_name_or_path")
    if (folder / "config.json").is_file():
        try:
            return str(read_config(folder)["model_type"])
        except UserError:
            return ""
    return "qwen2_vl" if "qwen2-vl" in settings.text("model_name_or_path").lower() else ""


def _path_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    for key in ("model_name_or_path", "output_dir", "dataset_dir", "media_dir", "deepspeed"):
        if " " in settings.text(key):
            yield (
                "setting_path",
                f"{key}: {settings.text(key)!r} holds a blank, at which LLaMA-Factory's launcher splits",
            )
    model = settings.text("model_name_or_path")
    folder = settings.path("model_name_or_path")
    # A Hub id looks like a relative path of two parts: only one whose first part is a folder here is a path.
    is_path = folder.is_absolute() or model.startswith((".", "~")) or (model and Path(folder.parts[0]).is_dir())
    if is_path and not (folder / "config.json").is_file():
        yield (
            "setting_path",
            f"model_name_or_path: {model} is no folder with a config.json; run the stage before it first",
        )
    if settings.text("deepspeed"):
        file = settings.path("deepspeed")
        try:
            read_object(file)
        except UserError as error:
            yield "setting_path", f"deepspeed: {error}"


def _resume_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    """LLaMA-Factory resumes by itself from a checkpoint in `output_dir` unless `overwrite_output_dir` is true."""
    out = settings.path("output_dir")
    found = bool(settings.text("output_dir")) and any(out.glob("checkpoint-*"))
    asked = settings.text("resume_from_checkpoint")
    resumes = bool(asked) or (found and not settings.flag("overwrite_output_dir"))
    same = asked and settings.text("model_name_or_path") == asked
    if resumes and not settings.text("deepspeed") and not same:
        yield "resume_lossy", f"from {asked or out}"
    if found and settings.flag("overwrite_output_dir") and settings.text("deepspeed"):
        yield "resume_never", f"{out} holds checkpoints"


def _tokenizer(model: Path, settings: Settings, findings: Findings) -> Path | None:
    """The folder of the model if it has a tokenizer; what is wrong with that is found."""
    if not (model / "tokenizer.json").is_file():
        return None
    try:
        TokenizerTokens(model)
    except UserError as error:
        findings.add("setting_path", Place(str(settings.file), value=str(error)))
        return None
    return model


class _Token(msgspec.Struct):
    content: str


class _Vocabulary(msgspec.Struct):
    vocab: dict[str, int]


class _Tokenizer(msgspec.Struct):
    """What is looked at of a tokenizer.json."""

    added_tokens: list[_Token]
    model: _Vocabulary


def _tokenizer_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    file = settings.path("model_name_or_path") / "tokenizer.json"
    if not file.is_file():
        return
    try:
        tokenizer = read_object(file, _Tokenizer)
    except UserError:
        return  # `_tokenizer` finds it
    known = {one.content for one in tokenizer.added_tokens} | {*tokenizer.model.vocab}
    missing = [token for token in _TOKENS if token not in known]
    if missing:
        yield "tokens_missing", ", ".join(missing)


def _datasets(settings: Settings, findings: Findings) -> Iterator[Samples]:
    """The files of the datasets that the YAML names."""
    if not settings.info.is_file():
        value = f"dataset_dir: there is no {settings.info}"
        findings.add("setting_path", Place(str(settings.file), value=value))
        return
    try:
        entries = dataset_files(settings.info)
    except UserError as error:
        findings.add("info", Place(str(settings.info), value=str(error)))
        return
    for name in settings.datasets:
        if name in entries:
            yield from entries[name](findings)
        else:
            value = f"{name!r} is not in {settings.info}. Known: {', '.join(entries)}.{closest(name, entries)}"
            findings.add("dataset_unknown", Place(str(settings.file), value=value))
