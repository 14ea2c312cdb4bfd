"""Stages through the very scripts, on the CPU with a tiny Qwen2-VL: killed and resumed, frozen and not, merged.

Minutes each, so they are marked slow: bash scripts/test.sh tests/training/test_stage_runs.py -m slow
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llamafactory", reason="train extra not installed: bash scripts/setup.sh")
torch = pytest.importorskip("torch", reason="train extra not installed: bash scripts/setup.sh")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
STAGES = [ROOT / f"configs/quickstart/stage-{number}.yaml" for number in (1, 2)]
SMALL = ["max_steps=8", "save_steps=4", "per_device_train_batch_size=2", "logging_steps=1", "plot_loss=false"]
ZERO = "deepspeed=configs/ds_z3.json"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset (stage1, stage2) and a model to start from."""
    from migician.build.dataset import build
    from migician.miniature import Amounts, make_world
    from migician.models.stand_ins.tiny import make_tiny
    from migician.samples.dataset_info import write_dataset_info

    place = tmp_path_factory.mktemp("stages")
    roots = make_world(place / "world", 0, Amounts(got10k=20, coco=40, objects365=0, magicbrush=20, held_out=2))
    sources = {name: roots[name] for name in ("got10k", "coco", "magicbrush")}
    data = build(["object_tracking", "common_object", "difference"], sources, place / "data", count=20).folder
    (data / "even.json").write_text(json.dumps(even(json.loads((data / "MGrounding-630k.json").read_text()))))
    write_dataset_info(data, {"stage1": "MGrounding-630k.json", "stage2": "Difference.json", "even": "even.json"})
    make_tiny(place / "base", seed=0)
    return place


