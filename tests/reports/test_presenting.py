"""Breakdowns against pandas and by hand, published figures against their counts, tables and pictures of runs."""

import io

import msgspec
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from migician.benchmarks import mig_bench
from migician.benchmarks.published.figures import PUBLISHED, TASK_NAMES, caution, published_named
from migician.benchmarks.scoring.boxes import BOXES, Record
from migician.benchmarks.scoring.scoring import Reading
from migician.benchmarks.scoring.values import Value
from migician.boxtext import QWEN
from migician.cli import app
from migician.draw import PALETTE
from migician.errors import UserError
from migician.evaluation.answer_files import read_answers
from migician.evaluation.breakdowns import AREA_EDGES, by_box_size, by_images, image_choice
from migician.evaluation.records import RecordColumns, score
from migician.evaluation.report import build_report, write_report
from migician.reports.figures import bars, radar
from migician.reports.tables import Table, one_run, side_by_side, tables
from migician.reports.writers import write_latex, write_markdown, write_text


def record(reply="(1,1),(2,2)", *, target=1, image=None, images=3, task="group_grounding", iou=0.0, truth=(0, 0, 1, 1)):
    names = tuple(f"{task}/{place}.png" for place in range(images))
    outcome = "correct" if iou >= 0.5 else "wrong_box"
    return Record(0, task, "Where?", names, truth, reply, [], outcome, iou, False, target, image)


def broken_down(by, records):
    return by(records, RecordColumns(records, BOXES))


def run_of(folder, *, task="diff", file_kind="revised", protocol="published", y_stretch=False, **more):
    """A report by hand, with one task or several and one interval for all."""
    figures = {"n": 4, "acc@0.5": 50.0, "mean_iou": 40.0, "interval": {"acc@0.5": [20.0, 80.0], "mean_iou": [30, 50]}}
    report = {
        "benchmark": "mig-bench",
        "protocol": protocol,
        "y_stretch": y_stretch,
        "data": "MIG_data.json",
        "data_sha256": "0" * 64,
        "file_kind": file_kind,
        "file_released_as": "a released file",
        "n": 4,
        "rows_in_file": 4,
        "per_task": dict.fromkeys(task.split(), figures),
        "average": figures,
        "micro": figures,
        **more,
    }
    write_report(folder, report, [])
    return report


@pytest.fixture(scope="module")
def real(shared):
    """Bench, and records of both models as the paper scores them."""
    bench = mig_bench.load(shared / "data/mig_bench/revised_MIG_bench.json")
    readings = {"migician": Reading("published", QWEN, y_stretch=True), "qwen2_vl": Reading("published", QWEN)}
    return bench, {
        name: score(bench, read_answers(shared / f"data/model_answers/{name}.jsonl", bench), reading)
        for name, reading in readings.items()
    }


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (record("It's in the second image. (1,1),(2,2)"), True),
        (record("It's in the third image. (1,1),(2,2)"), False),
        (record("第二张图(1,1),(2,2)"), True),
        (record("<think>In the first image?</think>In the second image: (1,1),(2,2)"), True),
        (record("whatever", image=1), True),
        (record("Image-2: (1,1),(2,2). Image-3: (1,1),(2,2)"), None),  # two images are no choice
        (record("(1,1),(2,2)"), None),
        (record(None), None),
        (record("It's in the second image.", target=None), None),
        (record("It's in the first image.", target=0, images=1), None),
    ],
)
def test_which_image_a_reply_chooses(given, named):
    found = broken_down(image_choice, [given])
    if named is None:
        assert found == {}
    else:
        assert found["group_grounding"]["right_image"] == 100 * named and found["all tasks"]["n"] == 1
        assert found["all tasks"]["chance"] == pytest.approx(100 / 3)


