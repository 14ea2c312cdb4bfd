"""Every file of JSON or YAML that a person hands in: bytes that are none are one sentence that names the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migician.benchmarks import mig_bench
from migician.benchmarks.scoring.boxes import Record
from migician.build.recipe import read_recipe
from migician.errors import UserError
from migician.evaluation.run_folder import read_report
from migician.files import read_lines, read_object
from migician.hub.released import _read_state
from migician.models.stand_ins import scripted
from migician.samples.dataset_info import entries_beside, read_info
from migician.samples.lengths import processor_pixels
from migician.samples.record_file import JsonRecords, records
from migician.samples.sample import read_samples
from migician.training.mixture import read_mix_recipe

READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "samples": ("a.json", read_samples),
    "recipe": ("a.yaml", read_recipe),
    "recipe of a mix": ("a.yaml", read_mix_recipe),
    "MIG-Bench": ("a.json", mig_bench.load),
    "report": ("report.json", lambda file: read_report(file.parent)),
    "records": ("records.jsonl", lambda file: list(read_lines(file, Record, "a record"))),
    "script": ("a.jsonl", lambda file: scripted.load(str(file))),
    "settings of a checkpoint": ("preprocessor_config.json", lambda file: processor_pixels(file.parent)),
    "config of a checkpoint": ("config.json", read_object),
    "record of a download": ("fetched.json", _read_state),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", [b'{"\xe9": "\xe9"}', b"[" * 100_000, b'[{"id": 1, "ima'])
def test_it_is_named(tmp_path: Path, reader: str, content: bytes) -> None:
    name, read = READERS[reader]
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


PIPES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    name: reader for name, reader in READERS.items() if name != "settings of a checkpoint"
} | {
    "dataset_info.json": ("dataset_info.json", read_info),
    "dataset_info.json beside a mix": ("dataset_info.json", lambda file: entries_beside(file.parent / "mix.json")),
    "records by number": ("a.json", JsonRecords),
    "records in turn": ("a.json", lambda file: list(records(file))),
}


@pytest.mark.parametrize("reader", PIPES)
def test_nobody_waits_for_a_pipe_in_its_place(tmp_path: Path, reader: str) -> None:
    name, read = PIPES[reader]
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=rf"^{tmp_path / name}: cannot be read: not a regular file"):
        read(tmp_path / name)
