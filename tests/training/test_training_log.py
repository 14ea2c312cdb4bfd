"""How far and how fast a training is, by logs as LLaMA-Factory writes them, kills and resumes included."""

from __future__ import annotations

import fcntl
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from migician.cli import app
from migician.errors import UserError
from migician.samples.dataset_info import dataset_entry
from migician.training.check import check
from migician.training.check.options import CheckOptions, Cluster
from migician.training.check.report import TrainingCost
from migician.training.check.settings.cost import PEAK_FLOPS, PUBLISHED, QWEN2_VL_7B, operations_of
from migician.training.log import diverged_at, pace, progress_line, read_check, read_log
from migician.training.loss_curves import loss_curves, smoothed

SECONDS_A_STEP = 10


def logged(first: int, last: int, *, begun: int, tokens: int | None = None, loss: float = 2.0) -> str:
    """The lines of one launch that began after step `begun`; `elapsed_time` is whole seconds, as there."""
    lines = []
    for step in range(first, last + 1):
        elapsed = (step - begun) * SECONDS_A_STEP
        line: dict[str, Any] = {
            "current_steps": step,
            "total_steps": 10_000,
            "loss": loss / step,
            "lr": 1e-6,
            "elapsed_time": str(timedelta(seconds=elapsed)),
            "remaining_time": "0:00:01",  # what LLaMA-Factory says is not believed
        }
        if tokens:
            line["total_tokens"] = step * tokens
        lines.append(json.dumps(line) + "\n")
    return "".join(lines)


def training(**changed: Any) -> TrainingCost:
    fixed: dict[str, Any] = {
        "samples": 1_000_000, "gpus": 8, "gpu_memory_gb": 80.0, "batch": 48, "steps": 20_834, "warmup_steps": 313,
        "checkpoints": 21, "checkpoint_gb": 100.0, "zero_stage": 3, "memory_gb": {}, "smallest": 4,
        "parameters": 8_000_000_000, "trained": 7_000_000_000, "shape_known": True, "petaflops": 1.0, "hours": {},
        "gpu": "NVIDIA A100-SXM4-80GB", "samples_a_step": 48.0, "tokens_a_sample": 1000.0, "images_a_sample": 2.5,
        "flop_a_sample": 5e13,
    }  # fmt: skip
    return TrainingCost(**fixed | changed)


