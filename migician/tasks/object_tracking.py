"""Object tracking: a few frames of one sequence, the first frame's box given, another frame's asked.

Sources: GOT-10k, LaSOT, TrackingNet, MOT17 (arXiv 2501.05767, section 4.1: 4-6 frames at
intervals, a small share of "put these frames in order" questions). MIG-Bench's 550 samples have six
frames, 1.0 to 3.3 seconds apart. Example:
images: 00000001.jpg 00000011.jpg 00000021.jpg 00000031.jpg
human: ... For the object in the first image marked with red bounding box(<|box_start|>(139,305),
       (495,743)<|box_end|>), please locate it in the 2th image.
gpt:   It's in the second image. <|box_start|>(82,338),(540,812)<|box_end|>

Shuffled samples have the form of MGrounding-630k's: they ask for the order first, then about "the first image", which
is the first in time, wherever it stands in the list.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec

from migician.boxes import Box
from migician.boxtext import QWEN
from migician.sampling import dice, stream
from migician.sources.index.tracks import Tracks
from migician.sources.scenes import Tally
from migician.tasks.draft import AnswerSettings, Count, Draft, Picture, Plan, Several, Share, Speaker, Target, Wordings
from migician.tasks.reasoning import course
from migician.tasks.windows import Kind, Search, Window

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class TrackingSettings(AnswerSettings, frozen=True, forbid_unknown_fields=True):
    """What a tracking sample looks like."""

    frames: tuple[Several, Several] = (4, 6)
    seconds: tuple[Seconds, Seconds] = (1.0, 3.3)
    """From one frame shown to the next, MIG-Bench's; less where the sequence is short."""
    passes: Count = 2
    """Samples one sequence may give at most, each from another first frame."""
    copyable: Share = 0.13
    """Questions that may ask for a box with IoU >= 0.5 with the given one, MIG-Bench's share; 1 for no bound."""
    area: Share = 0.001
    """Smallest share of the image that a given box and one asked for may cover; 99% of MIG-Bench's are larger."""
    ordering: Share = 0.02
    """Samples of three frames or more that ask for the order in time instead of a box."""
    shuffle: Share = 0.0
    """Of the others, where all frames are known: those that show them out of order, ask for it, then for every box."""
    whole: Share = 0.3
    """Of the others: samples that ask for the object in every later frame, where several are and all are known."""
    turns: Count = 1
    """Questions of the rest, each about another later frame."""


def plan(tracks: Tracks, seed: int, tally: Tally, settings: TrackingSettings) -> Iterator[Plan]:
    """(pass, track): sequences in random order, pass after pass until `settings.passes`."""
    for turn in range(settings.passes):
        for track in stream(seed, "order", turn).permutation(len(tracks)).tolist():
            yield turn, track


def drafts(tracks: Tracks, plans: Sequence[Plan], seed: int, settings: TrackingSettings) -> Iterator[Draft | str]:
    """Frames of the sequence at one interval, the first of which shows the object."""
    return (_draft(tracks, turn, track, seed, settings) for turn, track in plans)


