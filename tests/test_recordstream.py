"""Records of a JSON list, streamed: the same as reading all at once, and clear about what is broken."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migician import recordstream
from migician.errors import UserError
from migician.recordstream import stream_records

TEXT = st.characters(codec="utf-8")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(TEXT),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(TEXT, max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(records=st.lists(VALUES, max_size=8), piece=st.integers(1, 40), indent=st.sampled_from([None, 2]))
def test_the_same_records_whatever_the_size_of_a_piece(tmp_path_factory, records, piece, indent):
    file = tmp_path_factory.mktemp("records") / "a.json"
    file.write_text(json.dumps(records, indent=indent, ensure_ascii=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordstream, "_CHUNK", piece)
        assert list(stream_records(file)) == records


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a": 1}', "not a JSON list"),
        (b"", "not a JSON list"),
        (b'[{"a": 1}, {"a": ', "record 1 is not JSON, or the file is cut"),
        (b'[{"a": 1}', "record 0 is not JSON, or the file is cut: neither a comma"),
        (b'[{"a": 1},, 2]', "record 1 is not JSON"),
        (b'[{"a": 1} 2]', "record 0 is not JSON, or the file is cut: neither a comma"),
        (b'[{"a": 1}, nonsense]', "record 1 is not JSON"),
        (b'["\xff"]', "not UTF-8"),
    ],
)
def test_what_is_broken_is_named(tmp_path, content, says):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json: {says}"):
        list(stream_records(tmp_path / "a.json"))