def test_a_resumed_log_is_that_of_a_run_never_stopped(tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    for folder in (whole, again):
        folder.mkdir()
    (whole / "trainer_log.jsonl").write_text(logged(1, 30, begun=0))
    # Killed at step 13 while it wrote, gone on from step 10, killed at 13, gone on from 10 again.
    first = logged(1, 10, begun=0) + logged(11, 12, begun=0, loss=9.0) + '{"current_steps": 13, "tot\n'
    (again / "trainer_log.jsonl").write_text(first + logged(11, 13, begun=10, loss=7.0) + logged(11, 30, begun=10))
    ours, theirs = read_log(whole), read_log(again)
    assert [(one.current_steps, one.loss) for one in ours] == [(one.current_steps, one.loss) for one in theirs]
    assert [one.launch for one in theirs] == [0] * 10 + [2] * 20


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=5))
def test_steps_rise_whatever_was_killed(tmp_path_factory: pytest.TempPathFactory, launches: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("log")
    parts = [logged(min(pair), max(pair), begun=min(pair) - 1) for pair in launches]
    (folder / "trainer_log.jsonl").write_text("".join(parts))
    steps = [line.current_steps for line in read_log(folder)]
    assert steps == sorted(set(steps))
    last = launches[-1]
    assert steps[-1] == max(last) and set(range(min(last), max(last) + 1)) <= set(steps)


def test_speed_and_time_left_after_a_resume(tmp_path: Path) -> None:
    """At 10 s a step; LLaMA-Factory itself would say 510 steps in 100 s."""
    (tmp_path / "trainer_log.jsonl").write_text(logged(1, 500, begun=0) + logged(501, 510, begun=500, tokens=50_000))
    now = pace(read_log(tmp_path), training())
    assert now is not None
    assert now.steps == pytest.approx(0.1)
    assert now.left_s == pytest.approx((10_000 - 510) * SECONDS_A_STEP)
    assert now.samples == pytest.approx(4.8) and now.images == pytest.approx(12.0)
    assert now.tokens == pytest.approx(5_000)  # those that were counted, not the mean's 4,800
    # 4.8 samples of 5e13 operations a second, on 8 GPUs of 312e12.
    assert now.mfu == pytest.approx(4.8 * 5e13 / (8 * 312e12))
    line = progress_line(read_log(tmp_path), training())
    assert line.startswith("step 510 of 10,000, loss 0.0039, 5,000 tokens/s, 4.80 samples/s, 12.00 images/s, MFU 9.6%")
    assert line.endswith("1 day, 2:21:40 left")


def test_what_cannot_be_said_is_not_said(tmp_path: Path) -> None:
    assert read_log(tmp_path) == [] and progress_line([]) == ""
    (tmp_path / "trainer_log.jsonl").write_text(logged(1, 1, begun=0))
    assert progress_line(read_log(tmp_path)) == "step 1 of 10,000, loss 2.0000"
    (tmp_path / "trainer_log.jsonl").write_text(logged(1, 3, begun=0))
    assert "samples/s" not in progress_line(read_log(tmp_path))
    assert "MFU none" in progress_line(read_log(tmp_path), training(gpu=""))


def diverging(loss: str) -> str:
    """Ten steps, the last four with `loss` as Python writes it into JSON."""
    lines = logged(1, 10, begun=0).splitlines()
    ran = [json.dumps(json.loads(line) | {"loss": 0}).replace('"loss": 0', f'"loss": {loss}') for line in lines[6:]]
    return "\n".join(lines[:6] + ran) + "\n"


@pytest.mark.parametrize("loss", ["NaN", "Infinity", "0.0"])
def test_a_diverged_training_is_seen(tmp_path: Path, loss: str) -> None:
    """0.0 is what transformers logs of losses that are no numbers, unless logging_nan_inf_filter is false."""
    (tmp_path / "trainer_log.jsonl").write_text(diverging(loss))
    lines = read_log(tmp_path)
    assert [line.current_steps for line in lines] == list(range(1, 11))
    assert diverged_at(lines) == 7 and diverged_at(lines[:6]) is None
    assert "diverged, no loss is a number since step 7" in progress_line(lines)
    words = ["train", "curves", str(tmp_path), "--out", str(tmp_path / "loss.png")]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0 and "diverged" in told.stderr
    sound = tmp_path / "sound"
    sound.mkdir()
    (sound / "trainer_log.jsonl").write_text(logged(1, 10, begun=0))
    assert loss_curves({"x": lines}) != loss_curves({"x": read_log(sound)})


def test_a_training_that_never_had_a_loss_is_drawn(tmp_path: Path) -> None:
    text = diverging("NaN").splitlines(keepends=True)[6:]
    (tmp_path / "trainer_log.jsonl").write_text("".join(text))
    assert loss_curves({"x": read_log(tmp_path)}).startswith(b"\x89PNG")


def test_one_bad_step_is_no_divergence(tmp_path: Path) -> None:
    text = diverging("NaN") + logged(11, 12, begun=0)
    (tmp_path / "trainer_log.jsonl").write_text(text)
    assert diverged_at(read_log(tmp_path)) is None


def test_a_day_and_more(tmp_path: Path) -> None:
    (tmp_path / "trainer_log.jsonl").write_text(logged(9_000, 9_001, begun=0))
    assert [line.elapsed_s for line in read_log(tmp_path)] == [90_000, 90_010]


def test_progress_reads_what_check_wrote(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    Image.new("RGB", (112, 112)).save(data / "a.png")
    turns = [{"from": "human", "value": "<image><image>?"}, {"from": "gpt", "value": "x"}]
    sample = {"id": 0, "images": ["a.png", "a.png"], "conversations": turns, "type": "t"}
    (data / "set.json").write_text(json.dumps([sample]))
    (data / "dataset_info.json").write_text(json.dumps({"set": dataset_entry("set.json")}))
    settings = {
        "model_name_or_path": str(tiny_folder), "dataset_dir": "data", "dataset": "set", "template": "qwen2_vl",
        "output_dir": "saves", "per_device_train_batch_size": 4, "cutoff_len": 512,
    }  # fmt: skip
    Path("s.yaml").write_text(json.dumps(settings))
    words = ["check", "s.yaml", "--gpus", "2", "--gpu", "NVIDIA H100 80GB HBM3", "--out", "saves/check.json"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code in (0, 1), told.output
    Path("saves/trainer_log.jsonl").write_text(logged(1, 3, begun=0))
    said = CliRunner().invoke(app, ["train", "progress", "saves"]).stderr
    assert "0.80 samples/s, 1.60 images/s, MFU 0.0%" in said  # 8 a step, 2 images each, 10 s a step


def test_a_packed_step_holds_more_samples(tmp_path: Path) -> None:
    settings = {
        "model_name_or_path": "Qwen/Qwen2-VL-7B-Instruct", "dataset_dir": str(tmp_path), "dataset": "set",
        "template": "qwen2_vl", "output_dir": str(tmp_path / "out"), "per_device_train_batch_size": 1,
        "cutoff_len": 8192, "num_train_epochs": 1.0, "packing": True,
    }  # fmt: skip
    turns = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "word " * 2000}]
    samples = [{"id": n, "images": [], "conversations": turns, "type": "t"} for n in range(40)]
    (tmp_path / "set.json").write_text(json.dumps(samples))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"set": dataset_entry("set.json")}))
    (tmp_path / "s.yaml").write_text(json.dumps(settings))
    found = check(tmp_path / "s.yaml", CheckOptions(cluster=Cluster(gpus=1))).training
    assert found
    # Three of some 2,100 tokens fill a sequence of 8,192: a fourth would be cut.
    assert (found.samples, found.examples, found.steps) == (40, 14, 14)
    assert found.samples_a_step == pytest.approx(40 / 14)


