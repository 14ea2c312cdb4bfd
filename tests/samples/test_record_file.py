"""Records found by their bytes are those that a JSON decoder finds; what is no such file is named with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migician.errors import UserError
from migician.samples import json_window
from migician.samples.record_file import JsonRecords

# Text that would mislead a scanner: quotes, backslashes, brackets.
tricky = st.text(st.sampled_from('ab"\\{}[],:\n é'), max_size=12)
values = st.recursive(
    tricky | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(tricky, inner, max_size=3),
    max_leaves=8,
)
objects = st.lists(st.dictionaries(tricky, values, max_size=3), max_size=6)


def dumped(records: list[Any], form: str) -> str:
    if form == "lines":
        return "".join(json.dumps(record) + "\n" for record in records) or "{}\n"
    return json.dumps(records, indent={"pretty": 2, "flush": 0}.get(form), ensure_ascii=form == "plain")


@given(records=objects, form=st.sampled_from(["plain", "pretty", "flush", "lines"]), block=st.integers(1, 40))
def test_records_are_those_of_the_decoder_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], form: str, block: int
) -> None:
    file = tmp_path_factory.mktemp("records") / "r.json"
    file.write_text(dumped(records, form))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_window, "BLOCK", block)
        with JsonRecords(file) as found:
            read = [json.loads(record) for record in found]
            assert len(found) == len(read)
    assert read == (records or ([{}] if form == "lines" else []))


@given(records=objects.filter(bool), cut=st.integers(1, 10_000), form=st.sampled_from(["plain", "pretty"]))
def test_a_cut_list_is_never_taken_for_whole(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], cut: int, form: str
) -> None:
    file = tmp_path_factory.mktemp("records") / "r.json"
    content = dumped(records, form).encode()
    file.write_bytes(content[: 1 + cut % (len(content) - 1)])
    with pytest.raises(UserError, match=str(file)):
        JsonRecords(file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "begins with nothing"),
        (b"hello", "begins with 'hello'"),
        ('[{"a": 1}]'.encode("utf-16"), "neither a JSON list nor JSON lines"),
        (b'[{"a": 1}, {"b": 2', "cut short in record 1"),
        (b'[{"a": 1}, {"b": "', "cut short in record 1"),
        (b'[{"a": 1},', r"after record 0 \(byte 9\)"),
        (b'{"a": 1}\n{"b": \n', "cut short"),
        (b'[{"a": 1}, 5]', r"record 1 \(byte 11\) is not an object"),
        (b'[5, {"a": 1}]', r"record 0 \(byte 1\) is not an object"),
        (b'[{"a": 1} {"b": 2}]', "after record 0"),
        (b'[{"a": 1}, [2], {"b": 2}]', r"record 1 \(byte 11\) is not an object"),
        (b'[{"a": 1}]]', "byte 10: there is text after the end of the list"),
        (b'[{"a": 1}][{"b": 1}]', "byte 10: there is text after the end of the list"),
        (b'[{"a": 1},]', r"after record 0 \(byte 9\): expected"),
        (b'{"a": 1} {"b": 1}\n', "after record 0"),
        (b"[1, 2]", r"record 0 \(byte 1\) is not an object"),
        (b'[{"a": 1}' + b" " * 100_000, r"after record 0 \(byte 9\): cut short"),
    ],
)
def test_what_is_no_file_of_records(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "r.json"
    file.write_bytes(content)
    for block in (1 << 20, 3):
        with pytest.MonkeyPatch.context() as patched, pytest.raises(UserError, match=said) as caught:
            patched.setattr(json_window, "BLOCK", block)
            JsonRecords(file)
        assert str(file) in str(caught.value)


def test_no_file_and_one_that_shrinks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json: cannot be read"):
        JsonRecords(tmp_path / "nowhere.json")
    file = tmp_path / "r.json"
    file.write_bytes(b'\xef\xbb\xbf [{"a": 1},\n{"b": 2}]\n')  # a byte order mark is no record
    with JsonRecords(file) as records:
        assert records[1] == b'{"b": 2}'
        file.write_bytes(b"[]")
        with pytest.raises(UserError, match="changed while it was read"):
            records[1]
