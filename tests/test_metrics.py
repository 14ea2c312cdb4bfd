"""Averages and intervals, against resampling and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migician.metrics import difference, estimate, metric_columns

rates = st.lists(st.integers(0, 1), min_size=2, max_size=40)


def test_thresholds_count_what_reaches_them():
    columns = metric_columns([0.0, 0.3, 0.5, 0.7, 0.69999])
    assert columns["acc@0.3"].tolist() == [0, 1, 1, 1, 1]
    assert columns["acc@0.5"].tolist() == [0, 0, 1, 1, 1]
    assert columns["acc@0.7"].tolist() == [0, 0, 0, 1, 0]


@settings(deadline=None)  # the first case loads scipy
@given(rates, st.data())
def test_an_interval_holds_its_value_and_stays_within_bounds(values, data):
    clusters = data.draw(st.lists(st.integers(0, 9), min_size=len(values), max_size=len(values)))
    one = estimate(values, clusters)
    assert one.value == pytest.approx(np.mean(values))
    assert 0 <= one.low <= one.value <= one.high <= 1


def test_no_hit_is_not_zero_for_certain():
    none = estimate([0] * 20, range(20))
    assert none.low == 0 and 0.1 < none.high < 0.25
    few = estimate([0] * 20, [0, 1] * 10)
    assert few.high > none.high  # two clusters say less than twenty


def test_one_cluster_says_nothing_of_the_spread():
    alone = estimate([1, 0, 1], ["a", "a", "a"])
    assert (alone.low, alone.high) == (0, 1)
    assert difference([0, 0], [1, 0], ["a", "a"]).low == -1


def test_wilson_by_hand():
    # 80 of 100 independent rows: Wilson with t(99) = 1.98422
    one = estimate([1] * 80 + [0] * 20, range(100))
    assert (one.low, one.high) == (pytest.approx(0.7101, abs=2e-3), pytest.approx(0.8669, abs=2e-3))


def test_copies_of_a_row_add_no_certainty():
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2, 60)
    single = estimate(base, range(60))
    copied = estimate(np.repeat(base, 5), np.repeat(np.arange(60), 5))
    assert copied.value == pytest.approx(single.value)
    assert copied.high - copied.low == pytest.approx(single.high - single.low, rel=0.02)
    assert estimate(np.repeat(base, 5), range(300)).high - copied.high < 0  # unclustered would claim more


@pytest.mark.parametrize("macro", [False, True])
def test_the_interval_agrees_with_a_cluster_bootstrap(macro):
    rng = np.random.default_rng(7)
    clusters = rng.integers(0, 150, 600)
    tasks = (clusters % 3).astype(int)  # a cluster belongs to one task
    values = np.clip(rng.normal(0.5, 0.2, 150)[clusters] + rng.normal(0, 0.1, 600), 0, 1)
    ours = estimate(values, clusters, tasks if macro else None)
    members = [np.flatnonzero(clusters == cluster) for cluster in np.unique(clusters)]
    means = []
    for _ in range(3000):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        groups = [values[rows[tasks[rows] == task]].mean() for task in range(3)] if macro else [values[rows].mean()]
        means.append(np.mean(groups))
    low, high = np.quantile(means, [0.025, 0.975])
    assert ours.low == pytest.approx(low, abs=0.006)
    assert ours.high == pytest.approx(high, abs=0.006)


def test_macro_is_the_mean_of_group_means():
    one = estimate([1, 1, 1, 0], range(4), ["a", "a", "a", "b"])
    assert one.value == pytest.approx(0.5)


def test_a_paired_difference_is_tighter_than_two_intervals():
    rng = np.random.default_rng(3)
    first = rng.uniform(0, 0.9, 200)
    second = first + 0.05
    paired = difference(first, second, range(200))
    assert paired.value == pytest.approx(0.05)
    assert paired.high - paired.low < 1e-9 < estimate(first, range(200)).high - estimate(first, range(200)).low


def test_nothing_to_average_is_refused():
    with pytest.raises(ValueError, match="no rows"):
        estimate([], [])
