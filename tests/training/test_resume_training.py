"""Which checkpoint a training goes on from: the newest whole one, by files named and formed as trainers write them."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from migician.cli import app
from migician.errors import UserError
from migician.training.resume import resume_point, saved_in


def archive(file: Path) -> None:
    """As torch.save writes: a zip archive."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as stream:
        stream.writestr("archive/data.pkl", b"\0" * 2000)


def checkpoint(saves: Path, step: int, processes: int | None = None) -> Path:
    """A checkpoint folder; with `processes`, of DeepSpeed ZeRO-3."""
    folder = saves / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (folder / "config.json").write_text('{"model_type": "qwen2_vl"}')
    values = np.zeros(4, np.float32).tobytes()
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values)
    archive(folder / "scheduler.pt")
    if processes is None:
        archive(folder / "optimizer.pt")
        archive(folder / "rng_state.pth")
        return folder
    (folder / "latest").write_text(f"global_step{step}")
    for rank in range(processes):
        archive(folder / f"rng_state_{rank}.pth")
        for kind in ("bf16_zero_pp_rank_{}_mp_rank_00_optim_states.pt", "zero_pp_rank_{}_mp_rank_00_model_states.pt"):
            archive(folder / f"global_step{step}" / kind.format(rank))
    return folder


def test_the_newest_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (900, 1000, 50):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-final").mkdir()
    assert [one.step for one in saved_in(tmp_path)] == [1000, 900, 50]
    point = resume_point(tmp_path, 1)
    assert point is not None and point.folder.name == "checkpoint-1000"


def test_without_deepspeed_the_weights_come_from_the_checkpoint_too(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "plain", 10)
    point = resume_point(tmp_path / "plain", 2)
    assert point is not None
    assert point.overrides == [f"resume_from_checkpoint={folder}", f"model_name_or_path={folder}"]
    zero = resume_point(checkpoint(tmp_path / "zero", 10, processes=2).parent, 2)
    assert zero is not None and len(zero.overrides) == 1


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "trainer_state.json").unlink(), "no readable trainer_state.json"),
        (lambda folder: (folder / "trainer_state.json").write_text("{"), "no readable trainer_state.json"),
        (lambda folder: (folder / "trainer_state.json").write_text('{"global_step": 7}'), "of step 7"),
        (lambda folder: os.truncate(folder / "model.safetensors", 60), "damaged safetensors"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (
            lambda folder: os.truncate(folder / "global_step20/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", 700),
            "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt is missing or cut",
        ),
        (
            lambda folder: (folder / "global_step20/zero_pp_rank_0_mp_rank_00_model_states.pt").unlink(),
            "the part of process 0",
        ),
        (
            lambda folder: [one.unlink() for one in (folder / "global_step20").glob("*rank_1*")],
            "the part of process 1",
        ),
        (lambda folder: [one.unlink() for one in (folder / "global_step20").iterdir()], "DeepSpeed's part is missing"),
    ],
)
def test_a_cut_checkpoint_is_passed_over(tmp_path: Path, damage: Callable[[Path], object], says: str) -> None:
    checkpoint(tmp_path, 10, processes=2)
    damage(checkpoint(tmp_path, 20, processes=2))
    newest, before = saved_in(tmp_path)
    assert says in newest.fault and not before.fault
    told = CliRunner().invoke(app, ["train", "resume", str(tmp_path), "--processes", "2"])
    assert told.exit_code == 0
    assert told.stdout.splitlines() == [f"resume_from_checkpoint={tmp_path / 'checkpoint-10'}"]
    assert f"skipped {tmp_path / 'checkpoint-20'}" in told.stderr


def test_a_cut_optimizer_is_seen_without_deepspeed(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 10)
    os.truncate(folder / "optimizer.pt", 500)
    assert resume_point(tmp_path, 1) is None


def test_another_number_of_processes_is_refused_unless_converted(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 10, processes=4)
    with pytest.raises(UserError, match="written by 4 processes, not 2") as refused:
        resume_point(tmp_path, 2)
    assert f"--input_folder {folder}/global_step10 --output_folder {folder}/global_step10_universal" in str(
        refused.value
    )
    (folder / "latest_universal").write_text("global_step10_universal")  # as that command leaves it
    assert resume_point(tmp_path, 2) is not None
    zero = tmp_path / "zero.json"
    zero.write_text('{"zero_optimization": {"stage": 3}, "checkpoint": {"tag_validation": "Warn"}}')
    words = ["train", "resume", str(tmp_path), "--deepspeed", str(zero), "--processes"]
    told = CliRunner().invoke(app, [*words, "2"])
    assert told.stdout.splitlines() == [
        f"resume_from_checkpoint={folder}",
        f"deepspeed={tmp_path / 'universal.json'}",
    ]
    assert json.loads((tmp_path / "universal.json").read_text()) == {
        "zero_optimization": {"stage": 3},
        "checkpoint": {"tag_validation": "Warn", "load_universal": True},
    }
    # Those that wrote it need no conversion.
    assert CliRunner().invoke(app, [*words, "4"]).stdout.splitlines() == [f"resume_from_checkpoint={folder}"]


def test_nothing_to_go_on_from(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["train", "resume", str(tmp_path / "none"), "--processes", "2"])
    assert told.exit_code == 0 and told.stdout == "" and "starts over" in told.stderr
