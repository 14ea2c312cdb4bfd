"""What every reader makes of damage: a counted, named refusal or a clear error, and never a box that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from native import NATIVES, Damage, Native

from migician.boxes import Box
from migician.errors import UserError
from migician.sources import SOURCES, scenes_of
from migician.sources.scenes import ImagePair, Scene, Tally

Seen = list[tuple[str, Box | None, str]]
"""(image, box, label) of all that a reader gives; no box where the object is not in the image."""


def seen_in(native: Native, root: Path, tally: Tally) -> Iterator[tuple[str, Box | None, str]]:
    for scene in scenes_of(native.source, root / native.root, tally, split=native.split, images=root)[1]:
        if isinstance(scene, Scene):
            for instance in scene.instances:
                yield str(scene.image.relative_to(root)), instance.box, instance.label
        elif isinstance(scene, ImagePair):
            yield str(scene.before.relative_to(root)), scene.box_before, ""
            yield str(scene.after.relative_to(root)), scene.box_after, ""
        else:
            for frame in scene.frames:
                yield str(frame.image.relative_to(root)), frame.box, scene.label


def read(native: Native, root: Path) -> tuple[Seen, dict[str, int]]:
    tally = Tally()
    return list(seen_in(native, root, tally)), tally.counts


def outcome(native: Native, root: Path) -> tuple[Seen, dict[str, int]] | str:
    """What is read, or the error's text; any other exception than `UserError` fails the test."""
    try:
        return read(native, root)
    except UserError as error:
        return str(error)


@pytest.fixture(params=NATIVES)
def native(request: pytest.FixtureRequest, tmp_path: Path) -> Native:
    """A source's native form, laid out in the test's folder."""
    NATIVES[request.param].write(tmp_path)
    return NATIVES[request.param]


def check(native: Native, root: Path, sound: tuple[Seen, dict[str, int]], *, silent: bool = False) -> None:
    """Damage below `root` was refused by name or counted; unless `silent` is allowed, for what no reader can see."""
    found = outcome(native, root)
    if isinstance(found, str):
        assert str(root) in found
        assert "\n" not in found
        return
    seen, counts = found
    known = {(image, label): set() for image, _, label in sound[0]}
    for image, box, label in sound[0]:
        known[image, label] |= {box}
    assert all(box is None or box in known[image, label] for image, box, label in seen)
    if seen != sound[0] and not silent:
        assert counts != sound[1]


def test_all_are_here_and_sound(native: Native, tmp_path: Path) -> None:
    assert {one.source for one in NATIVES.values()} == set(SOURCES)
    seen, _ = read(native, tmp_path)
    assert sum(box is not None and box.is_proper for _, box, _ in seen) >= min(2, len(native.images))


def test_a_file_cut_anywhere(native: Native, tmp_path: Path) -> None:
    sound = read(native, tmp_path)
    for name, text in native.files.items():
        file, content = tmp_path / name, text.encode()
        for cut in range(len(content)):
            file.write_bytes(content[:cut])
            # Where a format does not say how many lines there are, those that are lost as a whole leave no mark.
            check(native, tmp_path, sound, silent=b"\n" in (content[cut - 1 : cut], content[cut : cut + 1]))
        file.write_bytes(content)
    assert read(native, tmp_path) == sound


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "a broken sign"])
def test_another_encoding(native: Native, tmp_path: Path, encoding: str) -> None:
    sound = read(native, tmp_path)
    for name, text in {**native.files, **native.names}.items():
        content = text.encode()
        damaged = content[:5] + b"\xe9" + content[5:] if encoding == "a broken sign" else text.encode(encoding)
        (tmp_path / name).write_bytes(damaged)
        check(native, tmp_path, sound)
        # A mark at the beginning says that it is UTF-8 after all.
        assert encoding == "utf-8-sig" or outcome(native, tmp_path) != sound
        (tmp_path / name).write_bytes(content)


def test_any_image_missing(native: Native, tmp_path: Path) -> None:
    sound = read(native, tmp_path)
    used = {image for image, _, _ in sound[0]}
    for name in used:
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        found = outcome(native, tmp_path)
        if isinstance(found, str):
            assert str(tmp_path) in found
        else:
            assert name not in {image for image, _, _ in found[0]}
            assert found[1] != sound[1]
        check(native, tmp_path, sound)
        (tmp_path / name).write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\5IHDR\0\0\0\x64\0\0\0\0\0"],
)
def test_an_image_that_is_none(native: Native, tmp_path: Path, content: bytes) -> None:
    sound = read(native, tmp_path)
    for name in native.images:
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        check(native, tmp_path, sound)
        (tmp_path / name).write_bytes(whole)


PIECES = [b"", b"\n", b"\n\n", b" ", b",", b'"', b"-", b"0", b"-1", b"1e999", b"NaN", b"9" * 30, b"null", b"[]", b"{}"]
PIECES += [b"..", b"/", b"\0", b"\xff", b"\\u0000", b"\\ud800", b"\xc2\x85", b"<", b"&x;"]


@pytest.mark.parametrize("name", NATIVES)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
@example(data=None)
def test_any_damage_is_read_or_named(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject | None
) -> None:
    native = NATIVES[name]
    root = tmp_path_factory.mktemp("root")
    native.write(root)
    for place, text in {**native.files, **native.names}.items():
        content = text.encode()
        if data is None:
            damaged = content.replace(b"\n", b"\n\n")
        else:
            start, length = data.draw(st.integers(0, len(content))), data.draw(st.integers(0, 8))
            damaged = content[:start] + data.draw(st.sampled_from(PIECES)) + content[start + length :]
        (root / place).write_bytes(damaged)
        found = outcome(native, root)  # raises what is no UserError
        assert not isinstance(found, str) or "\n" not in found
        assert isinstance(found, str) or all(box is None or box.is_proper for _, box, _ in found[0])
        (root / place).write_bytes(content)


@pytest.mark.parametrize("kind", ["zero", "count"])
def test_boxes_without_area_and_wrong_counts(native: Native, tmp_path: Path, kind: str) -> None:
    sound = read(native, tmp_path)
    damage: Damage = getattr(native, kind)
    name, old, new, said = damage
    text = native.files[name]
    assert old in text
    (tmp_path / name).write_bytes(text.replace(old, new, 1).encode())
    found = outcome(native, tmp_path)
    if isinstance(found, str):
        assert said in found
        assert str(tmp_path / name) in found
    else:
        assert any(said in reason for reason in found[1])
        assert sum(box is not None for _, box, _ in found[0]) < sum(box is not None for _, box, _ in sound[0])
    check(native, tmp_path, sound)
