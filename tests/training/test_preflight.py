"""A training YAML and its data: every fault is found in one run, and the estimates hold against what is measured."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from migician.cli import app
from migician.errors import UserError
from migician.samples.dataset_info import dataset_entry
from migician.training.check import check
from migician.training.check.options import CheckOptions, Cluster
from migician.training.check.report import CheckReport, TrainingCost, cost_sentences
from migician.training.check.settings.faults import GONE
from migician.training.check.settings.parsing import is_installed, parse_settings
from migician.training.check.settings.training_yaml import DEFAULTS

ROOT = Path(__file__).resolve().parents[2]
BOX = "<|box_start|>(316,58),(764,999)<|box_end|>"


def record(number: int, image: str, answer: str = BOX, marks: int = 1) -> dict[str, Any]:
    turns = [("human", "<image>" * marks + f"Where is {number}?"), ("gpt", answer)]
    said = [{"from": role, "value": text} for role, text in turns]
    return {"id": number, "images": [image], "conversations": said, "type": "t"}


@pytest.fixture
def stage(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings of a sound run in the current folder, with its model and its data."""
    monkeypatch.chdir(tmp_path)
    model, data = tmp_path / "model", tmp_path / "data"
    model.mkdir()
    data.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(tiny_folder / name, model)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (200, 150), name[0] == "a" and "red" or "blue").save(data / name)
    (data / "set.json").write_text(json.dumps([record(0, "a.jpg"), record(1, "b.jpg")]))
    (data / "dataset_info.json").write_text(json.dumps({"gg_train_120k": dataset_entry("set.json")}))
    (tmp_path / "zero.json").write_text('{"zero_optimization": {"stage": 3}}')
    return {
        "model_name_or_path": "model",
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "deepspeed": "zero.json",
        "dataset_dir": "data",
        "dataset": "gg_train_120k",
        "template": "qwen2_vl",
        "cutoff_len": 4096,
        "output_dir": "saves",
        "per_device_train_batch_size": 1,
        "learning_rate": 1e-4,
        "num_train_epochs": 1.0,
        "bf16": True,
    }


def run(stage: dict[str, Any], cluster: Cluster | None = None) -> CheckReport:
    file = Path("stage.yaml")
    file.write_text(yaml.safe_dump(stage))
    return check(file, CheckOptions(cluster=cluster or Cluster(gpus=2)))


def training_of(report: CheckReport) -> TrainingCost:
    assert isinstance(report.training, TrainingCost)
    return report.training


def kinds(report: CheckReport) -> set[str]:
    return {one.kind for one in report.findings}


def test_a_sound_run_has_no_problem(stage: dict[str, Any]) -> None:
    report = run(stage)
    assert not report.count("problem"), report.findings
    assert (training_of(report).steps, training_of(report).batch, training_of(report).samples) == (1, 2, 2)
    assert next(cost_sentences(training_of(report))).startswith("2 samples / 2 per step: 1 step, ")


def test_twelve_faults_are_found_in_one_run(stage: dict[str, Any]) -> None:
    pytest.importorskip("llamafactory", reason="train extra not installed: bash scripts/setup.sh")
    data = Path("data")
    Image.effect_noise((200, 150), 90).save(data / "cut.jpg")
    os.truncate(data / "cut.jpg", 3000)
    samples = [
        record(0, "a.jpg"),
        record(1, "gone.jpg"),
        record(2, "cut.jpg"),
        record(3, "b.jpg", marks=2),
        record(4, "b.jpg", answer="<|box_start|>(1,2),(3,1400)<|box_end|>"),
        record(5, "b.jpg", answer="word " * 9000),
    ]
    (data / "set.json").write_text(json.dumps(samples))
    tokenizer = json.loads(Path("model/tokenizer.json").read_text())
    tokenizer["added_tokens"] = [one for one in tokenizer["added_tokens"] if one["content"] != "<|box_end|>"]
    del tokenizer["model"]["vocab"]["<|box_end|>"]
    Path("model/tokenizer.json").write_text(json.dumps(tokenizer))
    Path("saves/checkpoint-10").mkdir(parents=True)
    broken = {name: value for name, value in stage.items() if name != "deepspeed"} | {
        "dataset": "gg_train_120k, gg_train_12k",
        "evaluation_strategy": "steps",
        "learning_rte": 1e-4,
        "template": "qwen",
        "media_dir": "data ",
        "per_device_train_batch_size": 400_000,
    }
    file = Path("stage.yaml")
    file.write_text(yaml.safe_dump(broken))
    report = check(file, CheckOptions(media_dir=data, cluster=Cluster(gpus=1, gpu_memory_gb=8)))
    found = {one.kind: [place.value for place in one.places] for one in report.findings}
    assert set(found) >= {
        "setting_unknown",  # two of them
        "setting_value",
        "setting_path",
        "dataset_unknown",
        "tokens_missing",
        "resume_lossy",
        "missing",
        "truncated",
        "image_count",
        "box_scale",
        "too_long",
        "memory",
    }
    assert "eval_strategy" in found["setting_unknown"][0] + found["setting_unknown"][1]
    assert any("learning_rate" in value for value in found["setting_unknown"])
    assert "Did you mean 'gg_train_120k'?" in found["dataset_unknown"][0]
    assert found["tokens_missing"] == ["<|box_end|>"]


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"deepspeed": "none.json"}, "setting_path", "none.json"),
        ({"model_name_or_path": "./elsewhere"}, "setting_path", "run the previous stage"),
        ({"dataset_dir": "nowhere"}, "setting_path", "nowhere/dataset_info.json"),
        ({"learning_rate": 0}, "setting_value", "learning_rate"),
        ({"neat_packing": True, "per_device_train_batch_size": 2}, "setting_value", "neat_packing takes 1"),
        ({"output_dir": None}, "setting_value", "output_dir is missing"),
        ({"resume_from_checkpoint": "saves/checkpoint-1", "deepspeed": None}, "resume_lossy", "checkpoint-1"),
        ({"save_steps": 1, "num_train_epochs": 10**9}, "disk", "GB free"),
    ],
)
def test_one_fault_at_a_time(stage: dict[str, Any], change: dict[str, Any], kind: str, says: str) -> None:
    report = run(stage | change)
    found = {one.kind: one.places[0].value for one in report.findings}
    assert kind in found, found
    assert says in found[kind]


