"""`migician check` against trainings that are really run: examples, steps, warm-up, parameters, files on disk.

Some five minutes, so it is marked slow: bash scripts/test.sh tests/training/test_real_trainings.py -m slow
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from real_trainings import CASES, Trained, train_all, write_cases, write_recipes

from migician.training.check import check
from migician.training.check.options import CheckOptions, Cluster

pytest.importorskip("llamafactory", reason="train extra not installed: bash scripts/setup.sh")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> dict[str, tuple[Path, Trained]]:
    """By name, the YAML and what its training did."""
    files = write_cases(tmp_path_factory.mktemp("own"), tiny_folder)
    made = train_all(list(files.values()))
    return {name: (file, made[file]) for name, file in files.items()}


@pytest.fixture(scope="module")
def theirs(shared: Path) -> ModuleType:
    """The YAMLs of the shared folder, with what LLaMA-Factory itself counted."""
    spec = importlib.util.spec_from_file_location("preflight_cases", shared / "cases/preflight/make.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SETTINGS = {"setting_unknown", "setting_value", "setting_path", "setting_refused", "dataset_unknown", "memory", "disk"}


def hold(file: Path, found: Trained) -> None:
    """The check says what the training did, and finds no problem with the settings it ran with."""
    assert not found.fault
    report = check(file, CheckOptions(quick=True, cluster=Cluster(gpus=1, gpu_memory_gb=0)))
    said = report.training
    assert (said.examples, said.steps, said.warmup_steps) == (found.examples, found.steps, found.warmup_steps)
    assert said.trained == found.trained
    assert [f"checkpoint-{step}" for step in said.saved_at] == sorted(found.checkpoints, key=lambda one: int(one[11:]))
    for n_bytes in found.checkpoints.values():
        assert said.checkpoint_gb * 1e9 == pytest.approx(n_bytes, rel=0.08)
    assert said.result_gb * 1e9 == pytest.approx(found.result_bytes, rel=0.05)
    stops = {one.kind for one in report.findings if one.severity == "problem"} & SETTINGS
    assert not stops


@pytest.mark.parametrize("name", CASES)
def test_own_cases(name: str, trained: dict[str, tuple[Path, Trained]]) -> None:
    hold(*trained[name])


def test_recipes_of_other_bases(tmp_path: Path, tiny_of: Callable[[str], Path]) -> None:
    files = write_recipes(tmp_path, tiny_of)
    assert len(files) == 12
    made = train_all(list(files.values()))
    for name, file in files.items():
        assert made[file].steps == 8, name
        hold(file, made[file])


def test_shared_cases(theirs: ModuleType, tiny_folder: Path, tmp_path: Path) -> None:
    theirs.main(tmp_path, str(tiny_folder))
    files = {name: tmp_path / f"{name}.yaml" for name in theirs.CASES}
    made = train_all(list(files.values()))
    for name, (_, counted) in theirs.CASES.items():
        found = made[files[name]]
        assert counted in (None, (found.examples, found.steps)), name
        hold(files[name], found)


def test_streamed_images_stop_as_the_check_says(tmp_path: Path, tiny_folder: Path) -> None:
    """accelerate cuts all tensors of a batch to its samples, those of pixels too."""
    file = write_cases(tmp_path, tiny_folder)["streaming"]
    lines = file.read_text().splitlines()
    at = lines.index("accelerator_config:")
    file.write_text("\n".join(lines[:at] + lines[at + 2 :]))
    assert "must match the size of tensor" in train_all([file])[file].fault
    report = check(file, CheckOptions(quick=True, cluster=Cluster(gpus=1, gpu_memory_gb=0)))
    assert [one.places[0].value for one in report.findings if one.severity == "problem"][0].startswith("streaming: ")
