"""MagicBrush's parquet form: what comes out of it is what the reader reads, and faults name file and row."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.boxes import Box
from migician.errors import UserError
from migician.sources import magicbrush
from migician.sources.formats.magicbrush_parquet import unpack
from migician.sources.scenes import Tally

pyarrow = pytest.importorskip("pyarrow", reason="train extra not installed: bash scripts/setup.sh")
parquet = pytest.importorskip("pyarrow.parquet")


def stored(pixels: np.ndarray, kind: str = "PNG") -> dict[str, Any]:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind)
    return {"bytes": stream.getvalue(), "path": "x.png"}


def lit(*corner: int) -> np.ndarray:
    image = np.full((50, 100, 3), 90, np.uint8)
    for x in corner:
        image[10:30, x : x + 20] = 200
    return image


def mask(x: int) -> np.ndarray:
    image = np.zeros((50, 100, 3), np.uint8)
    image[10:30, x : x + 20] = 255
    return image


def rows() -> list[dict[str, Any]]:
    """Two turns of one session, the second going on from the first, and one of another, as a JPEG."""
    turns = [("7", 1, [], 20, "PNG"), ("7", 2, [20], 60, "PNG"), ("9", 1, [], 40, "JPEG")]
    return [
        {
            "img_id": name,
            "turn_index": number,
            "source_img": stored(lit(*before), kind),
            "mask_img": stored(mask(x)),
            "instruction": f"light {x}",
            "target_img": stored(lit(*before, x), kind),
        }
        for name, number, before, x, kind in turns
    ]


def write(root: Path, content: list[dict[str, Any]], name: str = "train-00000-of-00001-ab.parquet") -> Path:
    (root / "data").mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(content), root / "data" / name)
    return root / "data" / name


def test_unpacked_it_is_read_like_the_folder_form(tmp_path: Path) -> None:
    write(tmp_path, rows()[:1], "train-00000-of-00002-ab.parquet")  # a session goes on in the next file
    write(tmp_path, rows()[1:], "train-00001-of-00002-cd.parquet")
    assert unpack(tmp_path, "train", tmp_path) == 3
    tally = Tally()
    pairs = list(magicbrush.read(tmp_path, tally))
    assert tally.counts == {}
    assert [(pair.id, pair.before.name, pair.after.name, pair.box_after, pair.description) for pair in pairs] == [
        ("7-1", "7-input.png", "7-output1.png", Box(0.2, 0.2, 0.4, 0.6), "light 20"),
        ("7-2", "7-output1.png", "7-output2.png", Box(0.6, 0.2, 0.8, 0.6), "light 60"),
        ("9-1", "9-input.jpg", "9-output1.jpg", Box(0.4, 0.2, 0.6, 0.6), "light 40"),
    ]
    assert pairs[0].before.read_bytes() == rows()[0]["source_img"]["bytes"]
    assert len(list((tmp_path / "train/images/7").iterdir())) == 5


def test_an_input_that_is_not_the_last_output_is_kept(tmp_path: Path) -> None:
    content = rows()[:2]
    content[1]["source_img"] = stored(lit(0))
    write(tmp_path, content)
    unpack(tmp_path, "train", tmp_path)
    assert [pair.before.name for pair in magicbrush.read(tmp_path, Tally())] == ["7-input.png", "7-input2.png"]


def test_the_reader_says_what_to_do_and_it_works(tmp_path: Path) -> None:
    write(tmp_path, rows())
    with pytest.raises(UserError, match="unpack it first: python -m") as caught:
        list(magicbrush.read(tmp_path, Tally()))
    command = str(caught.value).split("unpack it first: python ")[1].split()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "3 turns\n")
    assert len(list(magicbrush.read(tmp_path, Tally()))) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"img_id": "../7"}, r"ab\.parquet: row 1: img_id '\.\./7' is no name for a folder"),
        ({"turn_index": 3}, "row 1: turn 3 of 7 comes after turn 1"),
        ({"mask_img": {"bytes": b"GIF89a", "path": ""}}, "row 1: the bytes for 7-mask2 are no PNG or JPEG"),
        ({"mask_img": None}, "row 1: mask_img holds no image bytes"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_left(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    content = rows()
    content[1] |= change
    write(tmp_path, content)
    with pytest.raises(UserError, match=said):
        unpack(tmp_path, "train", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no data/train-\*\.parquet"):
        unpack(tmp_path, "train", tmp_path)
    file = write(tmp_path, [{"img_id": "7"}])
    with pytest.raises(UserError, match="has no column turn_index, source_img"):
        unpack(tmp_path, "train", tmp_path)
    file.write_bytes(write(tmp_path, rows()).read_bytes()[:-30])
    with pytest.raises(UserError, match=r"ab\.parquet: cannot be read as parquet"):
        unpack(tmp_path, "train", tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="exists already"):
        unpack(tmp_path, "train", tmp_path)


def test_the_test_split_stays_refused(tmp_path: Path) -> None:
    write(tmp_path, rows(), "test-00000-of-00001-ab.parquet")
    with pytest.raises(UserError, match="never be redistributed"):
        list(magicbrush.read(tmp_path, Tally(), split="test"))


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, rows())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        unpack(tmp_path, "train", tmp_path)
