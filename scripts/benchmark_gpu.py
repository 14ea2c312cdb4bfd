"""Measure evaluation and training on one GPU within a few minutes; started by scripts/benchmark_gpu.sh.

Evaluation: `migician eval` at several batch sizes and the plain loop, over a drawn benchmark of MIG-Bench's shape;
where a batch's time goes, and how much of it the GPU works.

Training: one GPU does not hold Adam's 12 bytes a parameter of a 7B model. So the whole 7B shape takes forward, backward
and an update without state (at 8 GPUs each updates an eighth with Adam, in a few milliseconds); the 2B shape is
finetuned with true mixed-precision Adam; the 7B shape also under LoRA. The loop is a plain one over batches made
before, padded in pairs or packed as the YAMLs in train/ say, tower frozen, layers computed again for the backward
pass. Neither LLaMA-Factory, DeepSpeed, the reading of images nor communication is in it. flash-attn is not needed:
samples packed into one sequence are kept apart by a mask (sdpa) or by torch's own flash attention of variable lengths
(varlen).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from benchmark_eval import SHAPES, SIZES_PX, ask, best_rates, draw_benchmark, hardware, random_model, shape_of
from benchmark_gpu_evaluation import equal_replies, evaluation, ours, where_time_goes
from benchmark_gpu_profile import top_kernels
from benchmark_gpu_training import Kind, Trainer
from benchmark_train import draw_mixture, patches

from migician.benchmarks import Benchmark, mig_bench
from migician.chat.migician import Migician
from migician.evaluation.ask import Plan
from migician.models.engines.shared_prefix import FeatureCache

LARGE = {"qwen2-vl-7b": ("qwen2-vl-7b", "qwen2-vl-2b"), "tiny": ("tiny", "tiny")}
"""The shapes that stand for 7B and 2B."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder")
    parser.add_argument("--json", type=Path, help="where all figures are written, again after each")
    parser.add_argument("--shape", choices=list(LARGE), default="qwen2-vl-7b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--minutes", type=float, default=7.5, help="no part is begun that would end later")
    parser.add_argument("--began", type=float, default=time.time(), help="where the minutes count from, else now")
    parser.add_argument("--only", help="parts whose name begins so")
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--plain", type=int, default=40, help="questions of the plain loop")
    parser.add_argument("--new-tokens", type=int, default=20, help="of each reply; a box takes about 20")
    parser.add_argument("--batch-sizes", default="64,8,16,32", help="in this order, the first over all questions")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each row of training")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("benchmark_gpu.py: no GPU here; --shape tiny --device cpu shows that it works")
    options.folder.mkdir(parents=True)
    run = Run(options)
    about = {name: version(name) for name in ("torch", "transformers", "peft", "liger-kernel", "numpy", "pillow")}
    run.keep("about", about | {"device": hardware(options.device), "python": sys.version.split()[0]})
    print(f"{hardware(options.device)}; " + ", ".join(f"{name} {one}" for name, one in about.items()), flush=True)
    rate, bandwidth = best_rates(torch.device(options.device), run.dtype)
    run.keep("best", {"tflops": rate / 1e12, "gb_a_second": bandwidth / 1e9})
    print(f"at best {rate / 1e12:.3g} TFLOP/s in one product, {bandwidth / 1e9:.4g} GB/s in one copy", flush=True)
    for name, seconds, work in parts(options):
        if not name.startswith(options.only or ""):
            continue
        run.part(name, seconds, work)
    print(f"\nall in {run.passed:.0f} s", flush=True)


