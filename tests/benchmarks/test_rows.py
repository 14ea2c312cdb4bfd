"""Images that are inside a benchmark's file: named by content, read a few rows at a time, files once they are asked."""

import hashlib
import json
import subprocess
import sys

import msgspec
import pytest
from benchmarks.released_forms import blink_row, inside, muir_row, picture, script_of, write_parquet, write_tsv
from PIL import Image
from typer.testing import CliRunner

from migician.benchmarks import load_benchmark
from migician.benchmarks.images import unpack_images
from migician.benchmarks.rows import read_rows
from migician.cli import app
from migician.errors import UserError


class Row(msgspec.Struct):
    """What the rows below have in common."""

    image: str | list[str] | None
    text: str


def invoke(*args):
    return CliRunner().invoke(app, [str(one) for one in args], catch_exceptions=False)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_an_image_is_named_by_its_content_and_kind(tmp_path, kind):
    file = write_parquet(tmp_path / "a.parquet", [{"image": inside(9, kind), "text": "x"}])
    found = read_rows(file, Row, "a file")
    ((name, content),) = found.pictures()
    assert found.rows[0].image == name and content == picture(9, kind)
    assert name.startswith(hashlib.sha256(content).hexdigest()[:32])
    assert name.endswith("." + {"JPEG": "jpg"}.get(kind, kind.lower()))


def test_forms_of_an_image(tmp_path):
    forms = {
        "struct": inside(1),
        "bytes": picture(1),
        "list": [inside(1), inside(2)],
        "name": "a/b.png",
        "path": {"bytes": None, "path": "a/b.png"},
    }
    one, two = (hashlib.sha256(picture(shade)).hexdigest()[:32] + ".png" for shade in (1, 2))
    named = {"struct": one, "bytes": one, "list": [one, two], "name": "a/b.png", "path": "a/b.png"}
    for form, value in forms.items():
        found = read_rows(write_parquet(tmp_path / f"{form}.parquet", [{"image": value, "text": "x"}]), Row, "a file")
        assert found.rows[0].image == named[form], form
        assert (found.pictures is None) == (form in ("name", "path"))
        assert found.facts.get("images_inside") == {"list": 2, "name": None, "path": None}.get(form, 1)


def test_a_tsv_refers_to_the_image_of_an_earlier_row(tmp_path):
    rows = [{"index": "0", "image": picture(1), "text": "a"}, {"index": "1", "image": "0", "text": "b"}]
    found = read_rows(write_tsv(tmp_path / "a.tsv", rows), Row, "a file")
    assert found.rows[0].image == found.rows[1].image and len(list(found.pictures())) == 1
    with pytest.raises(UserError, match="row 0: its image is that of row 7, which is not before it"):
        read_rows(write_tsv(tmp_path / "b.tsv", [rows[1] | {"image": "7"}]), Row, "a file")


def folder_of(tmp_path, *names):
    for shade, name in enumerate(names):
        write_parquet(tmp_path / name, [{"image": inside(shade), "text": name}])
    return tmp_path


@pytest.mark.parametrize(
    ("names", "read", "splits"),
    [
        (["data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"], [0, 1], ["test"]),
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001-0123456789abcdef.parquet"], [1], ["test"]),
        (["default/test/0000.parquet", "default/train/0000.parquet"], [0], ["test"]),
        (["B/test-00000-of-00001.parquet", "A/test-00000-of-00001.parquet"], [1, 0], ["test"]),
        (["mine.parquet"], [0], None),
        ([".cache/test-00000-of-00001.parquet", "test-00000-of-00001.parquet"], [1], ["test"]),
    ],
)
def test_the_files_of_a_folder(tmp_path, names, read, splits):
    found = read_rows(folder_of(tmp_path, *names), Row, "a file", split="test")
    assert [row.text for row in found.rows] == [names[place] for place in read]
    assert found.facts["files"] == [names[place] for place in read] and found.facts.get("splits") == splits
    digest = hashlib.sha256(b"".join((tmp_path / names[place]).read_bytes() for place in read))
    assert found.sha256 == digest.hexdigest()