def even(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whole steps of the first question of each, with an answer of always as many tokens."""
    chance = random.Random(0)
    records = records[: len(records) // 4 * 4]
    for one in records:
        corners = [chance.randrange(low, low + 400) for low in (100, 100, 500, 500)]
        box = "<|box_start|>({},{}),({},{})<|box_end|>".format(*corners)
        one["conversations"] = [one["conversations"][0], {"from": "gpt", "value": box}]
    return records


def environment(**changed: str) -> dict[str, str]:
    fixed = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
        "HF_HUB_OFFLINE": "1",
        "WANDB_DISABLED": "true",
        "OMP_NUM_THREADS": "1",
        "NPROC_PER_NODE": "2",
    }
    return os.environ | fixed | changed


def stage(place: Path, out: str, *settings: str, config: Path = STAGES[0], base: str = "base") -> list[str]:
    given = [f"model_name_or_path={place / base}", f"output_dir={place / out}", f"dataset_dir={place / 'data'}"]
    given += [f"media_dir={place / 'data'}", "overwrite_output_dir=false", *SMALL, *settings]
    return ["bash", str(ROOT / "scripts/stage.sh"), str(config), *given]


def run(words: list[str], **changed: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, cwd=ROOT, env=environment(**changed), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done


def run_until(words: list[str], file: Path, **changed: str) -> None:
    """Run a command and kill it and all its children with -9 as soon as `file` is there."""
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(**changed), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        lines = []
        for line in process.stdout or ():  # the trainer says every step
            lines.append(line)
            if file.exists():
                break
        assert file.exists(), "".join(lines[-60:])
        os.killpg(process.pid, signal.SIGKILL)


def trainers(out: Path) -> dict[int, str]:
    """The ids of all processes that were started for that output_dir, and their command lines."""
    found = {}
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (one / "cmdline").read_bytes().decode().split("\0")
            if f"output_dir={out}" in words:
                found[int(one.name)] = " ".join(words[:3])
    return found


def whole_steps(out: Path) -> list[int]:
    from migician.training.resume import saved_in

    return sorted(one.step for one in saved_in(out) if not one.fault)


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def largest_difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def losses(folder: Path) -> dict[int, float]:
    lines = (json.loads(line) for line in (folder / "trainer_log.jsonl").read_text().splitlines())
    return {line["current_steps"]: line["loss"] for line in lines if "loss" in line}


@pytest.mark.parametrize("zero", [True, False], ids=["zero-3", "plain"])
def test_killed_and_resumed_is_as_never_stopped(place: Path, zero: bool) -> None:
    settings = [ZERO] if zero else []
    kind = "zero" if zero else "plain"
    # Without DeepSpeed in one process: transformers 5.6 cannot load an optimizer to "cpu:0", as it calls the first of
    # several processes without GPUs.
    processes = {} if zero else {"NPROC_PER_NODE": "1"}
    run(stage(place, f"{kind}-whole", *settings), **processes)
    last = place / f"{kind}-killed/checkpoint-4/trainer_state.json"
    run_until(stage(place, f"{kind}-killed", *settings), last, **processes)
    # What the kill left of anything newer is cut.
    cut = place / f"{kind}-killed/checkpoint-8"
    cut.mkdir(exist_ok=True)
    (cut / "trainer_state.json").write_text("{")
    told = run(stage(place, f"{kind}-killed", *settings), **processes).stderr
    assert "skipped" in told and "resuming from" in told
    assert "step 8 of 8, loss " in run(["migician", "train", "progress", str(place / f"{kind}-killed")]).stderr
    assert (place / f"{kind}-killed/loss.png").read_bytes().startswith(b"\x89PNG")
    whole, again = place / f"{kind}-whole", place / f"{kind}-killed"
    assert largest_difference(weights(whole), weights(again)) == 0.0
    assert {step: loss for step, loss in losses(again).items() if step > 4} == {
        step: loss for step, loss in losses(whole).items() if step > 4
    }
    assert "is finished" in run(stage(place, f"{kind}-killed", *settings), **processes).stderr


@pytest.mark.parametrize("killed", ["the script", "its group", "the launcher"])
def test_no_trainer_outlives_a_kill_and_writes_into_the_next_start(place: Path, killed: str) -> None:
    """Killed with -9 as an operator does it; then the same command, and every step stands once in the log."""
    out = place / f"outlived-{killed.split()[-1]}"
    words = stage(place, out.name, ZERO, "max_steps=4000", "save_steps=2")
    with (place / f"{out.name}.log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    with process:
        for _ in process.stdout or ():  # the trainer says every step
            if 2 in whole_steps(out):
                break
        running = trainers(out)
        if killed == "the script":
            os.kill(process.pid, signal.SIGKILL)
        elif killed == "its group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(next(one for one, words in running.items() if "torchrun" in words), signal.SIGKILL)
        process.stdout and process.stdout.close()
    if killed == "the launcher":
        assert process.returncode == 1
    else:
        left = trainers(out).keys()
        refused = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        assert refused.returncode == 2 and "Traceback" not in refused.stderr
        told, _, fix = refused.stderr.partition(" Wait for them, or end them: ")
        named = {int(one) for one in told.rpartition("still run: ")[2].strip(". ").split()}
        assert named == left == trainers(out).keys()
        run(fix.split())
        for one in named:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(one)
                assert select.select([handle], [], [], 60)[0], f"{one} still runs"
                os.close(handle)
    assert trainers(out) == {}
    logged, last = (out / "trainer_log.jsonl").read_text().splitlines(), whole_steps(out)[-1]
    run([*words, f"max_steps={last + 4}"])
    lines = [json.loads(line) for line in (out / "trainer_log.jsonl").read_text().splitlines()[len(logged) :]]
    steps = [(line["current_steps"], line["total_steps"]) for line in lines if "loss" in line]
    assert steps == [(step, last + 4) for step in range(last + 1, last + 5)]
    assert trainers(out) == {}


def test_another_number_of_processes(place: Path) -> None:
    """Two processes' ZeRO-3 checkpoint, converted, goes on in one, which adds up two batches where two had one each.

    All answers are of one length, and epochs of whole steps: what is added up is weighed by its tokens, processes all
    the same; and the last step of an epoch is filled up for two processes, not for one.
    """
    run(stage(place, "two", ZERO, "dataset=even"))
    one = place / "one"
    shutil.copytree(place / "two/checkpoint-4", one / "checkpoint-4")
    alone = stage(place, "one", ZERO, "dataset=even", "gradient_accumulation_steps=2")
    refused = subprocess.run(
        alone, cwd=ROOT, env=environment(NPROC_PER_NODE="1"), capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    command = refused.stderr.partition("convert it once: ")[2].splitlines()[0].split()
    run([sys.executable, *command[1:], "--num_extract_workers", "1", "--num_merge_workers", "1"])
    assert "resuming from" in run(alone, NPROC_PER_NODE="1").stderr
    again = losses(one)
    assert min(again) == 5
    for step, loss in losses(place / "two").items():
        assert step <= 4 or again[step] == pytest.approx(loss, abs=1e-4)
    # Not 0.0: sums are taken in another order.
    assert largest_difference(weights(place / "two"), weights(one)) < 1e-5


@pytest.mark.parametrize("frozen", [True, False])
def test_the_tower_learns_only_where_it_is_not_frozen(place: Path, frozen: bool) -> None:
    out = f"tower-{frozen}"
    run(stage(place, out, f"freeze_vision_tower={str(frozen).lower()}"))
    before, after = weights(place / "base"), weights(place / out)
    tower = [name for name in before if "visual" in name and "merger" not in name]
    assert tower
    changed = [name for name in tower if not torch.equal(before[name], after[name])]
    assert bool(changed) is not frozen
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])


def test_both_stages_and_the_merge_by_one_command(place: Path) -> None:
    words = ["bash", str(ROOT / "scripts/finetune.sh"), "--base", str(place / "base"), "--data", str(place / "data")]
    words += ["--media", str(place / "data"), "--saves", str(place / "saves")]
    words += ["--stage1", str(STAGES[0]), "--stage2", str(STAGES[1])]
    words += ["--", *SMALL, ZERO, "overwrite_output_dir=false"]
    run(words)
    first, second, merged = (weights(place / "saves" / name) for name in ("stage-1", "stage-2", "migician"))
    assert largest_difference(first, second) > 0
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2, rtol=1e-6, atol=1e-9)
    assert (place / "saves/loss.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((place / "saves/stage-1/check.json").read_text())["training"]["gpus"] == 2
    told = run(words).stderr
    assert told.count("is finished") == 2 and "is there" in told


def test_two_machines(place: Path) -> None:
    """Two launchers with a process each, joined by a port, as on two machines; ZeRO-3 over gloo."""
    words = stage(place, "two-machines", ZERO)
    common = {"NNODES": "2", "NPROC_PER_NODE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29717"}
    with subprocess.Popen(
        words, cwd=ROOT, env=environment(NODE_RANK="1", **common), stderr=subprocess.DEVNULL
    ) as other:
        run(words, NODE_RANK="0", **common)
        assert other.wait(300) == 0
    run(stage(place, "one-machine", ZERO))
    assert largest_difference(weights(place / "two-machines"), weights(place / "one-machine")) == 0.0
