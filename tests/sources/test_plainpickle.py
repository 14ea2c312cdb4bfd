"""Pickles of plain values are read as `pickle` would; everything else is refused before anything runs."""

from __future__ import annotations

import os
import pickle
import resource
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migician.errors import UserError
from migician.sources.formats.plainpickle import read_plain_pickle

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
        | st.tuples(inner)
        | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=20,
)


def pickled(folder: Path, content: bytes) -> Path:
    file = folder / "refs(unc).p"
    file.write_bytes(content)
    return file


@given(value=plain_values, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_every_protocol_is_read_as_pickle_reads_it(
    tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int
) -> None:
    file = pickled(tmp_path_factory.mktemp("p"), pickle.dumps(value, protocol))
    assert read_plain_pickle(file) == value


def test_text_of_python_2(tmp_path: Path) -> None:
    """Written by hand as Python 2 writes it: byte strings as in source code, unicode beside them."""
    content = (
        b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xc3\\xa9, the man\\'s'\np3\nsS'raw'\np4\nVcaf\\u00e9\np5\n"
        b"sS'odd'\np6\nS'\\xe9'\np7\nsS'again'\np8\ng3\nsS'id'\np9\nI12\nsS'yes'\np10\nI01\nsS'long'\np11\nL7L\nsa."
    )
    (ref,) = read_plain_pickle(pickled(tmp_path, content))
    assert (ref["sent"], ref["again"]) == ("café, the man's", "café, the man's")
    assert (ref["raw"], ref["odd"], ref["id"], ref["yes"], ref["long"]) == ("café", "é", 12, True, 7)
    binary = b"\x80\x02]q\x00(U\x05caf\xc3\xa9q\x01T\x01\x00\x00\x00\xe9h\x01e."
    assert read_plain_pickle(pickled(tmp_path, binary)) == ["café", "é", "café"]


class Runs:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_runs(tmp_path: Path, protocol: int) -> None:
    file = pickled(tmp_path, pickle.dumps([{"sent": Runs(tmp_path / "ran")}], protocol))
    with pytest.raises(UserError, match=r"refs\(unc\)\.p: byte \d+ is (STACK_)?GLOBAL") as caught:
        read_plain_pickle(file)
    assert not (tmp_path / "ran").exists() and "\n" not in str(caught.value)
    pickle.loads(file.read_bytes())  # what `pickle` does with it
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "GLOBAL"),
        (b"(S'true'\nios\nsystem\n.", "INST"),
        (b"(Vos\n\x93.", "STACK_GLOBAL"),
        (b"(]o.", "OBJ"),
        (b"])R.", "REDUCE"),
        (b"])\x81.", "NEWOBJ"),
        (b"])}\x92.", "NEWOBJ_EX"),
        (b"]}b.", "BUILD"),
        (b"\x82\x01.", "EXT1"),
        (b"Pid\n.", "PERSID"),
        (b"]Q.", "BINPERSID"),
        (b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", "BYTEARRAY8"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"\x8f.", "EMPTY_SET"),
    ],
)
def test_each_instruction_that_builds_is_refused_by_name(tmp_path: Path, content: bytes, name: str) -> None:
    with pytest.raises(UserError, match=rf"is {name}, which plain values do not need"):
        read_plain_pickle(pickled(tmp_path, content))


def nested_without_end() -> bytes:
    """Forty lists, each of which holds the one before it ten times: 10**40 parts in 900 bytes."""
    content = b"\x80\x02]q\x00"
    for level in range(40):
        content += b"](" + bytes([ord("h"), level]) * 10 + b"eq" + bytes([level + 1])
    return content + b"."


BOMBS = {
    "memo far away": b"]r" + struct.pack("<I", 2**32 - 1) + b"j" + struct.pack("<I", 2**32 - 1) + b".",
    "text of 2 GB": b"X" + struct.pack("<I", 2**31) + b"abc.",
    "text of 8 EB": b"\x8d" + struct.pack("<Q", 2**63) + b"abc.",
    "number of 2 GB": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",
    "bytes below zero": b"T" + struct.pack("<i", -5) + b"abc.",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "frame of 8 EB": b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"].",
    "deep": b"]" * 200_000 + b"a" * 199_999 + b".",
    "laughs": nested_without_end(),
    "itself": b"]q\x00h\x00a.",
    "marks": b"(" * 500_000 + b".",
    "key of tuples in tuples": b"})" + b"\x85" * 500_000 + b"Ns.",
    "item of such a key": b"(d(" + b")" + b"\x85" * 500_000 + b"Nu.",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_nothing(tmp_path: Path, bomb: str) -> None:
    file = pickled(tmp_path, BOMBS[bomb])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read_plain_pickle(file)
    except UserError as error:
        assert "not a sound pickle" in str(error) and "\n" not in str(error)
    else:
        assert bomb in ("memo far away", "frame of 8 EB", "deep")  # these are odd, and harmless here
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"]",
            b".",
            b"]].",
            b"(.",
            b"a.",
            b"]a.",
            b"}]s.",
            b"}(]e.",
            b"]I1\ns.",
            b"h\x07.",
            b"t.",
            b"]\x86.",
            b"\xff.",
            b"V\\ud800\n.",
            b"X\3\0\0\0\xed\xa0\x80.",
        ),
        *(b"S'a\n.", b"Sa\n.", b"S'\\x'\n.", b"}(]]u.", b"](]u.", b"(I1\nd.", b"V\\u12\n.", b"T\x01", b"Iabc\n."),
    ],
)
def test_what_is_not_sound(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"refs\(unc\)\.p: not a sound pickle at byte \d+"):
        read_plain_pickle(pickled(tmp_path, content))


@given(value=plain_values, protocol=st.integers(0, 5), data=st.data())
def test_any_damage_is_a_user_error_or_a_value(
    tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int, data: st.DataObject
) -> None:
    content = bytearray(pickle.dumps(value, protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_plain_pickle(pickled(tmp_path_factory.mktemp("p"), bytes(content)))
    except UserError as error:
        assert "refs(unc).p" in str(error)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.p: cannot be read"):
        read_plain_pickle(tmp_path / "nowhere.p")