def test_the_revision_is_that_of_the_snapshot(tmp_path):
    commit = "03bf7d143d920e97a757f606b6b7baee161b019b"
    folder = folder_of(tmp_path / "snapshots" / commit, "data/test-00000-of-00001.parquet")
    for given in (folder, folder / "data/test-00000-of-00001.parquet"):
        assert read_rows(given, Row, "a file").facts["revision"] == commit


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["data/test-00000-of-00003.parquet", "data/test-00002-of-00003.parquet"], "lacks test-00001-of-00003.parquet"),
        (["data/train-00000-of-00001.parquet"], "no parquet file of split test, expected a file; its splits: train"),
        ([], "holds no parquet file of split test"),
    ],
)
def test_what_a_folder_lacks(tmp_path, names, says):
    with pytest.raises(UserError, match=says):
        read_rows(folder_of(tmp_path, *names), Row, "a file", split="test")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.parquet", b"PAR1 and no more", "a damaged parquet file"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        ("a.json", b'[{"image": "a.png"}]', "row 0: not a file: Object missing required field `text`"),
        ("a.jsonl", b'{"image": "a.png", "text": "x"}\n{', "a.jsonl:2: not a file"),
        ("a.tsv", b"index\timage\ttext\n0\t" + b"@" * 80 + b"\tx\n", "row 0: its image is no base64"),
        ("a.jsonl", b"\n", "holds no question"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_rows(tmp_path / name, Row, "a file")


@pytest.mark.parametrize("kind", ["text that is no UTF-8", "a date beyond all"])
def test_a_value_that_python_cannot_hold(tmp_path, kind):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    offsets = arrow.array([0, 2], arrow.int32()).buffers()[1]
    broken = arrow.StringArray.from_buffers(1, offsets, arrow.py_buffer(b"\xff\xfe"))
    text = broken if kind.startswith("text") else arrow.array([2**62], arrow.timestamp("us"))
    parquet.write_table(arrow.table({"image": ["a.png"], "text": text}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: a damaged parquet file"):
        read_rows(tmp_path / "a.parquet", Row, "a file")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read: No such file or directory\. Get it with: migician fetch x"):
        read_rows(tmp_path / "none.parquet", Row, "a file", otherwise="migician fetch x")


class TestUnpacking:
    def load(self, tmp_path):
        rows = [blink_row(number, task) for task in ("Art_Style", "Counting") for number in (1, 2, 3)]
        return load_benchmark("blink", write_parquet(tmp_path / "val.parquet", rows, rows_a_group=2))

    def test_images_are_files_byte_for_byte_and_equal_ones_are_one(self, tmp_path):
        bench, root = self.load(tmp_path), tmp_path / "images"
        assert len({name for question in bench.questions for name in question.images}) == 4
        assert unpack_images(bench, bench.questions, root) == 4 == len(list(root.iterdir()))
        first, second = bench.questions[0].images
        assert (root / first).read_bytes() == picture(30, "JPEG") and (root / second).read_bytes() == picture(
            41, "JPEG"
        )

    def test_only_what_is_asked_and_missing_is_written(self, tmp_path):
        bench, root = self.load(tmp_path), tmp_path / "images"
        assert unpack_images(bench, bench.questions[:1], root) == 2
        before = {file: file.stat().st_mtime_ns for file in root.iterdir()}
        assert unpack_images(bench, bench.questions, root) == 2
        assert before == {file: file.stat().st_mtime_ns for file in before}
        assert unpack_images(bench, bench.questions, root) == 0

    def test_a_stopped_unpacking_leaves_no_half_file(self, tmp_path, monkeypatch):
        bench, root = self.load(tmp_path), tmp_path / "images"
        coming = bench.pictures()

        def broken():
            yield next(coming)
            raise OSError("no space left")

        monkeypatch.setitem(bench.__dict__, "pictures", broken)
        with pytest.raises(OSError, match="no space"):
            unpack_images(bench, bench.questions, root)
        assert len(list(root.iterdir())) == 1


def test_a_run_over_images_inside_from_the_command_to_the_page(tmp_path):
    file = write_parquet(tmp_path / "data/test-00000-of-00001.parquet", [muir_row(), muir_row("Ordering", "A")])
    images, out = tmp_path / "images", tmp_path / "out"
    model = script_of(tmp_path / "script.jsonl", load_benchmark("muirbench", file), lambda question: "B")
    given = ["--data", file, "--images", images, "--model", model]
    assert invoke("eval", "muirbench", *given, "--out", out, "--dry-run").exit_code == 0 and not images.exists()
    done = invoke("eval", "muirbench", *given, "--out", out, "--json")
    assert "2 images of" in done.stderr and len(list(images.iterdir())) == 2
    report = json.loads(done.stdout)
    assert report["images_inside"] == 2 and report["files"] == ["test-00000-of-00001.parquet"]
    assert report["micro"]["accuracy"] == 50 and report["micro"]["clusters"] == 1  # both ask about the same images
    again = invoke("eval", "muirbench", *given, "--out", out, "--json")
    assert "images of" not in again.stderr and json.loads(again.stdout)["micro"] == report["micro"]
    assert invoke("report", out).exit_code == 0
    with Image.open(next(iter((out / "page/images").iterdir()))) as opened:
        assert opened.size == (40, 30)


MEMORY = """
import re, sys
from migician.benchmarks import load_benchmark
from migician.benchmarks.images import unpack_images
from pathlib import Path
import pyarrow.parquet
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
bench = load_benchmark("mmiu", sys.argv[1])
unpack_images(bench, bench.questions, Path(sys.argv[2]))
print(len(bench.questions), peak() - before)
"""


def test_memory_does_not_grow_with_the_images(tmp_path):
    import numpy as np

    noise = np.random.default_rng(0)
    row = {"task": "t", "question": "?", "options": "A: x\nB: y", "context": "", "output": "B"}
    peaks = []
    for count in (40, 400):
        images = [noise.bytes(100_000) for _ in range(count)]
        rows = [row | {"input_image_path": [{"bytes": b"\x89PNG" + one, "path": None}]} for one in images]
        file = write_parquet(tmp_path / f"{count}.parquet", rows, rows_a_group=40)
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, file, tmp_path / f"images{count}"],
            capture_output=True,
            text=True,
            check=True,
        )
        read, peak = map(int, done.stdout.split())
        assert read == count == len(list((tmp_path / f"images{count}").iterdir()))
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 12_000, peaks  # kilobytes; the 360 further images have 36,000
