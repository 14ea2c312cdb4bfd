"""The MGrounding record: what is written is read again, what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migician.errors import UserError
from migician.samples.sample import Sample, Turn, read_samples, sample, write_samples

texts = st.text(st.characters(codec="utf-8"), max_size=30)
samples_ = st.builds(
    Sample,
    st.integers(0, 2**40) | texts,
    st.lists(texts, max_size=3),
    st.lists(st.builds(Turn, st.sampled_from(["human", "gpt", "system"]), texts), max_size=4),
    texts,
)


@given(written=st.lists(samples_, max_size=5))
def test_written_samples_are_read_again(tmp_path_factory: pytest.TempPathFactory, written: list[Sample]) -> None:
    file = tmp_path_factory.mktemp("samples") / "s.json"
    assert write_samples(file, written) == len(written)
    assert read_samples(file) == written


@pytest.mark.parametrize(
    ("images", "turns", "said"),
    [
        (["a", "b"], [("<image>?", "!")], "1 <image> marks for 2 images"),
        (["a"], [("<image>", "!")], "turn 0 has no text"),
        (["a"], [("<image>?", " ")], "turn 1 has no text"),
        (["a"], [("<image>?", "!"), ("and <image>?", "!")], "2 <image> marks for 1 images"),
        (["a"], [], "turns must come in pairs"),
    ],
)
def test_problems(images: list[str], turns: list[tuple[str, str]], said: str) -> None:
    assert any(said in problem for problem in sample(1, images, turns, "t").problems())


def test_speakers_take_turns() -> None:
    one = Sample(1, [], [Turn("gpt", "!"), Turn("human", "?")], "t")
    assert one.problems() == ["turn 0 is from gpt, expected human", "turn 1 is from human, expected gpt"]
    assert sample(1, ["a", "b"], [("<image><image>?", "!"), ("and?", "!")], "t").problems() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[{"id": 1, "images"', "not a list of samples"),
        (b'[{"id": 1, "images": [], "conversations": [{"from": "user", "value": ""}], "type": ""}]', "'user'"),
        (b'{"id": 1}', "Expected `array`"),
        (b'[{"id": "\xe9"}]', "not a list of samples"),
    ],
)
def test_files_that_are_no_samples(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "s.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_samples(file)
    assert str(file) in str(caught.value)


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path: Path) -> None:
    def broken() -> object:
        yield sample(1, ["a"], [("<image>?", "!")], "t")
        raise KeyError("source")

    with pytest.raises(KeyError):
        write_samples(tmp_path / "s.json", broken())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
