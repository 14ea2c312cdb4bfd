"""TrackingNet: every row of real annotations, small sequences made here, and faults put in on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest
from tracks import HALF_A_PERMILLE, agrees, boxes, expected, place_frames, rows_of, write

from migician.errors import UserError
from migician.sources import trackingnet
from migician.sources.scenes import Tally


class TestTrackingNet:
    NAME = "-3TIfnTSM6c_2"

    @pytest.fixture
    def anno(self, tmp_path: Path) -> Path:
        place_frames(tmp_path / "TRAIN_3" / "frames" / self.NAME, [f"{number}.jpg" for number in range(12)])
        rows = [f" {number}.00,5.00,20.00,10.00\r\n" for number in range(12)]
        return write(tmp_path / "TRAIN_3" / "anno" / f"{self.NAME}.txt", "".join(rows))

    def test_every_row_of_the_real_sample(self, shared: Path, tmp_path: Path) -> None:
        real, size = shared / "data/sources/trackingnet/TRAIN_0/anno", (480, 360)
        (tmp_path / "TRAIN_0").mkdir()
        (tmp_path / "TRAIN_0" / "anno").symlink_to(real)
        for file in real.glob("*.txt"):
            count = file.read_bytes().count(b"\n")
            place_frames(tmp_path / "TRAIN_0/frames" / file.stem, [f"{number}.jpg" for number in range(count)], size)
        tally = Tally()
        tracks = list(trackingnet.read(tmp_path, tally))
        assert [track.id for track in tracks] == sorted(file.stem for file in real.glob("*.txt"))
        assert sum(len(track.frames) for track in tracks) == 4500
        for track in tracks:
            rows = rows_of(real / f"{track.id}.txt")
            for number, (frame, row) in enumerate(zip(track.frames, rows, strict=True)):
                assert frame.image.name == f"{number}.jpg"
                assert agrees(frame, expected(row, size)), (track.id, number)
        beyond = [
            box
            for file in real.glob("*.txt")
            for box in ([x, y, x + w - size[0], y + h - size[1]] for x, y, w, h in rows_of(file))
            if min(box[0] / size[0], box[1] / size[1]) < -HALF_A_PERMILLE
            or max(box[2] / size[0], box[3] / size[1]) > HALF_A_PERMILLE
        ]
        assert tally.counts.get("box clipped to the image") == len(beyond)

    def test_frames_go_by_number_not_by_name(self, tmp_path: Path, anno: Path) -> None:
        tally = Tally()
        (track,) = trackingnet.read(tmp_path, tally)
        assert (track.id, track.label) == (self.NAME, "")
        assert [frame.image.name for frame in track.frames] == [f"{number}.jpg" for number in range(12)]
        assert [box and box.x1 for box in boxes(track)] == [number / 100 for number in range(12)]
        assert tally.counts == {}

    def test_classes_where_there_is_a_list(self, tmp_path: Path, anno: Path) -> None:
        write(tmp_path / "trackingnet_classmap.txt", f"Nf1aqv5Fg5o_0\tairplane\n{self.NAME}\tskate board\n")
        (track,) = trackingnet.read(tmp_path, Tally())
        assert track.label == "skate board"
        write(tmp_path / "trackingnet_classmap.txt", f"Nf1aqv5Fg5o_0\tairplane\n{self.NAME} car\n")
        with pytest.raises(UserError, match=r"trackingnet_classmap\.txt: line 2 is not"):
            list(trackingnet.read(tmp_path, Tally()))

    def test_parts_come_by_number(self, tmp_path: Path, anno: Path) -> None:
        for part in (10, 0):
            name = f"abcdefghijk_{part}"
            place_frames(tmp_path / f"TRAIN_{part}" / "frames" / name, ["0.jpg"])
            write(tmp_path / f"TRAIN_{part}" / "anno" / f"{name}.txt", "1,2,3,4\n")
        write(tmp_path / "TRAIN_10" / "anno" / "._abcdefghijk_10.txt", "left by a file system of Apple's")
        tally = Tally()
        tracks = trackingnet.read(tmp_path, tally)
        assert [track.id for track in tracks] == ["abcdefghijk_0", self.NAME, "abcdefghijk_10"]
        assert tally.counts == {}

    def test_missing_frames(self, tmp_path: Path, anno: Path) -> None:
        write(tmp_path / "TRAIN_3" / "anno" / "abcdefghijk_0.txt", "1,2,3,4\n")
        write(tmp_path / "TRAIN_3" / "zips" / "abcdefghijk_0.zip", "PK")
        (tmp_path / "TRAIN_3" / "frames" / self.NAME / "4.jpg").unlink()
        tally = Tally()
        (track,) = trackingnet.read(tmp_path, tally)
        assert [frame.box.x1 for frame in track.frames if frame.box] == [n / 100 for n in range(12) if n != 4]
        assert tally.counts == {"sequence without unpacked frames": 1, "frame annotated but missing": 1}
        anno.unlink()
        with pytest.raises(UserError, match=r"none of 1 sequences .* unpack each TRAIN_<k>/zips/<video>\.zip"):
            list(trackingnet.read(tmp_path, Tally()))

    def test_no_part_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="none of 0 sequences in TRAIN_<k>/anno/"):
            list(trackingnet.read(tmp_path, Tally()))

    def test_an_image_that_is_none(self, tmp_path: Path, anno: Path) -> None:
        frame = tmp_path / "TRAIN_3" / "frames" / self.NAME / "0.jpg"
        frame.write_bytes(b"\xff\xd8\xff")
        with pytest.raises(UserError, match=r"0\.jpg: cannot be read as an image"):
            list(trackingnet.read(tmp_path, Tally()))

    def test_faults_name_file_and_line(self, tmp_path: Path, anno: Path) -> None:
        write(anno, " 1.00,2.00,3.00,4.00\r\n 1.00,2.00\r\n")
        with pytest.raises(UserError, match=f"{self.NAME}.txt: line 2 is not x,y,w,h"):
            list(trackingnet.read(tmp_path, Tally()))

    @pytest.mark.parametrize("split", ["test", "val"])
    def test_splits(self, tmp_path: Path, anno: Path, split: str) -> None:
        with pytest.raises(UserError, match="first frames only"):
            list(trackingnet.read(tmp_path, Tally(), split=split))
