"""How many threads a model takes on the CPU.

torch's OpenMP (libgomp) lets threads that wait for each other spin: beside other work two of them were 26 times slower
than one. So they wait passively (see `migician.models`), and there are no more than a model of its size and the load of
the machine call for. Whoever says a number, by OMP_NUM_THREADS, MKL_NUM_THREADS or torch.set_num_threads, gets it.
"""

from __future__ import annotations

import math
import os

import torch

SMALL = 20_000_000
"""Parameters below which a second thread costs more than it brings."""
_SAYS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_MOST = torch.get_num_threads()
"""torch's own choice: as many as there are cores."""
_chosen = _MOST


def choose(parameters: int, most: int, load: float) -> int:
    """Threads for a model: one for a small one, else as many of `most` as are idle, but at least half of them.

    `load` is the part of the machine that is at work, from 0; above 1 more wants to run than can.

    >>> choose(1_000_000, 16, 0.0), choose(7_000_000_000, 16, 0.0), choose(7_000_000_000, 16, 0.25)
    (1, 16, 12)
    >>> choose(7_000_000_000, 16, 3.0)
    8
    """
    return 1 if parameters < SMALL else max(math.ceil(most / 2), round(most * (1 - load)))


def settle(parameters: int) -> tuple[str, ...]:
    """Have torch take that many, unless somebody said how many; gives what there is to say of it."""
    global _chosen
    if any(name in os.environ for name in _SAYS) or torch.get_num_threads() not in (_MOST, _chosen):
        return ()
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    _chosen = choose(parameters, _MOST, load)
    torch.set_num_threads(_chosen)
    if _chosen == _MOST:
        return ()
    why = "a small model" if parameters < SMALL else f"{100 * load:.0f}% of this machine is busy"
    return (f"{_chosen} of {_MOST} CPU threads, {why} (OMP_NUM_THREADS says otherwise)",)
