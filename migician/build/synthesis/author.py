"""From one group of images to one sample: captions, refined boxes, questions, each asked of a model."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image

from migician.boxtext import final_answer
from migician.build.images import TURNED
from migician.build.synthesis.checks import CheckedObject, CheckedTurn, checked_objects, checked_turns
from migician.build.synthesis.client import ChatClient, ChatReply, ChatRequest, ShownImage
from migician.build.synthesis.forms import Form, Pairs, Refinement, read_form
from migician.build.synthesis.requests import Requests, asked_objects
from migician.build.synthesis.untrusted import clean
from migician.models.engines.chat_completions import Refused
from migician.models.pictures import orientation, read_size
from migician.sampling import stream
from migician.sources.formats.reading import OTHER_SIZE, UNREADABLE
from migician.sources.scenes import Scene, Tally
from migician.tasks.draft import Draft, Picture

_Read = TypeVar("_Read")
_LONGEST_CAPTION = 1200
NOT_TAKEN = "request that the server does not take"


WrittenSample = tuple[Draft, dict[str, Any]]
"""A sample before its images are linked, and where every part of it comes from."""


@dataclass(frozen=True, slots=True)
class _View:
    """An image as the models described it, and the keys of the replies that did."""

    scene: Scene
    caption: str
    objects: tuple[CheckedObject, ...]
    replies: dict[str, str]


@dataclass(frozen=True, slots=True)
class Author:
    """Writes samples about groups of scenes of one source; what it cannot use is counted in `tally`."""

    client: ChatClient
    requests: Requests
    tally: Tally

    async def write(self, number: int, scenes: Sequence[Scene]) -> WrittenSample | None:
        """The sample about group `number`, None (counted) where none came about.

        Depends on the group and on the replies alone, not on the order in which they come.
        Raises `UserError` where the server cannot be used any more.
        """
        shown = []
        for scene in scenes:
            found = await asyncio.to_thread(_look, scene)
            if isinstance(found, str):
                self.tally.add(found)
                return None
            shown.append(found)
        views = await asyncio.gather(*(self._view(scene, file) for scene, file in zip(scenes, shown, strict=True)))
        described = [view for view in views if view is not None]
        if len(described) < len(scenes):
            self.tally.add("group with an image that could not be described")
            return None
        if not any(view.objects for view in described):
            self.tally.add("group without an object left to ask about")
            return None
        images = [(view.caption, [(one.phrase, one.box) for one in view.objects]) for view in described]
        pairs, key = await self._asked(
            lambda attempt: self.requests.questions(number, images, attempt), functools.partial(_read_form, Pairs)
        )
        objects = [view.objects for view in described]
        turns = checked_turns(pairs.pairs, objects, self.requests.settings.turns, self.tally) if pairs else []
        if not turns:
            self.tally.add("group without a question that passed the checks")
            return None
        return self._made(number, described, turns, key)

    async def _view(self, scene: Scene, shown: ShownImage) -> _View | None:
        settings = self.requests.settings
        (caption, caption_key), (refinement, objects_key) = await asyncio.gather(
            self._asked(lambda attempt: self.requests.caption(scene, shown, attempt), _read_caption),
            self._asked(
                lambda attempt: self.requests.refine(scene, shown, attempt), functools.partial(_read_form, Refinement)
            ),
        )
        if refinement is None:
            return None
        annotated = [(place, scene.instances[place].box) for place in asked_objects(scene, settings)]
        objects = checked_objects(refinement.objects, annotated, settings.least_iou, self.tally)
        if caption is None:
            return None
        return _View(scene, caption, tuple(objects), {"caption": caption_key, "objects": objects_key})

    async def _asked(
        self, request: Callable[[int], ChatRequest], read: Callable[[ChatReply], tuple[_Read | None, str]]
    ) -> tuple[_Read | None, str]:
        """(what `read` makes of a reply, the reply's key), or (None, "").

        Where `read` gives None with the reason, that is counted, and another seed is tried.
        """
        for attempt in range(self.requests.settings.attempts):
            asked = request(attempt)
            try:
                value, reason = read(await self.client.ask(asked))
            except Refused:
                self.tally.add(NOT_TAKEN)
                break
            if value is not None:
                return value, asked.key()
            self.tally.add(reason)
        return None, ""

    def _made(self, number: int, views: Sequence[_View], turns: Sequence[CheckedTurn], key: str) -> WrittenSample:
        rng = stream(self.requests.seed, "synthesis", "labelled", self.requests.source, number)
        pictures = tuple(Picture(str(view.scene.image), view.scene.size) for view in views)
        spoken = tuple((turn.question, turn.answer) for turn in turns)
        draft = Draft(pictures, spoken, bool(rng.random() < self.requests.settings.labelled))
        return draft, {
            "source": self.requests.source,
            "group": number,
            "images": [_image_provenance(view) for view in views],
            "questions": key,
            # 1-based, as in the replies.
            "turns": [[[image + 1, place + 1] for image, place in turn.targets] for turn in turns],
        }


def _read_caption(reply: ChatReply) -> tuple[str | None, str]:
    caption = clean(final_answer(reply.text), _LONGEST_CAPTION)
    return (caption, "") if any(letter.isalpha() for letter in caption) else (None, "empty caption")


def _read_form(form: type[Form], reply: ChatReply) -> tuple[Form | None, str]:
    if not reply.is_whole:
        return None, "reply cut off at its limit"
    return read_form(reply.text, form), "reply that is not the JSON asked for"


def _image_provenance(view: _View) -> dict[str, Any]:
    objects = [
        {
            "annotation": one.annotation,
            "label": view.scene.instances[one.annotation].label,
            "phrase": one.phrase,
            "annotated_permille": view.scene.instances[one.annotation].box.to_permille(),
            "box_permille": one.box.to_permille(),
            "refined": one.is_moved,
        }
        for one in view.objects
    ]
    return {"scene": view.scene.id, "replies": view.replies, "objects": objects}


def _look(scene: Scene) -> ShownImage | str:
    """The image of a scene, or why it cannot be used; its header is read and its bytes are hashed."""
    try:
        with Image.open(scene.image) as opened:
            size, turned = read_size(opened), orientation(opened) != 1
        with scene.image.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return UNREADABLE
    if turned:
        return TURNED
    return ShownImage(scene.image, digest) if size == scene.size else OTHER_SIZE
