"""Scores at checkpoints: which are scored, once each, and what is written of them."""

from __future__ import annotations

import csv
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from test_resume_training import checkpoint
from typer.testing import CliRunner

from migician.cli import app
from migician.errors import UserError
from migician.training.watch import candidates, is_finished, score_new, write_curve

OPTIONS = ["--limit", "2"]


def saved(saves: Path, step: int) -> Path:
    folder = checkpoint(saves, step)
    (folder / "processor_config.json").write_text("{}")
    return folder


def finish(saves: Path) -> None:
    (saves / "train_results.json").write_text("{}")
    (saves / "processor_config.json").write_text("{}")


def scorer(calls: list[str], fail: tuple[str, ...] = (), sha256: str = "a") -> Callable[[list[str]], int]:
    """Stands for `migician eval`: leaves a report whose average is the step."""

    def run(words: list[str]) -> int:
        out = Path(words[words.index("--out") + 1])
        calls.append(out.name)
        if out.name in fail:
            return 1
        value = float(out.name.removeprefix("checkpoint-")) if out.name != "final" else 99.0
        figures = {"n": 4, "acc@0.5": value, "interval": {"acc@0.5": [value - 1, value + 1]}}
        report = {
            "benchmark": "mig-bench",
            "data": "data.json",
            "data_sha256": sha256,
            "n": 4,
            "rows_in_file": 4,
            "protocol": "strict",
            "average": figures,
            "micro": figures,
            "per_task": {"diff": figures},
        }
        out.mkdir(parents=True)
        (out / "report.json").write_text(json.dumps(report))
        return 0

    return run


def rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "checkpoints.csv").open()))


def test_each_whole_checkpoint_once_oldest_first(tmp_path: Path) -> None:
    saves, out, calls = tmp_path / "saves", tmp_path / "out", []
    saved(saves, 10)
    saved(saves, 9)
    (saved(saves, 20) / "trainer_state.json").write_text("{")  # cut, or not yet whole
    checkpoint(saves, 30)  # its processor is still to come
    assert score_new(saves, out, OPTIONS, set(), scorer(calls)) == []
    assert calls == ["checkpoint-9", "checkpoint-10"]
    assert [(row["step"], row["acc@0.5"], row["low"], row["n"], row["diff"]) for row in rows(out)] == [
        ("9", "9.00", "8.00", "4", "9.00"),
        ("10", "10.00", "9.00", "4", "10.00"),
    ]
    (saves / "checkpoint-30/processor_config.json").write_text("{}")
    finish(saves)
    score_new(saves, out, OPTIONS, set(), scorer(calls))
    assert calls[2:] == ["checkpoint-30", "final"]
    assert [(row["checkpoint"], row["step"]) for row in rows(out)][-2:] == [("checkpoint-30", "30"), ("final", "30")]
    score_new(saves, out, OPTIONS, set(), scorer(calls))
    assert len(calls) == 4
    assert (out / "checkpoints.png").read_bytes().startswith(b"\x89PNG")


def test_a_removed_checkpoint_keeps_its_row(tmp_path: Path) -> None:
    saves, out, calls = tmp_path / "saves", tmp_path / "out", []
    saved(saves, 1)
    score_new(saves, out, OPTIONS, set(), scorer(calls))
    shutil.rmtree(saves / "checkpoint-1")  # save_total_limit
    saved(saves, 2)
    score_new(saves, out, OPTIONS, set(), scorer(calls))
    assert [row["checkpoint"] for row in rows(out)] == ["checkpoint-1", "checkpoint-2"]


def test_one_that_fails_keeps_no_other_from_its_score(tmp_path: Path) -> None:
    saves, out, calls = tmp_path / "saves", tmp_path / "out", []
    for step in (1, 2):
        saved(saves, step)
    run = scorer(calls, fail=("checkpoint-1",))
    assert score_new(saves, out, OPTIONS, set(), run) == ["checkpoint-1"]
    assert score_new(saves, out, OPTIONS, {"checkpoint-1"}, run) == []
    assert calls == ["checkpoint-1", "checkpoint-2"]
    assert [row["checkpoint"] for row in rows(out)] == ["checkpoint-2"]


def test_scores_on_other_questions_are_refused(tmp_path: Path) -> None:
    saves, out, calls = tmp_path / "saves", tmp_path / "out", []
    saved(saves, 1)
    score_new(saves, out, OPTIONS, set(), scorer(calls))
    saved(saves, 2)
    with pytest.raises(UserError, match="checkpoint-2: another file than checkpoint-1: data.json, sha256 b"):
        score_new(saves, out, OPTIONS, set(), scorer(calls, sha256="b"))


