"""Rewards for grounding in several images: what a reply is worth, in named parts that add up. No torch, no state.

A reply is read as evaluation reads it: strictly, in its family's own style, its final answer only. The presets follow
published systems; where those read loosely (swapped corners, numbers beyond the scale), a box here counts as not given.
Two rules are this project's own, because no published reward has them: with no truth at all the right answer says
something and gives no box (any words do, not only the style's `absent`), and a box whose image the reply does not say
is taken for the one image that all truths are in, if it is one.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from migician.boxes import Box, Size
from migician.boxtext import STYLES, BoxStyle, final_answer, parse_boxes
from migician.errors import UserError, unknown
from migician.training.overlaps import banded_iou, ciou, inner_iou, iou

Truth = tuple[int | None, tuple[float, float, float, float]]
"""The image (0-based; None where any may hold it) and the corners of a true box, as fractions of that image."""
Placed = tuple[int | None, Box]


class Case(msgspec.Struct, gc=False):
    """One reply beside its truths, read once for all parts."""

    reply: str
    boxes: list[Placed]
    """Those that could be read, each with the image (0-based) that the reply ties it to."""
    is_clean: bool
    """Whether all boxes that the answer tries to give could be read."""
    truths: list[Placed]
    _banded: list[float] | None = None

    @property
    def banded(self) -> list[float]:
        """The banded IoU of each box that is matched with a truth of its image, matched once for two parts."""
        if self._banded is None:
            self._banded = match(self, banded_iou, per_image=1.0)
        return self._banded

    @property
    def is_refusal(self) -> bool:
        """Whether the answer says something, gives no box and does not try to, as evaluation takes it for a refusal."""
        return not self.boxes and self.is_clean and bool(final_answer(self.reply).strip())


Part = Callable[[Case], float]


@dataclass(frozen=True, slots=True)
class Weighted:
    """One part of a reward."""

    weight: float
    of: Part
    """Gives 0..1, or up to one per truth where `summed`."""
    summed: bool = False
    boxes_only: bool = False
    """Whether it can be earned only by giving a box, so not where there is no truth."""

    def most(self, truths: int) -> float:
        """The most that it gives for `truths` true boxes."""
        if self.boxes_only and not truths:
            return 0.0
        return self.weight * (max(truths, 1) if self.summed else 1)


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward: weighted parts by name."""

    name: str
    parts: Mapping[str, Weighted] = field(hash=False)
    thinks: bool
    """Whether it asks for `<think>` and `<answer>`."""
    source: str

    def __call__(
        self, reply: str, truths: Sequence[Truth], style: str = "qwen", sizes: Sequence[Size] = ()
    ) -> dict[str, float]:
        """What each part of `reply` earns, weighted, and their "total"; see `reward`."""
        case = read_case(reply, truths, style, sizes)
        earned = {name: part.weight * part.of(case) for name, part in self.parts.items()}
        return {**earned, "total": sum(earned.values())}

    def most(self, truths: int) -> float:
        """The greatest total that a reply can earn for `truths` true boxes."""
        return sum(part.most(truths) for part in self.parts.values())


def reward(
    reply: str,
    truths: Sequence[Truth],
    *,
    preset: str = "mg-thinker",
    style: str = "qwen",
    sizes: Sequence[Size] = (),
) -> dict[str, float]:
    """What a reply is worth by a preset: its parts, weighted, and their "total".

    `truths` are fractions of their images; an empty list means that nothing is there. `style` is one of `STYLES`;
    `sizes` are those of the images as the model sees them, which styles that count pixels need. Any text is read.
    Raises `UserError` for an unknown preset or style, ValueError where sizes are needed and missing.

    >>> reward("<think>?</think><answer>Image-2: <|box_start|>(0,0),(500,500)<|box_end|></answer>",
    ...        [(1, (0.0, 0.0, 0.5, 0.5))])
    {'think': 0.25, 'answer': 0.25, 'block': 0.25, 'image': 1.0, 'iou': 1.0, 'total': 2.75}
    """
    return preset_named(preset)(reply, truths, style, sizes)


def best_reply(truths: Sequence[Truth], *, preset: str, style: str = "qwen", sizes: Sequence[Size] = ()) -> str:
    """A reply that earns all there is, as far as the style's grid allows: what a record's own truth looks like.

    Raises `UserError` for an unknown preset or style, ValueError where sizes are needed and missing.
    """
    written = []
    for image, corners in truths:
        size = sizes[image or 0] if sizes else None
        name = "" if image is None else f"Image-{image + 1}: "
        written.append(name + _style(style).write(Box(*corners), size))
    return in_form("\n".join(written) or _style(style).absent, preset)


