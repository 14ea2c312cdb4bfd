"""The records of runs as one parquet table, for pandas, DuckDB and the Hub's viewer."""

from __future__ import annotations

import importlib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from migician.errors import UserError, writing
from migician.report import read_report, scoring_of
from migician.scoring import read_records

ROWS_AT_ONCE = 10_000


def write_table(folders: Sequence[Path], names: Sequence[str], out: Path) -> int:
    """Write the records of runs of one kind to a parquet file, and give how many; column `run` has each one's name.

    Columns keep their types whatever the records hold: an empty list is a list. Raises `UserError`
    where the runs are of different kinds (boxes and options), and where pyarrow is not installed.
    """
    try:
        pyarrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UserError("writing parquet needs pyarrow: pip install 'migician[data]'") from None
    scorings = [scoring_of(read_report(folder)) for folder in folders]
    for folder, scoring in zip(folders, scorings, strict=True):
        if scoring.name != scorings[0].name:
            raise UserError(f"{folder} holds other records than {folders[0]}: write them apart")
    fields = get_type_hints(scorings[0].record)
    schema = pyarrow.schema(
        [
            ("run", pyarrow.string()),
            *((name, _arrow(fields[name], pyarrow)) for name in scorings[0].record.__struct_fields__),
        ]
    )
    count = 0
    with writing(out) as stream, parquet.ParquetWriter(stream, schema) as writer:
        for folder, name in zip(folders, names, strict=True):
            records = read_records(folder / "records.jsonl", scorings[0].record)
            for start in range(0, len(records), ROWS_AT_ONCE):
                rows = [
                    {"run": name, **msgspec.to_builtins(record)} for record in records[start : start + ROWS_AT_ONCE]
                ]
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
                count += len(rows)
    return count


def _arrow(hint: Any, pyarrow: Any) -> Any:
    """The arrow type of a field's annotation."""
    simple = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string(), bool: pyarrow.bool_()}
    if hint in simple:
        return simple[hint]
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Literal:
        return pyarrow.string()
    if kind in (Union, types.UnionType):
        return _arrow(next(part for part in parts if part is not type(None)), pyarrow)
    if kind in (list, tuple):
        return pyarrow.list_(_arrow(parts[0], pyarrow))
    return pyarrow.struct([(name, _arrow(part, pyarrow)) for name, part in get_type_hints(hint).items()])
