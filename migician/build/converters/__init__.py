"""Other people's datasets for general ability, as samples: one converter each.

A new dataset is one module with `convert(source, images, tally, *, seed)` and one line in `CONVERTERS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from migician.build.converters import groma, llava, refcoco
from migician.build.converters.foreign import ImageFolder
from migician.samples.sample import Sample
from migician.sources.scenes import Tally


class Convert(Protocol):
    """What every converter does: stream the samples of `source`, in the same order, counting what it leaves out."""

    def __call__(  # noqa: D102
        self, source: Path, images: ImageFolder, tally: Tally, *, seed: int = 0
    ) -> Iterator[Sample]: ...


CONVERTERS: dict[str, Convert] = {
    "groma": groma.convert,
    "llava": llava.convert,
    "refcoco": refcoco.convert,
}