def in_form(answer: str, preset: str) -> str:
    """An answer as a reply that `preset` asks for: in tags, after an empty thought, where it has none and needs them.

    >>> in_form("(0,0),(9,9)", "mg-thinker"), in_form("(0,0),(9,9)", "leap")
    ('<think></think><answer>(0,0),(9,9)</answer>', '(0,0),(9,9)')
    """
    tagged = preset_named(preset).thinks and "<answer>" not in answer
    return f"<think></think><answer>{answer}</answer>" if tagged else answer


def read_case(reply: str, truths: Sequence[Truth], style: str, sizes: Sequence[Size] = ()) -> Case:
    """`reply` read beside its truths; raises as `reward` does."""

    def size_at(image: int | None) -> Size:
        # As evaluation does: pixels are those of the image that the reply names, else of the true one.
        named = image if image is not None and image < len(sizes) else truths[0][0] if truths else 0
        return sizes[named or 0]

    parsed = parse_boxes(reply, _style(style), size_at if sizes else None)
    boxes = [(one.image, one.box) for one in parsed.mentions if one.status == "read"]
    is_clean = len(boxes) == len(parsed.mentions) and parsed.status != "garbled"
    return Case(reply, boxes, is_clean, [(image, Box(*corners)) for image, corners in truths])


def preset_named(name: str) -> Reward:
    """One of `PRESETS`; raises `UserError` for an unknown name."""
    if name not in PRESETS:
        raise UserError(unknown("preset", name, PRESETS))
    return PRESETS[name]


def _style(name: str) -> BoxStyle:
    if name not in STYLES:
        raise UserError(unknown("style", name, STYLES))
    return STYLES[name]


# An answer that is nothing but boxes: these, with names of images, fences, labels, keys and marks.
_LISTED = re.compile(
    r"(?:```(?:json)?+|<\|object_ref_start\|>[^<]*+<\|object_ref_end\|>|<\|[a-z_]++\|>|</?box>"
    r"|\"(?:[^\"\\\n]|\\.)*+\"|Image-[0-9]++:|[\s\[\](){}:,.0-9-]++)*+",
    re.ASCII,
)
_TURN = re.compile(r"</think>\s*+<answer>")


def match(case: Case, similarity: Callable[[Box, Box], float] = iou, *, per_image: float = 0.0) -> list[float]:
    """The similarities of the boxes that are matched with a truth of their image, one to one, for the greatest sum.

    `per_image` is what a pair counts beside its similarity, so that as many truths as possible find a box of their
    image however little they overlap.
    """
    truths, boxes = case.truths, case.boxes
    if len(truths) == len(boxes) == 1:
        (image, truth), (named, box) = truths[0], boxes[0]
        return [similarity(box, truth)] if _agree(image, named, several=False) else []
    if not truths or not boxes:
        return []
    several = len({image for image, _ in truths}) > 1
    found = _best(
        [
            [similarity(box, truth) + per_image if _agree(image, named, several) else _NO_PAIR for named, box in boxes]
            for image, truth in truths
        ]
    )
    return [value - per_image for value in found if value > _NO_PAIR]


def _best(worth: list[list[float]]) -> list[float]:
    """The values of the one-to-one matching of rows with columns that has the greatest sum."""
    if len(worth) > len(worth[0]):
        worth = [list(column) for column in zip(*worth, strict=True)]
    few, many = len(worth), len(worth[0])
    if math.perm(many, few) <= _TRIED:
        tried = (
            [row[at] for row, at in zip(worth, one, strict=True)] for one in itertools.permutations(range(many), few)
        )
        return max(tried, key=sum)
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    table = np.array(worth)
    found: list[float] = table[linear_sum_assignment(table, maximize=True)].tolist()
    return found


_TRIED = 6
"""Matchings that are tried one by one: of three boxes and three truths, say. More are left to scipy's method."""
_NO_PAIR = -100.0
"""Less than any similarity."""


def _agree(image: int | None, named: int | None, several: bool) -> bool:
    """Whether a box said to be in `named` may be a truth of `image`; `several` if the truths are in more than one."""
    return image is None or named == image or (named is None and not several)


