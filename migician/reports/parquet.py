"""The records of runs as one table, in parquet or in memory, for pandas, DuckDB, `datasets` and the Hub's viewer."""

from __future__ import annotations

import importlib
import itertools
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from migician.errors import UserError, writing
from migician.evaluation.report import scoring_of
from migician.evaluation.run_folder import read_run

ROWS_AT_ONCE = 10_000


def write_table(folders: Sequence[Path], names: Sequence[str], out: Path) -> int:
    """Write the records of runs of one kind to a parquet file, and give how many; column `run` has each one's name.

    Columns keep their types whatever the records hold: an empty list is a list. Raises `UserError`
    where the runs are of different kinds (boxes and options), and where pyarrow is not installed.
    """
    schema, groups = _groups(folders, names)
    parquet = importlib.import_module("pyarrow.parquet")
    count = 0
    with writing(out) as stream, parquet.ParquetWriter(stream, schema) as writer:
        for group in groups:
            writer.write_table(group)
            count += group.num_rows
    return count


def record_table(folders: Sequence[Path], names: Sequence[str]) -> Any:
    """The same as a `pyarrow.Table` in memory."""
    schema, groups = _groups(folders, names)
    return importlib.import_module("pyarrow").concat_tables([schema.empty_table(), *groups])


def _groups(folders: Sequence[Path], names: Sequence[str]) -> tuple[Any, Iterator[Any]]:
    """The columns, and the rows in tables of at most `ROWS_AT_ONCE`."""
    try:
        pyarrow = importlib.import_module("pyarrow")
    except ImportError:
        raise UserError("records as a table need pyarrow: pip install 'migician[data]'") from None
    runs = [read_run(folder) for folder in folders]
    kind, *others = (scoring_of(report).record for report, _ in runs)
    for folder, other in zip(folders[1:], others, strict=True):
        if other is not kind:
            raise UserError(f"{folder} holds other records than {folders[0]}: write them apart")
    fields = get_type_hints(kind)
    columns = [(name, _arrow(fields[name], pyarrow)) for name in kind.__struct_fields__]
    schema = pyarrow.schema([("run", pyarrow.string()), *columns])

    def groups() -> Iterator[Any]:
        for name, (_, records) in zip(names, runs, strict=True):
            rows = ({"run": name, **msgspec.to_builtins(record)} for record in records.values())
            while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
                yield pyarrow.Table.from_pylist(some, schema=schema)

    return schema, groups()


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
