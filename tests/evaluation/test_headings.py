"""What heads figures: never one title for runs that are not like for like, and no file of one's own as MIG-Bench."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import make_runs
from typer.testing import CliRunner

from migician.benchmarks import mig_bench, mig_bench_one_shot
from migician.benchmarks.scoring.values import Value, p_text
from migician.cli import app
from migician.errors import UserError
from migician.evaluation.headings import (
    benchmark_words,
    check_one_measure,
    check_same_questions,
    headed,
    mark,
    title,
    title_of,
    unlike,
)
from migician.evaluation.report import notes
from migician.evaluation.run_folder import read_report
from migician.miniature import Amounts, make_world

PLAN = {"wording": "corrected", "batch_size": 32, "max_new_tokens": 128, "tasks": [], "limit": None, "chain": ""}
MODEL = {"max_pixels": 1003520, "weights_fingerprint": "f"}


def report(**changed):
    figures = {"n": 4, "acc@0.5": 50.0, "interval": {"acc@0.5": [20.0, 80.0]}}
    return {
        "benchmark": "mig-bench",
        "protocol": "strict",
        "y_stretch": False,
        "style": "qwen",
        "data": "MIG_data.json",
        "data_sha256": "0" * 64,
        "file_kind": "original",
        "file_released_as": "MIG_data.json of Michael4933/MIG-Bench",
        "n": 4,
        "rows_in_file": 4,
        "per_task": {"diff": figures},
        "average": figures,
        "micro": figures,
        "plan": PLAN,
        "model": MODEL,
        **changed,
    }


def partial(*tasks):
    return {"n": 4, "rows_in_file": 4295, "per_task": {task: {"n": 2} for task in tasks}}


ANSWERS = {"plan": None, "model": None, "answers": "a.jsonl", "answers_sha256": "s"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"data_sha256": "1" * 64}, {"file": ("original file, sha256 00000000", "original file, sha256 11111111")}),
        (
            {"data_sha256": "1" * 64, "file_released_as": None, "file_declared_as": "miniature world"},
            {"file": ("original file, sha256 00000000", "miniature world, sha256 11111111")},
        ),
        ({"protocol": "published", "style": None}, {"protocol": ("strict protocol", "published protocol")}),
        ({"y_stretch": True}, {"y-stretch": ("without y-stretch", "with y-stretch")}),
        ({"style": "xywh"}, {"box style": ("boxes read as qwen", "boxes read as xywh")}),
        # Another model writes boxes in its own style: that is no difference in how it was measured.
        ({"style": "xywh", "model": {**MODEL, "weights_fingerprint": "g"}}, {}),
        ({"plan": {**PLAN, "wording": "published"}}, {"prompt": ("corrected prompt", "published prompt")}),
        (
            {"plan": {**PLAN, "max_new_tokens": 64}},
            {"longest reply": ("at most 128 new tokens", "at most 64 new tokens")},
        ),
        (
            {"model": {**MODEL, "max_pixels": 50176}},
            {"pixel limit": ("at most 1,003,520 pixels an image", "at most 50,176 pixels an image")},
        ),
        (
            {"model": None, "max_pixels": 50176},
            {"pixel limit": ("at most 1,003,520 pixels an image", "at most 50,176 pixels an image")},
        ),
        (
            {"chain_of_thought": {"mode": "single"}, "plan": {**PLAN, "chain": "single, step 2"}},
            {"chain of thought": ("no chain of thought", "chain of thought (single)")},
        ),
        (partial("diff", "region"), {"rows": ("all 4 rows", "4 of 4,295 rows, of diff and region")}),
        (
            {**partial("diff", "region"), "rows_sha256": "1" * 64},
            {"rows": ("all 4 rows", "4 of 4,295 rows, of diff and region")},
        ),
        (ANSWERS, {"prompt": ("corrected prompt", "prompt not known")}),
        # What changes no figure, or is not said, is no difference.
        ({"plan": {**PLAN, "batch_size": 1}}, {}),
        ({"model": {"max_pixels": None, "weights_fingerprint": "g"}}, {}),
        ({"model": {"name": "best constant box"}, "plan": None}, {}),
        ({"date": "another", "commit": "another"}, {}),
    ],
)
def test_what_runs_differ_in(changed, expected):
    runs = {"a": report(), "b": report(**changed)}
    assert unlike(runs) == {what: dict(zip("ab", words, strict=True)) for what, words in expected.items()}
    if not expected:
        assert mark(runs) is None and headed(runs) == {"a": "a", "b": "b"} and title_of(runs) == title(runs["a"])
        return
    assert "not like for like" in title_of(runs) and title_of(runs) not in (title(runs["a"]), title(runs["b"]))
    for words in unlike(runs).values():
        for name in runs:
            assert words[name] in headed(runs)[name]
    assert all(what in mark(runs) for what in expected) and all(one in mark(runs) for one in headed(runs).values())


def test_rows_are_compared_task_by_task():
    runs = {"a": report(**partial("diff", "region")), "b": report(**partial("diff", "reasoning"))}
    assert list(unlike(runs)) == ["rows"]
    assert unlike({"a": runs["a"], "b": runs["a"]}) == {}


def test_as_many_rows_may_be_others():
    some, others = ({**partial("diff", "region"), "rows_sha256": digit * 64} for digit in "12")
    runs = {"a": report(**some), "b": report(**others)}
    assert unlike(runs) == {"choice of rows": {"a": "rows of sha256 11111111", "b": "rows of sha256 22222222"}}
    assert "not like for like" in title_of(runs)
    with pytest.raises(UserError, match="do not hold the same rows"):
        check_same_questions(runs)
    for same in (some, partial("diff", "region")):  # a report may be from before it was said
        runs["b"] = report(**same)
        assert unlike(runs) == {}
        check_same_questions(runs)


def test_one_choice_of_rows_has_one_sum_however_it_was_made(tmp_path):
    rows = [
        {"task": "diff", "images": ["a.png", "b.png"], "question": f"{at}?", "answer": [0.1, 0.1, 0.5, 0.5]}
        for at in range(6)
    ]
    (tmp_path / "MIG_data.json").write_text(json.dumps(rows))

    def scored(name, *indices):
        lines = (json.dumps({"index": index, "response": "(1,1),(2,2)"}) for index in indices)
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
        files = ["--data", str(tmp_path / "MIG_data.json"), "--answers", str(tmp_path / f"{name}.jsonl")]
        more = ["--partial", "--out", str(tmp_path / name)]
        assert CliRunner().invoke(app, ["score", "mig-bench", *files, *more]).exit_code == 0
        return read_report(tmp_path / name).get("rows_sha256")

    first = scored("a", 0, 1, 2)
    assert first == scored("b", 2, 1, 0) and first != scored("c", 3, 4, 5)
    assert scored("all", *range(6)) is None
    told = CliRunner().invoke(app, ["table", str(tmp_path / "a"), str(tmp_path / "c")])
    assert told.exit_code == 0 and "2 runs not like for like" in told.stdout


def test_the_same_answers_read_in_two_styles_are_not_like_for_like():
    runs = {"a": report(**ANSWERS), "b": report(**ANSWERS, style="xywh")}
    assert list(unlike(runs)) == ["box style"]
    runs["b"]["answers_sha256"] = "of another model"
    assert unlike(runs) == {}


@given(st.lists(st.sampled_from(["strict", "published"]), min_size=1, max_size=4))
def test_a_title_claims_no_more_than_holds_for_all(protocols):
    runs = {str(at): report(protocol=one, style=None) for at, one in enumerate(protocols)}
    said = [one for one in ("strict", "published") if one in title_of(runs)]
    assert said == (sorted(set(protocols)) if len(set(protocols)) == 1 else [])
    assert all((f"{one} protocol" in headed(runs)[str(at)]) == (not said) for at, one in enumerate(protocols))


def test_what_cannot_be_set_side_by_side():
    runs = {"a": report(), "b": report(benchmark="mmiu")}
    with pytest.raises(UserError, match=r"a and b score different benchmarks \(mig-bench, mmiu\)"):
        check_one_measure(runs)
    with pytest.raises(UserError, match="a and b score different benchmark files"):
        check_same_questions({"a": report(), "b": report(data_sha256="1" * 64)})
    with pytest.raises(UserError, match="a and b do not hold the same rows"):
        check_same_questions({"a": report(), "b": report(**partial("region"))})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "mig-bench, original file (MIG_data.json), strict protocol"),
        ({"file_released_as": None}, "MIG-Bench's form, not a released file (MIG_data.json), strict protocol"),
        (
            {"file_released_as": None, "file_declared_as": "miniature world", "benchmark": "mig-bench-one-shot"},
            "MIG-Bench's form in one shot, miniature world (MIG_data.json), strict protocol",
        ),
        (partial(*"abcd"), "mig-bench, original file (MIG_data.json), strict protocol, 4 of 4,295 rows, in 4 tasks"),
        (
            {"protocol": "published", "y_stretch": True, "chain_of_thought": {"mode": "multi"}},
            "mig-bench, original file (MIG_data.json), published protocol with y-stretch, chain of thought (multi)",
        ),
    ],
)
def test_the_title_of_a_run(changed, expected):
    assert title(report(**changed)) == expected


def test_a_report_of_another_benchmark_or_an_older_version_has_a_title():
    plain = {"benchmark": "mmiu", "protocol": "strict", "data": "mmiu.json", "data_sha256": "2" * 64, "n": 1}
    assert title({**plain, "rows_in_file": 1, "per_task": {}}) == "mmiu (mmiu.json), strict protocol"


# ---- a file of one's own ----


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("home") / "world", 0, Amounts(held_out=1))["mig-bench"]


def test_the_miniature_world_says_what_it_is(miniature, tmp_path):
    data = miniature / "MIG-Bench/MIG_data.json"
    bench = mig_bench.load(data)
    assert (bench.facts["file_declared_as"], bench.facts["file_released_as"]) == ("miniature world", None)
    assert mig_bench_one_shot.load(data).facts["file_declared_as"] == "miniature world"
    (tmp_path / "a.jsonl").write_text('{"index": 0, "response": "(1,1),(500,500)"}\n')
    command = ["--data", str(data), "--out", str(tmp_path / "run")]
    scored = CliRunner().invoke(app, ["score", "mig-bench", *command, "--answers", str(tmp_path / "a.jsonl")])
    floor = CliRunner().invoke(app, ["dev", "baseline", "mig-bench", *command, "--force"])
    plotted = CliRunner().invoke(app, ["plot", str(tmp_path / "run"), "--out", str(tmp_path / "plots")])
    shown = CliRunner().invoke(app, ["table", str(tmp_path / "run")])
    assert (scored.exit_code, floor.exit_code, plotted.exit_code, shown.exit_code) == (0, 0, 0, 0)
    heading = "MIG-Bench's form, miniature world"
    for text in (scored.stdout, floor.stdout, shown.stdout):
        assert heading in text and "mig-bench" not in text
    # Each table by itself, since each is copied by itself.
    titles = [line for line in shown.stdout.splitlines() if ": " in line and "protocol" in line]
    assert len([line for line in titles if heading in line]) == len(titles) >= 4


def test_a_released_file_and_one_of_many_sources_declare_nothing(tmp_path, shared):
    for name in ("MIG_data.json", "revised_MIG_bench.json"):
        released = mig_bench.load(shared / "data/mig_bench" / name)
        assert "file_declared_as" not in released.facts
        words = f"mig-bench, {released.facts['file_kind']} file"
        assert benchmark_words({"benchmark": "mig-bench", **released.facts}) == words
    row = {"task": "diff", "images": ["a"], "question": "Where?", "answer": [0.1, 0.1, 0.5, 0.5]}
    for sources, expected in ((["x\n y", "x\n y"], "x y"), (["x", "z"], ""), (["x", None], ""), (["é" * 99], "é" * 60)):
        rows = [row if one is None else {**row, "source": one} for one in sources]
        (tmp_path / "own.json").write_text(json.dumps(rows))
        assert mig_bench.load(tmp_path / "own.json").facts.get("file_declared_as", "") == expected


# ---- the verbs ----


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs under strict, the second's answers again under published, and the first over another file."""
    root = tmp_path_factory.mktemp("runs")
    first, second = make_runs(root, 12)
    data = json.loads((root / "data.json").read_text())
    (root / "other.json").write_text(json.dumps([{**row, "answer": [0.1, 0.2, 0.5, 0.7]} for row in data[:9]]))
    lines = (root / "first.jsonl").read_text().splitlines(keepends=True)
    (root / "nine.jsonl").write_text("".join(lines[:9]))
    for name, data, answers, more in (
        ("lax", "data", "second", ["--protocol", "published", "--y-stretch"]),
        ("other", "other", "nine", []),
        ("part", "data", "nine", ["--partial"]),
    ):
        given = ["--data", root / f"{data}.json", "--answers", root / f"{answers}.jsonl", "--out", root / name]
        CliRunner().invoke(app, ["score", "mig-bench", *map(str, given), *more], catch_exceptions=False)
    return {one.name: one for one in (first, second, root / "lax", root / "other", root / "part")}