def _draft(tracks: Tracks, turn: int, track: int, seed: int, settings: TrackingSettings) -> Draft | str:
    rng = dice(seed, turn, track)
    search = Search(tracks, track, turn, settings.passes, settings.area)
    shape = search.shape(settings.frames, settings.seconds, rng)
    if shape is None:
        return "sequence too short for one more sample" if turn else "sequence shorter than a sample"
    speaker = Speaker(rng, settings.manner, settings.reasoning)
    # Of two images, the second has only one place; where many objects share the frames, one asks for their order.
    if speaker.chance(settings.ordering) and shape.count > 2 and tracks.is_first(track):
        reach = shape.step * (shape.count - 1)
        start = next(search.starts(reach, rng), None)
        if start is None:
            return "object not seen in any first frame"
        frames = range(start, start + reach + 1, shape.step)
        return _ordering([Picture(tracks.paths[frame], tracks.size(frame)) for frame in frames], speaker)
    # Every later frame is asked for only where there are several.
    shuffled = speaker.chance(settings.shuffle) and shape.count > 2
    place = 0 if shuffled or (speaker.chance(settings.whole) and shape.count > 2) else rng.randint(1, shape.count - 1)
    kind: Kind = "any" if settings.copyable == 1 else "far"
    window = search.find(shape, place, kind, rng)
    if isinstance(window, str) and place == 0:
        place = rng.randint(1, shape.count - 1)
        window = search.find(shape, place, kind, rng)
    if isinstance(window, str):
        return window
    # Only of objects that get away is a near box asked for, too: those that stay would give nothing else.
    if kind == "far" and speaker.chance(settings.copyable):
        near = search.find(shape, place, "near" if place else "any", rng)
        window = near if isinstance(near, Window) else window
    pictures = [Picture(tracks.paths[frame], tracks.size(frame)) for frame in window.frames]
    boxes = [tracks.box(frame) if tracks.is_seen(frame) else None for frame in window.frames]
    if place == 0:
        if shuffled:
            return _shuffled(pictures, boxes, tracks.label(track), speaker)
        question = speaker.pick(ALL).format(box=_written(boxes[0]))
        return speaker.draft(pictures, [(question, _listed(boxes, 0, tracks.label(track), speaker))])
    more = speaker.some(search.others(window, kind), settings.turns - 1) if settings.turns > 1 else []
    turns = [
        speaker.exchange(
            ONE,
            SENTENCES,
            Target(position, tracks.box(window.frames[position]), tracks.label(track)),
            {"box": _written(boxes[0])},
            functools.partial(course, boxes[: position + 1]),
        )
        for position in [*window.asked, *more]
    ]
    return speaker.draft(pictures, turns)


def _listed(boxes: list[Box | None], given: int, label: str, speaker: Speaker) -> str:
    """The boxes of all images but the one whose box is given."""
    speaker.targets += [Target(place, box, label) for place, box in enumerate(boxes) if place != given and box]
    return "\n".join(f"Image-{place + 1}: {_written(box)}" for place, box in enumerate(boxes) if place != given)


def _shuffled(pictures: list[Picture], boxes: list[Box | None], label: str, speaker: Speaker) -> Draft:
    in_time = list(range(len(pictures)))
    shown = speaker.rng.sample(in_time, len(in_time))
    if shown == in_time:
        shown = [*shown[1:], shown[0]]
    right = [shown.index(time) for time in in_time]
    # Motion looks as likely backwards, so that this order is no choice. Three frames have four other orders.
    options = [right]
    while len(options) < 3:
        wrong = speaker.rng.sample(in_time, len(in_time))
        if wrong not in (*options, right[::-1]):
            options.append(wrong)
    options = speaker.some(options, 3)
    lines = [
        f"{letter}. {','.join(str(one + 1) for one in order)}" for letter, order in zip("ABC", options, strict=True)
    ]
    asked = "\n".join([speaker.pick(CHOOSE), *lines])
    located = speaker.pick(OTHERS).format(box=_written(boxes[0]))
    listed = [boxes[time] for time in shown]
    turns = [(asked, "ABC"[options.index(right)]), (located, _listed(listed, shown.index(0), label, speaker))]
    return speaker.draft([pictures[time] for time in shown], turns)


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
CHOOSE = (
    "What is the correct order of these images in time?",
    "These frames of a video are out of order. Which of these is their order in time?",
)
OTHERS = (
    "For the object in the first image at {box}, locate it in the other images.",
    "The first image in time shows the object at {box}. Give its box in each of the other images.",
    "Take the object at {box} in the first image and find it in all the others.",
)
SENTENCES = (
    "It's in the {ordinal} image.",
    "In the {ordinal} image, the object is here:",
    "The object in Image-{number}:",
    "In the {ordinal} image it is at",
)
