"""Runs over different tasks of one file, side by side everywhere: what a run does not have is a gap, never a figure."""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from pages import TASKS, make_runs
from PIL import Image
from typer.testing import CliRunner, Result

from migician import figures
from migician.cli import app
from migician.errors import UserError
from migician.page import write_page
from migician.report import averages, read_report
from migician.runs import compare, open_run
from migician.watching import write_curve

HELD = {"both": TASKS, "early": TASKS[:2], "late": TASKS[1:], "last": TASKS[2:]}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs with the replies of one, each over some of its tasks."""
    home = tmp_path_factory.mktemp("home")
    make_runs(home, 30)
    replies = [json.loads(line) for line in (home / "first.jsonl").read_text().splitlines()]
    for name, tasks in HELD.items():
        kept = [reply for reply in replies if TASKS[reply["index"] % 3] in tasks]
        (home / f"{name}.jsonl").write_text("\n".join(map(json.dumps, kept)))
        given = ["--data", home / "data.json", "--answers", home / f"{name}.jsonl", "--partial"]
        assert run("score", "mig-bench", *given, "--out", home / name).exit_code == 0
    return home


def figure(home: Path, name: str, task: str) -> str:
    report = read_report(home / name)
    return f"{report['per_task'][task]['acc@0.5']:.2f}" if task in report["per_task"] else "–"


def cells(line: str) -> list[str]:
    """The label of a row, then its figures without their intervals."""
    label, *rest = (cell.strip() for cell in line.strip("|").split("|"))
    return [label, *(cell.split(" ")[0] for cell in rest)]


@pytest.mark.parametrize("names", [("both", "early"), ("early", "both", "late"), ("early", "last"), ("both", "first")])
def test_tables(home: Path, names: tuple[str, ...]) -> None:
    folders = [home / name for name in names]
    written = run("table", *folders, "--format", "markdown").stdout
    first = written.split("\n\n**")[0]
    rows = {cells(line)[0]: cells(line)[2:] for line in first.splitlines() if line.startswith("| ")}
    shown = {"diff": "static difference", "region": "region locating", "reasoning": "reasoning"}
    for task, label in shown.items():
        if any(task in HELD.get(name, TASKS) for name in names):
            assert rows[label] == [figure(home, name, task) for name in names]
    means = {label: row for label, row in rows.items() if label.startswith("average of ")}
    assert len(means) == len({frozenset(HELD.get(name, TASKS)) for name in names})
    for place, name in enumerate(names):
        (own,) = (row[place] for row in means.values() if row[place] != "–")
        assert own == f"{read_report(home / name)['average']['acc@0.5']:.2f}"
    for form in ("text", "latex"):
        assert ("–" in run("table", *folders, "--format", form).stdout) == (len(means) > 1)


def test_the_page(home: Path, tmp_path: Path) -> None:
    names = ["early", "both", "late", "last"]
    done = run("report", *(home / name for name in names), "--images", home, "--out", tmp_path, "--workers", 1)
    assert done.exit_code == 0 and "average of 3 tasks" in done.stdout and "–" in done.stdout
    content: dict[str, Any] = json.loads(
        re.search(r'id="data">(.*?)</script>', (tmp_path / "index.html").read_text(), re.S)[1]  # type: ignore[index]
    )
    assert [sample["id"] for sample in content["samples"]] == list(range(30))
    held = [HELD[name] for name in names]
    for sample in content["samples"]:
        task = content["tasks"][sample["task"]][0]
        for place, tasks in enumerate(held):
            assert (sample["outcomes"][place] is None) == (task not in tasks)
            assert (sample["ious"][place] is None) == (task not in tasks)
            assert any(text[0] == place for text in sample["texts"]) == (task in tasks)
    for row in content["scores"]["rows"]:
        if row["task"] is not None:
            task = content["tasks"][row["task"]][0]
            assert [cell is not None for cell in row["cells"]] == [task in tasks for tasks in held]
    pairs = {(one["first"], one["second"]) for one in content["comparisons"]}
    assert pairs == {(0, 1), (0, 2)}  # with the first, where they share a task
    assert content["comparisons"][1]["rows"][-1]["label"] == "average of 1 shared task"


def test_pictures(home: Path, tmp_path: Path) -> None:
    names = ["early", "both", "late"]
    assert run("plot", *(home / name for name in names), "--out", tmp_path).exit_code == 0
    for name in ("bars", "radar"):
        Image.open(io.BytesIO((tmp_path / f"{name}.png").read_bytes())).verify()
    tasks, series = figures._series({name: read_report(home / name) for name in names}, [])
    assert len(tasks) == 3
    for one, name in zip(series, names, strict=True):
        gaps = [math.isnan(value) for value in one.values]
        assert sum(gaps) == 3 - len(HELD[name])
        (mean,) = (value for value in one.averages if not math.isnan(value))
        assert mean == read_report(home / name)["average"]["acc@0.5"]


def test_comparing_is_over_what_both_have(home: Path) -> None:
    done = run("compare", home / "early", home / "second", "--json")
    found = json.loads(done.stdout)
    assert list(found["per_task"]) == ["diff", "region"] and found["unshared"] == {
        "first": {},
        "second": {"reasoning": 10},
    }
    whole = json.loads(run("compare", home / "first", home / "second", "--json").stdout)
    assert whole["unshared"] == {"first": {}, "second": {}}
    for task in ("diff", "region"):
        assert found["per_task"][task] == whole["per_task"][task]
    values = [found["per_task"][task]["acc@0.5"] for task in ("diff", "region")]
    assert found["average"]["acc@0.5"] == pytest.approx(sum(values) / 2)
    assert f"task 'reasoning' (10 rows) is only in {home / 'second'}: not compared" in done.stderr
    shown = run("compare", home / "early", home / "second").stdout
    assert "average of 2 shared tasks" in shown and re.search(r"reasoning\s+10\s+–", shown)
    with pytest.raises(UserError, match="have no task in common"):
        run("compare", home / "early", home / "last")


def test_the_notebook(home: Path) -> None:
    found = compare(open_run(home / "early"), open_run(home / "second"))
    lines = found._repr_markdown_().splitlines()
    assert any(line.startswith("| average of 2 shared tasks") for line in lines)
    assert set(cells(next(line for line in lines if line.startswith("| reasoning")))[2:]) == {"–"}
    asked = open_run(home / "early").records.keys()
    assert {*found.only_first, *found.only_second} <= asked


def test_other_rows_of_a_task_are_still_refused(home: Path, tmp_path: Path) -> None:
    lines = (home / "first.jsonl").read_text().splitlines()
    (tmp_path / "few.jsonl").write_text("\n".join(lines[:10]))
    given = ["--data", home / "data.json", "--answers", tmp_path / "few.jsonl", "--partial", "--out", tmp_path / "few"]
    assert run("score", "mig-bench", *given).exit_code == 0
    for verb, *more in (["table"], ["plot", "--out", tmp_path / "p"], ["report", "--images", home], ["compare"]):
        with pytest.raises(UserError, match="do not hold the same rows"):
            run(verb, home / "first", tmp_path / "few", *more)


def test_an_average_stands_only_beside_those_over_the_same_tasks(home: Path) -> None:
    reports = {name: read_report(home / name) for name in ("early", "both", "first", "last")}
    groups = [(label, list(found)) for label, found in averages(reports)]
    assert groups == [
        ("average of 3 tasks", ["both", "first"]),
        ("average of 2 tasks", ["early"]),
        ("average of 1 task", ["last"]),
    ]
    assert [label for label, _ in averages({name: reports[name] for name in ("both", "first")})] == ["average of tasks"]


def test_checkpoints_over_other_tasks_make_no_curve(home: Path, tmp_path: Path) -> None:
    for step, name in ((1, "early"), (2, "late")):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "report.json").write_bytes((home / name / "report.json").read_bytes())
    with pytest.raises(UserError, match="is over other tasks than checkpoint-1"):
        write_curve(tmp_path / "saves", tmp_path)


def test_the_page_in_a_browser(home: Path, tmp_path: Path, chromium: Any) -> None:
    names = ["early", "both", "late"]
    page = write_page([home / name for name in names], names, home, tmp_path)
    tab = chromium.new_page(viewport={"width": 1280, "height": 800})
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto(page.as_uri())
    rows = tab.locator("table.scores tbody tr, .scores tbody tr").all_inner_texts()
    assert any("average of 3 tasks" in row for row in rows) and sum("average of 2 tasks" in row for row in rows) == 2
    # Row 0 is of the first task, which the third run does not have.
    assert tab.locator("#card-0 .fit").count() == 2 and tab.locator("#card-1 .fit").count() == 3
    for choice, wanted in (("none", False), ("all", True)):
        tab.goto(f"{page.as_uri()}#right={choice}")
        tab.evaluate("() => { const more = document.getElementById('more'); while (!more.hidden) more.click(); }")
        shown = {
            int(one.removeprefix("card-")) for one in tab.locator(".card").evaluate_all("all => all.map(one => one.id)")
        }
        runs = [open_run(home / name).records for name in names]
        assert shown == {
            row
            for row in range(30)
            if all(row in records and (records[row].outcome == "correct") is wanted for records in runs)
        }
    tab.goto(f"{page.as_uri()}#row-0")
    assert tab.locator("#viewer .verdict").count() == 2
    assert faults == []
    tab.close()
