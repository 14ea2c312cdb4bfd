"""Two runs side by side: ratios, the paired bootstrap and McNemar's test, against independent sums."""

import json
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from migician.errors import UserError
from migician.evaluation.comparison import compare_folders
from migician.metrics import bootstrap_differences, difference, estimate, mcnemar
from migician.reports.parquet import write_table
from migician.reports.tables import differences, significance


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_mcnemar_is_the_exact_binomial_test(pairs):
    test = mcnemar([first for first, _ in pairs], [second for _, second in pairs])
    assert test.first_only == sum(first and not second for first, second in pairs)
    assert test.second_only == sum(second and not first for first, second in pairs)
    n, k = test.first_only + test.second_only, min(test.first_only, test.second_only)
    exact = min(Fraction(1), 2 * Fraction(sum(math.comb(n, i) for i in range(k + 1)), 2**n))
    assert test.p == pytest.approx(float(exact))
    if n:
        assert test.p == pytest.approx(binomtest(k, n).pvalue)


def test_a_ratio_is_a_ratio_of_sums():
    one = estimate([2, 0, 3], ["a", "b", "c"], sizes=[2, 4, 4])
    assert one.value == pytest.approx(0.5) and 0 <= one.low < 0.5 < one.high <= 1
    assert estimate([0, 0], ["a", "b"], sizes=[0, 0]).value == 0
    macro = estimate([2, 0, 3], ["a", "b", "c"], ["x", "x", "y"], sizes=[2, 4, 4])
    assert macro.value == pytest.approx((2 / 6 + 3 / 4) / 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=30))
def test_sizes_of_one_are_a_mean(rows):
    values, clusters = [value for value, _ in rows], [cluster for _, cluster in rows]
    assert estimate(values, clusters, sizes=np.ones(len(rows))) == estimate(values, clusters)


def test_the_interval_of_a_ratio_agrees_with_a_plain_bootstrap():
    rng = np.random.default_rng(5)
    sizes = rng.integers(0, 6, 300)
    hits = rng.binomial(sizes, 0.6)
    clusters = rng.integers(0, 120, 300)
    ours = estimate(hits, clusters, sizes=sizes)
    members = [np.flatnonzero(clusters == one) for one in np.unique(clusters)]
    drawn = []
    for _ in range(2000):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        drawn.append(hits[rows].sum() / sizes[rows].sum())
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.01)


def runs(seed, n=400):
    rng = random.Random(seed)
    clusters = [rng.randrange(150) for _ in range(n)]
    tasks = [cluster % 3 for cluster in clusters]
    skill = {cluster: rng.random() for cluster in set(clusters)}
    first = [float(rng.random() < skill[cluster]) for cluster in clusters]
    second = [float(rng.random() < min(1, skill[cluster] + 0.1)) for cluster in clusters]
    return first, second, clusters, tasks


@pytest.mark.parametrize("macro", [False, True])
def test_the_bootstrap_agrees_with_one_written_plainly(macro):
    first, second, clusters, tasks = runs(1)
    groups = tasks if macro else None
    ours = bootstrap_differences({"x": (first, None)}, {"x": (second, None)}, clusters, groups, resamples=4000)["x"]
    rng = random.Random(2)
    names = sorted(set(clusters))
    rows_of = {name: [row for row, cluster in enumerate(clusters) if cluster == name] for name in names}
    drawn = []
    for _ in range(2000):
        rows = [row for name in rng.choices(names, k=len(names)) for row in rows_of[name]]
        kinds = sorted({tasks[row] for row in rows}) if macro else [None]
        means = []
        for kind in kinds:
            some = [second[row] - first[row] for row in rows if kind is None or tasks[row] == kind]
            means.append(sum(some) / len(some))
        drawn.append(sum(means) / len(means))
    assert ours == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.012)
    linear = difference(first, second, clusters, groups)
    assert ours == pytest.approx((linear.low, linear.high), abs=0.012)


def test_the_same_seed_gives_the_same_interval_and_one_cluster_says_nothing():
    first, second, clusters, _ = runs(3, 60)
    sides = {"x": (first, None)}, {"x": (second, None)}
    assert bootstrap_differences(*sides, clusters, seed=7) == bootstrap_differences(*sides, clusters, seed=7)
    assert bootstrap_differences(*sides, clusters, seed=7) != bootstrap_differences(*sides, clusters, seed=8)
    assert bootstrap_differences(*sides, [0] * 60) == {"x": (-1.0, 1.0)}


