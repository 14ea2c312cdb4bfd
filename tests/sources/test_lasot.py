"""LaSOT: every row of real annotations in both forms, small sequences made here, and faults put in on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest
from tracks import agrees, boxes, expected, place_frames, rows_of, write

from migician.boxes import Box
from migician.errors import UserError
from migician.sources import lasot
from migician.sources.scenes import Tally, Track


class TestLasot:
    SIZE = (1280, 720)

    @pytest.fixture
    def sequence(self, tmp_path: Path) -> Path:
        folder = tmp_path / "electricfan" / "electricfan-3"
        place_frames(folder / "img", [f"{number:08d}.jpg" for number in range(1, 6)])
        write(folder / "groundtruth.txt", "10,5,20,10\n-5,5,20,10\n10,5,20,10\n10,5,20,10\n10,5,0,10\n")
        write(folder / "full_occlusion.txt", "0,0,1,0,0")
        write(folder / "out_of_view.txt", "0,0,0,1,0\n")
        write(tmp_path / "training_set.txt", "electricfan-3\n")
        return folder

    @staticmethod
    def check_real(root: Path, real: Path, tracks: list[Track], size: tuple[int, int]) -> int:
        """Every frame of `tracks` against the real files; gives the number of absent rows."""
        absences = 0
        for track in tracks:
            rows = rows_of(real / f"{track.id}.txt")
            absent = (real / "absent" / f"{track.id}.txt").read_text().split()
            assert len(track.frames) == len(rows) == len(absent)
            for number, (frame, row, flag) in enumerate(zip(track.frames, rows, absent, strict=True), start=1):
                assert frame.is_hidden == (flag == "1")
                assert frame.image == root / track.label / track.id / "img" / f"{number:08d}.jpg"
                assert agrees(frame, None if flag == "1" else expected(row, size)), (track.id, number)
                absences += flag == "1"
        return absences

    def names(self, real: Path) -> dict[str, int]:
        return {file.stem: file.read_bytes().count(b"\n") for file in sorted(real.glob("*.txt"))}

    def test_every_row_of_the_real_toolkit_form(self, shared: Path, tmp_path: Path) -> None:
        real = shared / "data/sources/lasot/toolkit_layout/annos"
        (tmp_path / "annos").symlink_to(real)
        for name, count in self.names(real).items():
            images = [f"{number:08d}.jpg" for number in range(1, count + 1)]
            place_frames(tmp_path / name.split("-")[0] / name / "img", images, self.SIZE)
        tally = Tally()
        tracks = list(lasot.read(tmp_path, tally))
        assert [track.id for track in tracks] == ["airplane-1", "bicycle-3", "drone-11", "licenseplate-12", "yoyo-15"]
        assert sum(len(track.frames) for track in tracks) == 8473
        stale = sum(
            flag == "1" and row[2] * row[3] > 0
            for name in self.names(real)
            for flag, row in zip(
                (real / "absent" / f"{name}.txt").read_text().split(), rows_of(real / f"{name}.txt"), strict=True
            )
        )
        assert stale > 0  # else the next line would not test what it is for
        assert self.check_real(tmp_path, real, tracks, self.SIZE) > stale

    def test_every_row_of_the_real_released_form(self, shared: Path, tmp_path: Path) -> None:
        real = shared / "data/sources/lasot"
        for name in ("training_set.txt", "testing_set.txt"):
            (tmp_path / name).symlink_to(real / "LaSOT" / name)
        annos = real / "toolkit_layout" / "annos"
        for name, count in self.names(annos).items():
            folder = tmp_path / name.split("-")[0] / name
            place_frames(folder / "img", [f"{number:08d}.jpg" for number in range(1, count + 1)], self.SIZE)
            (folder / "groundtruth.txt").symlink_to(real / "LaSOT" / folder.parent.name / name / "groundtruth.txt")
            absent = (annos / "absent" / f"{name}.txt").read_text().split()
            # The released flags are not in the sample: the toolkit's, dealt to the two files in turn.
            for kind, turn in (("full_occlusion", 0), ("out_of_view", 1)):
                flags = [flag if position % 2 == turn else "0" for position, flag in enumerate(absent)]
                write(folder / f"{kind}.txt", ",".join(flags))
        tally = Tally()
        train, test = list(lasot.read(tmp_path, tally)), list(lasot.read(tmp_path, Tally(), split="test"))
        listed = {split: (real / "LaSOT" / f"{split}ing_set.txt").read_text().split() for split in ("train", "test")}
        for split, tracks in (("train", train), ("test", test)):
            assert {track.id for track in tracks} == {name for name in self.names(annos) if name in listed[split]}
        assert tally.counts["sequence without unpacked frames"] == 1120 - len(train)
        self.check_real(tmp_path, annos, train + test, self.SIZE)

    def test_flags_boxes_and_label(self, tmp_path: Path, sequence: Path) -> None:
        tally = Tally()
        (track,) = lasot.read(tmp_path, tally)
        assert (track.id, track.label) == ("electricfan-3", "electricfan")
        assert boxes(track) == [Box(0.1, 0.1, 0.3, 0.3), Box(0, 0.1, 0.15, 0.3), None, None, None]
        assert tally.counts == {"box clipped to the image": 1, "box without area in the image": 1}

    def test_a_class_may_have_a_dash(self, tmp_path: Path, sequence: Path) -> None:
        sequence.parent.rename(tmp_path / "electric-fan")
        (tmp_path / "electric-fan" / "electricfan-3").rename(tmp_path / "electric-fan" / "electric-fan-3")
        write(tmp_path / "training_set.txt", "electric-fan-3\n")
        (track,) = lasot.read(tmp_path, Tally())
        assert track.label == "electric-fan"

    def test_without_lists_the_folders_are_read(self, tmp_path: Path, sequence: Path) -> None:
        (tmp_path / "training_set.txt").unlink()
        tally = Tally()
        assert [track.id for track in lasot.read(tmp_path, tally)] == ["electricfan-3"]
        assert tally.counts["sequence that may be of the test split, as no list says"] == 1
        write(tmp_path / "testing_set.txt", "electricfan-3\n")
        with pytest.raises(UserError, match="none of 0 sequences of split 'train'"):
            list(lasot.read(tmp_path, Tally()))

    def test_rows_go_with_the_number_of_their_frame(self, tmp_path: Path, sequence: Path) -> None:
        write(sequence / "groundtruth.txt", "0,0,10,10\n0,0,20,10\n0,0,30,10\n0,0,40,10\n")
        for kind in ("full_occlusion", "out_of_view"):
            write(sequence / f"{kind}.txt", "0,0,0,0")
        (sequence / "img" / "00000002.jpg").rename(sequence / "img" / "00000000.jpg")  # no row before the first
        tally = Tally()
        (track,) = lasot.read(tmp_path, tally)
        assert [(frame.image.name, frame.box.x2) for frame in track.frames if frame.box] == [
            ("00000001.jpg", 0.1),
            ("00000003.jpg", 0.3),
            ("00000004.jpg", 0.4),
        ]
        # Some released sequences have a frame more than rows.
        assert tally.counts == {"frame without an annotation": 2, "frame annotated but missing": 1}

    @pytest.mark.parametrize(
        ("file", "content", "said"),
        [
            ("groundtruth.txt", "1,2,3,4\n" * 4 + "1,2,3\n", "line 5 is not x,y,w,h: '1,2,3'"),
            ("groundtruth.txt", "1,2,3,4\n" * 2 + "1,2,3,4,5\n1,2,3\n", "line 3 is not x,y,w,h"),
            ("groundtruth.txt", "1,2,3,4\n1,2,x,4\n", "line 2 is not x,y,w,h"),
            ("groundtruth.txt", "1,2,3,4\n\n1,2,3,4\n", "line 2 is not x,y,w,h"),
            ("groundtruth.txt", "1,2,3,4\n1,2,3,4", "cut off in line 2, for 5 frames"),
            ("groundtruth.txt", "", "is empty"),
            ("full_occlusion.txt", "0,0,0,0", "4 values for 5 frames"),
            ("out_of_view.txt", "0,0,-,0,0", "value 3 is not a whole number: '-'"),
            ("out_of_view.txt", "", "0 lines for 5 frames"),
        ],
    )
    def test_faults_name_file_and_place(
        self, tmp_path: Path, sequence: Path, file: str, content: str, said: str
    ) -> None:
        write(sequence / file, content)
        with pytest.raises(UserError, match=said) as caught:
            list(lasot.read(tmp_path, Tally()))
        assert str(sequence / file) in str(caught.value)

    def test_a_last_line_without_end_is_not_trusted(self, tmp_path: Path, sequence: Path) -> None:
        write(sequence / "groundtruth.txt", "10,5,20,10\n" * 4 + "10,5,20,1")
        tally = Tally()
        (track,) = lasot.read(tmp_path, tally)
        assert [box is None for box in boxes(track)] == [False, False, True, True, True]
        assert tally.counts == {"box that is not a number": 1}

    def test_boxes_without_flags_are_refused(self, tmp_path: Path, sequence: Path) -> None:
        (sequence / "out_of_view.txt").unlink()
        with pytest.raises(UserError, match="they say which frames lack the object"):
            list(lasot.read(tmp_path, Tally()))

    def test_wrong_encoding(self, tmp_path: Path, sequence: Path) -> None:
        (sequence / "groundtruth.txt").write_bytes("1,2,3,4\n".encode("utf-16"))
        with pytest.raises(UserError, match=r"groundtruth\.txt: cannot be read"):
            list(lasot.read(tmp_path, Tally()))

    @pytest.mark.parametrize("name", ["../electricfan-3", "..", "a/b-1", "", "electricfan"])
    def test_names_that_are_no_sequences(self, tmp_path: Path, sequence: Path, name: str) -> None:
        write(tmp_path / "training_set.txt", f"electricfan-3\n{name}\nelectricfan-3\n")
        with pytest.raises(UserError, match=r"training_set\.txt: line 2 is not"):
            list(lasot.read(tmp_path, Tally()))

    def test_missing_frames(self, tmp_path: Path, sequence: Path) -> None:
        write(tmp_path / "training_set.txt", "electricfan-3\nyoyo-1\n")
        tally = Tally()
        assert len(list(lasot.read(tmp_path, tally))) == 1
        assert tally.counts["sequence without unpacked frames"] == 1
        write(tmp_path / "training_set.txt", "yoyo-1\n")
        with pytest.raises(UserError, match="none of 1 sequences of split 'train' has frames .* unpack"):
            list(lasot.read(tmp_path, Tally()))

    def test_splits(self, tmp_path: Path, sequence: Path) -> None:
        with pytest.raises(UserError, match="unknown split 'val'. Known: train, test"):
            list(lasot.read(tmp_path, Tally(), split="val"))
        with pytest.raises(UserError, match=r"testing_set\.txt: cannot be read: No such file"):
            list(lasot.read(tmp_path, Tally(), split="test"))
