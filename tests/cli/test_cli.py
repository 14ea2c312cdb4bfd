"""The command line: every verb explains itself, and every fault is one line that says what to do."""

import json

import pytest
from command_line import command
from typer.testing import CliRunner

from migician.cli import VERBS, app


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb):
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert f"Example: migician {verb}" in result.stdout


def test_the_public_verbs_are_there():
    assert {"build", "eval", "score", "compare", "report", "merge"} <= set(VERBS)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["build", "difference", "--source", "magicbrush", "--out", "x"], "--source 'magicbrush': expected two parts"),
        (["build", "diference", "--source", "coco=.", "--out", "x"], "Did you mean 'difference'"),
        (["build", "difference", "--source", "coco=nowhere", "--out", "x"], "nowhere is not a folder"),
        (
            ["build", "difference", "--source", "magicbrush=.", "--out", "x", "--mig-bench", "no.json"],
            "no.json: cannot",
        ),
        (
            ["build", "all", "--source", "coco=.", "--out", "x", "--mig-bench-images", "."],
            "the JSON file that names them",
        ),
        (
            ["build", "all", "--source", "coco=.", "--out", "x", "--keep-mig-bench", "--mig-bench", "no.json"],
            "--keep-mig-bench leaves nothing out",
        ),
        (["mix", "--part", "a.json=many", "--count", "3", "--out", "x.json"], "the weight must be a number"),
        (["mix", "--part", "nowhere.json=1", "--count", "3", "--out", "x.json"], "nowhere.json"),
        (["merge", "nowhere/a", "nowhere/b", "--out", "x"], "nowhere/a"),
        (["compare", "nowhere/a", "nowhere/b"], "nowhere/a"),
        (["report", "nowhere"], "nowhere"),
        (["tiny", "--texts", "nowhere.json", "--out", "x"], "nowhere.json"),
        (["eval", "mig-bench", "--model", "qwen2-vl-7", "--data", "nowhere", "--images", ".", "--out", "x"], "nowhere"),
    ],
)
def test_what_the_user_can_mend_is_one_line(tmp_path, monkeypatch, args, says):
    monkeypatch.chdir(tmp_path)
    status, printed, error = command(*args)
    assert status == 2 and printed == ""
    assert says in error and len(error.strip().splitlines()) == 1 and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_mixing_names_the_dataset_for_llamafactory(tmp_path):
    turns = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "!"}]
    for name in ("a", "b"):
        records = [{"id": f"{name}{i}", "images": ["x.png"], "conversations": turns, "type": name} for i in range(9)]
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    parts = [f"--part={tmp_path / name}.json={weight}" for name, weight in (("a", 1), ("b", 2))]
    status, _, error = command("mix", *parts, "--count", 9, "--out", tmp_path / "mixed.json")
    assert status == 0 and "a 3, b 6" in error
    mixed = json.loads((tmp_path / "mixed.json").read_text())
    assert [one["type"] for one in mixed].count("b") == 6 and len({one["id"] for one in mixed}) == 9
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info["mixed"]["file_name"] == "mixed.json" and info["mixed"]["formatting"] == "sharegpt"
