"""A sample before its pictures are made, and how its questions and answers are phrased."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import msgspec

from migician.boxes import Box, Size
from migician.boxtext import QWEN
from migician.imagenames import ordinal
from migician.samples.sample import IMAGE_MARK
from migician.sampling import Dice
from migician.sources.index.scenes import Scenes

_Option = TypeVar("_Option")
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
"""A probability, or a part of something: 0..1."""
Count = Annotated[int, msgspec.Meta(ge=1)]
Several = Annotated[int, msgspec.Meta(ge=2)]


class TaskSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a recipe may change of a task; a pair of numbers is (lowest, highest), both included.

    Raises ValueError, naming the setting, for a pair in the wrong order.
    """

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            match getattr(self, name):
                case (int() | float() as low, int() | float() as high) if low > high:
                    raise ValueError(f"{name} must be [lowest, highest], not {[low, high]}")


class Picture(msgspec.Struct, frozen=True):
    """One image of a sample: a source's file, whole or a part of it."""

    image: str
    """Its path below the root of the source, with forward slashes."""
    size: Size | None = None
    """What its annotation says (width, height), where it says so; a file of another size is refused."""
    crop: tuple[int, int, int, int] | None = None
    """x1, y1, x2, y2 in whole pixels."""


class Target(msgspec.Struct, frozen=True):
    """What one answer points to."""

    image: int
    """Which of the sample's, from 0."""
    box: Box
    label: str = ""
    """The category's name, where it has one."""


Plan = tuple[int, ...]
"""Which scenes, instances or frames a sample is made of: all that a builder chooses before it puts it in words."""


class Draft(msgspec.Struct, frozen=True):
    """What a task builder makes of a plan: pictures, and (question, answer) pairs without the `<image>` marks."""

    pictures: tuple[Picture, ...]
    turns: tuple[tuple[str, str], ...]
    labelled: bool
    """Whether each image is introduced by its name, "Image-1: "."""
    targets: tuple[Target, ...] = ()
    """What the answers point to, as far as they point to anything."""
    reasoned: int = 0
    """Answers that reason before their box."""
    absent: int = 0
    """Answers that what is asked for is in none of the images."""

    def conversation(self) -> list[tuple[str, str]]:
        """The turns, with one `<image>` mark an image in the first question."""
        (question, answer), *others = self.turns
        return [(_marks(len(self.pictures), self.labelled) + question, answer), *others]


@functools.cache
def _marks(count: int, labelled: bool) -> str:
    return "".join(f"Image-{number}: {IMAGE_MARK}\n" if labelled else IMAGE_MARK for number in range(1, count + 1))


class Wordings(msgspec.Struct, frozen=True):
    """The ways a question is put."""

    benchmark: tuple[str, ...]
    """MIG-Bench's own wording, character for character."""
    own: tuple[str, ...]
    """Those that a box answers."""
    naming: tuple[str, ...] = ()
    """Those that ask which image it is, too: never for the box alone, and always answered by a sentence."""


class Manner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often which style of asking and answering is used."""

    benchmark: Share = 0.1
    """Questions in MIG-Bench's own wording."""
    brief: Share = 0.3
    """Questions that end by asking for the box alone, and get it."""
    sentence: Share = 0.5
    """Of the other answers: those with a short sentence before the box."""
    labelled: Share = 0.5
    """Samples whose images are introduced as "Image-1: "; the others show the images, then ask."""


class AnswerSettings(TaskSettings, frozen=True, forbid_unknown_fields=True):
    """And how questions and answers vary."""

    reasoning: Share = 0.2
    """Of the answers with words before the box: those that reason their way to it."""
    manner: Manner = Manner()


# The first is what evaluation appends to MIG-Bench questions.
FORMATS = (
    "Format:<|box_start|>(x1,y1),(x2,y2)<|box_end|>. Don't generate additional words.",
    "Answer with the bounding box only.",
    "Reply with <|box_start|>(x1,y1),(x2,y2)<|box_end|> and nothing else.",
    "Output just the coordinates of the box.",
    "Only the box, please.",
)


