"""Ways to work through many independent pieces: here, in processes of this machine, or on Ray."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from migician.errors import UserError

_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")


class Workers(Protocol):
    """`work` applied to every piece; results come in the order of the pieces."""

    def __call__(self, work: Callable[[_Piece], _Result], pieces: Iterable[_Piece]) -> Iterator[_Result]: ...  # noqa: D102


def here(work: Callable[[_Piece], _Result], pieces: Iterable[_Piece]) -> Iterator[_Result]:
    """One piece after the other, in this process."""
    return map(work, pieces)


class Processes:
    """`count` processes; only a few pieces more than that are waiting, so `pieces` may be endless."""

    def __init__(self, count: int) -> None:
        # Not forked from this process: progress bars have threads, and a lock held at a fork is held for ever.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["migician.build.rendering"])  # read once, not once a process
        self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)
        self._ahead = 2 * count

    def __call__(self, work: Callable[[_Piece], _Result], pieces: Iterable[_Piece]) -> Iterator[_Result]:
        """As `Workers`; raises `UserError` where a process dies, and passes on what `work` raises."""
        waiting: deque[Future[_Result]] = deque()
        rest = iter(pieces)
        try:
            waiting.extend(self._pool.submit(work, piece) for piece in itertools.islice(rest, self._ahead))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(self._pool.submit(work, piece) for piece in itertools.islice(rest, 1))
        except BrokenProcessPool:
            raise UserError(
                "a worker process died, perhaps because memory ran out: run again with fewer --workers"
            ) from None
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """Stop the processes."""
        self._pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process when the one that started it does: killed, that one leaves its pool waiting for ever."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def in_processes(count: int) -> Iterator[Workers]:
    """`count` processes for the length of the block; with one, all work is done in this process."""
    if count == 1:
        yield here
        return
    pool = Processes(count)
    try:
        yield pool
    finally:
        pool.close()


def on_ray(work: Callable[[_Piece], _Result], pieces: Iterable[_Piece]) -> Iterator[_Result]:
    """On the Ray cluster of `RAY_ADDRESS`, or one started on this machine; every node must see the same files.

    Raises `UserError` without the package `ray`.
    """
    try:
        import ray
        import ray.data
    except ModuleNotFoundError:
        raise UserError("--ray needs the package 'ray': pip install 'migician[ray]'") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    listed = [{"at": at, "piece": piece} for at, piece in enumerate(pieces)]
    if not listed:
        return iter(())
    dataset = ray.data.from_items(listed, override_num_blocks=len(listed))
    done = dataset.map(lambda row: {"at": row["at"], "result": work(row["piece"])})
    return (row["result"] for row in sorted(done.take_all(), key=lambda row: row["at"]))
