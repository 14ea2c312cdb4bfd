"""Writes the miniature world in the native formats of its source datasets, one function a format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from migician.again import making
from migician.miniature import held_out, held_out_absent, pairs, photos, sequences
from migician.miniature.drawing import STYLE, Style


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each source is drawn, none of it for 0, and how many held-out questions of each task.

    Of the trackers it is sequences, of the sources of pairs edits or changes, of the others images.
    """

    got10k: int = 0
    coco: int = 0
    """With one large object each."""
    objects365: int = 0
    """Crowded ones."""
    magicbrush: int = 0
    held_out: int = 0
    imagenet: int = 0
    """With one object each, in turn large and alone, and small among clutter."""
    sa1b: int = 0
    """With the phrase of each object."""
    lasot: int = 0
    mot17: int = 0
    """Of two or three objects each."""
    trackingnet: int = 0
    clevr_change: int = 0
    img_diff: int = 0
    """Replacements and removals, by turns."""
    spot_the_diff: int = 0


QUICKSTART = Amounts(got10k=2200, sa1b=1600, magicbrush=2600, coco=3500, imagenet=2600, objects365=1200, held_out=200)
"""What is drawn unless asked otherwise: at least one source for each of the seven tasks."""


def make_world(
    out: str | Path,
    seed: int,
    amounts: Amounts = QUICKSTART,
    style: Style = STYLE,
    *,
    absent: int = 0,
    force: bool = False,
) -> dict[str, Path]:
    """Draw the world into the new folder `out`; gives the root of each source, and of "mig-bench".

    `out/sources/<name>` are roots for `migician build`, without those whose amount is 0;
    `out/MIG-Bench/MIG_data.json` is the held-out set, its image root `out`. With `absent` there is
    `out/MIG-Bench/absent.json` too: of three tasks that many questions whose target is there, and that many whose
    target is in none of the images. Same arguments, same bytes, and the other files do not depend on `absent`.
    Raises `Done` if `out` is this world already, `UserError` if it holds anything else; another world is replaced with
    `force`. Nothing half-drawn is left behind.
    """
    target = Path(out)
    counts = {name: getattr(amounts, name) for name in WRITERS if getattr(amounts, name)}
    world = msgspec.to_builtins(amounts) | ({"absent": absent} if absent else {})
    with making(target, {"world": world, "seed": seed, "style": style}, force=force) as partial:
        for name, count in counts.items():
            WRITERS[name](partial / "sources" / name, count, seed, style)
        held_out.write_bench(partial, amounts.held_out, seed, style)
        if absent:
            held_out_absent.write_absent(partial, absent, seed, style)
    return {name: target / "sources" / name for name in counts} | {"mig-bench": target}


WRITERS: dict[str, Callable[[Path, int, int, Style], None]] = {
    "got10k": sequences.write_got10k,
    "coco": photos.write_coco,
    "objects365": photos.write_objects365,
    "magicbrush": pairs.write_magicbrush,
    "lasot": sequences.write_lasot,
    "mot17": sequences.write_mot17,
    "trackingnet": sequences.write_trackingnet,
    "imagenet": photos.write_imagenet,
    "sa1b": photos.write_sa1b,
    "clevr_change": pairs.write_clevr_change,
    "img_diff": pairs.write_img_diff,
    "spot_the_diff": pairs.write_spot_the_diff,
}