class Speaker(msgspec.Struct):
    """Puts the questions and answers of one sample in words, by one generator."""

    rng: Dice
    manner: Manner
    reasoning: Share = 0.0
    """Of the answers with words before the box: those that reason their way to it."""
    targets: list[Target] = []
    """What the answers so far point to."""
    reasoned: int = 0
    absent: int = 0

    def chance(self, share: float) -> bool:
        """True with probability `share`."""
        return self.rng.random() < share

    def some(self, options: Sequence[_Option], count: int) -> list[_Option]:
        """At most `count` of `options`, none twice, in random order."""
        return self.rng.sample(options, min(count, len(options)))

    def pick(self, options: Sequence[_Option]) -> _Option:
        """One of `options`, each as likely."""
        return options[self.rng.randrange(len(options))]

    def exchange(
        self,
        wordings: Wordings,
        sentences: Sequence[str],
        target: Target,
        fields: dict[str, str] | None = None,
        thought: Callable[[], str] | None = None,
    ) -> tuple[str, str]:
        """A question about one box, and its answer: the box alone, or after a `thought` or one of `sentences`.

        `fields` are what the texts name beside the target's image, or instead of it. Where `wordings` has some that
        ask for the image, every sentence and thought must name it.
        """
        self.targets.append(target)
        fields = image_fields(target.image) | (fields or {})
        wording, question, brief = self._asked(wordings, fields)
        answer = QWEN.write(target.box)
        if brief:
            return question, answer
        if self.chance(self.manner.sentence) or wording in wordings.naming:
            if thought and self.chance(self.reasoning):
                self.reasoned += 1
                answer = f"{thought()} {answer}"
            else:
                answer = f"{self.pick(sentences).format(**fields)} {answer}"
        return question, answer

    def refusal(self, wordings: Wordings, image: int, fields: dict[str, str]) -> tuple[str, str]:
        """A question for what is in none of the images, asked as `exchange` asks about one, and the answer to it."""
        self.absent += 1
        _, question, _ = self._asked(wordings, image_fields(image) | fields)
        return question, QWEN.absent

    def _asked(self, wordings: Wordings, fields: dict[str, str]) -> tuple[str, str, bool]:
        """The wording, the question, and whether it asks for the box alone."""
        as_benchmark, brief = self.chance(self.manner.benchmark), self.chance(self.manner.brief)
        own = wordings.own if brief else wordings.own + wordings.naming
        wording = self.pick(wordings.benchmark if as_benchmark else own)
        question = wording.format(**fields).strip()
        if brief:
            question += f" {FORMATS[0] if as_benchmark else self.pick(FORMATS)}"
        return wording, question, brief

    def draft(self, pictures: Sequence[Picture], turns: Sequence[tuple[str, str]]) -> Draft:
        """The finished draft."""
        labelled = self.chance(self.manner.labelled)
        return Draft(tuple(pictures), tuple(turns), labelled, tuple(self.targets), self.reasoned, self.absent)


@functools.cache
def image_fields(position: int) -> dict[str, str]:
    """How texts name the image at a 0-based position.

    >>> image_fields(1)
    {'number': '2', 'nth': '2th', 'ordinal': 'second'}
    """
    # MIG-Bench writes "1th" and "2th".
    return {"number": str(position + 1), "nth": f"{position + 1}th", "ordinal": ordinal(position)}


@functools.lru_cache(maxsize=1 << 15)  # an image is in many samples
def picture(scenes: Scenes, image: int) -> Picture:
    """A whole image of a source."""
    return Picture(scenes.paths[image], scenes.size(image))


def target_in(scenes: Scenes, images: Sequence[int], instance: int) -> Target:
    """What an answer about an instance points to in a sample of `images`, of which one shows the instance."""
    return Target(scenes.place(instance, images), scenes.box(instance), scenes.label(instance))
