"""Rows, flags and frames of all tracking datasets, and their miniatures: written, then read by the real readers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tracks import boxes, rows_of, write

from migician.boxes import Box
from migician.errors import UserError
from migician.miniature import Amounts, drawing, make_world
from migician.miniature.drawing import Drawn, Style
from migician.sampling import stream
from migician.sources import SOURCES
from migician.sources.formats.reading import clipped
from migician.sources.formats.sequences import (
    clipped_rows,
    numbered_frames,
    read_boxes,
    read_flags,
    read_rows,
    sequence_names,
)
from migician.sources.scenes import Tally, Track

numbers = st.one_of(st.floats(), st.floats(-300, 300), st.integers(-300, 300).map(float))


@given(
    rows=st.lists(st.tuples(numbers, numbers, numbers, numbers, st.booleans()), max_size=8),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
)
@example(rows=[(1, 2, math.inf, 4, True), (math.nan, 2, 3, 4, True), (1, 2, -3, 4, True)], size=(10, 10))
def test_rows_are_clipped_like_single_boxes(
    rows: list[tuple[float, float, float, float, bool]], size: tuple[int, int]
) -> None:
    one_by_one, together = Tally(), Tally()
    boxes = [clipped(Box.from_xywh_pixels(*row[:4], size), one_by_one) if row[4] else None for row in rows]
    xywh = np.array([row[:4] for row in rows], dtype=np.float64).reshape(-1, 4)
    shown = np.array([row[4] for row in rows], dtype=np.bool_)
    assert clipped_rows(xywh, shown, size, together) == boxes
    assert together == one_by_one


@given(st.lists(st.tuples(*[st.floats(allow_nan=False)] * 3), min_size=1), st.sampled_from(["\n", "\r\n"]))
def test_rows_of_numbers_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, ...]], end: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "rows.txt"
    write(file, "".join(" " + ",".join(map(repr, row)) + end for row in rows))
    assert [tuple(row) for row in read_rows(file, "a,b,c").tolist()] == rows


@pytest.mark.parametrize(
    ("last", "trusted"),
    [
        ("1,2,30,40\n", True),
        ("1.0000,2.0000,30.0000,40.5000", True),
        (" 1.00,2.00,30.00,40.50\r", True),
        ("1.0000,2.0000,30.0000,40.500", False),
        ("1.0000,2.0000,30.0000,40.", False),
        ("1,2,30,40", False),
        ("1,2,30,40.5", False),
    ],
)
def test_a_last_line_without_an_end_is_trusted_if_it_has_all_decimals(tmp_path: Path, last: str, trusted: bool) -> None:
    file = write(tmp_path / "groundtruth.txt", "5,6,7,8\n" + last)
    frames = [(number, tmp_path / f"{number}.jpg") for number in (1, 2)]
    rows = read_boxes(file, frames)
    assert rows[0].tolist() == [5, 6, 7, 8]
    assert np.isfinite(rows[1]).all() == trusted
    if trusted:
        assert len(read_boxes(file, [*frames, (3, tmp_path / "3.jpg")])) == 2
    else:
        with pytest.raises(UserError, match=r"groundtruth\.txt: cut off in line 2, for 3 frames"):
            read_boxes(file, [*frames, (3, tmp_path / "3.jpg")])


def test_flags_in_both_forms(tmp_path: Path) -> None:
    for text in ("0,1,8", "0,1,8\n", "0\n1\n8\n", "0\r\n1\r\n8"):
        assert read_flags(write(tmp_path / "flags", text), 3).tolist() == [0, 1, 8]
    with pytest.raises(UserError, match="line 2 is not a whole number"):
        read_flags(write(tmp_path / "flags", "0\nx\n0\n"), 3)


def test_names_and_frames(tmp_path: Path) -> None:
    assert sequence_names(write(tmp_path / "list.txt", "a-1\r\n -b_2 \n")) == ["a-1", "-b_2"]
    for name in ("10.jpg", "9.jpg", "._9.jpg", "x.jpg", "9.png", "8.jpg.part", "1" * 40 + ".jpg"):
        write(tmp_path / "frames" / name, "")
    assert numbered_frames(tmp_path / "frames") == [
        (9, tmp_path / "frames" / "9.jpg"),
        (10, tmp_path / "frames" / "10.jpg"),
    ]


class TestMiniature:
    STYLE = Style(frames=5)
    COUNTS = {"got10k": 3, "lasot": 4, "mot17": 3, "trackingnet": 14}

    @pytest.fixture(scope="class")
    def world(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
        amounts = Amounts(**self.COUNTS)
        return make_world(tmp_path_factory.mktemp("world") / "w", 7, amounts, self.STYLE)

    def read(self, world: dict[str, Path], name: str) -> list[Track]:
        tally = Tally()
        tracks = [one for one in SOURCES[name].read(world[name], tally) if isinstance(one, Track)]
        assert tally.counts == {}
        return tracks

    def same(self, track: Track, drawn: list[Drawn]) -> bool:
        """Whether the boxes that can be seen are those drawn, exactly."""
        size = (self.STYLE.size, self.STYLE.size)
        pairs = zip(track.frames, drawn, strict=True)
        return all(frame.box in (None, Box.from_pixels(*one.box, size)) for frame, one in pairs)

    def test_only_what_is_wanted_is_written(self, world: dict[str, Path]) -> None:
        assert set(world) == {*self.COUNTS, "mig-bench"}
        assert {folder.name for folder in (world["mig-bench"] / "sources").iterdir()} == set(self.COUNTS)

    def test_lasot(self, world: dict[str, Path]) -> None:
        tracks = self.read(world, "lasot")
        assert len(tracks) == 4
        for number, track in enumerate(tracks, start=1):
            rng = stream(7, "train", "lasot", number)
            absent = int(rng.integers(1, 4))
            _, objects = drawing.sequence(rng, self.STYLE, absent)
            assert track.label == objects[0].label.replace(" ", "")
            assert self.same(track, objects)
            assert [frame.box is None for frame in track.frames] == [position == absent for position in range(5)]
            assert rows_of(track.frames[0].image.parents[1] / "groundtruth.txt")[absent][2] > 0  # an old box

    def test_mot17(self, world: dict[str, Path]) -> None:
        tracks = {track.id: track for track in self.read(world, "mot17")}
        for number in range(1, 4):
            _, objects = drawing.sequence_of_several(stream(7, "train", "mot17", number), self.STYLE)
            assert len(objects[0]) in (2, 3)
            for place, one in enumerate(zip(*objects, strict=True), start=1):
                track = tracks.pop(f"MOT17-{number:02d}-{place}")
                assert self.same(track, list(one))
                assert None not in boxes(track)
        assert not tracks

    def test_trackingnet(self, world: dict[str, Path]) -> None:
        tracks = {track.id: track for track in self.read(world, "trackingnet")}
        assert len({track.frames[0].image.parts[-4] for track in tracks.values()}) == 12
        for number in range(1, 15):
            _, objects = drawing.sequence(stream(7, "train", "trackingnet", number), self.STYLE)
            track = tracks[f"-drawn{number:05d}_0"]
            assert track.label == objects[0].label
            assert self.same(track, objects)
            assert None not in boxes(track)

    def test_got10k(self, world: dict[str, Path]) -> None:
        for number, track in enumerate(self.read(world, "got10k"), start=1):
            _, objects = drawing.sequence(stream(7, "train", "got10k", number), self.STYLE)
            assert self.same(track, objects)
            assert None not in boxes(track)

    def test_objects_that_move_together_never_touch(self) -> None:
        for number in range(50):
            _, objects = drawing.sequence_of_several(stream(3, number), self.STYLE)
            for shown in objects:
                taken = np.zeros((self.STYLE.size, self.STYLE.size), int)
                for one in shown:
                    x1, y1, x2, y2 = one.box
                    taken[y1:y2, x1:x2] += 1
                assert taken.max() == 1

    def test_an_absent_object_is_not_painted(self) -> None:
        shown, _ = drawing.sequence(stream(3, 1), self.STYLE)
        gone, objects = drawing.sequence(stream(3, 1), self.STYLE, 2)
        for position, (a, b) in enumerate(zip(shown, gone, strict=True)):
            differs = (np.asarray(a) != np.asarray(b)).any(axis=2)
            x1, y1, x2, y2 = objects[position].box
            assert differs[y1:y2, x1:x2].any() == (position == 2)
