"""The command line: every verb explains itself, old names still work, and every fault is one line with its fix."""

import json
import os
import re
import subprocess
import sys

import pytest
from command_line import command
from typer.testing import CliRunner

import migician
from migician.benchmarks import BENCHMARKS
from migician.benchmarks.published.figures import PUBLISHED
from migician.boxtext import STYLES
from migician.cli import ALSO, GROUPS, MOVED, PANELS, VERBS, app, main
from migician.cli.listing import _FAMILY_OF, KINDS
from migician.models import CHECKPOINTS, FAMILIES, MODELS
from migician.samples.bases import BASES
from migician.sources import SOURCES
from migician.tasks import TASKS
from migician.training.rewards import PRESETS

FIRM = ("fetch", "build", "check", "eval", "score", "compare", "report", "merge", "chat")
"""What other programs call, so it stays as it is and says nothing new."""


def invoke(*args, **settings):
    return CliRunner().invoke(app, list(map(str, args)), **settings)


@pytest.mark.parametrize("verb", [*VERBS, *ALSO])
def test_every_verb_has_help_with_an_example(verb):
    result = invoke(*verb.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: migician {ALSO.get(verb, verb)} " in " ".join(result.stdout.split())


def test_the_help_has_at_most_14_verbs_in_four_groups():
    shown = re.findall(r"^│ (\w+) ", invoke("--help").stdout, flags=re.MULTILINE)
    assert len(shown) <= 14 and shown == [name for names in PANELS.values() for name in names]
    assert re.findall(r"^╭─ ([^─]+) ─", invoke("--help").stdout, flags=re.MULTILINE) == ["Options", *PANELS]
    homes = {verb.split()[0] for verb in [*VERBS, *ALSO]}
    assert homes <= {*shown, "merge", "reward", "dev"} and set(GROUPS) <= {*shown, "dev"}
    assert "migician dev" in " ".join(invoke("--help").stdout.split("╭")[0].split())
    assert {"check", "progress", "curves", "watch", "resume", "merge"} <= {
        verb.split()[1] for verb in [*VERBS, *ALSO] if verb.startswith("train ")
    }


def test_without_arguments_it_shows_the_help():
    result = invoke()
    assert "Evaluation" in result.output and "compare" in result.output


@pytest.mark.parametrize("verb", FIRM)
def test_what_other_programs_call_says_nothing_new(verb):
    result = invoke(verb, "--help")
    assert result.exit_code == 0 and "is now" not in result.output


# What the names of the last release are given here; of each, all that it writes must be what the name of today writes.
OLD = {
    "synthesise": "--source coco=nowhere --vision-model v --text-model t --count 1 --out x --cache y --dry-run",
    "convert": "lava --from x --images . --out x.json",
    "mix": "--part nowhere.json=1 --count 3 --out x.json",
    "export": "nowhere --to x",
    "push": "nowhere --repo me/d --dry-run",
    "resume": ". --processes 1",
    "progress": ". --follow 0.1 --parent 1",
    "curves": "nowhere --out x.png",
    "watch": ". --data nowhere --images . --out x --once",
    "card": "nowhere",
    "miniature": "--out file",
    "tiny": "--texts nowhere.json --out x",
    "baseline": "mig-bench --data nowhere --out x --json",
    "index": "coco=nowhere --out x",
    "setting": "a.yaml output_dir",
}


@pytest.mark.parametrize("verb", MOVED)
def test_an_old_name_does_the_same_and_hints_on_stderr(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "a.yaml").write_text("output_dir: saves/a")

    def ended(words):
        monkeypatch.setattr(sys, "argv", ["migician", *words.split()])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    new, old = ended(f"{MOVED[verb]} {OLD[verb]}"), ended(f"{verb} {OLD[verb]}")
    hint = f"migician {verb} is now migician {MOVED[verb]}\n"
    assert old == (new[0], new[1], hint + new[2])
    assert verb != "setting" or new[:2] == (0, "saves/a\n")
    assert verb not in invoke("--help").stdout.split("╭")[0]


def test_it_says_its_version():
    said = invoke("--version")
    assert (said.exit_code, said.stdout) == (0, f"migician {migician.__version__}\n")


def completed(line):
    """What a shell offers for the last word of a line."""
    words = {"COMP_WORDS": f"migician {line}", "COMP_CWORD": str(len(line.split(" ")))}
    return invoke(env={"_MIGICIAN_COMPLETE": "complete_bash", **words}, prog_name="migician").stdout.split()


def test_a_shell_completes_verbs_and_names():
    assert completed("") == [name for names in PANELS.values() for name in names]
    assert completed("train pro") == ["progress"] and "--follow" in completed("train progress --f")
    assert completed("eval mig-") == ["mig-bench", "mig-bench-one-shot"]
    assert completed("eval mig-bench --model qwen2-vl-7") == ["qwen2-vl-7b", "qwen2-vl-72b"]
    assert completed("build object") == ["object_tracking"] and completed("list t") == ["tasks"]
    assert completed("progress --f") == ["--follow"]  # and no hint


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell):
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # else the one that runs it
    words = [sys.executable, "-m", "migician.cli", "--show-completion", shell]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0 and f"complete_{shell}" in done.stdout and done.stderr == ""