def test_operations_of_the_7b_by_hand() -> None:
    """6 N a token of the language model without its embedding, attention's 12 L d t^2 / 2, 2 N a patch of the tower."""
    tokens, in_images = 3000.0, 2000.0
    matrices = 7_615_616_512 - 152_064 * 3584
    by_hand = 6 * matrices * tokens + 6 * 28 * 3584 * tokens**2
    tower = 2 * QWEN2_VL_7B.count("vision") * 4 * in_images + 2 * QWEN2_VL_7B.count("projector") * in_images
    assert operations_of(QWEN2_VL_7B, PUBLISHED, tokens, in_images) == pytest.approx(by_hand + tower)


def test_peaks() -> None:
    assert PEAK_FLOPS == {"A100": 312e12, "H100": 989e12, "H200": 989e12}


class TestCurves:
    def test_both_stages_in_one_picture(self, tmp_path: Path) -> None:
        for name, text in (("stage-1", logged(1, 400, begun=0)), ("stage-2", logged(1, 40, begun=0))):
            (tmp_path / name).mkdir()
            (tmp_path / name / "trainer_log.jsonl").write_text(text)
        out = tmp_path / "loss.png"
        words = ["train", "curves", str(tmp_path / "stage-1"), str(tmp_path / "stage-2"), "--out", str(out)]
        told = CliRunner().invoke(app, words)
        assert told.exit_code == 0, told.output
        with Image.open(out) as picture:
            one = Image.open(io.BytesIO(loss_curves({"stage-1": read_log(tmp_path / "stage-1")})))
            assert picture.width > 1.5 * one.width and picture.height == one.height
            assert len(picture.convert("RGB").getcolors(1 << 16) or []) > 10

    def test_resumed_and_whole_differ_only_by_the_line_where_it_went_on(self, tmp_path: Path) -> None:
        whole, again = tmp_path / "whole", tmp_path / "again"
        for folder in (whole, again):
            folder.mkdir()
        (whole / "trainer_log.jsonl").write_text(logged(1, 100, begun=0))
        (again / "trainer_log.jsonl").write_text(logged(1, 60, begun=0) + logged(51, 100, begun=50))
        lines = read_log(again)
        assert loss_curves({"x": read_log(whole)}) != loss_curves({"x": lines})
        same = [msgspec.structs.replace(line, launch=0) for line in lines]
        assert loss_curves({"x": read_log(whole)}) == loss_curves({"x": same})

    def test_no_loss_yet(self) -> None:
        with pytest.raises(UserError, match="no loss is logged"):
            loss_curves({"stage-1": []})

    @given(st.lists(st.floats(0, 10), min_size=1, max_size=50), st.floats(0.1, 100))
    def test_smoothed_stays_between_what_was_seen(self, values: list[float], span: float) -> None:
        even = smoothed(list(range(len(values))), values, span)
        for place, value in enumerate(even):
            assert min(values[: place + 1]) - 1e-9 <= value <= max(values[: place + 1]) + 1e-9
        assert even[0] == values[0]

    def test_smoothing_does_not_depend_on_how_often_is_logged(self) -> None:
        constant_then = [1.0] * 50 + [2.0] * 50
        often = smoothed(list(range(100)), constant_then, 10)
        seldom = smoothed(list(range(0, 100, 5)), constant_then[::5], 10)
        assert often[-5] == pytest.approx(seldom[-1], abs=0.05)


PROJECTION = runpy.run_path(str(Path(__file__).parents[2] / "scripts/project_training.py"))


