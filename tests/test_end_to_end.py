"""The whole chain on a handful of pictures: world, build, mix, two stages, merge, evaluate, report.

The quickstart is the same chain at its full size (scripts/quickstart.sh).
"""

import json
from pathlib import Path

import pytest
from command_line import command, process

pytest.importorskip("llamafactory", reason="train extra not installed: bash scripts/setup.sh")

ROOT = Path(__file__).resolve().parent.parent


def migician(*words):
    done = command(*words, cwd=ROOT)
    assert done.status == 0, done.error[-3000:]
    return done.output


def train(llamafactory, stage, start, out, data):
    """LLaMA-Factory on the quickstart's own YAML, for two steps."""
    places = {"model_name_or_path": start, "output_dir": out, "dataset_dir": data, "media_dir": data}
    overrides = [f"{name}={value}" for name, value in {**places, "max_steps": 2, "logging_steps": 1}.items()]
    script = "from llamafactory.train.tuner import run_exp; run_exp()"  # as `llamafactory-cli train` does on one device
    done = llamafactory.run(script, f"configs/quickstart/stage-{stage}.yaml", *overrides, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]


def test_the_chain(tmp_path, llamafactory):
    from migician.miniature import Amounts, make_world

    world, data = tmp_path / "world", tmp_path / "data"
    amounts = Amounts(got10k=20, coco=400, objects365=20, magicbrush=20, imagenet=40, sa1b=60, held_out=2)
    make_world(world, seed=3, amounts=amounts)
    sources = [f"--source={root.name}={root}" for root in (world / "sources").iterdir()]
    migician("build", "all", "--config", "configs/miniature.yaml", "--count", 12, "--out", data, *sources)
    parts = [f"--part={file}=1" for file in sorted(data.glob("[A-Z]*_*.json")) + [data / "Difference.json"]]
    assert len(parts) == 6
    migician("data", "mix", "--count", 40, "--out", data / "stage1.json", *parts)
    shares = [f"--part={data / 'stage1'}.json=27", f"--part={data / 'Free-Form'}.json=27"]
    migician("data", "mix", "--count", 20, "--out", data / "stage2.json", *shares)
    texts = ["--texts", data / "stage1.json", "--texts", data / "stage2.json"]
    migician("dev", "tiny", *texts, "--out", tmp_path / "untrained")

    train(llamafactory, 1, tmp_path / "untrained", tmp_path / "stage-1", data)
    train(llamafactory, 2, tmp_path / "stage-1", tmp_path / "stage-2", data)
    migician("merge", tmp_path / "stage-1", tmp_path / "stage-2", "--out", tmp_path / "merged")

    bench = ["--data", world / "MIG-Bench/MIG_data.json"]
    asked = [*bench, "--images", world, "--batch-size", 8, "--max-new-tokens", 24, "--json"]
    scores = []
    for model, run_eval in (("untrained", command), ("merged", process)):
        scores.append(tmp_path / "scores" / model)
        done = run_eval("eval", "mig-bench", "--model", tmp_path / model, *asked, "--out", scores[-1], cwd=ROOT)
        assert done.status == 0, done.error[-3000:]
        report = json.loads(done.output)
        assert len(report["per_task"]) == 10
        assert report["n"] == sum(figures["n"] for figures in report["per_task"].values())
        assert report["model"]["name"]
    assert weights_differ(tmp_path / "untrained", tmp_path / "merged", frozen="visual")
    table = migician("report", *scores)
    assert "untrained" in table and "merged" in table
    assert (scores[0] / "page/index.html").is_file()


def weights_differ(first, second, frozen):
    """Whether training moved the language model and left the frozen tower as it was."""
    from safetensors.torch import load_file

    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert before.keys() == after.keys()
    moved = {name for name in before if not before[name].equal(after[name])}
    return moved and not any(frozen in name for name in moved)
