"""The task families: one builder each, from scenes to drafts of samples.

A new family is one module with `Settings` and `build`, and one line in `TASKS`. A builder
only chooses and phrases; `migician.build` makes the pictures, numbers the samples and writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from migician.scenes import AnyScene, ImagePair, Scene, Tally, Track
from migician.tasks import common_object, difference, free_form, object_tracking, region_locating
from migician.tasks.draft import Draft


class Build(Protocol):
    """What every builder does: the same drafts for the same scenes, seed and settings, counting what it refuses."""

    def __call__(self, scenes: Iterable[Any], seed: int, tally: Tally, settings: Any) -> Iterator[Draft]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Task:
    """One task family."""

    build: Build
    settings: type[msgspec.Struct]
    takes: type[AnyScene]
    folder: str
    """Its name in the released layout; its JSON file has it too."""
    type: str
    """What its samples carry as `type`."""


TASKS: dict[str, Task] = {
    "object_tracking": Task(object_tracking.build, object_tracking.Settings, Track, "Object_Tracking", "ot_train"),
    "common_object": Task(common_object.build, common_object.Settings, Scene, "Common_Object", "co_train"),
    "region_locating": Task(region_locating.build, region_locating.Settings, Scene, "Region_Locating", "rl_train"),
    "difference": Task(difference.build, difference.Settings, ImagePair, "Difference", "diff_train"),
    "free_form": Task(free_form.build, free_form.Settings, Scene, "Free-Form", "ff_train"),
}