class TestProjection:
    ASSUMED = PROJECTION["Assumptions"](tokens=1400, image_tokens=1150, mfu=0.45, scaling=0.9)

    def test_the_anchor_is_what_the_authors_report(self) -> None:
        """50 and 10 hours on 8 A100, which is where the rate comes from."""
        first = next(PROJECTION["project"]([(8, "A100")], self.ASSUMED))
        assert {stage: round(hours) for stage, hours in first.hours.items()} == {"stage 1": 50, "stage 2": 10}

    def test_arithmetic_by_hand(self) -> None:
        found = {
            (one.gpus, one.basis): one
            for one in PROJECTION["project"]([(8, "H100"), (32, "H100")], self.ASSUMED, {"H100": 3.0})
        }
        few, many = found[8, "45% MFU"], found[32, "45% MFU"]
        # 0.45 of 8 x 989 TFLOP/s through a million samples.
        assert few.hours["stage 1"] == pytest.approx(1e6 * self.ASSUMED.flop_a_sample / (0.45 * 8 * 989e12) / 3600)
        assert many.hours["stage 1"] == pytest.approx(few.hours["stage 1"] / 4 / 0.9)
        assert many.dollars == pytest.approx(3 * 32 * sum(many.hours.values()))
        assert found[8, "the authors' MFU"].rate == pytest.approx(0.69 * 989 / 312)
        unpriced = next(PROJECTION["project"]([(8, "A100")], self.ASSUMED, {"H100": 3.0}))
        assert unpriced.dollars is None


@contextmanager
def followed(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`migician train progress --follow` after the first line that it said, of a log with 3 steps."""
    (folder / "trainer_log.jsonl").write_text(logged(1, 3, begun=0))
    words = [sys.executable, "-m", "migician.cli", "train", "progress", str(folder), "--follow", "0.1", *options]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr and "step 3 of 10,000" in process.stderr.readline()
        yield process
        process.kill()


@pytest.mark.parametrize("lock", [".lock-0", ".lock-1", "../.lock"])
@pytest.mark.parametrize(
    ("finished", "status", "said"),
    [
        (True, 0, ""),
        (False, 1, "{}: its processes ended before the last step; the same command resumes it\n"),
    ],
)
def test_following_ends_with_what_it_follows(tmp_path: Path, lock: str, finished: bool, status: int, said: str) -> None:
    """The lock is that of scripts/stage.sh, of a machine, or of scripts/quickstart.sh."""
    folder = tmp_path / "stage-1"
    folder.mkdir()
    with (folder / lock).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with followed(folder) as process:
            if finished:
                (folder / "train_results.json").write_text("{}")
            stream.close()
            assert process.stderr and process.stderr.read() == said.format(folder)
            assert process.wait() == status


def test_following_waits_for_what_is_not_seen_to_run(tmp_path: Path) -> None:
    """It may run on another machine, or begin later."""
    (tmp_path / ".lock-0").touch()
    with followed(tmp_path) as process:
        assert process.stderr and "no training process found; waiting" in process.stderr.readline()
        with (tmp_path / "trainer_log.jsonl").open("a") as log:
            log.write(logged(4, 4, begun=0))
        assert "step 4 of 10,000" in process.stderr.readline()
        (tmp_path / "train_results.json").write_text("{}")
        assert process.wait() == 0


def test_following_ends_where_its_script_is_gone_before_it_looks(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with (tmp_path / ".lock-0").open("w") as stream, followed(tmp_path, "--parent", str(gone.pid)) as process:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert process.stderr and "the training script was killed" in process.stderr.readline()
        assert process.wait() == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("total_steps", "9" * 28),
        ("total_steps", "0"),
        ("current_steps", "-1"),
        ("total_tokens", "9" * 28),
        ("elapsed_time", '"999999999999 days, 0:00:00"'),
        ("elapsed_time", '"-5:00:00"'),
    ],
)
def test_a_line_with_a_number_that_no_training_has_is_left_out(tmp_path: Path, name: str, value: str) -> None:
    lines = [json.loads(line) for line in logged(1, 30, begun=0).splitlines()]
    (tmp_path / "trainer_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sound = read_log(tmp_path)
    text = json.dumps({**lines[-1], name: "HOLE"}).replace('"HOLE"', value)
    (tmp_path / "trainer_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]) + text + "\n")
    assert read_log(tmp_path) == sound[:-1]
    assert progress_line(read_log(tmp_path))


def test_a_training_on_no_gpu_is_none(tmp_path: Path) -> None:
    (tmp_path / "check.json").write_bytes(msgspec.json.encode({"training": msgspec.to_builtins(training(gpus=0))}))
    with pytest.raises(UserError, match=r"check.json: not what migician check --out writes.*gpus"):
        read_check(tmp_path)
