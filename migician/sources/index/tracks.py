"""Tracks in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from migician.boxes import Box, Size, writable
from migician.sources.formats.reading import size_of
from migician.sources.index.columns import (
    SCALE,
    Column,
    NumberedTexts,
    PathColumn,
    Paths,
    Texts,
    closing,
    mapped,
    view,
)
from migician.sources.scenes import Frame, Track

_NO_BOX, _HIDDEN = [0, 0, 0, 0], [1, 0, 0, 0]
"""Instead of a box, which is wider than nothing."""
_UNKNOWN = (0, 0)
"""Stands for the size of a frame whose box may have been divided by any."""


def write_tracks(tracks: Iterable[Track], folder: Path, root: Path) -> int:
    """Write `tracks`, whose frames lie below `root`, as columns into `folder`; gives how many."""
    paths = PathColumn(folder, root)
    boxes, ends = Column(folder / "boxes.u32", "I"), Column(folder / "ends.i64", "q")
    label_of, labels = Column(folder / "label_of.u32", "I"), NumberedTexts(folder / "labels.txt")
    which_size, sizes = Column(folder / "size_of.u32", "I"), Column(folder / "sizes.u32", "I")
    fps = Column(folder / "fps.f32", "f")
    numbers: dict[Size | None, int] = {}
    with closing(paths, boxes, ends, label_of, labels, which_size, sizes, fps):
        ends.append(0)
        for track in tracks:
            for frame in track.frames:
                paths.append(frame.image)
                if frame.size not in numbers:
                    numbers[frame.size] = len(numbers)
                    sizes.append(*(frame.size or _UNKNOWN))
            boxes.extend(_corners(track.frames))
            which_size.append(*(numbers[frame.size] for frame in track.frames))
            label_of.append(labels.number(track.label))
            fps.append(track.fps)
            ends.append(len(paths))
    return len(label_of)


def _corners(frames: Sequence[Frame]) -> NDArray[np.uint32]:
    """(frames, 4): the corners as they are written; `_HIDDEN` or `_NO_BOX` where none survives rounding to 0..1000."""
    corners = np.array([frame.box.as_tuple() if frame.box else _NO_BOX for frame in frames], np.float64).reshape(-1, 4)
    is_kept = writable(corners)
    written: NDArray[np.uint32] = np.rint(corners * is_kept[:, np.newaxis] * SCALE).astype(np.uint32)
    written[~is_kept & np.array([frame.is_hidden for frame in frames], np.bool_)] = _HIDDEN
    return written


class Tracks:
    """The tracks of one source. Tracks and frames are counted from 0; track i has the frames `span(i)`."""

    def __init__(self, folder: Path, root: Path = Path()) -> None:
        self._root = root
        self.paths = Paths(folder)
        self.ends: NDArray[np.int64] = mapped(folder / "ends.i64", "i8")
        self.corners: NDArray[np.uint32] = mapped(folder / "boxes.u32", "u4", 4)
        """(frames, 4): x1 y1 x2 y2 in parts of 2**31; without width where there is no box."""
        self.flat_corners = view(self.corners.ravel())
        """The same numbers, four a frame."""
        self.label_of: NDArray[np.uint32] = mapped(folder / "label_of.u32", "u4")
        self.labels = Texts(folder / "labels.txt").all()
        rates = folder / "fps.f32"  # indexes of earlier versions do not have it
        self.fps: NDArray[np.float32] = mapped(rates, "f4") if rates.is_file() else np.empty(0, np.float32)
        """(tracks,): frames of the sequence in a second; empty where the index does not say."""
        self._sizes: list[list[int]] | None = None
        if (folder / "size_of.u32").is_file():  # indexes of earlier versions do not have it
            self._size_of = view(mapped(folder / "size_of.u32", "u4"))
            self._sizes = mapped(folder / "sizes.u32", "u4", 2).tolist()

    def __len__(self) -> int:
        return len(self.label_of)

    def span(self, track: int) -> range:
        """The frames of a track."""
        return range(int(self.ends[track]), int(self.ends[track + 1]))

    def label(self, track: int) -> str:
        """What the object of a track is, where the source says so."""
        return self.labels[int(self.label_of[track])]

    def is_first(self, track: int) -> bool:
        """Whether the track before it has other frames; people in one sequence of MOT17 share theirs."""
        return track == 0 or not self.paths.share_folder(int(self.ends[track]), int(self.ends[track - 1]))

    def is_seen(self, frame: int) -> bool:
        """Whether a frame has a box of the object."""
        return self.flat_corners[4 * frame + 2] > 0

    def seen(self, track: int) -> NDArray[np.bool_]:
        """(frames of the track,): which have a box of the object."""
        frames = self.span(track)
        seen: NDArray[np.bool_] = self.corners[frames.start : frames.stop, 2] > 0  # no box ends at the left edge
        return seen

    def is_hidden(self, frame: int) -> bool:
        """Whether a frame is known not to show the object; where it has no box either, nothing is known."""
        return self.flat_corners[4 * frame : 4 * frame + 4].tolist() == _HIDDEN

    def box(self, frame: int) -> Box:
        """The object's box in a frame that has one."""
        x1, y1, x2, y2 = self.flat_corners[4 * frame : 4 * frame + 4].tolist()
        return Box(x1 / SCALE, y1 / SCALE, x2 / SCALE, y2 / SCALE)

    def size(self, frame: int) -> Size | None:
        """(width, height) in pixels that the object's box in a frame was divided by; None where that is not known.

        Earlier versions divided by the size of the sequence's first frame and did not keep it: that frame is read.
        """
        if self._sizes is None:
            track = int(np.searchsorted(self.ends, frame, side="right")) - 1
            return size_of(self._root / self.paths[int(self.ends[track])])
        width, height = self._sizes[self._size_of[frame]]
        return (width, height) if width else None
