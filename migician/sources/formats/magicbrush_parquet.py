"""MagicBrush as the Hub has it, parquet files with the images inside, unpacked into the folder form that is read.

`data/<split>-*.parquet` hold a row a turn: img_id (text), turn_index (from 1), instruction, and source_img,
mask_img and target_img as {"bytes": ...}. Records of a training set name image files, so the images have to
become files once: python -m migician.sources.formats.magicbrush_parquet ROOT SPLIT OUT
Source: https://huggingface.co/datasets/osunlp/MagicBrush (CC BY 4.0).
"""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

from migician.errors import UserError, appearing
from migician.sources.formats.pairs import relative

_COLUMNS = ["img_id", "turn_index", "source_img", "mask_img", "instruction", "target_img"]
_ROWS = 16
"""Read at once: each row holds three images."""
_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg"}


def unpack(root: str | Path, split: str, out: str | Path) -> int:
    """Write `<out>/<split>/` in the folder form, byte for byte the images of the parquet files; gives the turns.

    An input that is the output of the turn before is not written twice. The folder appears whole or not at all;
    memory holds a few rows at a time. Raises `UserError` if it exists, naming the file and the row
    of what cannot be read, and if pyarrow is not installed.
    """
    target = Path(out) / split
    if target.exists():
        raise UserError(f"{target}: exists already; remove it or choose another folder")
    files = sorted((Path(root) / "data").glob(f"{split}-*.parquet"))
    if not files:
        raise UserError(f"{root}: holds no data/{split}-*.parquet")
    with appearing(target) as partial:
        sessions = _write(partial, files)
        (partial / "edit_sessions.json").write_bytes(msgspec.json.encode(sessions))
    return sum(len(turns) for turns in sessions.values())


def _write(folder: Path, files: list[Path]) -> dict[str, list[dict[str, str]]]:
    """The images of all rows as files; gives the sessions, whose turns are in their order."""
    sessions: dict[str, list[dict[str, str]]] = {}
    last = b""
    for place, row in _rows(files):
        session, number = str(row["img_id"]), row["turn_index"]
        name = relative(session)
        if name is None or len(name.parts) > 1:
            raise UserError(f"{place}: img_id {session!r} is no name for a folder")
        turns = sessions.setdefault(session, [])
        if number != len(turns) + 1:
            raise UserError(f"{place}: turn {number} of {session} comes after turn {len(turns)}; a file is missing")
        images = {column: _content(place, column, row[column]) for column in ("source_img", "mask_img", "target_img")}
        put = folder / "images" / session
        put.mkdir(parents=True, exist_ok=True)
        if turns and images["source_img"] == last:
            source = turns[-1]["output"]
        else:
            source = _save(place, images["source_img"], put / f"{session}-input{number if turns else ''}")
        mask = _save(place, images["mask_img"], put / f"{session}-mask{number}")
        output = _save(place, images["target_img"], put / f"{session}-output{number}")
        turns.append({"input": source, "mask": mask, "output": output, "instruction": str(row["instruction"])})
        last = images["target_img"]
    return sessions


def _rows(files: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row, with its place for messages."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
        arrow_error: type[Exception] = importlib.import_module("pyarrow").ArrowException
    except ImportError:
        raise UserError("MagicBrush as parquet needs pyarrow: pip install pyarrow") from None
    for file in files:
        count = 0
        try:
            with parquet.ParquetFile(file) as opened:
                lacking = [name for name in _COLUMNS if name not in opened.schema_arrow.names]
                if lacking:
                    raise UserError(f"{file}: has no column {', '.join(lacking)}")
                for batch in opened.iter_batches(_ROWS, columns=_COLUMNS):
                    for row in batch.to_pylist():
                        yield f"{file}: row {count}", row
                        count += 1
        except (arrow_error, OSError) as error:
            raise UserError(f"{file}: cannot be read as parquet: {' '.join(str(error).split())}") from None


def _content(place: str, column: str, image: Any) -> bytes:
    content = image.get("bytes") if isinstance(image, dict) else None
    if not isinstance(content, bytes):
        raise UserError(f"{place}: {column} holds no image bytes")
    return content


def _save(place: str, content: bytes, stem: Path) -> str:
    """Write an image with the suffix of its kind; gives the file's name."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            suffix = _SUFFIXES[opened.format or ""]
    except (OSError, KeyError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError(f"{place}: the bytes for {stem.name} are no PNG or JPEG") from None
    file = stem.with_name(stem.name + suffix)
    file.write_bytes(content)
    return file.name


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python -m migician.sources.formats.magicbrush_parquet ROOT SPLIT OUT")
    try:
        print(f"{unpack(*sys.argv[1:])} turns")
    except UserError as fault:
        sys.exit(f"magicbrush_parquet: {fault}")
