"""The requests of the three steps, each with a seed of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from migician.build.synthesis import prompts
from migician.build.synthesis.cache import Request, Shown
from migician.build.synthesis.checks import is_askable
from migician.build.synthesis.forms import Pairs, Refinement, schema_of
from migician.build.synthesis.grouping import Grouping
from migician.build.synthesis.prompts import Found
from migician.build.synthesis.untrusted import clean
from migician.sampling import derived
from migician.sources.scenes import Scene
from migician.tasks.draft import Count, Share

CLIP_MODEL = "openai/clip-vit-base-patch32"
_LONGEST_LABEL = 60


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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


def asked_objects(scene: Scene, settings: Settings) -> list[int]:
    """Which things of a scene are shown to the models: the largest that may be asked about, in its order."""
    fit = [place for place, thing in enumerate(scene.things) if is_askable(thing.box, settings.area)]
    fit.sort(key=lambda place: -scene.things[place].box.area)
    return sorted(fit[: settings.objects])


@dataclass(frozen=True, slots=True)
class Requests:
    """What is asked about the scenes and groups of one source."""

    settings: Settings
    source: str
    seed: int

    def caption(self, scene: Scene, shown: Shown, attempt: int) -> Request:
        """Asks the vision model what is in an image."""
        text = prompts.CAPTION
        return self._vision("caption", prompts.CAPTION_SYSTEM, text, scene, shown, attempt, 300)

    def refine(self, scene: Scene, shown: Shown, attempt: int) -> Request:
        """Asks the vision model to judge the annotated objects of an image."""
        things = [scene.things[place] for place in asked_objects(scene, self.settings)]
        text = prompts.refine_prompt([Found(clean(thing.label, _LONGEST_LABEL), thing.box) for thing in things])
        request = self._vision(
            "objects", prompts.REFINE_SYSTEM, text, scene, shown, attempt, self.settings.reply_tokens
        )
        return msgspec.structs.replace(request, schema=schema_of(Refinement))

    def questions(self, number: int, images: Sequence[tuple[str, Sequence[Found]]], attempt: int) -> Request:
        """Asks the text model for questions about group `number`, its images given as (caption, objects)."""
        return Request(
            model=self.settings.text_model,
            system=prompts.QUESTIONS_SYSTEM,
            text=prompts.questions_prompt(images, self.settings.turns),
            image=None,
            max_pixels=0,
            max_tokens=self.settings.reply_tokens,
            temperature=0.8,
            seed=self._seed("questions", str(number), attempt),
            schema=schema_of(Pairs),
        )

    def _vision(
        self, step: str, system: str, text: str, scene: Scene, shown: Shown, attempt: int, most_tokens: int
    ) -> Request:
        return Request(
            model=self.settings.vision_model,
            system=system,
            text=text,
            image=shown,
            max_pixels=self.settings.max_pixels,
            max_tokens=min(most_tokens, self.settings.reply_tokens),
            temperature=0.2,
            seed=self._seed(step, scene.id, attempt),
        )

    def _seed(self, step: str, name: str, attempt: int) -> int:
        # Servers take 31 bits.
        return derived(self.seed, "synthesis", step, self.source, name, attempt) & 0x7FFFFFFF
