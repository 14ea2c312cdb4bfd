"""The tasks: one builder each, from the scenes of a source to drafts of samples.

A builder works in two steps, so that many processes can share the work and give the same bytes:
`plan` chooses (quick, in one process), `drafts` puts choices in words (anywhere, in any order, any
number at once). A new task is one module with its settings, `plan` and `drafts`, and one line in `TASKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

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
from migician.tasks.draft import Draft, Plan


@dataclass(frozen=True, slots=True)
class Task:
    """One task, or one direction of it."""

    plan: Callable[[Any, int, Tally, Any], Iterator[Plan]]
    """From scenes, seed, tally and settings: the choices for as many samples as the source has, refusals counted. Same
    arguments, same choices."""
    drafts: Callable[[Any, Sequence[Plan], int, Any], Iterator[Draft | str]]
    """From scenes, plans, seed and settings: the draft of each plan, or why there is none. No plan needs another."""
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

    @property
    def settings(self) -> Any:
        """What `drafts` takes as its settings."""
        return get_type_hints(self.drafts)["settings"]


def _task(module: Any, *others: Any, **named: Any) -> Task:
    return Task(module.plan, module.drafts, *others, **named)


TASKS: dict[str, Task] = {
    "object_tracking": _task(object_tracking, Track, "Object_Tracking", "ot_train", asks=(1, None)),
    "group_grounding": _task(group_grounding, Scene, "Group_Grounding", "gg_train"),
    "group_referring": _task(group_referring, Scene, "Group_Grounding", "gg_reg_train", file="Group_Grounding_REG"),
    "difference": _task(difference, ImagePair, "Difference", "diff_train"),
    "common_object": _task(common_object, Scene, "Common_Object", "co_train"),
    "referring_grounding": _task(referring_grounding, Scene, "Referring_Grounding", "rg_train", asks=(1, 2)),
    "region_locating": _task(region_locating, Scene, "Region_Locating", "rl_train", asks=(0, 1)),
    "free_form": _task(free_form, Scene, "Free-Form", "ff_train"),
}
