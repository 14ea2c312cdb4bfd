"""Object tracking: a few frames of one sequence, the first frame's box given, another frame's asked.

Sources: GOT-10k, LaSOT, TrackingNet, MOT17 (arXiv 2501.05767, section 4.1: 4-6 frames at
intervals, a small share of "put these frames in order" questions). Example:
images: 00000001.jpg 00000011.jpg 00000021.jpg 00000031.jpg
human: ... For the object in the first image marked with red bounding box(<|box_start|>(139,305),
       (495,743)<|box_end|>), please locate it in the 2th image.
gpt:   It's in the second image. <|box_start|>(82,338),(540,812)<|box_end|>
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from migician.boxes import Box
from migician.boxtext import QWEN
from migician.index.tracks import Tracks
from migician.scenes import Tally
from migician.seeds import dice, stream
from migician.tasks.draft import (
    Count,
    Draft,
    Manner,
    Picture,
    Plan,
    Share,
    Speaker,
    Target,
    Wordings,
    image_fields,
    ordered,
)
from migician.tasks.reasoning import course


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a tracking sample looks like."""

    frames: tuple[Count, Count] = (4, 6)
    interval: tuple[Count, Count] = (5, 20)
    """Frames of the sequence from one shown to the next; less where the sequence is short."""
    passes: Count = 2
    """Samples one sequence may give at most, each from another first frame."""
    ordering: Share = 0.02
    """Samples of three frames or more that ask for the order in time instead of a box."""
    whole: Share = 0.3
    """Of the others: samples that ask for the object in every later frame, where several are and all are known."""
    turns: Count = 1
    """Questions of the rest, each about another later frame."""
    reasoning: Share = 0.2
    """Of the answers with words before the box: those that reason their way to it."""
    manner: Manner = Manner()

    def __post_init__(self) -> None:
        ordered("frames", self.frames)
        ordered("interval", self.interval)
        if self.frames[0] < 2:
            raise ValueError(f"frames must be two or more, not {list(self.frames)}")


def plan(tracks: Tracks, seed: int, tally: Tally, settings: Settings) -> Iterator[Plan]:
    """(pass, track): sequences in random order, pass after pass until `settings.passes`."""
    for turn in range(settings.passes):
        for track in stream(seed, "order", turn).permutation(len(tracks)).tolist():
            yield turn, track


def drafts(tracks: Tracks, plans: Sequence[Plan], seed: int, settings: Settings) -> Iterator[Draft | str]:
    """Frames of the sequence at one interval, the first of which shows the object."""
    return (_draft(tracks, turn, track, seed, settings) for turn, track in plans)


