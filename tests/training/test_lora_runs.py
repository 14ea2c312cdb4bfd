"""LoRA stages through the very scripts, on the CPU with a tiny model: resumed, watched, merged, evaluated.

Minutes each, so they are marked slow: bash scripts/test.sh tests/training/test_lora_runs.py -m slow
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from test_stage_runs import ROOT, SMALL, largest_difference, place, run, run_until, stage, weights

from migician.models import FAMILIES
from migician.models.stand_ins.tiny import make_tiny
from migician.samples.bases import BASES

pytest.importorskip("llamafactory", reason="train extra not installed: bash scripts/setup.sh")
torch = pytest.importorskip("torch", reason="train extra not installed: bash scripts/setup.sh")

__all__ = ["place"]
pytestmark = pytest.mark.slow

LORA = ["finetuning_type=lora", "lora_rank=8", "learning_rate=0.01", "image_max_pixels=12544", "cutoff_len=512"]
ON_CPU = [*SMALL, *LORA, "gradient_accumulation_steps=1", "bf16=false", "max_samples=16", "preprocessing_num_workers=1"]
ALONE = {"NPROC_PER_NODE": "1"}


@pytest.fixture(scope="module")
def saves(place: Path) -> Path:
    """Stage 1, stage 2, both merged and averaged, by one command on the shipped LoRA YAMLs; and scored."""
    run([*command(place), "--", *ON_CPU], **ALONE)
    return place / "saves-lora"


def command(place: Path) -> list[str]:
    words = ["bash", str(ROOT / "scripts/finetune.sh"), "--lora", "--base", str(place / "base")]
    words += ["--data", str(place / "data"), "--media", str(place / "data"), "--saves", str(place / "saves-lora")]
    return [*words, "--bench", str(bench(place)), "--bench-images", str(place / "world")]


def bench(place: Path) -> Path:
    return place / "world/MIG-Bench/MIG_data.json"


def test_both_stages_by_one_command(place: Path, saves: Path) -> None:
    base, first, second, merged = (
        weights(folder) for folder in (place / "base", *(saves / name for name in ("stage-1", "stage-2", "migician")))
    )
    assert largest_difference(base, first) > 0 and largest_difference(first, second) > 0
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2, rtol=1e-6, atol=1e-9)
    for name, tensor in first.items():
        learned = "visual" not in name and name.rpartition(".")[0].endswith("_proj") and tensor.ndim == 2
        assert torch.equal(tensor, base[name]) is not learned, name
    assert (saves / "loss.png").read_bytes().startswith(b"\x89PNG")
    training = json.loads((saves / "stage-1-lora/check.json").read_text())["training"]
    assert (training["method"], training["gpu_memory_gb"], training["gpus"]) == ("lora", 0, 1)
    report = json.loads((saves / "scores/migician/report.json").read_text())
    assert report["n"] == len(json.loads(bench(place).read_text()))
    told = run([*command(place), "--", *ON_CPU], **ALONE).stderr
    assert told.count("is finished") == 2 and told.count("is there") == 3


@pytest.mark.parametrize("base", ["qwen2_5_vl", "qwen3_vl", "qwen3_5"])
def test_another_base_by_one_command(place: Path, base: str) -> None:
    """`finetune.sh --lora` on the base's own recipes, with data in its convention, in one process."""
    model, data, saves = place / f"{base}-base", place / f"{base}-data", place / f"{base}-saves"
    make_tiny(model, seed=0, base=base)
    data.mkdir()
    for name, file in {"stage1": "MGrounding-630k.json", "stage2": "Difference.json"}.items():
        words = ["migician", "data", "convert", "records", "--from", str(place / "data" / file), "--media"]
        words += [str(place / "data"), "--to", BASES[base].convention, "--max-pixels", "12544"]
        run([*words, "--out", str(data / f"{name}.json")])
    words = ["bash", str(ROOT / "scripts/finetune.sh"), "--lora", "--base", str(model), "--data", str(data)]
    words += ["--media", str(place / "data"), "--saves", str(saves)]
    if base in FAMILIES:
        words += ["--bench", str(bench(place)), "--bench-images", str(place / "world")]
    run([*words, "--", *ON_CPU], **ALONE)
    start, first, second, merged = (
        weights(folder) for folder in (model, *(saves / name for name in ("stage-1", "stage-2", "migician")))
    )
    for name, tensor in first.items():
        linear = tensor.ndim == 2 and "visual" not in name and "embed_tokens" not in name and "lm_head" not in name
        assert torch.equal(tensor, start[name]) is not linear, name
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2, rtol=1e-6, atol=1e-9)
    check = json.loads((saves / "stage-1-lora/check.json").read_text())
    log = (saves / "stage-1-lora/trainer_log.jsonl").read_text().splitlines()
    assert check["training"]["steps"] == json.loads(log[-1])["total_steps"] == 8
    if base in FAMILIES:
        report = json.loads((saves / "scores/migician/report.json").read_text())
        assert report["plan"]["wording"] == "trained"
        assert report["n"] == len(json.loads(bench(place).read_text()))


