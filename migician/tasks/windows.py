"""A few frames of a sequence, chosen so that the answer is not the box in the question.

Most objects hardly move in a second: taken anywhere, half of the boxes asked for would overlap the given box by half
and more, and a model would learn to copy it. Of MIG-Bench's answers 13% do. Here a box is "near" the given one from an
IoU of 0.5 on, and "far" from it below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from migician.sampling import Dice
from migician.sources.index.columns import SCALE
from migician.sources.index.tracks import Tracks

Kind = Literal["any", "far", "near"]
"""Which boxes may be asked for."""

TRIES = 16
"""First frames looked at for one step."""
_REFUSALS = (
    "object not seen in any first frame",
    "object not seen after the first frame",
    "object too small",
    "object that stays where it is",
)
"""Why no window was found: what the best one lacked."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many frames, and how many frames of the sequence lie between them: as drawn, and the bounds."""

    count: int
    step: int
    shortest: int
    longest: int


class Window(NamedTuple):
    """Frames of an index, and the positions among them that are asked for."""

    frames: range
    asked: list[int]


@dataclass(frozen=True, slots=True)
class Search:
    """Looks through one track of an index, in one of several passes."""

    tracks: Tracks
    track: int
    turn: int
    passes: int
    """Pass k has the windows that begin at frame k of each `passes`, so that no two passes give the same one."""
    area: float
    """Smallest share of the image that a box may cover."""

    def shape(self, frames: tuple[int, int], seconds: tuple[float, float], rng: Dice) -> Shape | None:
        """A shape between the bounds, or what comes nearest in a short sequence: fewer frames, then smaller steps.

        None where the sequence has no window left for this pass.
        """
        room, fps = len(self.tracks.span(self.track)) - 1 - self.turn, float(self.tracks.fps[self.track])
        shortest, longest = (max(1, round(bound * fps)) for bound in seconds)
        count = max(frames[0], min(rng.randint(*frames), 1 + max(room, 0) // shortest))
        step, fits = rng.randint(shortest, longest), room // (count - 1)
        if fits < 1:
            return None
        return Shape(count, min(step, fits), min(shortest, fits), min(longest, fits))

    def find(self, shape: Shape, place: int, kind: Kind, rng: Dice) -> Window | str:
        """A window in which the box at position `place` is of a kind, or why there is none.

        Place 0 stands for all later frames: each shows the object, or is known not to. Where no window of the drawn
        step serves, other steps do: the longest, up to the last frame, or for near boxes the shortest, up to the
        second frame.
        """
        other, last = (shape.shortest, 1) if kind == "near" else (shape.longest, shape.count - 1)
        best = 0
        for step, where in dict.fromkeys([(shape.step, place), (other, last if place else 0)]):
            reach = step * (shape.count - 1)
            for start in self.starts(reach, rng):
                asked = range(start + step, start + reach + 1, step)
                lacks = self._lacks(start, asked[where - 1 : where] if where else asked, kind)
                if lacks == len(_REFUSALS):
                    frames = range(start, start + reach + 1, step)
                    places = [where] if where else range(1, shape.count)
                    return Window(frames, [one for one in places if self.tracks.is_seen(frames[one])])
                best = max(best, lacks)
        return _REFUSALS[best]

    def starts(self, reach: int, rng: Dice) -> Iterator[int]:
        """Frames that show the object with `reach` more of the sequence after them: some, spread over the sequence."""
        span = self.tracks.span(self.track)
        seen = self.tracks.seen(self.track)[self.turn : len(span) - reach : self.passes].nonzero()[0]
        if count := len(seen):
            tries, first = min(count, TRIES), rng.randrange(count)
            for number in range(tries):
                yield span.start + self.turn + self.passes * int(seen[(first + number * count // tries) % count])

    def others(self, window: Window, kind: Kind) -> list[int]:
        """Positions of more frames of a window that may be asked for: each by itself is of the kind."""
        frames = window.frames
        places = [place for place in range(1, len(frames)) if place not in window.asked]
        fits = len(_REFUSALS)
        return [place for place in places if self._lacks(frames[0], frames[place : place + 1], kind) == fits]

    def _lacks(self, first: int, later: range, kind: Kind) -> int:
        """The number of the refusal of a window with these frames asked for, or how many there are where it serves."""
        corners, least = self.tracks.flat_corners, self.area * SCALE * SCALE
        x1, y1, x2, y2 = corners[4 * first : 4 * first + 4]
        area = (x2 - x1) * (y2 - y1)
        lacks = 1
        for frame in later:
            u1, v1, u2, v2 = corners[4 * frame : 4 * frame + 4]
            if not u2:
                if len(later) > 1 and not self.tracks.is_hidden(frame):
                    return 1  # nothing is known of it
                continue
            lacks = len(_REFUSALS)
            other = (u2 - u1) * (v2 - v1)
            if area < least or other < least:
                return 2
            if kind != "any":  # min and max would take as long as the rest
                width = (x2 if x2 < u2 else u2) - (x1 if x1 > u1 else u1)
                height = (y2 if y2 < v2 else v2) - (y1 if y1 > v1 else v1)
                near = width > 0 and height > 0 and 3 * width * height >= area + other
                if near != (kind == "near"):
                    return 3
        return lacks
