"""Measure an evaluation on the CPU alone and beside busy processes, by one or more checkouts; prints Markdown.

python scripts/benchmark_threads.py --folder /tmp/threads --tree . --tree ../before

Asks an untrained tiny model --questions questions through `migician eval`, as each checkout does it where nobody says
how many threads: quiet, then beside --busy processes that only count. Checkouts take turns, so that all see the same
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from migician.models.stand_ins.tiny import TinyShape, make_tiny

SAID = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""What would choose for us."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder; removed at the end")
    parser.add_argument("--tree", type=Path, action="append", required=True, help="a checkout; give several")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--busy", type=int, default=2, help="processes beside the evaluation")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=128, help="of the model; a multiple of 64")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE in the environment of every run")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    draw(options.folder, options.questions)
    shape = TinyShape(width=options.width, heads=options.width // 16, key_value_heads=options.width // 16)
    make_tiny(options.folder / "model", seed=0, shape=shape)
    seconds: dict[tuple[Path, int], list[tuple[float, float, float]]] = {}
    for _ in range(options.repeats):
        for busy in (0, options.busy):
            for tree in options.tree:
                seconds.setdefault((tree, busy), []).append(run(options.folder, tree, busy, options.set))
    cores = len(os.sched_getaffinity(0))
    print(f"{options.questions} questions, {options.repeats} times each, {cores} cores; median seconds\n")
    print("| checkout | beside | whole command | asking | load before | asking, all |\n|---|---|---|---|---|---|")
    for (tree, busy), measured in seconds.items():
        whole, asking, load = (statistics.median(column) for column in zip(*measured, strict=True))
        each = " ".join(f"{one[1]:.1f}" for one in measured)
        print(f"| {tree} | {busy} busy | {whole:.1f} | {asking:.1f} | {load:.1f} | {each} |")
    for tree in options.tree:
        quiet, beside = (statistics.median(one[1] for one in seconds[tree, busy]) for busy in (0, options.busy))
        print(f"\n{tree}: {beside / quiet:.2f} times the quiet time")
    shutil.rmtree(options.folder)


def draw(folder: Path, questions: int) -> None:
    rows = []
    for number in range(questions):
        names = [f"./MIG-Bench/images/{number}-{image}.png" for image in range(2)]
        for image, name in enumerate(names):
            values = np.random.default_rng((number, image)).integers(0, 256, (112, 112, 3), dtype=np.uint8)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / name)
        question = f"Where is object {number} in the second image?"
        rows.append({"task": "diff", "images": names, "question": question, "answer": [0.1, 0.1, 0.5, 0.5]})
    (folder / "data.json").write_text(json.dumps(rows))


def run(folder: Path, tree: Path, busy: int, given: list[str]) -> tuple[float, float, float]:
    """(seconds of the whole command, seconds in and between batches, load of the last minute before)."""
    environment = {name: value for name, value in os.environ.items() if name not in SAID}
    environment |= {"PYTHONPATH": str(tree.resolve()), "HF_HUB_OFFLINE": "1"} | dict(one.split("=") for one in given)
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "migician.cli", "eval", "mig-bench", "--model", folder / "model", "--json"]
    command += ["--data", folder / "data.json", "--images", folder, "--out", out, "--max-new-tokens", 24]
    load = os.getloadavg()[0]
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        before = time.perf_counter()
        done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, check=False)
        whole = time.perf_counter() - before
    finally:
        for other in others:
            other.kill()
            other.wait()
    if done.returncode:
        sys.exit(done.stderr)
    report = json.loads((out / "report.json").read_text())
    return whole, report["model_seconds"] + report["outside_seconds"], load


if __name__ == "__main__":
    main()
