"""MOT17: every row of a real sample, small sequences made here, and faults put in on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest
from tracks import agrees, boxes, expected, place_frames, rows_of, write

from migician.boxes import Box
from migician.errors import UserError
from migician.sources import mot17
from migician.sources.scenes import Tally


class TestMot17:
    INFO = "[Sequence]\nname=MOT17-02-FRCNN\nimDir=img1\nseqLength=600\nimWidth=100\nimHeight=50\nimExt=.jpg\n\n"

    @pytest.fixture
    def sequence(self, tmp_path: Path) -> Path:
        return self.place(tmp_path, "MOT17-02-FRCNN")

    def place(self, root: Path, name: str, *rows: str, end: str = "\n") -> Path:
        folder = root / "train" / name
        place_frames(folder / "img1", [f"{number:06d}.jpg" for number in range(1, 6)])
        write(folder / "gt" / "gt.txt", "".join(row + end for row in rows or ["1,1,11,6,20,10,1,1,1.0"]))
        write(folder / "seqinfo.ini", self.INFO.replace("\n", end))
        return folder

    def test_every_row_of_the_real_sample(self, shared: Path) -> None:
        root = shared / "data/sources/mot17/MOT17"
        tally = Tally()
        tracks = list(mot17.read(root, tally))
        found = {(track.id, frame.image.stem): frame for track in tracks for frame in track.frames}
        assert {track.label for track in tracks} == {"pedestrian"}
        shown = hidden = 0
        for name in ("MOT17-02", "MOT17-04"):
            for row in rows_of(root / "train" / f"{name}-FRCNN" / "gt" / "gt.txt"):
                frame, number, x, y, w, h, flag, kind, visibility = row
                one = found.pop((f"{name}-{number:.0f}", f"{frame:06.0f}"), None)
                if flag == 1 and kind == 1 and visibility >= mot17.MIN_VISIBILITY:
                    assert one is not None
                    assert one.box is not None
                    assert agrees(one, expected([x - 1, y - 1, w, h], (1920, 1080)))
                    shown += 1
                else:
                    assert one is None or one.box is None
                    assert one is None or one.is_hidden == (flag == 1 and kind == 1 and visibility == 0)
                    hidden += flag == 1 and kind == 1
        assert not [frame for frame in found.values() if frame.box]  # no box but from a row
        assert shown + hidden == 424
        assert tally.counts["pedestrian mostly hidden"] == hidden
        assert tally.counts["static person"] == 60
        assert tally.counts["not a pedestrian to be considered"] == 176 + 144 + 12 + 8 + 100 + 8 + 8 + 8
        assert all(frame.image.is_file() for track in tracks for frame in track.frames)

    def test_only_who_is_wholly_covered_is_known_to_be_hidden(self, tmp_path: Path) -> None:
        place = "11,6,20,10,1,1"
        rows = [f"1,7,{place},1", f"2,7,{place},0.2", f"3,7,{place},0", f"4,7,{place},nan", f"5,7,{place},1"]
        self.place(tmp_path, "MOT17-02-FRCNN", *rows)
        (track,) = mot17.read(tmp_path, Tally())
        assert [(frame.box is not None, frame.is_hidden) for frame in track.frames] == [
            (True, False),
            (False, False),
            (False, True),
            (False, False),
            (True, False),
        ]
        self.place(tmp_path / "gap", "MOT17-02-FRCNN", f"1,7,{place},1", f"3,7,{place},1", "2,7,300,6,20,10,1,1,1")
        (track,) = mot17.read(tmp_path / "gap", Tally())
        assert [(frame.box is not None, frame.is_hidden) for frame in track.frames] == [
            (True, False),
            (False, False),  # beyond the image, and as visible as can be: the row is broken
            (True, False),
        ]

    def test_pixels_count_from_one(self, tmp_path: Path) -> None:
        self.place(tmp_path, "MOT17-02-FRCNN", "1,7,1,1,100,50,1,1,1", "2,7,11,6,20,10,1,1,1")
        tally = Tally()
        (track,) = mot17.read(tmp_path, tally)
        assert (track.id, track.label) == ("MOT17-02-7", "pedestrian")
        assert boxes(track) == [Box(0, 0, 1, 1), Box(0.1, 0.1, 0.3, 0.3)]
        assert tally.counts == {}

    def test_objects_that_vanish_and_return(self, tmp_path: Path) -> None:
        kept, away = "11,6,20,10,1,1,0.9", "11,6,20,10,1,1,0.1"
        rows = [f"1,3,{away}", f"2,3,{kept}", f"3,3,{away}", f"5,3,{kept}", f"2,4,{away}", f"9,3,{kept}"]
        self.place(tmp_path, "MOT17-02-FRCNN", *rows)
        tally = Tally()
        (track,) = mot17.read(tmp_path, tally)
        assert [(frame.image.name, frame.box is not None) for frame in track.frames] == [
            ("000002.jpg", True),
            ("000003.jpg", False),
            ("000004.jpg", False),
            ("000005.jpg", True),
        ]
        assert tally.counts == {"pedestrian mostly hidden": 3, "frame annotated but missing": 1}

    @pytest.mark.parametrize("flag_and_class", ["0,7", "0,1", "1,3", "1,7", "0,8"])
    def test_what_is_not_to_be_considered(self, tmp_path: Path, flag_and_class: str) -> None:
        self.place(tmp_path, "MOT17-02-FRCNN", f"1,1,11,6,20,10,{flag_and_class},1.0")
        tally = Tally()
        assert list(mot17.read(tmp_path, tally)) == []
        reason = "static person" if flag_and_class.endswith("7") else "not a pedestrian to be considered"
        assert tally.counts == {reason: 1}

    def test_one_detector_a_sequence(self, tmp_path: Path) -> None:
        for name in ("MOT17-02-SDP", "MOT17-02-DPM", "MOT17-04-SDP", "MOT17-02-FRCNN"):
            self.place(tmp_path, name)
        for file in (tmp_path / "train" / "MOT17-02-FRCNN" / "img1").iterdir():
            file.unlink()  # the same frames as of the others: some keep them once
        tracks = list(mot17.read(tmp_path, Tally()))
        assert [(track.id, track.frames[0].image.parts[-3]) for track in tracks] == [
            ("MOT17-02-1", "MOT17-02-DPM"),
            ("MOT17-04-1", "MOT17-04-SDP"),
        ]

    def test_line_ends_of_windows(self, tmp_path: Path) -> None:
        self.place(tmp_path, "MOT17-02-FRCNN", "1,7,11,6,20,10,1,1,1", "2,7,11,6,20,10,1,1,1", end="\r\n")
        (track,) = mot17.read(tmp_path, Tally())
        assert boxes(track) == [Box(0.1, 0.1, 0.3, 0.3)] * 2

    @pytest.mark.parametrize(
        ("file", "content", "said"),
        [
            ("gt/gt.txt", "1,1,11,6,20,10,1,1,1\n1,2,11,6,20,10,1\n", "line 2 is not frame,id,left"),
            ("gt/gt.txt", "1,1,11,6,20,10,1,1,1\n1.5,1,11,6,20,10,1,1,1\n", "line 2 has a frame, id"),
            ("gt/gt.txt", "nan,1,11,6,20,10,1,1,1\n", "line 1 has a frame, id"),
            (
                "gt/gt.txt",
                "1,1,1,6,2,1,1,1,1\n2,1,1,6,2,1,1,1,1\n1,1,5,6,2,1,1,1,1\n",
                "line 3 gives object 1",
            ),
            ("gt/gt.txt", "", "is empty"),
            ("seqinfo.ini", "[Sequence]\nimWidth=100\n", "imHeight"),
            ("seqinfo.ini", "[Sequence]\nimWidth=100\nimHeight=tall\n", "tall"),
            ("seqinfo.ini", "[Sequence]\nimWidth=100\nimHeight=0\n", "100 x 0"),
            ("seqinfo.ini", f"[Sequence]\nimWidth={10**29}\nimHeight=100\n", f"{10**29} x 100"),
            ("seqinfo.ini", "imWidth=100\nimHeight=0\n", "no section headers"),
        ],
    )
    def test_faults_name_file_and_place(
        self, tmp_path: Path, sequence: Path, file: str, content: str, said: str
    ) -> None:
        write(sequence / file, content)
        with pytest.raises(UserError, match=said) as caught:
            list(mot17.read(tmp_path, Tally()))
        assert str(sequence / file) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_missing_frames(self, tmp_path: Path, sequence: Path) -> None:
        write(tmp_path / "train" / "MOT17-09-FRCNN" / "seqinfo.ini", self.INFO)
        tally = Tally()
        assert len(list(mot17.read(tmp_path, tally))) == 1
        assert tally.counts == {"sequence without unpacked frames": 1}
        for file in (sequence / "img1").iterdir():
            file.unlink()
        with pytest.raises(UserError, match="none of 2 sequences has frames .* unpack"):
            list(mot17.read(tmp_path, Tally()))

    @pytest.mark.parametrize("split", ["test", "val"])
    def test_splits(self, tmp_path: Path, sequence: Path, split: str) -> None:
        with pytest.raises(UserError, match="has no gt/gt.txt"):
            list(mot17.read(tmp_path, Tally(), split=split))
