"""Measure training: the published settings and the faster variant, through scripts/stage.sh; prints tables in Markdown.

python scripts/benchmark_train.py --folder /tmp/bench                              one GPU of 80 GB or more
python scripts/benchmark_train.py --folder /tmp/bench --shape tiny --device cpu    minutes, to see that it works

Makes a randomly initialised model of Qwen2-VL-7B's true shape, draws a mixture, and trains on all of it by the very
YAMLs and scripts, tower frozen, images read from disk. One GPU does not hold the optimizer of 28 layers (Adam takes 16
bytes per parameter), so --layers 4,8 are trained, and 28 are extrapolated on a straight line through the seconds per
sample of both; what the layers share (tower, embedding, head, reading of images) is its intercept. There is no other
GPU, so no communication is included. After that: where the time of a step goes (torch's profiler), and the patch
embedding as Conv3d and as matrix product.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmark_eval import QWEN2_VL_7B
from PIL import Image

from migician.models.engines.patches import PatchProduct
from migician.models.stand_ins.tiny import WORDINGS, make_tiny
from migician.samples.dataset_info import write_dataset_info
from migician.training.check.settings.cost import PUBLISHED, operations_of, peak_of
from migician.training.check.settings.learning import ModelShape
from migician.training.log import read_check, read_log

ROOT = Path(__file__).resolve().parent.parent
# Images a sample: the six multi-image families hold 2 to 6, the single-image parts of the mix 1.
IMAGES = [1, 1, 1, 2, 2, 2, 2, 3, 4, 5]
SIZES_PX = {
    "tiny": [(112, 84), (84, 112)],
    "qwen2-vl-7b": [(640, 480), (640, 427), (1280, 720), (480, 640), (500, 375)],
}
LAYERS = {"tiny": "1,2", "qwen2-vl-7b": "4,8"}
WHOLE = {"tiny": 3, "qwen2-vl-7b": 28}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder; removed at the end")
    parser.add_argument("--shape", choices=list(SIZES_PX), default="qwen2-vl-7b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--layers", help="two numbers of layers, to draw a line through")
    parser.add_argument("--samples", type=int, default=240, help="drawn for each run")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("benchmark_train.py: no GPU here; --shape tiny --device cpu shows that it works")
    gpu = torch.cuda.get_device_name() if options.device == "cuda" else ""
    options.folder.mkdir(parents=True)
    draw_mixture(options.folder / "data", options.samples, SIZES_PX[options.shape])
    counts = [int(one) for one in (options.layers or LAYERS[options.shape]).split(",")]
    print(f"{gpu or 'CPU'}, {options.shape}, torch {torch.__version__}, {options.samples} samples\n")
    print("| settings | layers | seconds a sample | samples/s | tokens/s | MFU | peak GiB reserved |")
    print("|---|---|---|---|---|---|---|")
    for variant in ("full", "fast"):
        seconds = {}
        for layers in counts:
            model = options.folder / f"model-{layers}"
            if not model.exists():
                make_model(model, options.shape, layers)
            run = train(options.folder, variant, model, options.device)
            seconds[layers] = run.seconds_a_sample
            row(variant, str(layers), run.seconds_a_sample, run, gpu, options.shape, layers)
        few, many = counts[0], counts[-1]
        slope = (seconds[many] - seconds[few]) / (many - few)
        whole = WHOLE[options.shape]
        row(variant, f"{whole}, by the line", seconds[many] + slope * (whole - many), run, gpu, options.shape, whole)
    print()
    profile(options.folder / f"model-{counts[0]}", options.device, options.shape)
    patches(options.shape, options.device)
    shutil.rmtree(options.folder)


@dataclasses.dataclass
class Run:
    seconds_a_sample: float
    tokens_a_sample: float
    in_images: float
    peak_gib: float


def row(variant: str, layers: str, seconds: float, run: Run, gpu: str, shape: str, count: int) -> None:
    """One line of the table; the MFU is that of a model of `count` layers."""
    sizes = dataclasses.replace(ModelShape.of(config_of(shape)), layers=count)
    peak = peak_of(gpu)
    flop = operations_of(sizes, PUBLISHED, run.tokens_a_sample, run.in_images)
    mfu = f"{flop / seconds / peak:.1%}" if peak else "none"
    held = f"{run.peak_gib:.1f}" if run.peak_gib > 0 else "none"
    print(
        f"| {variant} | {layers} | {seconds:.4f} | {1 / seconds:.2f} | {run.tokens_a_sample / seconds:,.0f} | {mfu} | "
        f"{held} |",
        flush=True,
    )


def config_of(shape: str) -> dict[str, Any]:
    if shape == "qwen2-vl-7b":
        return QWEN2_VL_7B
    from migician.models.stand_ins.tiny import TinyShape, _config, _tokenizer

    return _config(TinyShape(), _tokenizer(WORDINGS, 256)).to_dict()


def make_model(folder: Path, shape: str, layers: int) -> None:
    """Random weights; tokenizer and processor are the tiny model's, whose token ids go into the config."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    make_tiny(folder, seed=0)
    small = json.loads((folder / "config.json").read_text())
    sizes = json.loads(json.dumps(config_of(shape)))
    sizes["text_config"]["num_hidden_layers"] = layers
    sizes["text_config"].pop("layer_types", None)
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        sizes["text_config"][key] = small["text_config"][key]
    tokens = {key: small[key] for key in ("image_token_id", "video_token_id", "vision_start_token_id")}
    if shape != "tiny":
        processor = json.loads((folder / "processor_config.json").read_text())
        processor["image_processor"]["size"] = {"shortest_edge": 56 * 56, "longest_edge": 16384 * 28 * 28}
        (folder / "processor_config.json").write_text(json.dumps(processor))
    config = Qwen2VLConfig(
        text_config=sizes["text_config"], vision_config=sizes["vision_config"], tie_word_embeddings=False, **tokens
    )
    kept = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if shape != "tiny" else torch.float32)
    model = Qwen2VLForConditionalGeneration(config)
    torch.set_default_dtype(kept)
    model.save_pretrained(folder)


