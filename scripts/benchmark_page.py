"""Measure the report page on a run of MIG-Bench's size; prints a table in Markdown.

python scripts/benchmark_page.py --folder /tmp/bench-page

Draws a benchmark of MIG-Bench's shape (4,295 questions over 1,974 tuples of 5,887 images), scores two runs of
made-up replies over it, and makes the page of both, from nothing and once more. Then opens it in Chromium, each time
in a new browser: seconds from the start of navigation to the first drawn sample, to the answer of a filter that is
clicked then, and to a sample opened by its link; memory is that of the JavaScript heap.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from migician.benchmarks import mig_bench
from migician.benchmarks.published.figures import TASK_NAMES
from migician.benchmarks.scoring.scoring import Answer, Reading
from migician.boxtext import QWEN
from migician.evaluation.report import score_answers
from migician.reports.page.runs import write_page

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from browser import browser

RUNS = ("A", "B")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder; removed at the end")
    parser.add_argument("--keep", action="store_true", help="keep the folder, and use what it has")
    parser.add_argument("--questions", type=int, help="about this number; default: all")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--times", type=int, default=3, help="how often the page is opened; the median counts")
    options = parser.parse_args()
    if not options.folder.exists():
        options.folder.mkdir(parents=True)
        make_runs(options.folder, options.questions)
    folders = [options.folder / name for name in RUNS]
    print("| what | measured |\n|---|---|")
    for what in ("page made", "page made again"):
        started = time.perf_counter()
        page = write_page(folders, RUNS, options.folder, options.folder / "page", processes=options.processes)
        tell(f"{what}, {options.processes} processes", f"{time.perf_counter() - started:.1f} s")
    images = [file.stat().st_size for file in (page.parent / "images").iterdir()]
    tell("index.html", f"{page.stat().st_size / 1e6:.2f} MB")
    tell("images", f"{len(images):,} files, {sum(images) / 1e6:.1f} MB")
    for width, height in ((1280, 800), (390, 844)):
        found = [open_page(page, width, height) for _ in range(options.times)]
        for name in found[0]:
            values = sorted(one[name] for one in found)
            unit = "MB" if "memory" in name else "s"
            tell(
                f"{name}, {width} px wide",
                f"{values[len(values) // 2]:.2f} {unit} ({values[0]:.2f} to {values[-1]:.2f})",
            )
    if not options.keep:
        shutil.rmtree(options.folder)


def tell(what: str, measured: str) -> None:
    print(f"| {what} | {measured} |", flush=True)


def make_runs(folder: Path, questions: int | None) -> None:
    """The benchmark's file and images, and two scored runs `A` and `B`, below `folder`."""
    # Late: it imports torch, which every process that makes images would import again.
    from benchmark_eval import SIZES_PX, draw_benchmark, shape_of

    data = draw_benchmark(folder, shape_of(None), questions, SIZES_PX["qwen2-vl-7b"])
    rng = np.random.default_rng(0)
    rows = json.loads(data.read_bytes())
    for at, row in enumerate(rows):
        row["task"] = list(TASK_NAMES)[at % len(TASK_NAMES)]
        x, y = rng.uniform(0, 0.6, 2)
        row["answer"] = [
            round(float(side), 3) for side in (x, y, x + rng.uniform(0.05, 0.4), y + rng.uniform(0.05, 0.4))
        ]
    data.write_text(json.dumps(rows))
    bench = mig_bench.load(data)
    for name in RUNS:
        answers = {one.index: Answer(one.index, reply(one.truth.as_tuple(), rng)) for one in bench.questions}
        score_answers(bench, answers, Reading("strict", QWEN), folder / name, images=None, partial=False, spec={})


def reply(truth: tuple[float, ...], rng: np.random.Generator) -> str:
    """Mostly a box near the true one."""
    if rng.random() < 0.1:
        return "I cannot find such an object in any of the images."
    sides = np.clip(np.array(truth) + rng.normal(0, 0.08, 4), 0, 0.999)
    x1, y1, x2, y2 = (
        1000 * np.concatenate([np.minimum(sides[:2], sides[2:]), np.maximum(sides[:2], sides[2:])])
    ).astype(int)
    return f"<|object_ref_start|>the object<|object_ref_end|><|box_start|>({x1},{y1}),({x2},{y2})<|box_end|>"


def open_page(page: Path, width: int, height: int) -> dict[str, float]:
    """Seconds since the start of navigation, by the page's own clock, and memory in MB."""
    with browser() as opened:
        tab = opened.new_page(viewport={"width": width, "height": height})
        tab.goto(page.as_uri(), wait_until="commit")
        tab.locator(".card").first.wait_for(state="attached")
        drawn = now(tab)
        tab.locator("#by-task").select_option("diff")
        tab.locator("#by-outcome").select_option("wrong_box")
        filtered = now(tab)
        assert " of " in tab.locator("#count").inner_text()
        # What a click takes within the page, until the cards are laid out again.
        click = tab.evaluate(
            """() => new Promise((done) => {
                const started = performance.now();
                const order = document.getElementById("by-sort");
                order.value = "low";
                order.dispatchEvent(new Event("input", { bubbles: true }));
                requestAnimationFrame(() => setTimeout(() => done(performance.now() - started)));
            })"""
        )
        heap = tab.evaluate("performance.memory.usedJSHeapSize") / 1e6
        last = tab.evaluate("PAGE.samples.at(-1).id")
        linked = opened.new_page(viewport={"width": width, "height": height})
        linked.goto(f"{page.as_uri()}#row-{last}", wait_until="commit")
        linked.locator("dialog[open] figure").first.wait_for()
        return {
            "first sample drawn": drawn,
            "and two filters answered": filtered,
            "sorted by IoU": click / 1000,
            "sample open by its link": now(linked),
            "JavaScript memory": heap,
        }


def now(tab: Any) -> float:
    return tab.evaluate("performance.now()") / 1000


if __name__ == "__main__":
    main()
