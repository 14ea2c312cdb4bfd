#!/usr/bin/env bash
# Reading a parquet file in small batches keeps all of it in memory.
#
# `pyarrow.parquet.ParquetFile(path).iter_batches(16)` reads as if in a stream, and is what one uses for files with images inside. But since its
# default is `pre_buffer=True`, it caches the bytes of the row groups it has read until the file is closed: memory grows with the file. Over a
# benchmark of 2 GB in row groups of 1,000 rows it held 1.4 GB after 6,000 rows of 184 KB. `ParquetFile(path, pre_buffer=False)` holds two
# row groups throughout. Here: migician/benchmarks/rows.py.
#
# Seen with pyarrow 26.0.1.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  python3 -m venv "$folder/venv"
  python="$folder/venv/bin/python"
  "$python" -m pip install --quiet --disable-pip-version-check pyarrow==26.0.1
fi
cd "$folder"
"$python" - << 'END'
import os

import pyarrow
import pyarrow.parquet as parquet

SCHEMA = pyarrow.schema([("image", pyarrow.binary())])
with parquet.ParquetWriter("images.parquet", SCHEMA) as writer:
    for _ in range(20):
        rows = [{"image": os.urandom(100_000)} for _ in range(100)]
        writer.write_table(pyarrow.Table.from_pylist(rows, SCHEMA))


def peak_mb(**options):
    """The most that pyarrow holds while 20 row groups of 10 MB are read, 16 rows at a time, and dropped."""
    peak = 0
    with parquet.ParquetFile("images.parquet", buffer_size=1 << 20, **options) as file:
        for batch in file.iter_batches(16):
            peak = max(peak, pyarrow.total_allocated_bytes())
            del batch
    return peak / 1e6


default, off = peak_mb(), peak_mb(pre_buffer=False)
print(f"200 MB read in batches of 16 rows: at most {default:.0f} MB held by default, {off:.0f} MB with pre_buffer=False")
assert default > 150 and off < 60, "pyarrow no longer keeps what it has read"
END