def draw_mixture(folder: Path, samples: int, sizes: list[tuple[int, int]]) -> None:
    chance = random.Random(0)
    folder.mkdir()
    for number in range(40):
        Image.effect_noise(sizes[number % len(sizes)], 60).convert("RGB").save(folder / f"{number}.jpg")
    box = "<|box_start|>(316,58),(764,999)<|box_end|>"
    records = []
    for number in range(samples):
        images = [f"{chance.randrange(40)}.jpg" for _ in range(chance.choice(IMAGES))]
        asked = "<image>" * len(images) + chance.choice(WORDINGS)
        turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": f"It's in the first image. {box}"}]
        records.append({"id": number, "images": images, "conversations": turns, "type": "drawn"})
    (folder / "drawn.json").write_text(json.dumps(records))
    write_dataset_info(folder, {"stage1": "drawn.json"})


def train(folder: Path, variant: str, model: Path, device: str) -> Run:
    """One epoch by the YAML of that variant; the first fifth of the steps is not counted."""
    out = folder / f"{variant}-{model.name}"
    settings = [f"model_name_or_path={model}", f"output_dir={out}", f"dataset_dir={folder / 'data'}"]
    settings += [f"media_dir={folder / 'data'}", "logging_steps=1", 'save_strategy="no"', "plot_loss=false"]
    settings += ["preprocessing_num_workers=2"]
    if device == "cpu":
        settings += ["bf16=false", "deepspeed=null", "overwrite_output_dir=true", "dataloader_num_workers=0"]
        settings += ["flash_attn=sdpa", "enable_liger_kernel=false", "cutoff_len=512"]
    environment = os.environ | {
        "NPROC_PER_NODE": "1",
        "RECORD_VRAM": "1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "GPU_MEMORY": "1000",  # it is tried, not judged
    }
    if device == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    words = ["bash", str(ROOT / "scripts/stage.sh"), f"train/stage-1_finetune_{variant}.yaml", *settings]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-5000:]}")
    lines, training = read_log(out), read_check(out)
    lengths = json.loads((out / "check.json").read_text())["lengths"]
    assert training is not None
    first, last = lines[len(lines) // 5], lines[-1]
    steps = last.current_steps - first.current_steps
    # All samples were seen once, packed or not.
    samples = training.samples * steps / last.total_steps
    logged = [json.loads(line) for line in (out / "trainer_log.jsonl").read_text().splitlines()]
    peak = max(line.get("vram_reserved", 0.0) for line in logged)
    elapsed = max(1, last.elapsed_s - first.elapsed_s)
    shutil.rmtree(out)
    return Run(elapsed / samples, lengths["mean"], lengths["mean_in_images"], peak)


def profile(model: Path, device: str, shape: str) -> None:
    """Where a forward and backward of one sample of three images goes, by kind of operation."""
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

    tuned = Qwen2VLForConditionalGeneration.from_pretrained(model).to(device).train()
    tuned.model.visual.requires_grad_(False)
    tuned.gradient_checkpointing_enable({"use_reentrant": False})
    processor = AutoProcessor.from_pretrained(model)
    pictures = [Image.effect_noise(SIZES_PX[shape][0], 60).convert("RGB")] * 3
    text = "<|vision_start|><|image_pad|><|vision_end|>" * 3 + WORDINGS[1]
    inputs = processor(text=[text], images=pictures, return_tensors="pt").to(device)
    inputs["pixel_values"] = inputs["pixel_values"].to(tuned.dtype)

    def step() -> None:
        tuned(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
        tuned.zero_grad(set_to_none=True)

    step()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device == "cuda" else []
    with torch.profiler.profile(activities=kinds) as seen:
        step()
    key = f"self_{device}_time_total"
    print(f"one step of {inputs['input_ids'].shape[1]} tokens, {tuned.config.text_config.num_hidden_layers} layers:\n")
    print(seen.key_averages().table(sort_by=key, row_limit=15, max_name_column_width=60))


def patches(shape: str, device: str) -> None:
    """The patch embedding as it is, and as the equal matrix product, forward only as where it is frozen."""
    width = config_of(shape)["vision_config"]["embed_dim"]
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    convolution = torch.nn.Conv3d(3, width, (2, 14, 14), (2, 14, 14), bias=False).to(device, dtype)
    product = PatchProduct(convolution).to(device, dtype)
    count = 1 << (14 if device == "cuda" else 10)
    values = torch.randn(count, 3, 2, 14, 14, device=device, dtype=dtype)
    with torch.no_grad():
        first, second = convolution(values).view(count, -1), product(values).view(count, -1)
        apart = float((first - second).abs().max())
        times = [milliseconds(lambda one=one: one(values), device) for one in (convolution, product)]
    print(f"patch embedding of {count:,} patches, {dtype}: Conv3d {times[0]:.2f} ms, matrix product {times[1]:.2f} ms;")
    print(f"largest difference {apart:.2g}")


def milliseconds(work: Callable[[], object], device: str, times: int = 5) -> float:
    """The shortest of several."""
    best = float("inf")
    for _ in range(times):
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best * 1000


if __name__ == "__main__":
    main()
