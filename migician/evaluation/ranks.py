"""The processes of one run as torchrun starts them; one process where it was not used.

torchrun sets RANK, WORLD_SIZE and where to meet. The processes only exchange small things
(which questions are answered, that all are done), so they meet over gloo, whatever runs the model.
"""

from __future__ import annotations

import atexit
import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from migician.errors import UserError

_Value = TypeVar("_Value")
_PATIENCE = datetime.timedelta(days=7)
"""How long a process waits for the others; torchrun ends all when one fails, so only the slow are waited for."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which process this is, and of how many."""

    rank: int = 0
    count: int = 1

    @classmethod
    def meet(cls) -> Ranks:
        """This process among those of its torchrun, once all are there; the only one without it."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        from torch import distributed

        if not distributed.is_initialized():
            # Before there is a group: this module, which transformers loads, keeps the one that it finds in its default
            # arguments, and its threads then outlive _part.
            from torch.distributed.nn import functional  # noqa: F401

            distributed.init_process_group("gloo", timeout=_PATIENCE)
            # Its threads must have ended before Python does: one that frees a tensor after that ends all by SIGABRT.
            atexit.register(_part)
        return cls(distributed.get_rank(), count)

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all of them share."""
        return self.rank == 0

    def first(self, work: Callable[[], _Value]) -> _Value:
        """What `work` gives in the first process, in all of them, once all have come here.

        A `UserError` there is raised in all of them.
        """
        if self.count == 1:
            return work()
        from torch import distributed

        distributed.barrier()
        shared: list[tuple[_Value | None, str | None]] = [(None, None)]
        if self.is_first:
            try:
                shared = [(work(), None)]
            except UserError as error:
                shared = [(None, str(error))]
        distributed.broadcast_object_list(shared)
        value, refused = shared[0]
        if refused is not None:
            raise UserError(refused)
        return value  # type: ignore[return-value]


def _part() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
