"""What LLaMA-Factory's dataset_info.json says of a dataset: its files, and how their records are laid out.

Source: data/parser.py and data/loader.py of LLaMA-Factory 0.9.5, and data/README.md of its repository.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from migician.errors import UserError
from migician.files import HALF, is_file, is_folder, read_json, status, write_json
from migician.samples.layouts import Layout

INFO = "dataset_info.json"
_JSON = {".json", ".jsonl"}
_READABLE = _JSON | {".csv", ".parquet", ".arrow", ".txt"}
"""Of LLaMA-Factory; those that are not JSON are not looked into here."""
_ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
"""Where a dataset comes from, each before `file_name`."""
_MORE_COLUMNS = ("videos", "audios", "chosen", "rejected", "kto_tag")
_TAGS = {"user_tag": "human", "assistant_tag": "gpt", "system_tag": "system"} | {
    "observation_tag": "observation",
    "function_tag": "function_call",
}
_OWN_TAGS = {"role_tag": "from", "content_tag": "value", **_TAGS}


class NotRead(Exception):
    """A dataset that LLaMA-Factory may take, of a form that is not looked into here; the text says which."""


class _Entry(msgspec.Struct):
    """One dataset, with LLaMA-Factory's defaults where an entry says nothing."""

    file_name: str | None = None
    formatting: str = "alpaca"
    ranking: bool = False
    columns: dict[str, str | None] | msgspec.UnsetType = msgspec.UNSET
    tags: dict[str, str | None] | msgspec.UnsetType = msgspec.UNSET


def read_info(file: Path) -> dict[str, dict[str, Any]]:
    """The entries of a dataset_info.json by name; raises `UserError` for another form, or if there are none."""
    entries = read_json(file, dict[str, dict[str, Any]], "a dataset_info.json of LLaMA-Factory")
    if not entries:
        raise UserError(f"{file}: names no dataset")
    return entries


def layout_of(content: dict[str, Any]) -> Layout:
    """The layout that an entry describes.

    Raises `NotRead` for what is not looked into here, and `UserError` for what stops LLaMA-Factory.

    >>> layout_of({"file_name": "a.json", "columns": {"prompt": "question", "response": "answer"}}).prompt
    'question'
    """
    for name in _ELSEWHERE:
        if name in content:
            raise NotRead(f"comes from {name}")
    try:
        entry = msgspec.convert(content, _Entry)
    except msgspec.ValidationError as error:
        raise UserError(f"{error}: LLaMA-Factory stops at it") from None
    if entry.file_name is None:
        raise UserError("has no file_name: LLaMA-Factory stops at it")
    if entry.formatting not in ("alpaca", "sharegpt", "openai"):
        raise UserError(f"formatting {entry.formatting!r}: LLaMA-Factory knows alpaca, sharegpt and openai")
    if entry.ranking:
        raise UserError("ranking: true is for preference training: supervised finetuning stops at it")
    return _layout(entry)


def _layout(entry: _Entry) -> Layout:
    alpaca = entry.formatting == "alpaca"
    # An entry that names any column or tag names them all: it has no others.
    given = entry.columns is not msgspec.UNSET
    columns = entry.columns if isinstance(entry.columns, dict) else _DEFAULTS
    tags: dict[str, str | None] = dict.fromkeys(("role_tag", "content_tag", *_TAGS))
    tags |= entry.tags if isinstance(entry.tags, dict) else _OWN_TAGS
    more = [name for name in _MORE_COLUMNS if columns.get(name)]
    if more:
        raise NotRead(f"has the columns {', '.join(more)}")
    if not alpaca and not columns.get("messages"):
        raise UserError("its columns name no messages: LLaMA-Factory stops at it")
    if not alpaca and not all(tags[name] for name in ("role_tag", "content_tag", "user_tag", "assistant_tag")):
        raise UserError(
            "its tags leave out one of role_tag, content_tag, user_tag and assistant_tag: LLaMA-Factory then takes "
            "none of its samples"
        )
    parts = ("prompt", "query", "response", "history") if alpaca else ()
    return Layout(
        entry.formatting,
        messages=None if alpaca else columns.get("messages"),
        images=columns.get("images") if given else None,
        system=columns.get("system"),
        tools=columns.get("tools"),
        role_tag=None if alpaca else tags["role_tag"],
        content_tag=None if alpaca else tags["content_tag"],
        roles={} if alpaca else {named: role for tag, role in _TAGS.items() if (named := tags[tag])},
        **{part: columns.get(part) for part in parts},
    )


_DEFAULTS: dict[str, str | None] = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "messages": "conversations",
}


def files_of(info: Path, content: dict[str, Any]) -> list[Path]:
    """The files of an entry, in order; raises `UserError` and `NotRead` as `layout_of` does."""
    target = info.parent / str(content.get("file_name"))
    if status(target) is None:
        raise UserError(f"{content.get('file_name')} is not there")
    files = sorted(target.iterdir()) if is_folder(target) else [target]
    if not files:
        raise UserError(f"{content['file_name']} is a folder without files of samples")
    strange = [one.name for one in files if one.suffix not in _READABLE]
    if strange:
        known = ", ".join(sorted(_READABLE))
        raise UserError(f"{strange[0]} is none of {known}: LLaMA-Factory stops at it")
    if strange := [one.name for one in files if not is_file(one)]:
        raise UserError(f"{strange[0]} is no file: LLaMA-Factory stops at it")
    other = {one.suffix for one in files if one.suffix not in _JSON}
    if other and len({*other, *(".json" for one in files if one.suffix in _JSON)}) > 1:
        raise UserError(f"{content['file_name']} holds files of several kinds: LLaMA-Factory stops at it")
    if other:
        raise NotRead(f"is in {other.pop()} files")
    return files


