"""From one group of images to one sample: captions, refined boxes, questions, each asked of a model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from migician.boxtext import final_answer
from migician.build.images import TURNED
from migician.build.synthesis.cache import Request, Shown
from migician.build.synthesis.checks import Checked, Turn, checked_objects, checked_turns
from migician.build.synthesis.client import ChatClient
from migician.build.synthesis.forms import Form, Pairs, Refinement, read_form
from migician.build.synthesis.prompts import Found
from migician.build.synthesis.requests import Requests, Settings, asked_objects
from migician.build.synthesis.untrusted import clean
from migician.models.engines.chat_completions import Refused
from migician.models.pictures import orientation, read_size
from migician.sampling import stream
from migician.sources.formats.reading import OTHER_SIZE, UNREADABLE
from migician.sources.scenes import Scene, Tally
from migician.tasks.draft import Draft, Picture

_LONGEST_CAPTION = 1200
NOT_TAKEN = "request that the server does not take"


@dataclass(frozen=True, slots=True)
class Made:
    """A sample before its images are linked, and where every part of it comes from."""

    draft: Draft
    provenance: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _View:
    """An image as the models described it, and the keys of the replies that did."""

    scene: Scene
    caption: str
    objects: tuple[Checked, ...]
    replies: dict[str, str]


@dataclass(frozen=True, slots=True)
class Author:
    """Writes samples about groups of scenes of one source; what it cannot use is counted in `tally`."""

    client: ChatClient
    requests: Requests
    tally: Tally

    @property
    def _settings(self) -> Settings:
        return self.requests.settings

    async def write(self, number: int, scenes: Sequence[Scene]) -> Made | None:
        """The sample about group `number`, None (counted) where none came about.

        Depends on the group and on the replies alone, not on the order in which they come.
        Raises `UserError` where the server cannot be used any more.
        """
        shown = [await asyncio.to_thread(_look, scene) for scene in scenes]
        for found in shown:
            if isinstance(found, str):
                self.tally.add(found)
                return None
        files = [found for found in shown if isinstance(found, Shown)]
        views = await asyncio.gather(*(self._view(scene, file) for scene, file in zip(scenes, files, strict=True)))
        described = [view for view in views if view is not None]
        if len(described) < len(scenes):
            self.tally.add("group with an image that could not be described")
            return None
        if not any(view.objects for view in described):
            self.tally.add("group without an object left to ask about")
            return None
        turns, key = await self._questions(number, described)
        if not turns:
            self.tally.add("group without a question that passed the checks")
            return None
        return self._made(number, described, turns, key)

    async def _view(self, scene: Scene, shown: Shown) -> _View | None:
        (caption, caption_key), (objects, objects_key) = await asyncio.gather(
            self._caption(scene, shown), self._objects(scene, shown)
        )
        if not caption or objects is None:
            return None
        return _View(scene, caption, tuple(objects), {"caption": caption_key, "objects": objects_key})

    async def _caption(self, scene: Scene, shown: Shown) -> tuple[str, str]:
        """(caption, key of its reply); an empty caption (counted) where there is none."""
        for attempt in range(self._settings.attempts):
            request = self.requests.caption(scene, shown, attempt)
            try:
                reply = await self.client.ask(request)
            except Refused:
                self.tally.add(NOT_TAKEN)
                break
            caption = clean(final_answer(reply.text), _LONGEST_CAPTION)
            if any(letter.isalpha() for letter in caption):
                return caption, request.key()
            self.tally.add("empty caption")
        return "", ""

    async def _objects(self, scene: Scene, shown: Shown) -> tuple[list[Checked] | None, str]:
        """(confirmed objects, key of the reply); None (counted) where no reply could be read."""
        asked = asked_objects(scene, self._settings)
        refinement, key = await self._formed(lambda attempt: self.requests.refine(scene, shown, attempt), Refinement)
        if refinement is None:
            return None, ""
        annotated = [(place, scene.things[place].box) for place in asked]
        return checked_objects(refinement.objects, annotated, self._settings.least_iou, self.tally), key

    async def _questions(self, number: int, views: Sequence[_View]) -> tuple[list[Turn], str]:
        images = [(view.caption, [Found(one.phrase, one.box) for one in view.objects]) for view in views]
        pairs, key = await self._formed(lambda attempt: self.requests.questions(number, images, attempt), Pairs)
        if pairs is None:
            return [], ""
        return checked_turns(pairs.pairs, [view.objects for view in views], self._settings.turns, self.tally), key

    async def _formed(self, request: Callable[[int], Request], form: type[Form]) -> tuple[Form | None, str]:
        """(reply, its key); asked again by another seed where it is not of the form, each time counted."""
        for attempt in range(self._settings.attempts):
            asked = request(attempt)
            try:
                reply = await self.client.ask(asked)
            except Refused:
                self.tally.add(NOT_TAKEN)
                return None, ""
            value = read_form(reply.text, form) if reply.is_whole else None
            if value is not None:
                return value, asked.key()
            self.tally.add("reply that is not the JSON asked for" if reply.is_whole else "reply cut off at its limit")
        return None, ""

    def _made(self, number: int, views: Sequence[_View], turns: Sequence[Turn], key: str) -> Made:
        rng = stream(self.requests.seed, "synthesis", "labelled", self.requests.source, number)
        pictures = tuple(Picture(str(view.scene.image), view.scene.size) for view in views)
        spoken = tuple((turn.question, turn.answer) for turn in turns)
        draft = Draft(pictures, spoken, bool(rng.random() < self._settings.labelled))
        provenance = {
            "source": self.requests.source,
            "group": number,
            "images": [_image_provenance(view) for view in views],
            "questions": key,
            # 1-based, as the replies spell them.
            "turns": [[[image + 1, place + 1] for image, place in turn.targets] for turn in turns],
        }
        return Made(draft, provenance)


def _image_provenance(view: _View) -> dict[str, Any]:
    objects = [
        {
            "annotation": one.annotation,
            "label": view.scene.things[one.annotation].label,
            "phrase": one.phrase,
            "annotated_permille": view.scene.things[one.annotation].box.to_permille(),
            "box_permille": one.box.to_permille(),
            "refined": one.is_moved,
        }
        for one in view.objects
    ]
    return {"scene": view.scene.id, "replies": view.replies, "objects": objects}


def _look(scene: Scene) -> Shown | str:
    """The image of a scene, or why it cannot be used; its header is read and its bytes are hashed."""
    try:
        with Image.open(scene.image) as opened:
            size, turned = read_size(opened), orientation(opened) != 1
        digest = _sha256(scene.image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return UNREADABLE
    if turned:
        return TURNED
    return Shown(scene.image, digest) if size == scene.size else OTHER_SIZE


def _sha256(file: Path) -> str:
    with file.open("rb") as stream_:
        return hashlib.file_digest(stream_, "sha256").hexdigest()
