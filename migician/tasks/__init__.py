"""The tasks: one builder each, from the scenes of a source to drafts of samples.

A builder works in two steps, so that many processes can share the work and give the same bytes:
`plan` chooses (quick, in one process), `drafts` puts choices in words (anywhere, in any order, any
number at once). A new task is one module with its settings, `plan` and `drafts`, and one line in `TASKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from migician.sources.scenes import AnyScene, ImagePair, Scene, Tally, Track
from migician.tasks import (
    common_object,
    difference,
    free_form,
    group_grounding,
    group_referring,
    object_tracking,
    referring_grounding,
    region_locating,
)
from migician.tasks.draft import Draft, Plan, TaskSettings

Planner = Callable[[Any, int, Tally, Any], Iterator[Plan]]
"""From scenes, seed, tally and settings: the choices for as many samples as the source has, refusals counted. Same
arguments, same choices."""
Drafter = Callable[[Any, Sequence[Plan], int, Any], Iterator[Draft | str]]
"""From scenes, plans, seed and settings: the draft of each plan, or why there is none; no plan depends on another."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task, or one direction of it."""

    plan: Planner
    drafts: Drafter
    settings: type[TaskSettings]
    takes: type[AnyScene]
    folder: str
    """Its name in the released layout."""
    type: str
    """What its samples carry as `type`."""
    asks: tuple[int, int | None] = (0, None)
    """From which image of a sample to before which its questions can be about; None for all that follow."""
    file: str = ""
    """The stem of its JSON file, where that is not the folder's name."""

    @property
    def stem(self) -> str:
        """Of its JSON file."""
        return self.file or self.folder


def _task(
    module: Any, settings: type[TaskSettings], takes: type[AnyScene], folder: str, kind: str, **more: Any
) -> Task:
    return Task(module.plan, module.drafts, settings, takes, folder, kind, **more)


TASKS: dict[str, Task] = {
    "object_tracking": _task(
        object_tracking, object_tracking.TrackingSettings, Track, "Object_Tracking", "ot_train", asks=(1, None)
    ),
    "group_grounding": _task(group_grounding, group_grounding.GroundingSettings, Scene, "Group_Grounding", "gg_train"),
    "group_referring": _task(
        group_referring,
        group_referring.ReferringSettings,
        Scene,
        "Group_Grounding",
        "gg_reg_train",
        file="Group_Grounding_REG",
    ),
    "difference": _task(difference, difference.DifferenceSettings, ImagePair, "Difference", "diff_train"),
    "common_object": _task(common_object, common_object.CommonSettings, Scene, "Common_Object", "co_train"),
    "referring_grounding": _task(
        referring_grounding, referring_grounding.ExampleSettings, Scene, "Referring_Grounding", "rg_train", asks=(1, 2)
    ),
    "region_locating": _task(
        region_locating, region_locating.RegionSettings, Scene, "Region_Locating", "rl_train", asks=(0, 1)
    ),
    "free_form": _task(free_form, free_form.FreeFormSettings, Scene, "Free-Form", "ff_train"),
}
