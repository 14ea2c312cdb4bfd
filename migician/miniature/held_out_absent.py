"""Questions of the miniature world whose target may be in none of the images; a second held-out file.

A row is one of `held_out`; where nothing is there, its answer is null. Of each task there are as many questions of both
kinds, drawn alike. What is asked for is not even among the small shapes of a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from migician.miniature import drawing
from migician.miniature.drawing import Style
from migician.miniature.held_out import GROUP, Asked, saved
from migician.miniature.saving import TEST, write_json
from migician.sampling import stream
from migician.tasks import common_object, group_grounding, referring_grounding
from migician.tasks.draft import image_fields
from migician.tasks.naming import named_kind


def write_absent(folder: Path, count: int, seed: int, style: Style) -> None:
    """Write `folder/MIG-Bench/absent.json` and its images: of each task `count` questions of both kinds, in turn."""
    rows = [
        saved(
            ask(stream(seed, TEST, "absent", task, position), style, position % 2 == 0),
            folder,
            task,
            f"absent/{task}/{position:06d}",
            style,
        )
        for task, ask in QUESTIONS.items()
        for position in range(2 * count)
    ]
    write_json(folder / "MIG-Bench" / "absent.json", rows)


def _common_object(rng: np.random.Generator, style: Style, is_there: bool) -> Asked:
    labels = drawing.some_kinds(rng, GROUP)
    others = _others(labels)
    shown = [labels[0]] * GROUP if is_there else labels
    # Pictures have no small shape in common.
    pictures = [drawing.hidden(rng, label, style, others[place::GROUP]) for place, label in enumerate(shown)]
    asked = int(rng.integers(GROUP))
    question = common_object.QUESTIONS.benchmark[0].format(**image_fields(asked))
    return Asked([image for image, _ in pictures], pictures[asked][1].box if is_there else None, question)


def _group_grounding(rng: np.random.Generator, style: Style, is_there: bool) -> Asked:
    *labels, missing = drawing.some_kinds(rng, GROUP + 1)
    others = _others([*labels, missing])
    pictures = [drawing.hidden(rng, label, style, others) for label in labels]
    asked = int(rng.integers(GROUP))
    name = named_kind(labels[asked] if is_there else missing)
    question = drawing.one_of(rng, group_grounding.QUESTIONS.benchmark).format(object=name)
    return Asked([image for image, _ in pictures], pictures[asked][1].box if is_there else None, question)


def _referring(rng: np.random.Generator, style: Style, is_there: bool) -> Asked:
    label, other = drawing.some_kinds(rng, 2)
    shown, _ = drawing.alone(rng, label, style)
    scene, target = drawing.hidden(rng, label if is_there else other, style, _others([label, other]))
    question = referring_grounding.QUESTIONS.benchmark[0]
    return Asked([shown, scene], target.box if is_there else None, question)


QUESTIONS: dict[str, Callable[[np.random.Generator, Style, bool], Asked]] = {
    "common_object": _common_object,
    "group_grounding": _group_grounding,
    "refer_grounding": _referring,
}


def _others(labels: list[str]) -> list[str]:
    return [kind for kind in drawing.KINDS if kind not in labels]
