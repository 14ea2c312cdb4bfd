"""Names, numbers and depths that nothing takes, in every file that a verb reads: one line, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from border_inputs import DEPTHS, NAMES, NUMBERS, YAMLS, spoilt
from border_tries import source_tries, verb_tries
from command_line import command
from fault_world import make_world, remove
from hypothesis import given as for_any
from hypothesis import strategies as st
from test_faults import LINES

from migician.errors import UserError
from migician.files import decode, decode_yaml, is_file, is_folder, read_object, status, unfit, whole
from migician.models.checkpoint import read_header
from migician.printable import one_line

TRIES = 250


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
    pytest.importorskip("datasets", reason="data extra not installed: bash scripts/setup.sh")
    return make_world(tmp_path_factory.mktemp("border") / "world", command)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name(f"{tmp_path.name}-cache")))


@pytest.mark.usefixtures("quick")
def test_values_in_what_verbs_read(world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = [(what, wrong) for what, wrong in verb_tries(LINES, world, tmp_path, command, 15, TRIES) if wrong]
    assert found == []


@pytest.mark.usefixtures("quick")
def test_values_in_the_annotations_of_sources(tmp_path: Path) -> None:
    found = [(what, wrong) for what, wrong in source_tries(tmp_path, command, 15, TRIES) if wrong]
    assert found == []


def test_spoilt_files_are_other_files_and_repeat_by_seed() -> None:
    sound = b'{"a": [1, "x"], "b": {"c": 0.5}}'
    made = [spoilt(sound, random.Random(seed)) for seed in range(50)]
    assert made == [spoilt(sound, random.Random(seed)) for seed in range(50)]
    assert len({one[1] for one in made if one}) > 25
    assert all(one and one[1] != sound for one in made)


@pytest.mark.parametrize("name", [name for what, name in NAMES.items() if what.startswith(("a name", "a path", "256"))])
def test_a_path_that_no_file_system_takes_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="File name too long"):
        os.stat(tmp_path / name)  # noqa: PTH116 - what it is about
    assert status(tmp_path / name) is None
    assert not is_file(tmp_path / name)
    assert not is_folder(str(tmp_path / name))


def test_what_cannot_be_found_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "stat", refused)
    with pytest.raises(PermissionError):
        is_file("a")


@for_any(st.text(max_size=300))
def test_any_name_is_there_or_not(name: str) -> None:
    assert isinstance(is_file(name), bool)
    assert isinstance(is_folder(name), bool)


PLACES: dict[str, str] = {
    "nothing": "",
    "a dot": ".",
    "what it is in": "..",
    "above": "x/..",
    "the root": "/",
    "a name of 256 letters": "a" * 256,
    "a name of 256 letters, below another": "x/" + "a" * 256 + "/x",
    "a path of 5,000 letters": "a/" * 2_500 + "a",
    "1,500 folders deep": "a/" * 1_500 + "a",
    "not UTF-8": os.fsdecode(b"caf\xe9"),
}
"""Where something is to be written; nothing can be at any but the last, which no file of ours can name."""
WRITERS = {
    "dev index": "coco={coco} --out",
    "data export": "{samples} --media-dir {data} --to",
    "data mix": "--part {samples}=1 --count 1 --out",
    "data convert": "llava --from {llava} --images {images} --out",
    "check": "{samples} --out",
    "train merge": "{model} {other} --out",
    "train curves": "{saves} --out",
    "report": "{run} --parquet",
    "dev tiny": "--texts {samples} --out",
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("verb", WRITERS)
def test_where_nothing_can_be_written(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    words = WRITERS[verb].format_map(world).split()
    for what, place in PLACES.items():
        ended = command(verb, *words, place)
        assert "Traceback" not in ended.error, (what, ended.error)
        if ended.status == 0:
            # A picture, a table or a folder may have any name that its folder takes.
            assert what == "not UTF-8", (what, ended.error)
            remove(work / place)
        else:
            assert ended.status == 2
            assert ended.error.splitlines()[-1].startswith("migician: "), (what, ended.error)
        assert list(work.iterdir()) == [], what
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


@pytest.mark.usefixtures("quick")
def test_in_a_folder_whose_name_is_not_utf8(world: dict[str, Path], tmp_path: Path) -> None:
    home = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(world["images"], home, symlinks=True)
    inside = {name: home / place.relative_to(world["images"]) for name, place in world.items()}
    bench = f"mig-bench --data {inside['bench']}"
    for words in (
        f"data export {inside['samples']} --to {tmp_path}/exported --media-dir {inside['data']}",
        f"merge {inside['model']} {inside['other']} --out {tmp_path}/merged",
        f"eval {bench} --model constant:1,1,2,2 --images {inside['images']} --out {tmp_path}/run",
        f"dev tiny --texts {inside['samples']} --out {tmp_path}/tiny",
        f"check {inside['samples']} --out {tmp_path}/check.json",
        f"data mix --part {inside['samples']}=1 --count 1 --out {home}/mixed.json",
    ):
        ended = command(*words.split())
        assert "Traceback" not in ended.error, ended.error
        assert ended.status == 0 or (ended.status == 2 and "not UTF-8" in ended.error.splitlines()[-1]), ended.error
    assert not [path for path in tmp_path.rglob(".*") if path.name.endswith(".part")]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_in_json(name: str, tmp_path: Path) -> None:
    text = NUMBERS[name]
    (tmp_path / "a.json").write_text(f'{{"a": {text}}}')
    exact = text.lstrip("-").isdecimal()
    fits = exact and -(2**63) <= int(text[:400]) < 2**64
    decoded = read = None
    try:
        decoded = decode(f'{{"a": {text}}}', dict[str, Any], "a", "an object")
    except UserError as error:
        assert "\n" not in str(error)
    try:
        read = read_object(tmp_path / "a.json")
    except UserError as error:
        assert "\n" not in str(error)
    if exact:
        assert (decoded is not None, read is not None) == (fits, fits)
    for found in (decoded, read):
        assert found is None or not isinstance(found["a"], int) or -(2**63) <= found["a"] < 2**64


def test_many_digits_that_are_no_whole_number_are_kept() -> None:
    content = {"a": "9" * 40, "b": 0.12345678901234567, "c": [2**64 - 1, -(2**63)], "9" * 30: 1e22}
    raw = json.dumps(content).encode().replace(b"0.12345678901234568", b"0.1234567890123456789012345")
    assert decode(raw, dict[str, Any], "a", "an object").keys() == content.keys()
    assert decode(b"[1000000000000000000000000000.0]", list[float], "a", "numbers") == [1e27]


@pytest.mark.parametrize("name", [*YAMLS, *DEPTHS])
def test_values_in_yaml(name: str) -> None:
    begun = time.process_time()
    try:
        found = decode_yaml(f"a: {(YAMLS | DEPTHS)[name]}", "a.yaml")
        assert unfit(found) == ""
    except UserError as error:
        assert str(error).startswith("a.yaml: not YAML: ")
        assert len(str(error)) < 500
        assert "\n" not in str(error)
    assert time.process_time() - begun < 30


@pytest.mark.parametrize(
    "header",
    [
        '{"a": {"dtype": 7, "shape": [1], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": null, "shape": [1], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [' + "9" * 5_000 + '], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [18446744073709551616], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, -4]}}',
        '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        '{"a": ' + DEPTHS["lists in 1,500 lists"] + "}",
        '{"__metadata__": ' + DEPTHS["objects in 1,500 objects"] + ', "a": 1}',
        '{"a": NaN}',
        "[]",
        "",
    ],
)
def test_headers_of_safetensors(tmp_path: Path, header: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(4))
    with pytest.raises(UserError, match="damaged safetensors file") as raised:
        read_header(file)
    assert len(str(raised.value)) < 500 + len(str(file))


@pytest.mark.parametrize("text", ["9" * 20, "-" + "9" * 19, "9" * 400, "9" * 5_000, "1.5", "", "x"])
def test_whole_numbers_of_texts(text: str) -> None:
    with pytest.raises(ValueError, match=r"whole number|invalid literal|Exceeds the limit"):
        whole(text)
    assert whole(f" {2**64 - 1}") == 2**64 - 1


def test_a_line_too_long_to_be_read_keeps_its_beginning_and_its_end() -> None:
    line = one_line("migician: " + "a" * 100_000 + ": cannot be read")
    assert len(line) < 2_100
    assert line.startswith("migician: aaa")
    assert line.endswith("a: cannot be read")
