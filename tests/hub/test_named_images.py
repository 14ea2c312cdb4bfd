"""Whether the images that data files name are there: in files of any shape, and clear about files that are broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from migician.errors import UserError
from migician.hub.named_images import check_images

ROWS = [{"images": [f"./D/{number}.jpg"], "x": [{"y": number}]} for number in range(3)]


def write(folder: Path, content: bytes, name: str = "data.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("indent", [None, 2])
def test_each_name_is_looked_up(tmp_path: Path, indent: int | None) -> None:
    folder = write(tmp_path / "D", json.dumps(ROWS, indent=indent).encode())
    (folder / "1.jpg").touch()
    checked = check_images(folder, "images")
    assert (checked.records, checked.named, checked.missing) == (3, 3, 2)
    assert checked.first_missing == ["data.json: record 0: ./D/0.jpg", "data.json: record 2: ./D/2.jpg"]


def test_names_never_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").touch()
    named = ["../secret.jpg", str(tmp_path / "secret.jpg"), "./D/../secret.jpg"]
    checked = check_images(write(tmp_path / "D", json.dumps([{"images": named}]).encode()), "images")
    assert (checked.named, checked.missing) == (3, 3)


@pytest.mark.parametrize("content", [{"images": [{"id": 1}]}, [], [1, 2], [{"id": 1}, {"images": ["a.jpg"]}], "x"])
def test_files_of_another_kind_are_passed_over(tmp_path: Path, content: Any) -> None:
    checked = check_images(write(tmp_path / "D", json.dumps(content, indent=2).encode()), "images")
    assert (checked.files, checked.named) == ([], 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps(ROWS).encode()[:-30], r"record 2 \(byte \d+\): not JSON, or the file is cut"),
        (json.dumps(ROWS).encode()[:-1], "the list has no end"),
        (json.dumps(ROWS).encode().replace(b'"y": 1', b'"y": 1x'), r"record 1 \(byte \d+\): not JSON"),
        (json.dumps(ROWS).encode().replace(b'"y": 1', b'"y": "\xe9"'), r"record 1 \(byte \d+\): not JSON"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=rf"data\.json: .*{said}"):
        check_images(write(tmp_path / "D", content), "images")


def test_the_real_benchmark_file_is_read(shared: Path, tmp_path: Path) -> None:
    (data,) = list((shared / "data/mig_bench").rglob("MIG_data.json"))[:1] or [None]
    if data is None:
        pytest.skip("MIG_data.json is not among the real samples")
    folder = tmp_path / "MIG-Bench"
    folder.mkdir()
    shutil.copy(data, folder / "MIG_data.json")
    checked = check_images(folder, "images")
    assert (checked.records, checked.named, checked.missing) == (4295, 16215, 16215)
    (folder / "images/group_grounding").mkdir(parents=True)
    (folder / "images/group_grounding/sa_6136360.jpg").touch()
    assert check_images(folder, "images").missing < 16215