def layout_beside(file: Path) -> Layout | None:
    """What the dataset_info.json beside a file of samples, or a folder up, says of it; None if that is not usable."""
    _, content = _entry_beside(file)
    try:
        return layout_of(content) if content else None
    except (UserError, NotRead):
        return None


def home_of(path: Path) -> Path:
    """The folder of a dataset, or the one that a file of samples belongs to: whose dataset_info.json names it, if any.

    >>> home_of(Path("data/alone.json"))
    PosixPath('data')
    """
    return path if is_folder(path) else _entry_beside(path)[0] or path.parent


def _entry_beside(file: Path) -> tuple[Path | None, dict[str, Any]]:
    """The folder, beside a file of samples or one up, whose dataset_info.json names it, and what that says of it."""
    for folder in (file.parent, file.parent.parent):
        info = folder / INFO
        try:
            entries = read_info(info) if info.is_file() else {}
        except UserError:
            continue
        for content in entries.values():
            if folder / str(content.get("file_name")) in (file, file.parent):
                return folder, content
    return None, {}


def dataset_entry(file_name: str) -> dict[str, Any]:
    """The entry by which LLaMA-Factory 0.9 reads a JSON file of samples (data/README.md of hiyouga/LLaMA-Factory)."""
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "images": "images"},
        "tags": _OWN_TAGS,
    }


def write_dataset_info(folder: str | Path, files: Mapping[str, str | Path]) -> Path:
    """Write `folder/dataset_info.json` for datasets by name, and give its path.

    Files are named relative to `folder`, which becomes `dataset_dir` in the training YAML,
    where they lie in it. Raises `UserError` for a file that is not there.
    """
    target = Path(folder) / INFO
    entries = {}
    for name, file in files.items():
        path = Path(folder) / file
        if not is_file(path):
            raise UserError(f"{path}: no such file, so dataset {name!r} cannot be described")
        entries[name] = dataset_entry(str(file))
    write_json(target, entries)
    return target


def add_dataset(file: str | Path) -> Path:
    """Name one file of samples, by its stem, in the `dataset_info.json` beside it, and give that path."""
    path = Path(file)
    target = path.parent / INFO
    entries = entries_beside(path)
    entries[path.stem] = dataset_entry(path.name)
    write_json(target, entries)
    return target


def entries_beside(file: str | Path) -> dict[str, Any]:
    """What the `dataset_info.json` beside a file says, which may be still to be written.

    Raises `UserError` where it is something else, or cannot name the file. Whoever will add to it calls this before the
    work begins.
    """
    if HALF.search(Path(file).name):
        raise UserError(f"{file}: its name is not UTF-8, so {INFO} cannot hold it; choose another")
    target = Path(file).parent / INFO
    return read_json(target, dict[str, Any], "a dataset_info.json, which is a JSON object") if target.exists() else {}


Reporter = Callable[[str, Path, str], None]
"""(kind of fault, a key of a check's `KINDS`; the dataset_info.json it is in; what it says there)."""


def unreported(kind: str, file: Path, value: str) -> None:
    """Leave out in silence what cannot be read."""


@dataclass(frozen=True, slots=True)
class Samples:
    """One file of samples."""

    file: Path
    layout: Layout | None = None
    """As its entry in dataset_info.json says; None without an entry: its first record shows it."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """All there is to check."""

    files: tuple[Samples, ...]
    media_dir: Path
    """What the paths of images are relative to; LLaMA-Factory's setting of this name."""


def inputs_of(path: Path, media_dir: Path | None, report: Reporter = unreported) -> Inputs:
    """The files of samples that a folder, its dataset_info.json or a file of samples names.

    Raises `UserError` where `path` is nothing that can be checked.
    """
    if status(path) is None:
        raise UserError(f"{path}: no such file or folder")
    home = media_dir or (path if is_folder(path) else path.parent)
    info = path / INFO if is_folder(path) else path
    if info.name != INFO:
        if path.suffix not in _JSON:
            raise UserError(f"{path}: neither a folder with {INFO} nor a file of samples ({', '.join(sorted(_JSON))})")
        return Inputs((Samples(path, layout_beside(path)),), home)
    if not is_file(info):
        raise UserError(f"{path}: holds no {INFO}; name a JSON file of samples in it, or build it with: migician build")
    entries = read_info(info).items()
    return Inputs(tuple(one for name, entry in entries for one in samples_of(info, name, entry, report)), home)


def samples_of(info: Path, name: str, content: dict[str, Any], report: Reporter) -> list[Samples]:
    """The files of the entry `name` of a dataset_info.json; what cannot be checked is reported."""
    try:
        layout = layout_of(content)
        return [Samples(file, layout) for file in files_of(info, content)]
    except UserError as error:
        report("info", info, f"{name}: {error}")
    except NotRead as reason:
        report("not_checked", info, f"{name} {reason}: {msgspec.json.encode(content).decode()}")
    return []
