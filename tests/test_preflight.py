"""A training YAML and its data: every fault is found in one run, and the estimates hold against what is measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from migician.checking import Options
from migician.cli import app
from migician.errors import UserError
from migician.mixture import dataset_entry
from migician.preflight import Machine, Preflight, preflight
from migician.preflight.cost import QWEN2_VL_7B
from migician.preflight.keys import GONE, known_keys
from migician.preflight.memory import Load, Shape, memory_need, smallest_fit
from migician.preflight.settings import Zero

ROOT = Path(__file__).resolve().parent.parent
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


def run(stage: dict[str, Any], machine: Machine | None = None) -> Preflight:
    file = Path("stage.yaml")
    file.write_text(yaml.safe_dump(stage))
    return preflight(file, machine or Machine(gpus=2), Options())


def kinds(report: Preflight) -> set[str]:
    return {one.kind for one in report.findings}


def test_a_sound_run_has_no_problem(stage: dict[str, Any]) -> None:
    report = run(stage)
    assert not report.count("problem"), report.findings
    assert (report.training.steps, report.training.batch, report.training.samples) == (1, 2, 2)


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
    report = preflight(file, Machine(gpus=1, gpu_memory_gb=8), Options(media_dir=data))
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
        ({"model_name_or_path": "./elsewhere"}, "setting_path", "run the stage before"),
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


def test_the_published_stages_know_all_their_keys() -> None:
    known = known_keys()
    if not known:
        pytest.skip("train extra not installed: bash scripts/setup.sh")
    for file in (*ROOT.glob("train/*.yaml"), *ROOT.glob("configs/quickstart/*.yaml")):
        assert set(yaml.safe_load(file.read_text())) <= known
    assert not known & set(GONE)


def test_keys_are_those_of_llamafactorys_own_parser() -> None:
    pytest.importorskip("llamafactory", reason="train extra not installed: bash scripts/setup.sh")
    code = (
        "import dataclasses, json\n"
        "from llamafactory.hparams.parser import _TRAIN_ARGS\n"
        "print(json.dumps(sorted({one.name for kind in _TRAIN_ARGS for one in dataclasses.fields(kind) if one.init})))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    theirs = set(json.loads(told.strip().splitlines()[-1]))
    assert theirs <= known_keys()
    # Classes that `train` does not use are in the same files.
    assert len(known_keys() - theirs) < 20, sorted(known_keys() - theirs)


def test_the_command_says_what_it_takes(stage: dict[str, Any]) -> None:
    Path("stage.yaml").write_text(yaml.safe_dump(stage))
    told = CliRunner().invoke(app, ["check", "stage.yaml", "--gpus", "2", "--json"])
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)
    assert report["training"]["steps"] == 1 and report["training"]["memory_gb"]["total"] > 0


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [", "\x00"])
def test_what_is_no_settings_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(UserError, match=r"x\.yaml: not"):
        preflight(tmp_path / "x.yaml", Machine(), Options())


class TestMemory:
    LOAD = Load(12_000, 40_000, 2, True, False, False, False, True)

    def test_the_shape_of_qwen2_vl_7b_has_its_parameters(self) -> None:
        # 8,291,375,616 in the released index: 7,615,616,512 in the language model, the rest in the tower.
        assert QWEN2_VL_7B.language_parameters == 7_615_616_512
        tower = QWEN2_VL_7B.vision_parameters + QWEN2_VL_7B.projector_parameters
        assert tower == 8_291_375_616 - 7_615_616_512

    def test_states_by_stage(self) -> None:
        learning = QWEN2_VL_7B.language_parameters
        needs = [memory_need(QWEN2_VL_7B, self.LOAD, Zero(stage, False, False), 8) for stage in range(4)]
        assert [round(need.optimizer / learning, 6) for need in needs] == [12, 1.5, 1.5, 1.5]
        assert [round(need.gradients / learning, 6) for need in needs] == [2, 2, 0.25, 0.25]
        assert needs[3].parameters < needs[2].parameters

    def test_the_smallest_set_up_that_fits(self) -> None:
        count = smallest_fit(QWEN2_VL_7B, self.LOAD, Zero(3, False, False), 80e9)
        assert count is not None
        assert memory_need(QWEN2_VL_7B, self.LOAD, Zero(3, False, False), count).total <= 80e9
        assert memory_need(QWEN2_VL_7B, self.LOAD, Zero(3, False, False), count // 2).total > 80e9
        assert smallest_fit(QWEN2_VL_7B, self.LOAD, Zero(0, False, False), 80e9) is None


MEASURE = """
import sys, torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration
tokens, checkpointing, vocabulary = int(sys.argv[1]), sys.argv[2] == "True", int(sys.argv[3])
config = Qwen2VLConfig(
    text_config=dict(vocab_size=vocabulary, hidden_size=256, intermediate_size=1024, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=8192,
        rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[8, 12, 12])),
    vision_config=dict(depth=1, embed_dim=64, hidden_size=256, num_heads=4, mlp_ratio=2),
)
config._attn_implementation = "sdpa"
model = Qwen2VLForConditionalGeneration(config).train()
for name, weight in model.named_parameters():
    weight.requires_grad_("visual" not in name)
if checkpointing:
    model.gradient_checkpointing_enable(dict(use_reentrant=False))
ids = torch.randint(0, vocabulary, (1, tokens))
loss = lambda: model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
loss()
model.zero_grad(set_to_none=False)  # the gradients are there from here on
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
    loss()
events = [one for one in profile.profiler.kineto_results.events() if one.name() == "[memory]"]
now = peak = 0
for event in sorted(events, key=lambda one: one.start_ns()):
    now += event.nbytes()
    peak = max(peak, now)
print(sum(weight.numel() for weight in model.parameters() if weight.requires_grad), peak)
"""


@pytest.mark.parametrize(
    ("tokens", "checkpointing", "vocabulary"),
    [(512, True, 2_000), (512, False, 2_000), (512, True, 30_000)],
    ids=["checkpointing", "whole", "logits"],
)
def test_the_estimate_holds_against_what_torch_allocates(tokens: int, checkpointing: bool, vocabulary: int) -> None:
    """Forward and backward of a true Qwen2-VL in float32: every allocation, within 15%."""
    pytest.importorskip("transformers", reason="models extra not installed: bash scripts/setup.sh")
    words = [sys.executable, "-c", MEASURE, str(tokens), str(checkpointing), str(vocabulary)]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    learning, peak = int(told[-2]), int(told[-1])
    shape = Shape(256, 6, 1024, 4, 2, vocabulary, False, 64, 1, 128)
    load = Load(tokens, 0, 4, checkpointing, False, False, False, True)
    need = memory_need(shape, load, Zero(0, False, False), 1, runtime=0)
    assert need.gradients == 4 * learning and need.optimizer == 8 * learning
    assert need.activations + need.transient == pytest.approx(peak, rel=0.15)