def test_image_choice_counts_what_names_no_image_apart():
    replies = ["It's in the second image.", "It's in the second image.", "It's in the first image.", "(1,1),(2,2)"]
    found = broken_down(image_choice, [record(reply) for reply in replies])["group_grounding"]
    assert (found["n"], found["known"], found["clusters"]) == (3, 4, 1)
    assert found["right_image"] == pytest.approx(200 / 3) and found["interval"]["right_image"] == [0, 100]


@pytest.mark.parametrize(
    ("truth", "label"),
    [
        ((0, 0, 0.1, 0.1), "up to 1%"),
        ((0, 0, 0.1, 0.11), "1% to 3%"),
        ((0, 0, 0.5, 0.6), "10% to 30%"),
        ((0, 0, 1, 1), "over 30%"),
        ((0.5, 0, 0.4, 1), "impossible"),
        ((0, 0, 0.1, 1.1), "impossible"),
    ],
)
def test_the_class_of_a_box(truth, label):
    assert list(broken_down(by_box_size, [record(truth=truth)])) == [label]


def test_many_images_share_a_class():
    assert list(broken_down(by_images, [record(images=count) for count in (12, 1, 8, 3)])) == ["1", "3", "8 or more"]


def test_breakdowns_of_real_answers_against_pandas(real):
    pandas = pytest.importorskip("pandas")
    for records in real[1].values():
        frame = pandas.DataFrame([msgspec.structs.asdict(one) for one in records])
        boxes = np.array(frame.truth.tolist())
        frame["area"] = pandas.cut(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).round(9), [0, *AREA_EDGES, 2])
        frame["count"] = frame.images.map(len)
        frame["hit"] = frame.iou >= 0.5
        for found, key in ((broken_down(by_box_size, records), "area"), (broken_down(by_images, records), "count")):
            groups = frame.groupby(key, observed=True)
            expected = zip(groups.size(), groups.hit.mean(), groups.iou.mean(), groups.images.nunique(), strict=True)
            for figures, (n, hits, iou, clusters) in zip(found.values(), expected, strict=True):
                assert (figures["n"], figures["clusters"]) == (n, clusters)
                assert figures["acc@0.5"] == pytest.approx(100 * hits)
                assert figures["mean_iou"] == pytest.approx(100 * iou)
                low, high = figures["interval"]["acc@0.5"]
                assert low < figures["acc@0.5"] < high


def test_migician_names_the_right_image_in_117_of_120_replies(real):
    found = broken_down(image_choice, real[1]["migician"])
    assert list(found) == ["group_grounding", "all tasks"]
    assert (found["group_grounding"]["n"], found["group_grounding"]["known"]) == (120, 359)
    assert found["group_grounding"]["right_image"] == pytest.approx(100 * 117 / 120)


# What no number of rows gives, or no mean of the tasks: slips of the papers, kept as printed.
NO_COUNT = {
    "human": {"diff", "common_object", "group_grounding"},
    "qwen2-vl-72b": {"diff"},
    "llava-onevision-72b": {"view_diff", "region", "refer_grounding", "group_grounding"},
    "mplug-owl3": {"reasoning"},
    "internvl2-8b": {"diff"},
    "qwen2-vl-7b": {"region"},
}
NO_MEAN = {"llava-onevision-72b": 12.80, "univg-r1": 72.62, "mg-thinker-7b": 76.70}


def test_published_figures_are_whole_counts_of_the_rows_of_their_file(shared):
    files = {"original": "MIG_data.json", "revised": "revised_MIG_bench.json"}
    rows = {}
    for kind, name in files.items():
        tasks = [question.task for question in mig_bench.load(shared / "data/mig_bench" / name).questions]
        rows[kind] = {task: tasks.count(task) for task in TASK_NAMES}
    for name, one in PUBLISHED.items():
        odd = set()
        for task, percent in one.per_task.items():
            n = rows[one.file][task]
            if abs(100 * round(percent * n / 100) / n - percent) > 0.0101:
                odd.add(task)
        assert odd == NO_COUNT.get(name, set()), name


