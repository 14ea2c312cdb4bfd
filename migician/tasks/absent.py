"""A target that is in none of the images: which samples ask for one, and what surely is not there.

The annotations decide, and only those of sources that are `exhaustive`: of their categories every object in every image
is annotated, with a usable box or without. An image does not show a kind if it has neither that label nor one that
contains it or is part of it ("car" and "sports car").
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Sequence

import numpy as np

from migician.sampling import Dice, dice
from migician.sources.index.scenes import Scenes

_TRIES = 200
_WORD = re.compile(r"[^\W_]+")


def drawn(share: float, seed: int, *key: int) -> Dice | None:
    """The dice of a sample that asks for what is not there, as `share` (0..1) of them do; None for the others."""
    if not share:
        return None
    rng = dice(seed, *key, "absent")
    return rng if rng.random() < share else None


def instance_where(scenes: Scenes, area: tuple[float, float], rng: Dice, fits: Callable[[int], bool]) -> int | None:
    """Some instance that is alone with its label in its image, covers `area` of it, and `fits`; None if none is found.

    So what is not there is of the same kinds, as often, as what is.
    """
    for _ in range(_TRIES):
        instance = rng.randrange(len(scenes.marks))
        if scenes.clear_ones(area, np.array([instance]))[0] and fits(instance):
            return instance
    return None


def labels_of(scenes: Scenes, images: Sequence[int]) -> set[int]:
    """The numbers of all labels that any of `images` shows, boxed or not."""
    unboxed, _ = scenes.unboxed_in(np.array(images, np.int64))
    return {number for image in images for number in scenes.labels_in(image)} | set(unboxed.tolist())


def is_absent(scenes: Scenes, label: int, there: Collection[int]) -> bool:
    """Whether images that show the labels `there` surely show nothing of the kind `label`.

    Objects without a label may be of any kind.
    """
    words = _words(scenes.labels[label])
    return scenes.nameless not in there and not any(
        words <= other or other <= words for other in (_words(scenes.labels[one]) for one in there)
    )


@functools.cache
def _words(label: str) -> frozenset[str]:
    """What a kind is called, for comparison: "Other Shoes" are shoes."""
    return frozenset(word.rstrip("s") for word in _WORD.findall(label.lower())) - {"other"}