def test_resuming_from_the_checkpoint_as_the_model_is_exact(stage: dict[str, Any]) -> None:
    again = {"resume_from_checkpoint": "model", "model_name_or_path": "model", "deepspeed": None}
    assert "resume_lossy" not in kinds(run(stage | again))


def test_a_start_over_checkpoints_is_told(stage: dict[str, Any]) -> None:
    Path("saves/checkpoint-10").mkdir(parents=True)
    assert "resume_never" in kinds(run(stage | {"overwrite_output_dir": True}))
    assert not kinds(run(stage)) & {"resume_never", "resume_lossy"}


needs_llamafactory = pytest.mark.skipif(not is_installed(), reason="train extra not installed: bash scripts/setup.sh")


@needs_llamafactory
@pytest.mark.parametrize(
    "file",
    sorted([*ROOT.glob("train/**/*_finetune_*.yaml"), *ROOT.glob("configs/quickstart/stage-[12].yaml")]),
    ids=str,
)
def test_llamafactory_takes_our_training_files(file: Path, tmp_path: Path) -> None:
    found = parse_settings(file, [f"output_dir={tmp_path / 'out'}"])
    assert found.parsed and found.given.keys() <= found.known and not found.faults
    assert not found.known & set(GONE)


@needs_llamafactory
def test_the_table_of_defaults_is_llamafactorys_own(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    needed = {"model_name_or_path": "a/b", "dataset": "d", "output_dir": str(tmp_path / "out"), "template": "qwen2_vl"}
    file.write_text(yaml.safe_dump(needed | {"do_train": True}))
    theirs = parse_settings(file)
    expected = DEFAULTS | needed | {"dataset": ["d"], "packing": False, "media_dir": "data"}
    expected |= {"lora_target": ["all"], "freeze_trainable_modules": ["all"]}
    assert {key: theirs.values[key] for key in DEFAULTS} == expected


@needs_llamafactory
def test_values_are_what_llamafactory_reads(tmp_path: Path) -> None:
    """Its YAML has 1e-4 as a number, its command line lists, and its classes follow from each other."""
    file = tmp_path / "x.yaml"
    file.write_text(
        "model_name_or_path: a/b\ndataset: [a, b]\noutput_dir: out\nlearning_rate: 1e-4\nneat_packing: true\n"
    )
    found = parse_settings(file, ["warmup_ratio=0.3", "warmup_steps=5", "lora_rank=4"])
    assert found.datasets == ["a", "b"] and found.values["learning_rate"] == 1e-4
    assert found.packs and found.values["cutoff_len"] == 2047 and found.values["lora_alpha"] == 8
    assert found.values["warmup_steps"] == 0.3


@needs_llamafactory
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"val_size": 0.1, "eval_dataset": "gg_train_120k"}, "Cannot specify `val_size`"),
        ({"streaming": True}, "max_steps"),
        ({"finetuning_type": "full", "use_dora": True}, "only valid for LoRA"),
        ({"quantization_bit": 4}, "only compatible with the LoRA"),
        ({"save_strategy": "sometimes"}, "sometimes"),
        ({"max_samples": 3, "streaming": True, "max_steps": 2}, "incompatible with `streaming`"),
    ],
)
def test_what_llamafactory_stops_at_is_said_in_its_words(
    stage: dict[str, Any], change: dict[str, Any], says: str
) -> None:
    report = run(stage | change)
    found = [place.value for one in report.findings if one.kind == "setting_refused" for place in one.places]
    assert len(found) == 1 and says in found[0]