def _pair_of(tag: str) -> Part:
    """Whether a tag is opened once and closed once, in this order."""
    opening, closing = f"<{tag}>", f"</{tag}>"

    def value(case: Case) -> float:
        reply = case.reply
        opened, closed = reply.find(opening), reply.find(closing)
        once = reply.find(opening, opened + 1) < 0 and reply.find(closing, closed + 1) < 0
        return float(0 <= opened < closed and once)

    return value


def _whole_form(case: Case) -> float:
    """Whether the reply is `<think>` and `<answer>`, one after the other, and nothing else."""
    text = case.reply.strip()
    turn = _TURN.search(text, len("<think>"))
    ends = text.startswith("<think>") and text.endswith("</answer>")
    return float(ends and turn is not None and turn.end() <= len(text) - len("</answer>"))


def _boxed_form(case: Case) -> float:
    """The whole form with as many boxes as there are truths; where there are none, without any box."""
    return float(case.is_clean and len(case.boxes) == len(case.truths)) and _whole_form(case)


def _list_form(case: Case) -> float:
    """Whether the answer is nothing but boxes, with their images, labels and marks."""
    return float(bool(case.boxes) and case.is_clean and _LISTED.fullmatch(final_answer(case.reply)) is not None)


def _block(case: Case) -> float:
    return float(bool(case.boxes) and case.is_clean if case.truths else case.is_refusal)


def _images_right(case: Case) -> float:
    return float(len(case.banded)) if case.truths else float(case.is_refusal)


def _banded_sum(case: Case) -> float:
    """The banded IoU of each truth; a box of the wrong image has none."""
    return sum(case.banded) if case.truths else float(case.is_refusal)


def _first(similarity: Callable[[Box, Box], float], *, tagged: bool) -> Part:
    """The similarity of the first box with the first truth; `tagged` asks for `<answer>`."""

    def value(case: Case) -> float:
        if tagged and "<answer>" not in case.reply:
            return 0.0
        if not case.truths:
            return float(case.is_refusal)
        (image, truth), several = case.truths[0], len(case.truths) > 1
        if not case.boxes or not _agree(image, case.boxes[0][0], several):
            return 0.0
        return similarity(case.boxes[0][1], truth)

    return value


def set_f1(similarity: Callable[[Box, Box], float]) -> Part:
    """Soft F1: twice the matched similarity (none below 0) over the number of boxes and truths together."""

    def value(case: Case) -> float:
        if not case.truths:
            return float(not case.boxes)
        matched = sum(max(0.0, one) for one in match(case, similarity))
        return 2 * matched / (len(case.truths) + len(case.boxes))

    return value


PRESETS: dict[str, Reward] = {
    one.name: one
    for one in (
        Reward(
            "mg-thinker",
            {
                "think": Weighted(0.25, _pair_of("think")),
                "answer": Weighted(0.25, _pair_of("answer")),
                "block": Weighted(0.25, _block),
                "image": Weighted(1.0, _images_right, summed=True),
                "iou": Weighted(1.0, _banded_sum, summed=True),
            },
            True,
            "arXiv 2609.37374",
        ),
        Reward(
            "univg-r1",
            {"format": Weighted(1.0, _boxed_form), "iou": Weighted(1.0, _first(inner_iou, tagged=True))},
            True,
            "AMAP-ML/UniVG-R1, vlm_modules/qwen_module.py",
        ),
        Reward(
            "leap",
            {"format": Weighted(0.1, _list_form, boxes_only=True), "f1": Weighted(1.0, set_f1(ciou))},
            False,
            "Liquid4All/leap-finetune, rewards/tasks/vlm_grounding/recipe.py",
        ),
        Reward(
            "onethinker",
            {
                "format": Weighted(0.1, _whole_form),
                "structure": Weighted(0.5, _boxed_form),
                "iou": Weighted(0.9, _first(iou, tagged=False)),
            },
            True,
            "tulerfeng/OneThinker, EasyR1/verl/reward_function/onethinker_reward.py",
        ),
        Reward(
            "iou",
            {"iou": Weighted(1.0, set_f1(iou))},
            False,
            "this project: IoU alone, F1 over the matched boxes where there are several",
        ),
        Reward(
            "vlm-r1",
            {"format": Weighted(1.0, _boxed_form), "iou": Weighted(1.0, _first(inner_iou, tagged=True))},
            True,
            "om-ai-lab/VLM-R1, vlm_modules/qwen_module.py",
        ),
    )
}
"""The published rewards, each with its source."""