def trained_on(saves: Path, step: int, seed: int) -> None:
    """The result of a training of so many steps in `saves`, with weights of its own."""
    import torch
    from safetensors.torch import save_file

    save_file({"w": torch.full((4,), float(seed))}, saves / "model.safetensors")
    (saves / "config.json").write_text('{"model_type": "qwen2_vl"}')
    (saves / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    finish(saves)


def test_a_result_that_was_trained_further_is_scored_again(tmp_path: Path) -> None:
    saves, out, calls = tmp_path / "saves", tmp_path / "out", []
    saved(saves, 5)
    trained_on(saves, 5, seed=1)
    score_new(saves, out, OPTIONS, set(), scorer(calls))
    assert calls == ["checkpoint-5", "final"]
    saved(saves, 9)  # goes on: what lies in the folder itself is of step 5 still
    assert not is_finished(saves)
    score_new(saves, out, OPTIONS, set(), scorer(calls))
    assert calls[2:] == ["checkpoint-9"]
    assert [row["checkpoint"] for row in rows(out)] == ["checkpoint-5", "checkpoint-9"]
    trained_on(saves, 9, seed=2)
    score_new(saves, out, OPTIONS, set(), scorer(calls))
    assert calls[3:] == ["final"] and is_finished(saves)
    assert [(row["checkpoint"], row["step"]) for row in rows(out)][-1] == ("final", "9")
    assert len(list(out.glob("final.*"))) == 1  # the older report, moved aside
    score_new(saves, out, OPTIONS, set(), scorer(calls))
    assert len(calls) == 4


def test_a_logged_step_beyond_the_end_says_that_it_goes_on(tmp_path: Path) -> None:
    saves = tmp_path
    trained_on(saves, 5, seed=1)
    line = {"current_steps": 5, "total_steps": 9, "elapsed_time": "0:00:01", "loss": 1.0}
    log = saves / "trainer_log.jsonl"
    log.write_text(json.dumps(line) + "\n")
    assert is_finished(saves)
    log.write_text(log.read_text() + json.dumps(line | {"current_steps": 6}) + "\n")
    assert not is_finished(saves) and candidates(saves) == []


def test_watch_ends_where_the_training_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saves, out, calls = tmp_path / "saves", tmp_path / "out", []
    for step in (2, 4):
        saved(saves, step)
    lines = [
        {"current_steps": step, "total_steps": 9, "elapsed_time": "0:00:01", "loss": 1.0 if step < 3 else float("nan")}
        for step in range(1, 5)
    ]
    (saves / "trainer_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr("migician.training.watch.score_new", functools.partial(score_new, run=scorer(calls)))
    Image.new("RGB", (56, 56)).save(tmp_path / "a.png")
    question = {"task": "diff", "images": ["./MIG-Bench/a.png"], "question": "?", "answer": [0.1, 0.1, 0.5, 0.5]}
    (tmp_path / "MIG-Bench").mkdir()
    shutil.copy(tmp_path / "a.png", tmp_path / "MIG-Bench")
    (tmp_path / "d.json").write_text(json.dumps([question | {"additional_info": "", "need_format": False}]))
    words = [
        "train",
        "watch",
        str(saves),
        "--data",
        str(tmp_path / "d.json"),
        "--images",
        str(tmp_path),
        "--out",
        str(out),
    ]
    told = CliRunner().invoke(app, words)  # it does not wait for more
    assert told.exit_code == 1 and "diverged, no valid loss since step 3" in told.stderr
    assert calls == ["checkpoint-2"]


def test_nothing_there(tmp_path: Path) -> None:
    assert candidates(tmp_path / "none") == []
    write_curve(tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_asks_a_true_checkpoint(tmp_path: Path, tiny_folder: Path) -> None:
    """A tiny Qwen2-VL as a checkpoint, through `migician eval` in its own process."""
    saves, out = tmp_path / "saves", tmp_path / "out"
    folder = saved(saves, 5)
    for file in tiny_folder.iterdir():
        shutil.copy(file, folder)
    questions = []
    for number in range(3):
        name = f"./MIG-Bench/images/{number}.png"
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (56, 56), (number * 80, 90, 90)).save(tmp_path / name)
        question = {"task": "region", "images": [name], "question": "Where?", "answer": [0.1, 0.1, 0.5, 0.5]}
        questions.append(question | {"additional_info": "", "need_format": False})
    data = tmp_path / "data.json"
    data.write_text(json.dumps(questions))
    words = [
        "train",
        "watch",
        str(saves),
        "--data",
        str(data),
        "--images",
        str(tmp_path),
        "--out",
        str(out),
        "--limit",
        "2",
    ]
    told = CliRunner().invoke(app, [*words, "--once", "--", "--max-new-tokens", "4"])
    assert told.exit_code == 0, told.output
    assert [(row["checkpoint"], row["n"]) for row in rows(out)] == [("checkpoint-5", "2")]
    again = CliRunner().invoke(app, [*words, "--once", "--", "--max-new-tokens", "4"])
    assert again.exit_code == 0 and "written" in again.stderr
