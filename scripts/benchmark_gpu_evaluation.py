"""Evaluation on a GPU for scripts/benchmark_gpu.py: several batch sizes, the plain loop, a batch by its parts."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from benchmark_eval import (
    SIZES_PX,
    ask,
    ask_plainly,
    compare,
    draw_benchmark,
    floor_seconds,
    measured,
    random_model,
    shape_of,
)
from benchmark_gpu_profile import profiler, top_kernels
from benchmark_gpu_training import with_convolution

from migician.benchmarks import mig_bench
from migician.benchmarks.scoring.scoring import Reading
from migician.boxtext import QWEN
from migician.chat.migician import Migician
from migician.evaluation.ask import Asking, Plan, evaluate
from migician.models.engines.shared_prefix import FOLDED


def evaluation(run: Any, size: int) -> None:
    """Ours over all questions, then the plain loop over some of them, as transformers has it."""
    model, options = run.asker, run.options
    plan = Plan(max_new_tokens=options.new_tokens)
    ask_plainly(model, ask(run.bench.questions[0], options.folder, plan))  # the first of each way warms up
    print(HEADING)
    report, whole = ours(run, size, None)
    with plain_attention(model):
        every = max(1, -(-len(run.bench.questions) // options.plain))
        chosen = run.bench.questions[::every]
        answers: list[str] = []
        plain = measured(
            "plain loop", len(chosen), options.device,
            lambda: answers.extend(ask_plainly(model, ask(one, options.folder, plan)) for one in chosen),
        )  # fmt: skip
        run.keep("plain loop", figures_of(plain))
        with with_convolution(model.model):
            began = time.perf_counter()
            ask_plainly(model, ask(chosen[0], options.folder, plan))
            few = chosen[: max(1, min(10, int(12 / (time.perf_counter() - began))))]
            slow = measured(
                "plain loop, patches by Conv3d", len(few), options.device,
                lambda: [ask_plainly(model, ask(one, options.folder, plan)) for one in few],
            )  # fmt: skip
        run.keep("plain loop, Conv3d", figures_of(slow))
        floor = floor_seconds(model, report["work"], run.bench, options)
        print(f"| floor of ours | {whole.questions} | {floor:.1f} | {whole.questions / floor:.2f} | | |")
        print(f"\nours is {plain.a_question / whole.a_question:.2f} times as fast as the plain loop, ", end="")
        print(f"{slow.a_question / whole.a_question:.2f} times as fast as the one by Conv3d")
        written = (options.folder / f"out-{size}" / "answers.jsonl").read_text().splitlines()
        replies = [json.loads(line)["response"] for line in written]
        compare(model, answers, [replies[one.index] for one in chosen], chosen, options, plan)
    run.keep("evaluation", {
        "times the plain loop": plain.a_question / whole.a_question,
        "times the plain loop by Conv3d": slow.a_question / whole.a_question,
        "floor_seconds": floor,
        "work": report["work"],
        "model_seconds": report["model_seconds"],
    })  # fmt: skip


HEADING = "| way | questions | seconds | questions/s | CPU seconds | memory at most |\n|---|---|---|---|---|---|"


def ours(run: Any, size: int, limit: int | None) -> tuple[Any, Any]:
    """As `migician eval` asks, `size` a batch: the report, and what was measured."""
    model, options = run.asker, run.options
    plan = Plan(batch_size=size, max_new_tokens=options.new_tokens, limit=limit)
    count = min(limit or len(run.bench.questions), len(run.bench.questions))
    if limit:
        print(HEADING)
    out = options.folder / f"out-{size}"
    found = measured(
        f"ours, {size} a batch", count, options.device,
        lambda: evaluate(run.bench, Asking(model, options.folder, out, plan), Reading("strict", QWEN)),
    )  # fmt: skip
    report = found.result
    run.keep(
        f"ours, {size} a batch", figures_of(found) | {key: report[key] for key in ("model_seconds", "outside_seconds")}
    )
    return report, found


def figures_of(one: Any) -> dict[str, float]:
    return {
        "questions": one.questions,
        "seconds": one.seconds,
        "questions_a_second": 1 / one.a_question,
        "cpu_seconds": one.cpu_a_question * one.questions,
        "peak_gib": one.peak_gib,
    }


@contextlib.contextmanager
def plain_attention(model: Migician) -> Iterator[None]:
    """Attention as transformers has it; then ours again."""
    text = model.model.config.text_config
    text._attn_implementation = "sdpa"
    try:
        yield
    finally:
        text._attn_implementation = FOLDED


def where_time_goes(run: Any) -> None:
    """A batch by its parts in seconds; of a smaller one, which the profiler bears, also how long the GPU works."""
    whole, seconds = by_parts(run, 64, run.options.new_tokens)
    print(f"{whole}\n\n| part | seconds |\n|---|---|")
    print("\n".join(f"| {name} | {took:.2f} |" for name, took in seconds.items()))
    print(f"\na step of decoding: {1000 * seconds['decoding'] / run.options.new_tokens:.1f} ms\n", flush=True)
    run.keep("a batch by its parts", {"what": whole, "seconds": seconds})

    by_parts(run, 24, 8)
    small, seconds = by_parts(run, 24, 8)
    with profiler(run.options.device) as seen:
        by_parts(run, 24, 8)
    averages = seen.key_averages()
    # What is named so on the GPU spans the gaps between kernels too; on the CPU it sums the kernels.
    named = {one.key: one for one in averages if one.device_type == torch.autograd.DeviceType.CPU}
    busy = {name: named[f"part {name}"].device_time_total / 1e6 for name in seconds}
    launches = sum(one.count for one in averages if one.key.startswith(("cudaLaunch", "cuLaunch")))
    print(f"{small}, 8 new tokens, {launches:,} launches\n\n| part | seconds | of which the GPU works |\n|---|---|---|")
    for name, took in seconds.items():
        print(f"| {name} | {took:.3f} | {busy[name]:.3f} ({busy[name] / took:.0%}) |")
    kernels = top_kernels(averages, 8)
    print("\nkernels that take most of the GPU's time:\n")
    print("\n".join(f"- {name:.70}: {took:.3f} s in {count:,}" for name, took, count in kernels), flush=True)
    everything = sum(took for _, took, _ in top_kernels(averages, 10_000))
    run.keep("where the time goes", {
        "what": small, "launches": launches, "seconds": seconds, "gpu_seconds": busy, "all_gpu_seconds": everything,
        "kernels": kernels,
    })  # fmt: skip


def by_parts(run: Any, size: int, new: int) -> tuple[str, dict[str, float]]:
    """(what was asked, seconds by part) of one batch of the first `size` questions."""
    model, plan = run.asker, Plan(max_new_tokens=new)
    requests = [ask(question, run.options.folder, plan) for question in run.bench.questions[:size]]
    began = time.perf_counter()
    prepared = model.prepare(requests)
    ready = time.perf_counter() - began
    with timed_parts(model, run.options.device) as seconds:
        model.reply(prepared)
    tokens = sum(len(group.prefix) for group in prepared.groups)
    what = (
        f"{len(requests)} questions, {len(prepared.groups)} prefixes of {tokens:,} tokens, "
        f"{len(prepared.pictures)} images, read and resized in {ready:.2f} s beside the model's work"
    )
    return what, seconds


@contextlib.contextmanager
def timed_parts(model: Migician, device: str) -> Iterator[dict[str, float]]:
    """Seconds of encoding images, computing prefixes, and decoding, each waited for."""
    decoder, seconds = model._decoder, dict.fromkeys(("encoding images", "prefixes", "decoding"), 0.0)

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            with torch.profiler.record_function(f"part {name}"):
                result = work(*args)
                if device == "cuda":
                    torch.cuda.synchronize()
            seconds[name] += time.perf_counter() - began
            return result

        return call

    names = dict(zip(("_encode", "_prefix", "_decode"), seconds, strict=True))
    for method, name in names.items():
        setattr(decoder, method, timed(name, getattr(decoder, method)))
    yield seconds
    for method in names:
        delattr(decoder, method)


def equal_replies(run: Any) -> None:
    """Ours and the plain loop with the tiny model in float32, where replies must be equal up to ties."""
    options = argparse.Namespace(**vars(run.options) | {"folder": run.options.folder / "tiny", "new_tokens": 8})
    options.folder.mkdir()
    bench = mig_bench.load(draw_benchmark(options.folder, shape_of(None), 60, SIZES_PX["tiny"]))
    model = random_model(options.folder / "model", "tiny", run.device, torch.float32)
    plan = Plan(batch_size=32, max_new_tokens=options.new_tokens)
    requests = [ask(question, options.folder, plan) for question in bench.questions]
    replies = model.answer(requests)
    with plain_attention(model):
        compare(model, [ask_plainly(model, one) for one in requests], replies, bench.questions, options, plan)