def parts(options: argparse.Namespace) -> list[tuple[str, float, Callable[[Run], None]]]:
    """(name, seconds it may take, what to do), the most important first; liger last, which stays in transformers."""
    large, small = LARGE[options.shape]
    flash = Kind("packed, varlen", packs=True, attention="varlen")
    first, *others = (int(size) for size in options.batch_sizes.split(","))
    return [
        ("evaluation", 110, lambda run: evaluation(run, first)),
        ("evaluation: where the time goes", 25, where_time_goes),
        (
            "training: 7B, no optimizer state",
            75,
            lambda run: training(
                run,
                large,
                "none",
                [
                    Kind("padded pairs"),
                    flash,
                    Kind("packed, mask", packs=True),
                    Kind("padded pairs, Conv3d", convolution=True),
                ],
                looks=True,
            ),
        ),
        ("training: patch embedding", 5, lambda run: patches(run.options.shape, run.options.device)),
        *(
            (f"evaluation: {size} a batch", 45, lambda run, size=size: ours(run, size, run.options.questions // 2))
            for size in others
        ),
        ("evaluation: tiny in float32", 30, equal_replies),
        ("training: 2B, Adam", 35, lambda run: training(run, small, "adam", [Kind("padded pairs"), flash])),
        ("training: 7B, LoRA", 40, lambda run: training(run, large, "lora", [Kind("padded pairs"), flash])),
        (
            "training: 7B, no optimizer state, liger",
            35,
            lambda run: training(
                run, large, "none", [dataclasses.replace(flash, name=flash.name + ", liger", liger=True)]
            ),
        ),
    ]


class Run:
    """The options, the figures so far, and the model that is on the GPU."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
        self.figures: dict[str, Any] = {}
        self._asker: Migician | None = None
        self._bench: Benchmark | None = None

    def part(self, name: str, seconds: float, work: Callable[[Run], None]) -> None:
        """Do one part, unless the time is up; a fault in it is said, and the next part is done all the same."""
        passed = self.passed
        if passed + seconds > 60 * self.options.minutes:
            print(f"\n## {name}: left out, {passed:.0f} s have passed", flush=True)
            self.keep(f"left out: {name}", passed)
            return
        print(f"\n## {name} (at {passed:.0f} s)\n", flush=True)
        if name.startswith("training"):
            self._asker = None  # two models would not fit
            free_memory(self.options.device)
        with tried(self, name):
            work(self)
        free_memory(self.options.device)

    def keep(self, name: str, value: Any) -> None:
        """Add a figure to the file."""
        self.figures[name] = value
        if self.options.json:
            self.options.json.write_text(json.dumps(self.figures, indent=1))

    @property
    def bench(self) -> Benchmark:
        """Drawn when it is first asked for."""
        if self._bench is None:
            began = time.perf_counter()
            sizes = SIZES_PX[self.options.shape]
            data = draw_benchmark(self.options.folder, shape_of(None), self.options.questions, sizes)
            self._bench = mig_bench.load(data)
            print(f"{len(self._bench.questions)} questions drawn in {time.perf_counter() - began:.0f} s\n", flush=True)
        return self._bench

    @property
    def asker(self) -> Migician:
        """The 7B shape as it is evaluated, with the images of no earlier run."""
        if self._asker is None:
            self._asker = self.model(self.options.shape)
            plan = Plan(max_new_tokens=4)
            self._asker.answer([ask(one, self.options.folder, plan) for one in self.bench.questions[-8:]])  # warms up
        self._asker._pictures = FeatureCache()
        return self._asker

    def model(self, shape: str) -> Migician:
        """A random model of that shape, made where it runs."""
        began = time.perf_counter()
        made = random_model(self.options.folder / f"model-{time.time_ns()}", shape, self.device, self.dtype)
        print(f"{made.name} made in {time.perf_counter() - began:.0f} s", flush=True)
        return made

    @property
    def passed(self) -> float:
        """Seconds since it began."""
        return time.time() - float(self.options.began)

    @property
    def device(self) -> torch.device:
        return torch.device(self.options.device)


def training(run: Run, shape: str, method: str, kinds: list[Kind], *, looks: bool = False) -> None:
    """A table of one model and one way to update it; with `looks` also where a step's time goes."""
    drawn = run.options.folder / "mixture"
    if not drawn.exists():
        draw_mixture(drawn, 96, SIZES_PX[run.options.shape])
    trainer = Trainer(run.model(shape), method, drawn, sizes=SHAPES.get(shape), device=run.options.device)
    print(f"{trainer.about}\n")
    if looks:
        with tried(run, "loss of the same samples"):
            print(f"loss of the same samples: {trainer.losses_by_kind(kinds[:3])}\n")
    print("| batches | steps | tokens/s | samples/s | of which padding | TFLOP/s | MFU | peak, allocated / reserved | ")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for kind in kinds:
        name = f"{shape}, {method}: {kind.name}"
        with tried(run, name):
            row = trainer.measure(kind, run.options.seconds)
            run.keep(name, dataclasses.asdict(row))
            print(f"{row.line()}\n{row.estimate_line()}", flush=True)
        free_memory(run.options.device)
    if looks:
        averages, took, busy = trainer.profiled(kinds[1])
        kernels = top_kernels(averages, 10)
        print(f"\none step of '{kinds[1].name}': {took:.3f} s, of which the GPU works {busy:.3f} s; its kernels:\n")
        print("\n".join(f"- {one:.70}: {spent:.4f} s in {count:,}" for one, spent, count in kernels), flush=True)
        run.keep("where a step goes", {"seconds": took, "gpu_seconds": busy, "kernels": kernels})


@contextlib.contextmanager
def tried(run: Run, what: str) -> Iterator[None]:
    """A fault inside is said, and the rest is measured all the same."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        print(f"FAILED: {what}: {type(error).__name__}: {error!s:.200}", flush=True)
        run.keep(f"failed: {what}", f"{type(error).__name__}: {error}")


def free_memory(device: str) -> None:
    import gc

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


if __name__ == "__main__":
    main()