def test_real_answers_compared(shared, tmp_path):
    """The two released models, by the counts of their own records."""
    from migician.benchmarks import mig_bench
    from migician.benchmarks.scoring.scoring import Reading
    from migician.boxtext import QWEN
    from migician.evaluation.answer_files import read_answers
    from migician.evaluation.report import score_answers

    bench = mig_bench.load(shared / "data/mig_bench/revised_MIG_bench.json")
    folders = [tmp_path / name for name in ("qwen2_vl", "migician")]
    for folder in folders:
        answers = read_answers(shared / f"data/model_answers/{folder.name}.jsonl", bench)
        score_answers(bench, answers, Reading("strict", QWEN), folder, images=None, partial=False, spec={})
    comparison = compare_folders(*folders)
    hits = [
        [json.loads(line)["iou"] >= 0.5 for line in (folder / "records.jsonl").read_text().splitlines()]
        for folder in folders
    ]
    test = comparison["average"]["mcnemar"]
    assert test["first_only"] == sum(a and not b for a, b in zip(*hits, strict=True))
    assert test["second_only"] == sum(b and not a for a, b in zip(*hits, strict=True))
    assert test["p"] < 1e-10
    low, high = comparison["average"]["bootstrap"]["acc@0.5"]
    assert low < comparison["average"]["acc@0.5"] < high
    assert (low, high) == pytest.approx(tuple(comparison["average"]["interval"]["acc@0.5"]), abs=0.5)
    assert len(differences(comparison).rows) == len(significance(comparison).rows) == 11


def scored(tmp_path, name, benchmark, data, replies):
    from migician.benchmarks import load_benchmark
    from migician.benchmarks.scoring.scoring import Reading
    from migician.boxtext import QWEN
    from migician.evaluation.answer_files import read_answers
    from migician.evaluation.report import score_answers

    answers = tmp_path / f"{name}.jsonl"
    answers.write_text("".join(json.dumps({"index": i, "response": one}) + "\n" for i, one in enumerate(replies)))
    bench = load_benchmark(benchmark, data)
    score_answers(
        bench,
        read_answers(answers, bench),
        Reading("strict", QWEN),
        tmp_path / name,
        images=None,
        partial=False,
        spec={},
    )
    return tmp_path / name


@pytest.fixture
def data(tmp_path):
    rows = [
        {
            "task": "common_object",
            "images": ["a", "b"],
            "question": f"Locate it in the {n}th image.",
            "answer": [0, 0, 1, 1],
        }
        for n in (1, 2)
    ]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    return tmp_path / "data.json"


@pytest.mark.parametrize(
    ("benchmark", "replies"),
    [
        ("mig-bench", ["(0,0),(1000,1000)", "nothing"]),
        ("mig-bench-one-shot", ["Image-1: (0,0),(1000,1000)\n(1,1),(2,2)"]),
    ],
)
def test_records_as_parquet_are_the_records(tmp_path, data, benchmark, replies):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    first = scored(tmp_path, "first", benchmark, data, replies)
    second = scored(tmp_path, "second", benchmark, data, ["nothing"] * len(replies))
    assert write_table([first, second], ["one", "two"], tmp_path / "out/records.parquet") == 2 * len(replies)
    table = parquet.read_table(tmp_path / "out/records.parquet")
    assert not any("null" in str(field.type) for field in table.schema)  # types do not depend on the content
    expected = [
        {"run": run, **json.loads(line)}
        for run, folder in (("one", first), ("two", second))
        for line in (folder / "records.jsonl").read_text().splitlines()
    ]
    assert table.to_pylist() == expected


def test_records_of_two_kinds_are_no_table(tmp_path, data):
    boxes = scored(tmp_path, "boxes", "mig-bench", data, ["x", "y"])
    sets = scored(tmp_path, "sets", "mig-bench-one-shot", data, ["x"])
    with pytest.raises(UserError, match="holds other records than"):
        write_table([boxes, sets], ["a", "b"], tmp_path / "r.parquet")
