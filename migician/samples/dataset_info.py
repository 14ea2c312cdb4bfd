"""What LLaMA-Factory's dataset_info.json says of a dataset: its files, and how their records are laid out.

Source: data/parser.py and data/loader.py of LLaMA-Factory 0.9.5, and data/README.md of its repository.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from migician.errors import UserError
from migician.files import is_file, is_folder, read_json, status
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
    """The entries of a dataset_info.json by name; raises `UserError` for another form, and where there are none."""
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
    # An entry that names any column, or tag, has named all: the others are none.
    given = entry.columns is not msgspec.UNSET
    columns = entry.columns if isinstance(entry.columns, dict) else _DEFAULTS
    tags: dict[str, str | None] = dict.fromkeys(("role_tag", "content_tag", *_TAGS))
    tags |= entry.tags if isinstance(entry.tags, dict) else {"role_tag": "from", "content_tag": "value", **_TAGS}
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
    """What the dataset_info.json beside a file of samples, or a folder up, says of it; None where none is usable."""
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