def test_published_averages_are_means_of_their_tasks():
    for name, one in PUBLISHED.items():
        assert sum(one.acc) / 10 == pytest.approx(NO_MEAN.get(name, one.average), abs=0.006), name


def test_published_figures_by_hand():
    migician, people = published_named(["migician", "human"])
    assert (migician.average, migician.per_task["region"], migician.per_task["correspondence"]) == (63.82, 74.31, 34.19)
    assert people.per_task["object_tracking"] == 100
    with pytest.raises(UserError, match=r"unknown published model 'migicain'.*Did you mean 'migician'"):
        published_named(["migicain"])


@pytest.mark.parametrize(
    ("name", "run", "expected"),
    [
        ("migician", {"file_kind": "original", "y_stretch": True}, None),
        ("migician", {"y_stretch": True}, "it is on the original file, ours on the revised one."),
        ("migician", {"file_kind": "original"}, "only its boxes are y-stretched."),
        ("qwen2-vl-7b", {"file_kind": "original", "protocol": "strict"}, "published script, ours under strict."),
        ("qwen2-vl-7b", {"file_kind": "original", "rows_in_file": 9}, "ours is over 4 of 9 rows."),
        ("qwen2-vl-7b", {"file_kind": "original", "file_released_as": None}, "MIG_data.json is no released"),
        ("qwen2-vl-7b-cot", {"file_kind": "original"}, "it answers by chain of thought"),
        ("qwen2-vl-7b", {"file_kind": "original", "plan": {"wording": "published"}}, None),
        ("qwen2-vl-7b", {"file_kind": "original", "plan": {"wording": "corrected"}}, "ours with the corrected one."),
        ("qwen2-vl-7b", {"file_kind": "original", "chain_of_thought": {"mode": "multi"}}, "ours answers by chain of"),
        ("mg-thinker-7b", {}, "its authors may read replies in another way."),
        ("mg-thinker-7b", {"protocol": "univg-r1"}, "it is scored by its authors, ours under univg-r1."),
        ("univg-r1", {}, "it is scored by UniVG-R1's script, ours under published."),
        ("univg-r1", {"protocol": "univg-r1"}, None),
        ("human", {"file_kind": "original", "protocol": "strict"}, None),
    ],
)
def test_what_makes_published_figures_another_measure(tmp_path, name, run, expected):
    told = caution({"ours": run_of(tmp_path, **run)}, PUBLISHED[name])
    assert told is None if expected is None else expected in told


def test_a_caution_names_the_runs_it_is_about(tmp_path):
    runs = {"a": run_of(tmp_path, y_stretch=True), "b": run_of(tmp_path)}
    told = caution(runs, PUBLISHED["migician"])
    assert told == (
        "Not comparable with Migician as published: it is on the original file, ours on the revised one; "
        "only its boxes are y-stretched (b)."
    )


TABLE = Table("A_b", ["task", "n", "R&D_1|2"], [["x_y", "3", Value(50, (20.04, 80))], ["z", "10", Value(7)]], 2, ["5%"])


def test_tables_as_text():
    rule = "-" * 27
    assert write_text(TABLE).splitlines() == [
        "A_b",
        rule,
        "task   n            R&D_1|2",
        rule,
        "x_y    3  50.00 (20.0-80.0)",
        "z     10               7.00",
        rule,
        "5%",
    ]


def test_tables_as_markdown():
    assert write_markdown(TABLE).splitlines() == [
        r"**A\_b**",
        "",
        r"| task | n | R&D\_1\|2 |",
        "|---|---:|---:|",
        r"| x\_y | 3 | 50.00 (20.0-80.0) |",
        "| z | 10 | 7.00 |",
        "",
        "- 5%",
    ]


