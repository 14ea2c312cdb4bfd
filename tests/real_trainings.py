"""Trainings of the tiny model that are really run, through LLaMA-Factory's own entry, each in a process of its own.

LLaMA-Factory takes nine seconds to import: a parent imports it once and forks a child for each YAML.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from conftest import REPOSITORY
from PIL import Image

FIXED: dict[str, Any] = {
    "stage": "sft", "do_train": True, "finetuning_type": "full", "template": "qwen2_vl", "cutoff_len": 2048,
    "overwrite_cache": True, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 1e-4,
    "use_cpu": True, "report_to": "none", "save_strategy": "no", "overwrite_output_dir": True, "logging_steps": 1,
    "num_train_epochs": 1.0, "dataset": "small",
}  # fmt: skip

CASES: dict[str, dict[str, Any]] = {
    "val_size and max_samples": {"val_size": 10, "max_samples": 50},
    "val_size as a share of two sets": {"dataset": "small, large", "val_size": 0.15, "max_samples": 70},
    "streaming": {
        "streaming": True, "max_steps": 6, "dataloader_num_workers": 1, "warmup_steps": 2,
        "accelerator_config": {"dispatch_batches": False},
    },
    "packing": {"packing": True, "cutoff_len": 400, "dataset": "uneven", "per_device_train_batch_size": 2},
    "neat_packing and val_size": {
        "neat_packing": True, "cutoff_len": 256, "dataset": "uneven", "val_size": 0.3, "per_device_train_batch_size": 1,
    },
    "two eval sets": {
        "eval_dataset": "uneven,fifty", "eval_on_each_dataset": True, "eval_strategy": "steps", "eval_steps": 5,
        "max_samples": 40, "do_eval": True,
    },
    "interleave_under, shares": {
        "dataset": "small,large", "mix_strategy": "interleave_under", "interleave_probs": "0.7,0.3",
    },
    "interleave_over": {"dataset": "small,uneven", "mix_strategy": "interleave_over"},
    "lora, all targets, tower too": {
        "finetuning_type": "lora", "lora_target": "all", "freeze_vision_tower": False, "num_train_epochs": 2,
        "save_strategy": "epoch", "max_samples": 24,
    },
    "the default is lora": {"finetuning_type": None, "save_strategy": "steps", "save_steps": 8, "warmup_ratio": 0.2},
    "lora, named targets, rank 4, head": {
        "finetuning_type": "lora", "lora_target": "q_proj,v_proj", "lora_rank": 4, "additional_target": "lm_head",
        "max_steps": 3, "save_strategy": "steps", "save_only_model": True,
    },
    "freeze, last layer and embedding": {
        "finetuning_type": "freeze", "freeze_trainable_layers": 1, "freeze_extra_modules": "embed_tokens",
        "max_steps": 3, "save_strategy": "steps",
    },
    "freeze, first layers, tower too": {
        "finetuning_type": "freeze", "freeze_trainable_layers": -2, "freeze_vision_tower": False,
        "freeze_multi_modal_projector": False, "max_steps": 2,
    },
    "projector only": {
        "freeze_language_model": True, "freeze_multi_modal_projector": False, "max_steps": 2, "save_strategy": "steps",
    },
    "max_steps over epochs": {"max_steps": 30, "save_strategy": "steps", "save_steps": 12, "num_train_epochs": 1},
    "save_steps as a share, a limit": {"save_strategy": "steps", "save_steps": 0.25, "save_total_limit": 2},
    "warmup_steps and warmup_ratio": {"warmup_steps": 5, "warmup_ratio": 0.3},
    "accumulation, drop_last, 1.5 epochs": {
        "gradient_accumulation_steps": 3, "dataloader_drop_last": True, "num_train_epochs": 1.5, "warmup_steps": 0.5,
        "save_strategy": "epoch",
    },
    "num_samples above the set": {"dataset": "doubled", "val_size": 1},
    "a set named twice": {"dataset": "small,small,uneven"},
}  # fmt: skip
"""Beside the YAMLs of cases/preflight in the shared folder: keys over `FIXED`, None to leave one out."""

_DRIVER = """
import os, sys, traceback
os.environ["DISABLE_VERSION_CHECK"] = "1"
from llamafactory.train import tuner
import llamafactory.train.sft.workflow, llamafactory.hparams.parser as parser
for file in sys.argv[1:]:
    child = os.fork()
    if not child:
        log = os.open(file + ".log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        status = 1
        try:
            sys.argv = ["train", file]
            tuner.run_exp()
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    _, status = os.waitpid(child, 0)
    print(file, status, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training did."""

    fault: str
    """The error that ended it; empty where none did."""
    examples: int
    steps: int
    warmup_steps: int
    trained: int
    """Parameters that learn, by LLaMA-Factory's own count."""
    checkpoints: dict[str, int]
    """Bytes by folder."""
    result_bytes: int
    """Of the weights that lie in the output folder itself."""


def make_sets(folder: Path) -> None:
    """Sets of which the lengths and the numbers differ."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (320, 240)).save(folder / "images/a.jpg")

    def row(number: int, words: int = 1) -> dict[str, Any]:
        turns = [("human", f"<image>\nWhat is {number}?"), ("gpt", f"It is {number}." + " and so on" * words)]
        said = [{"from": role, "value": text} for role, text in turns]
        return {"id": str(number), "images": ["images/a.jpg"], "conversations": said, "type": "t"}

    files = {
        "small": [row(number) for number in range(100)],
        "large": [row(number + 1000) for number in range(1000)],
        "uneven": [row(number + 2000, number * 7 % 31) for number in range(75)],
    }
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
    columns = {"messages": "conversations", "images": "images"}

    def entry(name: str, **more: Any) -> dict[str, Any]:
        return {"file_name": f"{name}.json", "formatting": "sharegpt", "columns": columns, "tags": tags, **more}

    for name, rows in files.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    info = {name: entry(name) for name in files}
    info |= {"fifty": entry("large", num_samples=50), "doubled": entry("small", num_samples=230)}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def write_cases(folder: Path, model: Path) -> dict[str, Path]:
    """The YAML of each case by its name."""
    make_sets(folder)
    files = {}
    for number, (name, changed) in enumerate(CASES.items()):
        places = {"model_name_or_path": str(model), "dataset_dir": str(folder), "media_dir": str(folder)}
        values = FIXED | places | {"output_dir": str(folder / "runs" / str(number))} | changed
        files[name] = folder / f"case-{number}.yaml"
        files[name].write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return files


def write_recipes(folder: Path, tiny_of: Callable[[str], Path]) -> dict[str, Path]:
    """The recipes of the other bases by name, each with a tiny model and a small set, without what a CPU cannot do."""
    make_sets(folder)
    files = {}
    for recipe in sorted(REPOSITORY.glob("train/*/stage-*_finetune_*.yaml")):
        base, name = recipe.parent.name, f"{recipe.parent.name}, {recipe.stem}"
        own = yaml.safe_load(recipe.read_text())
        places = {"model_name_or_path": str(tiny_of(base)), "dataset_dir": str(folder), "media_dir": str(folder)}
        small = {
            "dataset": "small",
            "preprocessing_num_workers": 1,
            "save_steps": 2,
            "logging_steps": 1,
            "use_cpu": True,
        }
        own |= places | small | {"output_dir": str(folder / "runs" / name.replace(", ", "-")), "max_samples": 48}
        own |= {"overwrite_output_dir": True}
        own["gradient_accumulation_steps"] = 6 // own["per_device_train_batch_size"]  # a step of 6 samples
        files[name] = folder / f"{name.replace(', ', '-')}.yaml"
        files[name].write_text(yaml.safe_dump({key: own[key] for key in own if key not in ("bf16", "deepspeed")}))
    return files


def train_all(files: Sequence[Path]) -> dict[Path, Trained]:
    """Train by each YAML, one after the other."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-c", _DRIVER, *map(str, files)]
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
    return {file: trained_by(file) for file in files}


def trained_by(file: Path) -> Trained:
    """What the log beside a YAML and the files in its output folder say."""
    log = Path(f"{file}.log").read_text()
    out = Path(yaml.safe_load(file.read_text())["output_dir"])
    if not (out / "trainer_state.json").is_file():
        errors = [line for line in log.splitlines() if re.match(r"\w+(Error|Iteration)\b", line)]
        return Trained((errors or ["no reason given"])[-1], 0, 0, 0, 0, {}, 0)
    state = json.loads((out / "trainer_state.json").read_text())
    rates = [line["learning_rate"] for line in state["log_history"] if "learning_rate" in line]
    sizes = {
        one.name: sum(part.stat().st_size for part in one.rglob("*") if part.is_file())
        for one in sorted(out.glob("checkpoint-*"))
    }
    return Trained(
        "",
        _said(log, r"Num examples = ([\d,]+)"),
        state["global_step"],
        rates.index(max(rates)),
        _said(log, r"trainable params: ([\d,]+)"),
        sizes,
        sum(part.stat().st_size for part in out.glob("*.safetensors")),
    )


def _said(log: str, pattern: str) -> int:
    found = re.search(pattern, log)
    assert found, pattern
    return int(found[1].replace(",", ""))
