"""The requests of the three steps, each with a seed of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from migician.build.synthesis import prompts
from migician.build.synthesis.cache import ChatRequest, ShownImage
from migician.build.synthesis.checks import is_askable
from migician.build.synthesis.forms import Pairs, Refinement, schema_of
from migician.build.synthesis.grouping import Grouping
from migician.build.synthesis.untrusted import clean
from migician.sampling import derived
from migician.sources.scenes import Scene
from migician.tasks.draft import Count, Share

CLIP_MODEL = "openai/clip-vit-base-patch32"
_LONGEST_LABEL = 60


class SynthesisSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which models, and what is asked of them."""

    vision_model: str
    text_model: str
    grouping: Grouping = "random"
    clip_model: str = CLIP_MODEL
    """For grouping by CLIP: a name on the Hub or a folder."""
    area: tuple[Share, Share] = (0.01, 0.95)
    """Share of its image that an object asked about covers."""
    objects: Count = 12
    """At most so many of an image are shown to the models, the largest."""
    least_iou: Share = 0.75
    """A box the vision model moves further than this IoU with the annotation does not count."""
    turns: Count = 3
    """Questions asked of the text model for a group, and at most kept."""
    attempts: Count = 3
    """How often a model is asked again, each time by another seed, for a reply of the right form."""
    reply_tokens: Count = 2000
    """The longest reply, in tokens; captions take at most 300."""
    max_pixels: Count = 1280 * 28 * 28
    """Larger images are sent made smaller."""
    labelled: Share = 0.5
    """Samples whose images are introduced as "Image-1: "."""


def asked_objects(scene: Scene, settings: SynthesisSettings) -> list[int]:
    """Which things of a scene are shown to the models: the largest that may be asked about, in its order."""
    fit = [place for place, thing in enumerate(scene.things) if is_askable(thing.box, settings.area)]
    fit.sort(key=lambda place: -scene.things[place].box.area)
    return sorted(fit[: settings.objects])


@dataclass(frozen=True, slots=True)
class Requests:
    """What is asked about the scenes and groups of one source."""

    settings: SynthesisSettings
    source: str
    seed: int

    def caption(self, scene: Scene, shown: ShownImage, attempt: int) -> ChatRequest:
        """Asks the vision model what is in an image."""
        tokens = min(300, self.settings.reply_tokens)
        return self._vision("caption", scene, shown, attempt, prompts.CAPTION_SYSTEM, prompts.CAPTION, tokens)

    def refine(self, scene: Scene, shown: ShownImage, attempt: int) -> ChatRequest:
        """Asks the vision model to judge the annotated objects of an image."""
        things = [scene.things[place] for place in asked_objects(scene, self.settings)]
        text = prompts.refine_prompt([(clean(thing.label, _LONGEST_LABEL), thing.box) for thing in things])
        tokens, form = self.settings.reply_tokens, schema_of(Refinement)
        return self._vision("objects", scene, shown, attempt, prompts.REFINE_SYSTEM, text, tokens, form)

    def questions(self, number: int, images: Sequence[tuple[str, prompts.Objects]], attempt: int) -> ChatRequest:
        """Asks the text model for questions about group `number`, its images given as (caption, objects)."""
        text = prompts.questions_prompt(images, self.settings.turns)
        seed, tokens = self._seed("questions", str(number), attempt), self.settings.reply_tokens
        model, system, form = self.settings.text_model, prompts.QUESTIONS_SYSTEM, schema_of(Pairs)
        return ChatRequest(model, system, text, None, 0, tokens, 0.8, seed, form)

    def _vision(
        self,
        step: str,
        scene: Scene,
        shown: ShownImage,
        attempt: int,
        system: str,
        text: str,
        tokens: int,
        schema: tuple[str, dict[str, Any]] | None = None,
    ) -> ChatRequest:
        seed, pixels = self._seed(step, scene.id, attempt), self.settings.max_pixels
        return ChatRequest(self.settings.vision_model, system, text, shown, pixels, tokens, 0.2, seed, schema)

    def _seed(self, step: str, name: str, attempt: int) -> int:
        # Servers take 31 bits.
        return derived(self.seed, "synthesis", step, self.source, name, attempt) & 0x7FFFFFFF
