"""Random choices: repeatable by key, even, and never two of the same where none may come twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migician.sampling import dice


def unlikely(counts: list[int], expected: float) -> bool:
    """Whether even chances give such counts once in a million times or less (chi-square, normal approximation)."""
    freedom = len(counts) - 1
    squares = sum((count - expected) ** 2 / expected for count in counts)
    return abs(squares - freedom) > 5 * (2 * freedom) ** 0.5 + 5


@given(st.integers(0, 2**32), st.text(max_size=5), st.integers(1, 2**20))
def test_same_key_same_choices(seed: int, key: str, sides: int) -> None:
    one, two = dice(seed, key), dice(seed, key)
    drawn = [one.randrange(sides) for _ in range(60)]
    assert drawn == [two.randrange(sides) for _ in range(60)]
    assert all(0 <= value < sides for value in drawn)


@pytest.mark.parametrize("sides", [2, 3, 7, 20, 97])
def test_choices_are_even_at_every_depth(sides: int) -> None:
    # The number is used up and made again on the way: no place in the row may favour a side.
    for draws in (1, 70, 200):
        drawn = [[one.randrange(sides) for _ in range(draws)][-1] for one in (dice(9, key) for key in range(4000))]
        counts = Counter(drawn)
        assert not unlikely([counts[side] for side in range(sides)], 4000 / sides)


def test_neighbouring_choices_and_keys_have_nothing_in_common() -> None:
    rows = np.array([[one.random() for _ in range(30)] for one in (dice(3, key) for key in range(3000))])
    assert rows.min() >= 0
    assert rows.max() < 1
    assert abs(rows.mean() - 0.5) < 0.005
    across = np.corrcoef(rows.T) - np.eye(30)
    assert np.abs(across).max() < 0.1
    assert abs(np.corrcoef(rows[:-1].ravel(), rows[1:].ravel())[0, 1]) < 0.02


@given(st.integers(0, 2**32), st.integers(0, 30), st.data())
def test_samples_hold_nothing_twice(seed: int, count: int, data: st.DataObject) -> None:
    options = range(100, 100 + count)
    chosen = dice(seed).sample(options, data.draw(st.integers(0, count)))
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(options)


def test_every_order_is_as_likely() -> None:
    orders = Counter(tuple(dice(1, key).sample("abcd", 3)) for key in range(6000))
    assert len(orders) == 24
    assert not unlikely(list(orders.values()), 6000 / 24)


def test_both_ends_are_reached() -> None:
    assert {dice(0, key).randint(3, 5) for key in range(60)} == {3, 4, 5}