@needs_llamafactory
def test_what_depends_on_the_machine_stops_no_check_elsewhere(stage: dict[str, Any]) -> None:
    elsewhere = {"bf16": False, "pure_bf16": True, "tf32": True, "finetuning_type": "full"}
    assert not run(stage | elsewhere).count("problem")
    report = run(stage | {"enable_liger_kernel": True})
    assert kinds(report) <= {"package_missing"}  # a warning, where it is not installed


def test_without_llamafactory_a_table_of_its_defaults_is_taken(
    stage: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = training_of(run(stage))
    monkeypatch.setattr("migician.training.check.settings.parsing.is_installed", lambda: False)
    report = run(stage)
    assert kinds(report) == {"keys_unknown"} and not report.count("problem")
    assert training_of(report) == expected


@pytest.mark.parametrize(
    ("config", "kind", "says"),
    [
        ({"hidden_size": 8}, "setting_path", "no 'model_type'"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "setting_value", "trust_remote_code"),
        ({"model_type": "qwen2_vl"}, "", ""),
        ({"model_type": "qwen2_vl", "auto_map": {"AutoModel": "x.Y"}, "vision_config": []}, "", ""),
    ],
)
def test_a_config_of_another_kind_is_a_line(
    stage: dict[str, Any], config: dict[str, Any], kind: str, says: str
) -> None:
    Path("model/config.json").write_text(json.dumps(config))
    report = run(stage | {"save_strategy": "no", "save_only_model": True})
    beside = ("disk", "memory", "keys_unknown")  # of this machine, the last where LLaMA-Factory is not installed
    problems = {one.kind: one.places[0].value for one in report.findings if one.kind not in beside}
    assert set(problems) == ({kind} if kind else set())
    assert says in problems.get(kind, "")
    assert not training_of(report).shape_known


@pytest.mark.parametrize(
    ("change", "says"),
    [({}, ""), ({"bf16": True}, "bf16"), ({"fp16": True}, "fp16"), ({"bf16": True, "use_cpu": True}, "")],
)
def test_a_machine_without_a_gpu(stage: dict[str, Any], change: dict[str, Any], says: str) -> None:
    report = run(stage | {"bf16": False} | change, Cluster(gpus=2, gpu_memory_gb=0))
    problems = [one.places[0].value for one in report.findings if one.severity == "problem"]
    assert len(problems) == bool(says) and says in "".join(problems)
    told = [line for line in cost_sentences(training_of(report)) if "GPU" in line]
    assert told[0].startswith("no GPU: 2 processes on the CPU")


SEVEN_B = {"model_name_or_path": "Qwen/Qwen2-VL-7B-Instruct", "deepspeed": None, "cutoff_len": 6000}


@pytest.mark.parametrize(
    ("change", "gb", "checkpoint_gb"),
    [
        # UniVG-R1's YAML: 8,291,375,616 parameters of 2 bytes, and Qwen2-VL's tokenizer.
        ({"deepspeed": "zero.json", "save_only_model": True}, None, 16.6),
        ({"finetuning_type": "lora"}, (17, 24), 0.26),
        ({"finetuning_type": "lora", "quantization_bit": 4}, (6, 12), 0.26),
        ({"finetuning_type": "lora", "model_name_or_path": "Qwen/Qwen2-VL-2B-Instruct"}, (5, 9), 0.13),
    ],
    ids=["save_only_model", "lora", "qlora", "lora of 2B"],
)
def test_what_a_run_of_7b_takes(
    stage: dict[str, Any], change: dict[str, Any], gb: tuple[float, float] | None, checkpoint_gb: float
) -> None:
    found = training_of(run(stage | SEVEN_B | change, Cluster(gpus=1, gpu_memory_gb=80)))
    assert found.checkpoint_gb == pytest.approx(checkpoint_gb, rel=0.05)
    if gb:
        assert gb[0] < found.memory_gb["total"] < gb[1]
        assert found.smallest == 1


def test_the_command_says_what_it_takes(stage: dict[str, Any]) -> None:
    Path("stage.yaml").write_text(yaml.safe_dump(stage))
    told = CliRunner().invoke(app, ["check", "stage.yaml", "--gpus", "2", "--json"])
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)
    assert report["training"]["steps"] == 1 and report["training"]["memory_gb"]["total"] > 0


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [", "\x00"])
def test_what_is_no_settings_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(UserError, match=r"x\.yaml: (cannot be read: )?not"):
        check(tmp_path / "x.yaml")
