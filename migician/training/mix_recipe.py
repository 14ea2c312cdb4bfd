"""What a stage's mix is made of: parts with their shares, and the files of each part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from migician.errors import UserError
from migician.files import conform, is_file, read_yaml
from migician.training.mixture import Part, shares

Weight = Annotated[float, msgspec.Meta(gt=0)]


class MixPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of data in a mix."""

    share: Weight
    """Of the whole mix, in proportion to the other parts."""
    files: Annotated[dict[str, Weight], msgspec.Meta(min_length=1)]
    """Files of samples, and how much of the part each gives in proportion to the others."""
    repeat: bool = False
    """Whether samples may come more than once."""


class MixRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mix."""

    count: Annotated[int, msgspec.Meta(ge=1)]
    parts: Annotated[dict[str, MixPart], msgspec.Meta(min_length=1)]
    seed: int = 0


def read_mix_recipe(file: str | Path) -> MixRecipe:
    """The mix described in a YAML file; raises `UserError` naming the file and what is wrong in it."""
    path = Path(file)
    return conform(read_yaml(path), MixRecipe, path)


def parts_of(recipe: MixRecipe, count: int) -> dict[str, Part]:
    """The files of a mix of `count` samples, each weighted by the whole number of samples it gives.

    Rounded a part at a time, so that every part is exact in count before its files share it. Paths are
    taken from the current folder, as in LLaMA-Factory's YAML. Raises `UserError` listing all files that
    are missing, or that two parts have.
    """
    counts = shares({name: part.share for name, part in recipe.parts.items()}, count)
    parts: dict[str, Part] = {}
    bad = []
    for name, part in recipe.parts.items():
        for file, amount in shares(part.files, counts[name]).items():
            path = Path(file)
            if file in parts:
                bad.append(f"{file} is in more than one part")
            elif not is_file(path):
                bad.append(f"{file} of part {name!r}: no such file")
            parts[file] = Part(path, amount, part.repeat)
    if bad:
        raise UserError("; ".join(bad))
    return parts