def _draft(tracks: Tracks, turn: int, track: int, seed: int, settings: Settings) -> Draft | str:
    rng, span, seen = dice(seed, turn, track), tracks.span(track), tracks.seen(track)
    count, step = rng.randint(*settings.frames), rng.randint(*settings.interval)
    step = min(step, (len(span) - 1) // (count - 1))
    if step < 1:
        return "sequence shorter than a sample"
    reach = step * (count - 1)
    # No two passes begin at the same frame, so none of their samples is the same.
    starts = np.flatnonzero(seen[turn : len(span) - reach : settings.passes]) * settings.passes + turn
    if not len(starts):
        return "object not seen in any other first frame" if turn else "object not seen in any first frame"
    start = int(starts[rng.randrange(len(starts))])
    frames = span[start : start + reach + 1 : step]
    pictures = [Picture(tracks.paths[frame]) for frame in frames]
    speaker = Speaker(rng, settings.manner, settings.reasoning)
    # Of two images, the second has only one place; where many objects share the frames, one asks for their order.
    if speaker.chance(settings.ordering) and len(pictures) > 2 and tracks.is_first(track):
        return _ordering(pictures, speaker)
    shown = seen[start : start + reach + 1 : step].tolist()
    boxes = [tracks.box(frame) if visible else None for frame, visible in zip(frames, shown, strict=True)]
    if not any(boxes[1:]):
        return "object not seen after the first frame"
    # Every later frame is asked for only where there are several, each with a box or known to show nothing.
    is_known = len(boxes) > 2 and all(box or tracks.is_hidden(frame) for box, frame in zip(boxes, frames, strict=True))
    if speaker.chance(settings.whole) and is_known:
        return speaker.draft(pictures, [_everywhere(boxes, tracks.label(track), speaker)])
    return speaker.draft(pictures, _singly(boxes, tracks.label(track), speaker, settings.turns))


def _singly(boxes: list[Box | None], label: str, speaker: Speaker, count: int) -> list[tuple[str, str]]:
    later = [(position, box) for position, box in enumerate(boxes) if position and box]
    first = {"box": _written(boxes[0])}
    return [
        speaker.exchange(
            ONE,
            SENTENCES,
            Target(position, box, label),
            image_fields(position) | first,
            functools.partial(course, boxes[: position + 1]),
        )
        for position, box in speaker.some(later, count)
    ]


def _everywhere(boxes: list[Box | None], label: str, speaker: Speaker) -> tuple[str, str]:
    speaker.targets += [Target(position, box, label) for position, box in enumerate(boxes) if position and box]
    question = speaker.pick(ALL).format(box=_written(boxes[0]))
    return question, "\n".join(f"Image-{number}: {_written(box)}" for number, box in enumerate(boxes[1:], start=2))


def _ordering(pictures: list[Picture], speaker: Speaker) -> Draft:
    # Motion looks as likely backwards, so the earliest frame is given. The others are out of order: where they come
    # out in it, the first goes to the end.
    in_order = list(range(1, len(pictures)))
    later = speaker.rng.sample(in_order, len(in_order))
    shown = [0, *(later if later != in_order else [*later[1:], later[0]])]
    in_time = ", ".join(f"Image-{shown.index(time) + 1}" for time in range(len(pictures)))
    return speaker.draft([pictures[time] for time in shown], [(speaker.pick(ORDER), in_time)])


def _written(box: Box | None) -> str:
    return QWEN.write(box) if box else "not visible"


ONE = Wordings(
    benchmark=(
        "These are a sequence of images containing moving objects. For the object in the first image marked with red "
        "bounding box({box}), please locate it in the {nth} image. ",
    ),
    own=(
        "The object at {box} in the first image is in this sequence. Where is it in the {ordinal} image?",
        "Image-1 shows a target at {box}. Find the same target in Image-{number}.",
        "These frames come from one video. Track what is at {box} in the first frame to the {ordinal} frame.",
        "Follow the object {box} of Image-1 and give its box in Image-{number}.",
        "In the first picture, look at {box}. Locate that same thing in the {ordinal} picture.",
        "The frames are in order of time. Given the object's box {box} in frame 1, what is its box in frame {number}?",
        "Where is the object at {box} (first image) in the {ordinal} image?",
        "You see a clip as single frames. Box in the {ordinal} image the object that the first image has at {box}.",
        "Starting from {box} in Image-1, please track the object and report where it is in Image-{number}.",
        "Please point out in the {ordinal} image the object marked by {box} in the first image.",
        "The target of this tracking sequence is at {box} in the first frame. Locate it in the {ordinal} frame.",
        "Which part of the {ordinal} image is covered by the object found at {box} in the first image?",
        "An object is at {box} in Image-1. Give the coordinates it has in Image-{number}.",
        "Look for the object of the first image, box {box}, in the {ordinal} image.",
        "Object to track: {box} in Image-1. Its place in Image-{number}, please.",
        "Follow an object over this image sequence. It is at {box} in the first image; find it in the {ordinal} image.",
        "Detect in Image-{number} the very object that {box} encloses in Image-1.",
        "What is the bounding box in the {ordinal} image of the object that was at {box} in the first image?",
        "The first image gives you the target, {box}. Search the {ordinal} image for it and draw its box.",
        "Here are several moments of one scene. Locate in Image-{number} what is at {box} in Image-1.",
    ),
)
ALL = (
    "Track the object at {box} in the first image through all the other images.",
    "Image-1 shows the target at {box}. Give its box in every later image.",
    "Follow what is at {box} in the first frame and report where it is in each of the following frames.",
    "Look at the object {box} of the first image. List its boxes in the images after it.",
)
ORDER = (
    "Image-1 is the earliest frame of a video, the others are mixed up. Put the images in order of time.",
    "The first image comes first in time. In which order were the images taken?",
    "Sort these video frames by time, starting with Image-1.",
)
SENTENCES = (
    "It's in the {ordinal} image.",
    "In the {ordinal} image, the object is here:",
    "The object in Image-{number}:",
    "In the {ordinal} image it is at",
)
