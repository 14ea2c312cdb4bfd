"""Measure evaluation: shared and batched against the plain loop; prints a table in Markdown.

python scripts/benchmark_eval.py --folder /tmp/bench
python scripts/benchmark_eval.py --folder /tmp/bench --shape qwen2-vl-7b --device cuda --questions 400

Draws a benchmark of MIG-Bench's shape (4,295 questions over 1,974 tuples of 5,887 images; that of --data where
given), asks a randomly initialised model all of it as `migician eval` does, then asks the same model in the plain
loop: one question at a time, its images read and encoded again, through transformers' `generate`. Replies are
compared; one that differs is listed with how far its token was before the other. The floor is arithmetic and bytes
of the shared way at what this device reaches in one large matrix product and one large copy.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from PIL import Image
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from migician.benchmarks import mig_bench
from migician.benchmarks.scoring.boxes import BoxQuestion
from migician.benchmarks.scoring.scoring import Reading
from migician.boxtext import QWEN
from migician.chat.migician import Migician
from migician.evaluation.ask import Asking, Plan, evaluate
from migician.models.checkpoint import read_checkpoint
from migician.models.engines.patches import use_product
from migician.models.engines.qwen2_vl import _processor
from migician.models.family import QWEN2_VL, Family
from migician.models.pictures import load_pictures
from migician.models.stand_ins.tiny import WORDINGS, make_tiny

# (images of a tuple, questions over it) -> how many such tuples the original MIG_data.json has.
TUPLES = {
    (2, 1): 1040, (3, 1): 1, (3, 2): 118, (3, 3): 96, (3, 4): 1, (4, 3): 363, (4, 4): 134, (4, 6): 2,
    (5, 4): 9, (5, 5): 98, (5, 8): 1, (6, 5): 111,
}  # fmt: skip
REPEATED = 43
"""Places in those tuples that hold an image of another tuple."""
WORDS = 23
"""Of an average question, which has 132 letters."""
SIZES_PX = {
    "tiny": [(320, 240), (240, 320)],
    # COCO's and Objects365's photos, frames of videos, panels of web pages.
    "qwen2-vl-7b": [(640, 480), (640, 427), (1280, 720), (480, 640), (1024, 683), (500, 375)],
}
MAX_PIXELS = {"tiny": 112 * 112, "qwen2-vl-7b": 768 * 768}
QWEN2_VL_7B: dict[str, dict[str, Any]] = {
    "text_config": {
        "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32_768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "num_heads": 16, "mlp_ratio": 4},
}  # fmt: skip
QWEN2_VL_2B: dict[str, dict[str, Any]] = {
    "text_config": QWEN2_VL_7B["text_config"]
    | {"vocab_size": 151_936, "hidden_size": 1536, "intermediate_size": 8960}
    | {"num_attention_heads": 12, "num_key_value_heads": 2},
    "vision_config": QWEN2_VL_7B["vision_config"] | {"hidden_size": 1536},
}
SHAPES = {"qwen2-vl-7b": QWEN2_VL_7B, "qwen2-vl-2b": QWEN2_VL_2B}
TIED = ("qwen2-vl-2b",)
"""Shapes whose embedding is their head too."""
TIE = 1e-4
"""Logits nearer to each other than this are equal within the error of float32."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder; removed at the end")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    parser.add_argument("--shape", choices=SIZES_PX, default="tiny", help="of the model")
    parser.add_argument("--model", type=Path, help="ask this checkpoint of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="float32 on the CPU, else bfloat16")
    parser.add_argument("--data", type=Path, help="a MIG-Bench file to take the shape from")
    parser.add_argument("--questions", type=int, help="about this number, drawn evenly from the tuples; default: all")
    parser.add_argument("--plain", type=int, help="number to ask in the plain loop; default: all")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=24, help="of a reply; a box takes about 20")
    parser.add_argument("--threads", type=int, help="of torch, for both ways; else its own choice")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype or ("float32" if options.device == "cpu" else "bfloat16"))

    data = draw_benchmark(options.folder, shape_of(options.data), options.questions, SIZES_PX[options.shape])
    bench = mig_bench.load(data)
    if options.model:
        model = Migician.from_pretrained(options.model, device=options.device, dtype=str(dtype).removeprefix("torch."))
    else:
        model = random_model(options.folder / "model", options.shape, torch.device(options.device), dtype)
    plan = Plan(batch_size=options.batch_size, max_new_tokens=options.new_tokens)
    model.answer([])  # nothing is measured yet; the first batch of each way warms up
    print(
        f"{model!r}; {hardware(options.device)}; {len(bench.questions):,} questions, {options.new_tokens} new tokens\n"
    )
    print("| way | questions | seconds | questions/s | CPU seconds | memory at most |\n|---|---|---|---|---|---|")

    out = options.folder / "out"
    ours = measured(
        "ours", len(bench.questions), options.device,
        lambda: evaluate(bench, Asking(model, options.folder, out, plan), Reading("strict", QWEN)),
    )  # fmt: skip
    report = ours.result
    model.model.config.text_config._attn_implementation = "sdpa"  # the plain loop as transformers has it
    chosen = bench.questions[:: max(1, -(-len(bench.questions) // (options.plain or len(bench.questions))))]
    plain = measured(
        "plain loop",
        len(chosen),
        options.device,
        lambda: [ask_plainly(model, ask(one, options.folder, plan, model.family)) for one in chosen],
    )
    floor = floor_seconds(model, report["work"], bench, options)
    print(f"| floor of ours | {len(bench.questions)} | {floor:.1f} | {len(bench.questions) / floor:.2f} | | |")

    print(f"\nours is {plain.a_question / ours.a_question:.2f} times as fast as the plain loop", end="; ")
    print(f"in CPU seconds {plain.cpu_a_question / ours.cpu_a_question:.2f} times")
    outside = ours.seconds - report["model_seconds"]
    print(f"outside the model: {outside:.1f} s, {100 * outside / ours.seconds:.1f}% of the whole run, scoring included")
    print("work:", ", ".join(f"{name} {count:,}" for name, count in report["work"].items()))
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    compare(model, plain.result, [answers[one.index]["response"] for one in chosen], chosen, options, plan)
    if not options.keep:
        shutil.rmtree(options.folder)


def shape_of(data: Path | None) -> list[tuple[int, int]]:
    """(images, questions) of each tuple: those of a file, or else of the original MIG-Bench."""
    if data is None:
        kinds = [shape for shape, count in TUPLES.items() for _ in range(count)]
        return [kinds[at] for at in np.random.default_rng(0).permutation(len(kinds))]
    tuples: dict[tuple[str, ...], int] = {}
    for question in mig_bench.load(data).questions:
        tuples[question.images] = tuples.get(question.images, 0) + 1
    return [(len(images), count) for images, count in tuples.items()]


def draw_benchmark(
    folder: Path, shape: Sequence[tuple[int, int]], questions: int | None, sizes: Sequence[tuple[int, int]]
) -> Path:
    """A MIG-Bench file and its images below `folder`; gives the file."""
    if questions:
        every = max(1, round(sum(count for _, count in shape) / questions))
        shape = shape[::every]
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    rows, made, words = [], itertools.count(), " ".join(WORDINGS).split()
    sharers = set(
        rng.choice(np.arange(1, len(shape)), min(REPEATED, len(shape) - 1) if questions is None else 0, False)
    )
    previous = ""
    for at, (images, asked) in enumerate(shape):
        names = [f"./images/{next(made)}.jpg" for _ in range(images)]
        if at in sharers:
            names[0] = previous
        previous = names[-1]
        for name in names:
            if not (folder / name).exists():
                draw_image(folder / name, sizes[rng.integers(len(sizes))], rng)
        rows += [
            {"task": "region", "images": names, "question": " ".join(text), "answer": [0.1, 0.1, 0.5, 0.5]}
            for text in rng.choice(words, (asked, WORDS))
        ]
    (folder / "data.json").write_bytes(msgspec.json.encode(rows))
    return folder / "data.json"


def draw_image(path: Path, size: tuple[int, int], rng: np.random.Generator) -> None:
    """A picture of coloured blocks with some noise, as large a file as a photo of that size."""
    blocks = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = rng.integers(0, 24, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray((np.asarray(blocks) // 2 + noise).astype(np.uint8)).save(path, quality=90)


def random_model(folder: Path, shape: str, device: torch.device, dtype: torch.dtype) -> Migician:
    """A random Qwen2-VL of that shape, made where it runs, with the tiny model's tokenizer."""
    make_tiny(folder, seed=0)
    checkpoint = read_checkpoint(folder)
    config = model_config(folder, shape)
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = Qwen2VLForConditionalGeneration(config).eval()
    torch.set_default_dtype(torch.float32)
    if shape == "tiny":  # wider than the usual start: replies that differ from question to question
        with torch.no_grad():
            for weight in model.model.language_model.parameters():
                weight.mul_(6) if weight.dim() > 1 else None
    use_product(model)
    processor = _processor(checkpoint)
    processor.image_processor.size.longest_edge = MAX_PIXELS["qwen2-vl-7b" if shape in SHAPES else shape]
    weights = sum(weight.numel() * weight.itemsize for weight in model.parameters())
    room = (torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 16e9) - weights
    wrapped = Migician(model, processor, checkpoint, name=f"random {shape}", room_bytes=room)
    if shape in SHAPES:  # the tiny tokenizer knows few of the tokens: replies are their numbers, so that all differ
        wrapped._decoded = lambda tokens: " ".join(map(str, tokens))  # type: ignore[method-assign]
    return wrapped


def model_config(folder: Path, shape: str) -> Qwen2VLConfig:
    """The tiny model's configuration, with the sizes of `shape` and its own special tokens."""
    config = Qwen2VLConfig.from_pretrained(folder)
    if shape == "tiny":
        return config
    given = config.to_dict() | {"tie_word_embeddings": shape in TIED}
    for part, sizes in SHAPES[shape].items():
        given[part] = {
            **{name: given[part][name] for name in ("eos_token_id", "pad_token_id") if name in given[part]},
            **sizes,
        }
    return Qwen2VLConfig.from_dict(given)


class Measured:
    """One way of asking, timed."""

    def __init__(self, questions: int, seconds: float, cpu: float, peak_gib: float, result: Any) -> None:
        self.questions, self.seconds, self.peak_gib, self.result = questions, seconds, peak_gib, result
        self.a_question, self.cpu_a_question = seconds / questions, cpu / questions


def measured(way: str, questions: int, device: str, work: Callable[[], Any]) -> Measured:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    started, cpu = time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    most = (
        torch.cuda.max_memory_allocated()
        if device != "cpu"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    rate = f"{questions / seconds:.2f}"
    print(f"| {way} | {questions} | {seconds:.1f} | {rate} | {cpu:.1f} | {most / 2**30:.2f} GiB |", flush=True)
    return Measured(questions, seconds, cpu, most / 2**30, result)


def ask(question: BoxQuestion, folder: Path, plan: Plan, family: Family = QWEN2_VL) -> Any:
    from migician.benchmarks.images import resolve_images
    from migician.models.protocol import Request

    paths = tuple(resolve_images(question, folder))
    return Request(paths, mig_bench.prompt(question, plan.wording, family), plan.max_new_tokens)


def ask_plainly(model: Migician, request: Any, **options: Any) -> Any:
    """The reply as the published loop makes it: read, process and encode all again, then `generate`."""
    inputs = model.processor(
        text=[model.prompt_text(request)], images=load_pictures(request.images), return_tensors="pt"
    )
    inputs = inputs.to(model.model.device)
    with torch.inference_mode():
        output = model.model.generate(**inputs, max_new_tokens=request.max_new_tokens, **options)
    return output if options else model._decoded(output[0, inputs["input_ids"].shape[1] :].tolist())


def compare(
    model: Migician, plain: list[str], ours: list[str], questions: Sequence[Any], options: Any, plan: Plan
) -> None:
    """List the replies that differ, and how near the nearest two tokens of the plain one were.

    Only float32 promises equal replies: of others it is counted how many words are alike before they part.
    """
    different = [at for at, (one, other) in enumerate(zip(plain, ours, strict=True)) if one != other]
    print(f"replies: {len(plain)} compared, {len(set(plain))} kinds, {len(different)} differ", flush=True)
    if model.model.dtype != torch.float32:
        same = [map(str.__eq__, plain[at].split(), ours[at].split()) for at in different]
        alike = [sum(1 for _ in itertools.takewhile(bool, words)) for words in same]
        if alike:
            print(f"  their first {sum(alike) / len(alike):.1f} words are alike on average", flush=True)
        return
    for at in different[:50]:
        told = ask_plainly(
            model,
            ask(questions[at], options.folder, plan, model.family),
            output_logits=True,
            return_dict_in_generate=True,
        )
        tops = [logits[0].float().topk(2).values for logits in told.logits]
        margin = min(float(top[0] - top[1]) for top in tops)
        kind = "a tie within float error" if margin < TIE else "NOT a tie"
        print(f"  row {questions[at].index}: nearest two tokens {margin:.2g} apart, {kind}")


def floor_seconds(model: Migician, work: dict[str, int], bench: Any, options: Any) -> float:
    """Multiplications of what is computed once, and bytes that every step of decoding reads, at this device's best."""
    config, size = model.model.config, model.model.dtype.itemsize
    text, vision = config.text_config, config.vision_config
    width = getattr(vision, "embed_dim", vision.hidden_size)  # Qwen2-VL's hidden_size is the language model's
    layers = sum(weight.numel() for weight in model.model.model.language_model.layers.parameters())
    head = model.model.lm_head.weight.numel()
    blocks = sum(weight.numel() for weight in model.model.model.visual.parameters())
    flops = 0.0
    images: dict[str, int] = {}
    for question in bench.questions:
        for name in question.images:
            if name not in images:
                with Image.open(options.folder / name) as image:
                    images[name] = model.image_tokens(image.size)
    for tokens in images.values():
        flops += 2 * blocks * 4 * tokens + 4 * (4 * tokens) ** 2 * width * vision.depth
    for names in {question.images for question in bench.questions}:
        tokens = sum(images[name] for name in names)
        flops += 2 * layers * tokens + 2 * tokens**2 * text.hidden_size * text.num_hidden_layers
    replied = len(bench.questions) * (options.new_tokens + WORDS)
    flops += 2 * (layers + head) * replied
    a_token = (
        2 * text.num_hidden_layers * text.num_key_value_heads * (text.hidden_size // text.num_attention_heads) * size
    )
    kept = sum(sum(images[name] for name in question.images) for question in bench.questions) * a_token
    read = work["decoding_steps"] * (layers + head) * size + kept * options.new_tokens
    rate, bandwidth = best_rates(torch.device(options.device), model.model.dtype)
    print(f"| (best of this device: {rate / 1e12:.3g} TFLOP/s, {bandwidth / 1e9:.3g} GB/s) | | | | | |")
    return flops / rate + read / bandwidth


def best_rates(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Operations a second of one large matrix product, and bytes a second of one large copy."""
    side, count = (8192, 1 << 30) if device.type == "cuda" else (1024, 1 << 26)
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    buffer = torch.zeros(count, device=device, dtype=torch.uint8)
    product = timed(lambda: matrix @ matrix, device)
    copy = timed(lambda: buffer.clone(), device)
    return 2 * side**3 / product, 2 * count / copy


def timed(work: Callable[[], Any], device: torch.device, times: int = 5) -> float:
    best = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best


def hardware(device: str) -> str:
    return torch.cuda.get_device_name() if device != "cpu" else f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