def test_base_and_adapter_reply_as_the_merged_model(place: Path, saves: Path) -> None:
    """peft's own base and adapter, side by side, against what was written to disk: logits, and greedy replies."""
    from peft import PeftModel
    from PIL import Image
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

    def load(folder: Path) -> Any:
        return Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)

    processor = AutoProcessor.from_pretrained(place / "base")
    questions = json.loads(bench(place).read_text())[:12]
    plain = load(place / "base").eval()
    merged = load(saves / "stage-1").eval()
    beside = PeftModel.from_pretrained(load(place / "base"), saves / "stage-1-lora").eval()
    differ = 0
    for one in questions:
        images = [Image.open(place / "world" / name).convert("RGB") for name in one["images"]]
        content = [{"type": "image"} for _ in images] + [{"type": "text", "text": one["question"]}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(text=[text], images=images, return_tensors="pt")
        with torch.no_grad():
            logits = [model(**inputs).logits for model in (beside, merged, plain)]
            replies = [model.generate(**inputs, max_new_tokens=16, do_sample=False) for model in (beside, merged)]
        torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)
        differ += float((logits[2] - logits[1]).abs().max()) > 0.01
        assert replies[0].tolist() == replies[1].tolist()
    assert differ == len(questions)  # the adapter says something


def test_killed_and_resumed_is_as_never_stopped(place: Path) -> None:
    """LLaMA-Factory brings back an adapter's weights by itself, without DeepSpeed too."""
    config = ROOT / "train/stage-1_finetune_lora.yaml"
    run(stage(place, "lora-whole", *ON_CPU, config=config), **ALONE)
    last = place / "lora-killed/checkpoint-4/trainer_state.json"
    run_until(stage(place, "lora-killed", *ON_CPU, config=config), last, **ALONE)
    told = run(stage(place, "lora-killed", *ON_CPU, config=config), **ALONE).stderr
    assert "resuming from" in told
    assert largest_difference(weights(place / "lora-whole"), weights(place / "lora-killed")) == 0.0


def test_watch_scores_adapters(place: Path, saves: Path) -> None:
    words = ["migician", "train", "watch", str(saves / "stage-1-lora"), "--data", str(bench(place)), "--images"]
    words += [str(place / "world"), "--out", str(place / "watched"), "--limit", "1", "--once", "--"]
    run([*words, "--max-new-tokens", "4"])
    rows = list(csv.DictReader((place / "watched/checkpoints.csv").open()))
    assert [row["checkpoint"] for row in rows] == ["checkpoint-4", "checkpoint-8", "final"]
    assert not list((place / "watched").glob(".*"))


def test_the_card_says_how_the_stages_were_made(saves: Path) -> None:
    run(["migician", "train", "card", str(saves / "migician"), "--report", str(saves / "scores/migician")])
    card = (saves / "migician/README.md").read_text()
    assert card.count("a LoRA adapter: 8 steps") == 2
