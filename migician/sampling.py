"""One random stream per name, so that results depend neither on order nor on workers."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

_Option = TypeVar("_Option")
_BYTES = 64
_ONES = (1 << 32) - 1
_SPENT = 1 << 64
"""A number below this is too small for more even choices."""


def stream(seed: int, *key: str | int) -> np.random.Generator:
    """The generator that belongs to `key` under `seed`; streams of different keys are independent.

    >>> stream(0, "train", 3).integers(100) == stream(0, "train", 3).integers(100)
    np.True_
    """
    return np.random.default_rng(_sequence(seed, key))


class Dice:
    """A few small choices, all of them from one number of 512 bits: each choice divides it and leaves the quotient.

    No choice is favoured by more than 2**-32 of its chance.
    """

    __slots__ = ("_key", "_number", "_times")

    def __init__(self, key: bytes) -> None:
        self._key, self._times = key, 0
        self._number = _number(key)

    def randrange(self, sides: int) -> int:
        """A whole number from 0 to `sides` - 1."""
        if self._number < _SPENT:
            self._refill()
        self._number, chosen = divmod(self._number, sides)
        return chosen

    def randint(self, lowest: int, highest: int) -> int:
        """A whole number from `lowest` to `highest`, both included."""
        return lowest + self.randrange(highest - lowest + 1)

    def random(self) -> float:
        """At least 0 and below 1, in steps of 2**-32."""
        if self._number < _SPENT:
            self._refill()
        chosen = self._number & _ONES
        self._number >>= 32
        return chosen / (_ONES + 1)

    def sample(self, options: Sequence[_Option], count: int) -> list[_Option]:
        """`count` of `options`, none twice, in random order; there must be as many."""
        moved: dict[int, int] = {}  # which position stands where, as in a shuffle that stops after `count`
        chosen = []
        for step in range(count):
            at = step + self.randrange(len(options) - step)
            chosen.append(options[moved.get(at, at)])
            moved[at] = moved.get(step, step)
        return chosen

    def _refill(self) -> None:
        self._times += 1
        self._number = _number(b"%b//%d" % (self._key, self._times))


def dice(seed: int, *key: str | int) -> Dice:
    """Like `stream`, for a few small choices: twenty times as fast to make and to ask.

    >>> dice(0, "train", 3).randrange(100) == dice(0, "train", 3).randrange(100)
    True
    """
    return Dice("/".join(map(str, (seed, *key))).encode())


def _number(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=_BYTES).digest())


def derived(seed: int, *key: str | int) -> int:
    """A seed of its own (0..2**32-1) for `key` under `seed`."""
    return int(_sequence(seed, key).generate_state(1)[0])


def _sequence(seed: int, key: tuple[str | int, ...]) -> np.random.SeedSequence:
    words = tuple(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key)
    return np.random.SeedSequence(seed, spawn_key=words)


def shares(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """`total` split into whole numbers in proportion to `weights`, summing to `total` exactly.

    Raises ValueError for a weight below 0, and where all are 0.

    >>> shares({"stage-1": 0.27, "free-form": 0.49}, 100)
    {'stage-1': 36, 'free-form': 64}
    """
    everything = sum(weights.values())
    if everything <= 0 or min(weights.values()) < 0:
        raise ValueError(f"weights must be 0 or more and not all 0, not {dict(weights)}")
    exact = {name: total * weight / everything for name, weight in weights.items()}
    counts = {name: int(value) for name, value in exact.items()}
    # The largest remainders are rounded up; the order given breaks ties.
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
