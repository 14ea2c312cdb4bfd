"""Other people's datasets for general ability, as samples: one converter each.

A new dataset is one module with `convert(source, images, tally, *, seed)` and one line in `CONVERTERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from migician.build.converters import groma, llava, refcoco
from migician.samples.sample import Sample

CONVERTERS: dict[str, Callable[..., Iterator[Sample]]] = {
    "groma": groma.convert,
    "llava": llava.convert,
    "refcoco": refcoco.convert,
}
"""Each streams the samples of `source`, always in the same order, and counts what it leaves out."""