REGISTRIES = {
    "models": [
        *CHECKPOINTS,
        *(f"--family {name}" for name in sorted(FAMILIES.keys() - set(_FAMILY_OF.values()))),
        *(f"{name}:..." for name in MODELS),
    ],
    "benchmarks": list(BENCHMARKS),
    "tasks": list(TASKS),
    "sources": list(SOURCES),
    "styles": list(STYLES),
    "bases": list(BASES),
    "rewards": list(PRESETS),
    "published": list(PUBLISHED),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_has_each_name_with_a_word_on_it(kind):
    rows = json.loads(invoke("list", kind, "--json").stdout)
    assert [row["name"] for row in rows] == REGISTRIES[kind]
    assert all(len(row) >= 2 and any(row[key] for key in row if key != "name") for row in rows)
    shown = invoke("list", kind).stdout
    assert all(name in shown for name in REGISTRIES[kind])
    assert max(map(len, shown.split("\n"))) <= 80


def test_a_list_says_what_helps_to_choose():
    models = {row["name"]: row for row in json.loads(invoke("list", "models", "--json").stdout)}
    assert models["migician"]["checkpoint"] == "Michael4933/Migician"
    assert (models["mantis"]["family"], models["mantis"]["box"]) == (
        "idefics2",
        "<box>[0.250, 0.100, 0.700, 0.900]</box>",
    )
    assert all(row["family"] in FAMILIES for name, row in models.items() if not name.endswith(":..."))
    assert models["smolvlm2-2.2b"]["note"] == "no box form" and not models["smolvlm2-2.2b"]["source"]
    assert models["--family gemini"]["box"] == '{"box_2d": [100, 250, 900, 700]}'
    assert '"{ref}"' in models["qwen3-vl-8b"]["official"]
    assert "--trust-remote-code" in models["cogvlm"]["note"] and not models["migician"]["note"]
    sources = {row["name"]: row for row in json.loads(invoke("list", "sources", "--json").stdout)}
    assert "change_captions_with_bbox.json" in sources["clevr_change"]["files"]
    assert "Did you mean 'styles'?" in str(invoke("list", "style").exception)


def test_no_list_loads_torch():
    script = "import sys; from migician.cli.listing import KINDS; [rows() for rows in KINDS.values()]; "
    script += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


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
        (["data", "mix", "--part", "a.json=many", "--count", "3", "--out", "x.json"], "the weight must be a number"),
        (["data", "mix", "--part", "nowhere.json=1", "--count", "3", "--out", "x.json"], "nowhere.json"),
        (["merge", "nowhere/a", "nowhere/b", "--out", "x"], "nowhere/a"),
        (["compare", "nowhere/a", "nowhere/b"], "nowhere/a"),
        (["report", "nowhere"], "nowhere"),
        (["dev", "tiny", "--texts", "nowhere.json", "--out", "x"], "nowhere.json"),
        (["eval", "mig-bench", "--model", "qwen2-vl-7", "--data", "nowhere", "--images", ".", "--out", "x"], "nowhere"),
    ],
)
def test_what_the_user_can_fix_is_one_line(tmp_path, monkeypatch, args, says):
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
    status, _, error = command("data", "mix", *parts, "--count", 9, "--out", tmp_path / "mixed.json")
    assert status == 0 and "a 3, b 6" in error
    mixed = json.loads((tmp_path / "mixed.json").read_text())
    assert [one["type"] for one in mixed].count("b") == 6 and len({one["id"] for one in mixed}) == 9
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info["mixed"]["file_name"] == "mixed.json" and info["mixed"]["formatting"] == "sharegpt"
