"""How many CPU threads a model takes.

Threads of torch's OpenMP (libgomp) spin while they wait for each other: beside other work two were 26 times slower than
one. So they wait passively (see `migician.models`), and their number follows the size of the model and the load of the
machine. OMP_NUM_THREADS, MKL_NUM_THREADS and torch.set_num_threads take precedence.
"""

from __future__ import annotations

import math
import os

import torch

SMALL = 20_000_000
"""Parameters below which a second thread costs more than it gains."""
_SAYS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_MAX = torch.get_num_threads()
"""torch's own choice: one per core."""
_chosen = _MAX


def choose(parameters: int, max_threads: int, load: float) -> int:
    """Threads for a model: one for a small one, else the idle ones of `max_threads`, but at least half of them.

    `load` is the busy share of the machine, from 0; above 1 it is overloaded.

    >>> choose(1_000_000, 16, 0.0), choose(7_000_000_000, 16, 0.0), choose(7_000_000_000, 16, 0.25)
    (1, 16, 12)
    >>> choose(7_000_000_000, 16, 3.0)
    8
    """
    return 1 if parameters < SMALL else max(math.ceil(max_threads / 2), round(max_threads * (1 - load)))


def settle(parameters: int) -> tuple[str, ...]:
    """Make torch use that many unless the user has set a number; gives notes about it."""
    global _chosen
    if any(name in os.environ for name in _SAYS) or torch.get_num_threads() not in (_MAX, _chosen):
        return ()
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    _chosen = choose(parameters, _MAX, load)
    torch.set_num_threads(_chosen)
    if _chosen == _MAX:
        return ()
    why = "a small model" if parameters < SMALL else f"{100 * load:.0f}% of this machine is busy"
    return (f"{_chosen} of {_MAX} CPU threads, {why} (set OMP_NUM_THREADS to change that)",)
