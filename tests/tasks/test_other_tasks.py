"""Runs over different tasks of one file: a gap where a run has no such task, or one line that refuses; no crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pages import TASKS, make_runs
from typer.testing import CliRunner, Result

from migician.cli import app
from migician.errors import UserError
from migician.evaluation.run_folder import read_report
from migician.reports.page.runs import write_page
from migician.reports.runs import compare, open_run
from migician.training.watch import write_curve

HELD = {"all": TASKS, "early": TASKS[:2], "late": TASKS[1:], "last": TASKS[2:]}
LABELS = {"diff": "static difference", "region": "region locating", "reasoning": "reasoning"}
MIXES = [("all", "early"), ("early", "all", "late"), ("early", "last")]


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
    return f"{report['per_task'][task]['acc@0.5']:.2f}" if task in report["per_task"] else ""


def cells(line: str) -> list[str]:
    """The label of a row, then its figures without their intervals."""
    label, *rest = (cell.strip() for cell in line.strip("|").split("|"))
    return [label, *(cell.split(" ")[0] for cell in rest)]


@pytest.mark.parametrize("names", MIXES)
def test_tables_have_gaps(home: Path, names: tuple[str, ...]) -> None:
    folders = [home / name for name in names]
    written = run("table", *folders, "--format", "markdown").stdout
    rows = {cells(line)[0]: cells(line)[2:] for line in written.split("\n\n**")[0].splitlines() if line[:2] == "| "}
    for task, label in LABELS.items():
        if any(task in HELD[name] for name in names):
            assert rows[label] == [figure(home, name, task) for name in names]
    # Averages over other tasks are no averages of one kind, and the heads of the columns say so.
    assert "Not like for like, the runs differ in rows" in written
    for form in ("text", "latex"):
        assert run("table", *folders, "--format", form).exit_code == 0


@pytest.mark.parametrize("names", MIXES)
def test_pictures_and_parquet(home: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    folders = [home / name for name in names]
    assert run("plot", *folders, "--out", tmp_path).exit_code == 0
    done = run("report", *folders, "--parquet", tmp_path / "records.parquet")
    assert done.exit_code == 0 and "Not like for like" in done.stdout


@pytest.mark.parametrize("names", MIXES)
def test_what_pairs_questions_refuses(home: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    folders = [home / name for name in names]

    def command(verb: str, *more: Any) -> None:
        run(verb, *folders[:2], *more)

    for refused in (
        lambda: command("compare"),
        lambda: command("report", "--images", home, "--out", tmp_path / "page"),
        lambda: compare(*map(open_run, folders[:2])),
        lambda: write_page(folders, names, home, tmp_path / "page"),
    ):
        with pytest.raises(UserError, match="do not hold the same rows") as caught:
            refused()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "page").exists()


def test_checkpoints_over_other_tasks_make_no_curve(home: Path, tmp_path: Path) -> None:
    for step, name in ((1, "early"), (2, "late")):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "report.json").write_bytes((home / name / "report.json").read_bytes())
    with pytest.raises(UserError, match="another rows than checkpoint-1"):
        write_curve(tmp_path / "saves", tmp_path)