def test_tables_as_latex():
    assert write_latex(TABLE).splitlines() == [
        r"\begin{table}[t]",
        r"\centering\small",
        r"\caption{A\_b.}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"task & n & R\&D\_1\textbar{}2 \\",
        r"\midrule",
        r"x\_y & 3 & 50.00 {\scriptsize (20.0--80.0)} \\",
        r"z & 10 & 7.00 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip\raggedright\footnotesize",
        r"5\%",
        r"\end{table}",
    ]


def test_runs_over_other_rows_are_headed_apart(tmp_path):
    runs = {"a": run_of(tmp_path), "b": run_of(tmp_path, task="region", n=2, rows_in_file=8)}
    by_task = tables(runs)[0]
    assert by_task.title.endswith("(MIG_data.json), 2 runs not like for like")
    assert by_task.columns[2:] == ["a (all 4 rows)", "b (2 of 8 rows, of region)"]
    assert [row[:2] for row in by_task.rows] == [
        ["static difference", "4 / -"],
        ["region locating", "- / 4"],
        ["average of tasks", "4"],
    ]
    assert by_task.rows[0][3] == by_task.rows[1][2] == ""
    with pytest.raises(UserError, match="a and b score different benchmarks"):
        tables({"a": runs["a"], "b": run_of(tmp_path, benchmark="mmiu")})


@pytest.mark.parametrize("place", ["average", "micro"])
def test_a_level_of_chance_in_one_place_alone_leaves_every_row_as_long_as_the_heads(tmp_path, place):
    report = run_of(tmp_path)
    report[place] = {**report[place], "chance": 25.0, "tasks": 1}
    report.setdefault("average", {}).setdefault("tasks", 1)
    for table in (one_run(report), side_by_side({"a": report, "b": report}), *tables({"a": report})):
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_the_table_of_real_runs(real, tmp_path):
    bench, records = real
    for name, some in records.items():
        stretched = name == "migician"
        report = build_report(bench, some, protocol={"protocol": "published", "y_stretch": stretched})
        write_report(tmp_path / name, report, some)
    folders = [str(tmp_path / name) for name in records]
    done = CliRunner().invoke(app, ["table", *folders, "--format", "markdown", "--published", "migician,univg-r1"])
    lines = done.stdout.splitlines()
    heads = "migician (with y-stretch) | qwen2\\_vl (without y-stretch)"
    assert f"| task | n | {heads} | Migician, published | UniVG-R1, published |" in lines
    assert "| average of tasks | 4276 | 63.37 (61.1-65.6) | 30.64 (28.7-32.7) | 63.82 | 72.64 |" in lines
    assert "| migician (with y-stretch) | group grounding | 359 | 120 | 97.50 (92.7-99.2) | 25.53 |" in lines
    assert sum("Not comparable with" in line for line in lines) == 2


def test_pictures_are_drawn_again_alike(tmp_path):
    runs = {"ours": run_of(tmp_path / "ours", task="diff region reasoning")}
    for draw in (radar, bars):
        picture = draw(runs, [PUBLISHED["univg-r1"]])
        assert picture == draw(runs, [PUBLISHED["univg-r1"]])
        image = Image.open(io.BytesIO(picture)).convert("RGB")
        colours = {colour for _, colour in image.getcolors(1 << 20)}
        for wanted in PALETTE[:2]:  # the run and the published row are both drawn, in their own colours
            rgb = np.array([int(wanted[at : at + 2], 16) for at in (1, 3, 5)])
            assert min(np.abs(rgb - colour).max() for colour in np.array(list(colours))) <= 12


def test_plot_writes_both_pictures(tmp_path):
    run_of(tmp_path / "ours", task="diff region reasoning")
    done = CliRunner().invoke(app, ["plot", str(tmp_path / "ours"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert all(Image.open(tmp_path / "out" / name).size[0] > 1000 for name in ("radar.png", "bars.png"))


def test_a_radar_of_two_tasks_is_refused(tmp_path):
    with pytest.raises(UserError, match="a radar needs at least three tasks, not 2"):
        radar({"ours": run_of(tmp_path, task="diff region")})
