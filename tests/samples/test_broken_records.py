"""Records out of files of any shape: the same bytes at the same places, and damage stays in its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migician.errors import UserError
from migician.samples import json_window
from migician.samples.record_file import record_at, records

leaves = st.text(max_size=20) | st.integers() | st.none() | st.sampled_from(["}", '"', "\\", "a\\", "],[{", "\n"])
objects = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3), max_leaves=6
    ),
    max_size=4,
)
shapes = st.sampled_from(["lines", "one line", "a record a line", "indented"])


def written(shape: str, content: list[Any], ascii_only: bool) -> str:
    if shape == "lines":
        return "".join(json.dumps(one, ensure_ascii=ascii_only) + "\n" for one in content)
    if shape == "a record a line":
        return "[\n" + ",\n".join(json.dumps(one, ensure_ascii=ascii_only) for one in content) + "\n]\n"
    return json.dumps(content, ensure_ascii=ascii_only, indent=2 if shape == "indented" else None)


@given(content=st.lists(objects, max_size=6), shape=shapes, ascii_only=st.booleans(), block=st.integers(1, 40))
def test_records_are_those_of_the_file_whatever_its_shape(
    tmp_path_factory: pytest.TempPathFactory, content: list[Any], shape: str, ascii_only: bool, block: int
) -> None:
    file = tmp_path_factory.mktemp("records") / "r.json"
    file.write_text(written(shape, content, ascii_only), encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_window, "BLOCK", block)
        found = list(records(file))
        assert [json.loads(one) for _, one in found] == content
        for offset, one in found:
            assert file.read_bytes()[offset : offset + len(one)] == one == record_at(file, offset)


GOOD = '{"id": 1, "x": [{"a": "b"}]}'


@pytest.mark.parametrize(
    "broken",
    [
        '{"id": "no end}',
        '{"id": 1, "x": ["y]}',
        '{"id": 1, "x": [{"a": "b"]}',
        "nothing of JSON",
        '{"id": 1}}',
        "7",
        '"a string"',
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_broken_record_leaves_the_others_readable(
    tmp_path: Path, broken: str, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_window, "LARGEST", 200)
    rest = [GOOD] * 20
    lines = [GOOD, broken, *rest]
    file = tmp_path / "r.json"
    file.write_text("[\n" + ",\n".join(lines) + "\n]\n" if listed else "\n".join(lines) + "\n")
    found = [one.decode() for _, one in records(file)]
    assert found[0] == GOOD and found[-20:] == rest
    assert "".join(found[1:-20]) in (broken, broken.replace("}}", "}") + "}")


@pytest.mark.parametrize(
    ("text", "count", "said"),
    [
        ("[" + GOOD, 1, "byte 29: the list has no end; the file seems cut off"),
        ("[" + GOOD + "]\n" + GOOD, 1, "byte 31: there is text after the end of the list"),
        ("\ufeff[]", 0, "begins with a byte order mark"),
    ],
)
def test_what_is_wrong_around_the_records_is_said(tmp_path: Path, text: str, count: int, said: str) -> None:
    file = tmp_path / "r.json"
    file.write_text(text, encoding="utf-8")
    found = []
    with pytest.raises(UserError, match=said):
        found.extend(records(file))
        found.clear()
    iterator, seen = records(file), 0
    for _ in range(count):
        next(iterator)
        seen += 1
    assert seen == count


def test_a_record_cut_off_comes_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(GOOD + "\n" + GOOD[:-9])
    assert [one.decode() for _, one in records(file)] == [GOOD, GOOD[:-9]]


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        list(records(tmp_path / "r.json"))
