"""The card of a model: its figures are the report's, its weights are checked, and what is not known is not said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")

from migician.build.dataset import build
from migician.cli import app
from migician.errors import UserError
from migician.miniature import Amounts, make_world
from migician.models.stand_ins.tiny import make_tiny
from migician.reports.model_card import write_model_card
from migician.reports.runs import evaluate, score
from migician.training.merge import merge


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages, their average with its score, the score of the first, and a dataset."""
    home = tmp_path_factory.mktemp("home")
    roots = make_world(home / "world", 0, Amounts(magicbrush=12, held_out=1))
    build(["difference"], {"magicbrush": roots["magicbrush"]}, home / "data", count=3)
    for seed, stage in enumerate(("stage-1", "stage-2")):
        make_tiny(home / stage, seed=seed)
    trained = {"epoch": 2.0, "train_loss": 0.25, "train_runtime": 7200.0}
    (home / "stage-1/train_results.json").write_text(json.dumps(trained))
    (home / "stage-1/trainer_state.json").write_text(json.dumps({"global_step": 1688}))
    merge([home / "stage-1", home / "stage-2"], home / "merged", [0.25, 0.75])
    for model in ("merged", "stage-1"):
        out = home / "scores" / model
        bench = home / "world/MIG-Bench/MIG_data.json"
        evaluate("mig-bench", home / model, bench, home / "world", out, max_new_tokens=4)
    return home


def read(file: Path) -> tuple[dict[str, Any], str]:
    _, front, text = file.read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_figures_are_those_of_the_report(home: Path, tmp_path: Path) -> None:
    """Another number in the report, the same number on the card: in the table and for the Hub."""
    shutil.copytree(home / "scores/merged", tmp_path / "run")
    report = json.loads((tmp_path / "run/report.json").read_text())
    report["average"]["acc@0.5"], report["per_task"]["region"]["mean_iou"] = 12.3456, 98.7654
    (tmp_path / "run/report.json").write_text(json.dumps(report))
    front, text = read(write_model_card(home / "merged", [tmp_path / "run"], force=True))
    (result,) = front["model-index"][0]["results"]
    assert {one["type"]: one["value"] for one in result["metrics"]}["acc@0.5"] == 12.35
    assert result["dataset"]["type"] == "other"
    assert result["dataset"]["name"].startswith("MIG-Bench's form, miniature world (MIG_data.json, sha256 ")
    assert all(one["name"].endswith("miniature world (MIG_data.json), strict protocol") for one in result["metrics"])
    assert "**run: MIG-Bench's form, miniature world (MIG" in text and "like for like" not in text
    report["file_released_as"] = "MIG_data.json of Michael4933/MIG-Bench"
    (tmp_path / "run/report.json").write_text(json.dumps(report))
    released, _ = read(write_model_card(home / "merged", [tmp_path / "run"], force=True))
    assert released["model-index"][0]["results"][0]["dataset"]["type"] == "mig-bench"
    assert "98.77" in next(line for line in text.splitlines() if line.startswith("| region locating"))
    assert "12.35" in next(line for line in text.splitlines() if line.startswith("| average"))
    assert report["data_sha256"] in text and report["date"] in text and "greedy decoding" in text
    outcomes = [one["outcomes"] for one in report["per_task"].values()]
    boxless = 100 * sum(one.get("no_box", 0) for one in outcomes) / report["n"]
    assert f"Of {report['n']} replies in run: no box {boxless:.1f}%" in text


def test_reports_that_are_not_like_for_like_are_marked_on_the_card(home: Path, tmp_path: Path) -> None:
    """Two folders of one name too, each with its own words."""
    shutil.copytree(home / "scores/merged", tmp_path / "merged")
    report = json.loads((tmp_path / "merged/report.json").read_text())
    report["plan"]["wording"], report["model"]["max_pixels"] = "published", 3136
    (tmp_path / "merged/report.json").write_text(json.dumps(report))
    _, text = read(write_model_card(home / "merged", [home / "scores/merged", tmp_path / "merged"], force=True))
    told = [
        line for line in text.splitlines() if "Not like for like, the runs differ in prompt and pixel limit" in line
    ]
    assert len(told) == 2, "under each table"
    assert "merged 2 (published prompt, at most 3,136 pixels an image)" in told[0].replace("\\", "")


def test_what_it_was_made_of(home: Path) -> None:
    options = ["--dataset", home / "data", "--base", "Qwen/Qwen2-VL-7B-Instruct", "--license", "apache-2.0"]
    given = ["train", "card", home / "merged", "--report", home / "scores/merged", *options, "--force"]
    assert CliRunner().invoke(app, [*map(str, given)], catch_exceptions=False).exit_code == 0
    front, text = read(home / "merged/README.md")
    assert (front["license"], front["base_model"]) == ("apache-2.0", "Qwen/Qwen2-VL-7B-Instruct")
    assert "1,688 steps, 2 epochs, 2.0 hours, mean loss 0.250" in text
    lines = [line for line in text.splitlines() if line.startswith("- 0.")]
    assert lines[0].startswith("- 0.25 of stage-1 (`") and lines[1].endswith("its training is not known here")
    assert "3 samples, seed 0" in text and "MagicBrush (CC BY 4.0" in text and "MIG-Bench uses were left out" in text
    assert str(home) not in text, "no path of this machine is published"


def test_a_folder_that_was_trained_anew_tells_nothing(home: Path, tmp_path: Path) -> None:
    for name in ("merged", "stage-2"):
        shutil.copytree(home / name, tmp_path / name)
    made = json.loads((tmp_path / "merged/merge.json").read_text())
    made["checkpoints"][0]["path"] = str(tmp_path / "stage-1")
    (tmp_path / "merged/merge.json").write_text(json.dumps(made))
    make_tiny(tmp_path / "stage-1", seed=5)
    for file in ("train_results.json", "trainer_state.json"):
        shutil.copy(home / "stage-1" / file, tmp_path / "stage-1")
    _, text = read(write_model_card(tmp_path / "merged", force=True))
    assert "1,688 steps" not in text and "written without a report" in text


def test_answers_of_no_known_weights_are_said_to_be_so(home: Path, tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text('{"index": 0, "response": "(1,1),(500,500)"}')
    bench = home / "world/MIG-Bench/MIG_data.json"
    run = score("mig-bench", bench, tmp_path / "answers.jsonl", tmp_path / "run", partial=True)
    _, text = read(write_model_card(home / "merged", [run.folder], force=True))
    assert "The report does not say which weights the replies are of." in text
    _, text = read(write_model_card(home / "merged", [home / "scores/merged"], force=True))
    assert "does not say which weights" not in text


def test_what_is_refused(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "merged", tmp_path / "merged")
    (tmp_path / "merged/README.md").write_text("my own words")
    with pytest.raises(UserError, match="README.md: is there, .* --force replaces it"):
        write_model_card(tmp_path / "merged")
    with pytest.raises(UserError, match="was measured with other weights"):
        write_model_card(tmp_path / "merged", [home / "scores/stage-1"], force=True)
    with pytest.raises(UserError, match="not the card of a dataset"):
        write_model_card(tmp_path / "merged", datasets=[home / "world"], force=True)
    assert (tmp_path / "merged/README.md").read_text() == "my own words"