def verb(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.mark.parametrize(
    ("other", "what", "words"),
    [
        ("lax", "protocol and y-stretch", "published protocol, with y-stretch"),
        ("other", "file", "other.json, sha256"),
        ("part", "rows", "9 of 12 rows"),
    ],
)
def test_tables_and_pictures_of_runs_that_are_not_like_for_like(runs, tmp_path, other, what, words):
    pair = [runs["first"], runs[other]]
    for form in ("text", "markdown", "latex"):
        told = verb("table", *pair, "--format", form).stdout
        assert told.count("2 runs not like for like") == told.count("the runs differ in") >= 4, "every table says so"
        assert f"the runs differ in {what}:" in told and f"{other} (" in told and words in told
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    told = " ".join(verb("report", *pair, "--parquet", tmp_path / "r.parquet").stdout.split())
    assert f"the runs differ in {what}:" in told and words in told
    assert parquet.read_table(tmp_path / "r.parquet").num_rows >= 21
    assert verb("plot", *pair, "--out", tmp_path).exit_code == 0


@pytest.mark.parametrize("other", ["other", "part"])
def test_what_no_question_pairs_is_neither_compared_nor_a_page(runs, tmp_path, other):
    pair = [runs["first"], runs[other]]
    for words in (["compare", *pair, "--out", tmp_path / "x"], ["report", *pair, "--images", ".", "--out", tmp_path]):
        with pytest.raises(UserError, match="different benchmark files|do not hold the same rows"):
            verb(*words)
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_of_two_protocols_says_so_where_its_figures_are(runs, tmp_path):
    done = verb("compare", runs["second"], runs["lax"], "--out", tmp_path)
    told = "Not like for like, the runs differ in protocol and y-stretch"
    assert told in " ".join(done.stdout.split()) and done.stderr == ""
    kept = json.loads((tmp_path / "comparison.json").read_text())
    assert kept["not_like_for_like"].startswith(told)
    assert kept["second"]["words"] == "published protocol, with y-stretch"
    same = verb("compare", runs["first"], runs["second"], "--json")
    assert json.loads(same.stdout)["not_like_for_like"] is None and "like for like" not in same.stderr


def test_what_has_no_reply_is_said_wherever_its_zeros_count(runs, tmp_path):
    answers = tmp_path / "gaps.jsonl"
    lines = [{"index": at, **({"error": "boom"} if at < 3 else {"response": "(1,1),(2,2)"})} for at in range(8)]
    answers.write_text("\n".join(map(json.dumps, lines)))
    data = runs["first"].parent / "data.json"
    assert verb("score", "mig-bench", "--data", data, "--answers", answers, "--out", tmp_path / "gaps").exit_code == 0
    pair, told = [runs["first"], tmp_path / "gaps"], "each scored 0: gaps 4 without an answer and 3 failed of 12."
    for words in (["table", *pair], ["table", pair[1]], ["table", *pair, "--format", "latex"]):
        assert told in " ".join(verb(*words).stdout.split())
    for words in (["compare", *pair], ["compare", *pair, "--json"]):
        assert "gaps 4 without an answer and 3 failed of 12." in " ".join(verb(*words).output.split())
    pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    assert told in " ".join(verb("report", *pair, "--parquet", tmp_path / "r.parquet").stdout.split())
    assert "without a reply" not in verb("table", runs["first"], runs["second"]).stdout


def test_the_printed_outcomes_sum_up_to_the_replies(runs):
    for run in (runs["first"], runs["lax"]):
        told = notes(read_report(run))
        (line,) = (one for one in told if one.startswith("outcomes: "))
        assert sum(int(count) for count in re.findall(r" (\d+)", line)) == read_report(run)["n"]
        assert "several" not in line
    assert "1 of these replies holds several boxes" in notes(several(read_report(runs["first"])))


def several(told):
    task = next(iter(told["per_task"]))
    return {**told, "per_task": {**told["per_task"], task: {**told["per_task"][task], "several": 1}}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Value(74.845), "74.84"),  # below the half, as a binary number
        (Value(74.8449999), "74.84"),
        (Value(74.8450001), "74.85"),
        (Value(0.125), "0.12"),
        (Value(100.0, (99.95, 100)), "100.00 (100.0-100.0)"),
        (Value(-0.004, (-0.04, 0.04), signed=True), "+0.00 (+0.0 to +0.0)"),
        (Value(-12.345, (-13, -11.25), signed=True), "-12.35 (-13.0 to -11.2)"),
    ],
)
def test_how_a_figure_is_written(value, text):
    assert str(value) == text


@pytest.mark.parametrize(("p", "text"), [(1, "1.000"), (0.0499, "0.050"), (0.001, "0.001"), (0.0009999, "< 0.001")])
def test_how_a_p_is_written(p, text):
    assert p_text(p) == text
