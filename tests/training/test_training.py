"""The training files: the published settings stand, the quickstart's differ in size only, and none can lose weights."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
STAGES = {1: ROOT / "train/stage-1_finetune_full.yaml", 2: ROOT / "train/stage-2_finetune_full.yaml"}
FAST = {1: ROOT / "train/stage-1_finetune_fast.yaml", 2: ROOT / "train/stage-2_finetune_fast.yaml"}
LORA = {1: ROOT / "train/stage-1_finetune_lora.yaml", 2: ROOT / "train/stage-2_finetune_lora.yaml"}
SMALL = {1: ROOT / "configs/quickstart/stage-1.yaml", 2: ROOT / "configs/quickstart/stage-2.yaml"}

# arXiv 2501.05767 and the released files of thunlp/Migician.
PUBLISHED = {
    1: {"learning_rate": 5e-6, "warmup_ratio": 0.015, "cutoff_len": 6000, "max_samples": 1_100_000, "save_steps": 1000},
    2: {"learning_rate": 4e-6, "warmup_ratio": 0.05, "cutoff_len": 8192, "max_samples": 210_000, "save_steps": 750},
}
PUBLISHED_BOTH = {
    "stage": "sft",
    "finetuning_type": "full",
    "template": "qwen2_vl",
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 3,
    "lr_scheduler_type": "cosine",
    "num_train_epochs": 1.0,
    "bf16": True,
    "freeze_vision_tower": True,
    "deepspeed": "configs/ds_z3.json",
}
# What may differ in the quickstart: places, and sizes.
PLACES = {"model_name_or_path", "dataset", "dataset_dir", "media_dir", "output_dir"}
SIZES = {
    "image_max_pixels",
    "cutoff_len",
    "max_samples",
    "preprocessing_num_workers",
    "dataloader_num_workers",
    "logging_steps",
    "save_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "learning_rate",
}
LEFT_OUT = {"bf16", "deepspeed"}


def read(path):
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("stage", [1, 2])
def test_every_published_setting_stands(stage):
    settings = read(STAGES[stage])
    assert {name: settings[name] for name in PUBLISHED[stage]} == PUBLISHED[stage]
    assert {name: settings[name] for name in PUBLISHED_BOTH} == PUBLISHED_BOTH
    assert (ROOT / settings["deepspeed"]).is_file()


@pytest.mark.parametrize("stage", [1, 2])
def test_the_fast_variant_differs_only_where_it_says_so(stage):
    published, fast = read(STAGES[stage]), read(FAST[stage])
    assert not published.keys() - fast.keys()
    differing = {key for key in fast if fast[key] != published.get(key)}
    marked = {line.partition(":")[0] for line in FAST[stage].read_text().splitlines() if "# faster" in line}
    assert differing - {"cutoff_len"} == marked  # it says so of itself
    assert fast["per_device_train_batch_size"] == 1  # LLaMA-Factory's collator takes no more with neat_packing
    # What decides over the result stands as published.
    for key in ("learning_rate", "warmup_ratio", "num_train_epochs", "lr_scheduler_type", "freeze_vision_tower"):
        assert fast[key] == published[key]


def test_one_variable_chooses_the_variant():
    for variant in ("full", "fast", "lora"):
        words = ["bash", str(ROOT / "scripts/finetune.sh"), "--dry-run"]
        told = subprocess.run(words, env=os.environ | {"VARIANT": variant}, capture_output=True, text=True, check=True)
        assert [f"train/stage-{n}_finetune_{variant}.yaml" in told.stdout for n in (1, 2)] == [True, True]
    wrong = subprocess.run(words, env=os.environ | {"VARIANT": "fats"}, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "VARIANT is full, lora, or for Qwen2-VL fast" in wrong.stderr


@pytest.mark.parametrize("stage", [1, 2])
def test_the_lora_variant_trains_on_the_same_samples(stage):
    published, lora = read(STAGES[stage]), read(LORA[stage])
    for key in ("dataset", "template", "max_samples", "num_train_epochs", "lr_scheduler_type", "warmup_ratio", "seed"):
        assert lora[key] == published[key]
    assert lora["finetuning_type"] == "lora" and "deepspeed" not in lora
    batch = lora["per_device_train_batch_size"] * lora["gradient_accumulation_steps"]
    assert batch == 8 * published["per_device_train_batch_size"] * published["gradient_accumulation_steps"]


def test_adapters_are_merged_before_the_next_stage():
    words = ["bash", str(ROOT / "scripts/finetune.sh"), "--dry-run", "--qlora", "--base", "me/b", "--saves", "s"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[:2] for line in told[:4]] == [["bash", "scripts/stage.sh"], ["migician", "train"]] * 2
    assert "model_name_or_path=me/b output_dir=s/stage-1-lora" in told[0] and "quantization_bit=4" in told[0]
    assert told[1].split()[2:] == ["merge", "s/stage-1-lora", "--base", "me/b", "--out", "s/stage-1"]
    assert "model_name_or_path=s/stage-1 output_dir=s/stage-2-lora" in told[2]
    assert told[3].split()[2:] == ["merge", "s/stage-2-lora", "--base", "s/stage-1", "--out", "s/stage-2"]


def test_stage_2_starts_from_the_result_of_stage_1():
    assert read(LORA[2])["model_name_or_path"] + "-lora" == read(LORA[1])["output_dir"]
    for files in (STAGES, FAST, SMALL):
        assert read(files[2])["model_name_or_path"] == read(files[1])["output_dir"]


@pytest.mark.parametrize("stage", [1, 2])
def test_the_quickstart_differs_in_size_only(stage):
    published, small = read(STAGES[stage]), read(SMALL[stage])
    assert published.keys() - small.keys() == LEFT_OUT
    assert small.keys() - published.keys() <= SIZES
    differing = {name for name in small if name in published and small[name] != published[name]}
    assert differing <= PLACES | SIZES | {"overwrite_output_dir"}


@pytest.mark.parametrize("file", [*STAGES.values(), *FAST.values(), *SMALL.values()], ids=str)
def test_no_run_can_resume_without_its_weights(file):
    """Without DeepSpeed, LLaMA-Factory resumes the step and the optimizer of a Qwen2-VL but not its weights."""
    settings = read(file)
    if "deepspeed" not in settings:
        assert settings["overwrite_output_dir"] is True  # else it looks for a checkpoint by itself
        assert settings.get("resume_from_checkpoint") is None
        assert settings["save_steps"] >= 100_000  # and there is none to find


def test_llamafactory_accepts_every_key(llamafactory):
    code = (
        "import sys, yaml, dataclasses\n"
        "from llamafactory.hparams import DataArguments, FinetuningArguments, GeneratingArguments, ModelArguments\n"
        "from llamafactory.hparams.training_args import TrainingArguments\n"
        "kinds = (DataArguments, FinetuningArguments, GeneratingArguments, ModelArguments, TrainingArguments)\n"
        "known = {field.name for kind in kinds for field in dataclasses.fields(kind)}\n"
        "unknown = {key for file in sys.argv[1:] for key in yaml.safe_load(open(file))} - known\n"
        "assert not unknown, unknown"
    )
    files = [str(path) for path in (*STAGES.values(), *FAST.values(), *LORA.values(), *SMALL.values())]
    done = llamafactory.run(code, *files)
    assert done.returncode == 0, done.stderr
