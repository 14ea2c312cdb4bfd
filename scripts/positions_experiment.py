"""Train a stage 2 with 1-D positions from a stage 1 with 3-D ones, ask it with both, and write down where boxes move.

python scripts/positions_experiment.py --quickstart outputs/quickstart --folder outputs/positions

Needs the folder of scripts/quickstart.sh: its stage 1, data and world. For each seed a stage 2 is trained twice through
LLaMA-Factory, with the 3-D positions (M-RoPE) of Qwen2-VL and with the plain count that transformers 4.45 used in
training where no positions were given. Both are asked with both. About 15 minutes on one quiet core with the defaults;
run it again to resume: finished trainings and answered questions are skipped.

--answers NAME=FILE, with --data, adds the same figures for answers that others published, of which nothing is trained.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from migician.benchmarks import mig_bench
from migician.benchmarks.scoring.boxes import Record
from migician.benchmarks.scoring.published import stretch_y
from migician.benchmarks.scoring.scoring import Reading
from migician.boxes import Box
from migician.boxtext import QWEN
from migician.errors import writing
from migician.evaluation.answer_files import read_answers
from migician.evaluation.records import score
from migician.evaluation.run_folder import read_run

ROOT = Path(__file__).resolve().parent.parent
POSITIONS = {"3-D": None, "1-D": "sequential"}
"""How the positions are called here -> what `migician eval --positions` calls them."""
RESAMPLES = 4000
HALVES = {
    "y, lower half": (1, True),
    "y, upper half": (1, False),
    "x, right half": (0, True),
    "x, left half": (0, False),
}
"""Column -> (axis, whether the true centre lies beyond the middle)."""
QUARTERS = [(axis, quarter) for axis in (1, 0) for quarter in range(4)]
Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quickstart", type=Path, default=Path("outputs/quickstart"), help="of scripts/quickstart.sh")
    parser.add_argument("--folder", type=Path, default=Path("outputs/positions"), help="of this experiment")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="each trains two models")
    parser.add_argument("--steps", type=int, default=160, help="of 16 samples, in each stage 2")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--limit", type=int, default=100, help="questions of each of the ten tasks")
    parser.add_argument("--data", type=Path, help="the file that --answers belong to")
    parser.add_argument("--answers", action="append", default=[], metavar="NAME=FILE", help="published answers")
    parser.add_argument("--out", type=Path, help="the Markdown file; printed without")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    options = parser.parse_args()
    if bool(options.answers) != bool(options.data):
        sys.exit("positions_experiment.py: --answers and --data belong together")
    needed = [options.quickstart / name for name in ("stage-1/model.safetensors", "data/stage2.json", BENCH)]
    if missing := [str(file) for file in needed if not file.exists()]:
        sys.exit(f"positions_experiment.py: {missing[0]} is not there: bash scripts/quickstart.sh {options.quickstart}")
    for seed, trained in itertools.product(options.seeds, POSITIONS):
        train(options, seed, trained)
        for asked in POSITIONS:
            ask(options, seed, trained, asked)
    if options.dry_run:
        return
    settings = {"steps": options.steps, "learning_rate": options.learning_rate, "seeds": options.seeds}
    arms = {
        f"{trained} | {asked}": Arm.of([read_run(run_of(options, seed, trained, asked))[1] for seed in options.seeds])
        for trained, asked in itertools.product(POSITIONS, POSITIONS)
    }
    published = {name: published_arm(options.data, Path(file)) for name, _, file in map(cut, options.answers)}
    text = written(arms, published, settings)
    if options.out is None:
        print(text)
        return
    with writing(options.out) as stream:
        stream.write(text.encode())


BENCH = "world/MIG-Bench/MIG_data.json"


def cut(given: str) -> tuple[str, str, str]:
    return given.partition("=")


def model_of(options: argparse.Namespace, seed: int, trained: str) -> Path:
    return Path(options.folder) / f"trained-{trained}-seed-{seed}"


def run_of(options: argparse.Namespace, seed: int, trained: str, asked: str) -> Path:
    return Path(options.folder) / f"trained-{trained}-seed-{seed}-asked-{asked}"


def train(options: argparse.Namespace, seed: int, trained: str) -> None:
    """One stage 2, in a process of its own; an interrupted one starts over."""
    out = model_of(options, seed, trained)
    if (out / "train_results.json").exists():
        return
    print(f"train {out}: {options.steps} steps, {trained} positions, seed {seed}", file=sys.stderr, flush=True)
    if options.dry_run:
        return
    tokens = options.folder / "tokenized"
    for folder in [out] if (tokens / "train/state.json").exists() else [out, tokens]:  # which is written last
        shutil.rmtree(folder, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = yaml.safe_load((ROOT / "configs/quickstart/stage-2.yaml").read_text()) | {
        "model_name_or_path": str(options.quickstart / "stage-1"),
        "dataset_dir": str(options.quickstart / "data"),
        "media_dir": str(options.quickstart / "data"),
        "output_dir": str(out),
        "tokenized_path": str(tokens),
        "per_device_train_batch_size": 16,
        "max_steps": options.steps,
        "learning_rate": options.learning_rate,
        "seed": seed,
        "preprocessing_num_workers": 1,
        "plot_loss": False,
        "use_cpu": True,
    }
    log = out.with_suffix(".log")
    process = multiprocessing.get_context("spawn").Process(target=training, args=(settings, trained, log))
    process.start()
    process.join()
    if process.exitcode or not (out / "train_results.json").exists():
        sys.exit(f"positions_experiment.py: training failed; the log is {log}")


def training(settings: dict[str, Any], trained: str, log: Path) -> None:
    """LLaMA-Factory's own training, with its positions or with the plain count; what it says goes to `log`."""
    with log.open("w") as stream:
        for said in (1, 2):
            os.dup2(stream.fileno(), said)
    os.environ |= {"DISABLE_VERSION_CHECK": "1", "WANDB_DISABLED": "true", "CUDA_VISIBLE_DEVICES": ""}
    from llamafactory.train.tuner import run_exp

    with counted_plainly() if trained == "1-D" else contextlib.nullcontext():
        run_exp(settings)


@contextlib.contextmanager
def counted_plainly() -> Iterator[None]:
    """LLaMA-Factory's batches get the plain count in all three rows, as transformers 4.45 gave it where none came."""
    import torch
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

    def count(self: Any, input_ids: Any, *others: Any, **named: Any) -> tuple[Any, Any]:
        rows, length = input_ids.shape
        return torch.arange(length).expand(3, rows, length).contiguous(), torch.zeros(rows, 1, dtype=torch.long)

    kept = Qwen2VLModel.get_rope_index
    Qwen2VLModel.get_rope_index = count
    try:
        yield
    finally:
        Qwen2VLModel.get_rope_index = kept


def ask(options: argparse.Namespace, seed: int, trained: str, asked: str) -> None:
    """The held-out questions to one model, by the code of `migician eval`."""
    from migician.evaluation import EvalConfig, run

    out = run_of(options, seed, trained, asked)
    if (out / "report.json").exists():
        return
    print(f"ask {out}: {options.limit} questions of each task, {asked} positions", file=sys.stderr, flush=True)
    if options.dry_run:
        return
    loading = {"device": "cpu"} | ({"positions": POSITIONS[asked]} if POSITIONS[asked] else {})
    world, model = options.quickstart / "world", model_of(options, seed, trained)
    run(
        EvalConfig(
            "mig-bench", model, options.quickstart / BENCH, world, out, max_new_tokens=32, limit=options.limit,
            loading=loading,
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """All answers of one kind of model asked in one way; rows are the seeds, columns the questions."""

    iou: Array
    """(seeds, questions); 0 without a box."""
    stretched: Array
    """The same with the published y-stretch."""
    shift: Array
    """(seeds, questions, 2): how far the box's centre lies from the true one in x and y; nan without a box."""
    centre: Array
    """(questions, 2): the true ones."""
    clusters: NDArray[np.intp]
    """(questions,): those over the same images have the same number."""

    @classmethod
    def of(cls, runs: Sequence[Mapping[int, Record]]) -> Arm:
        """From the records of each seed, by the question's index; a reply with several boxes counts as one without."""
        names = [tuple(one.images) for one in runs[0].values()]
        numbers = {images: number for number, images in enumerate(dict.fromkeys(names))}
        truths = [Box(*one.truth) for one in runs[0].values()]
        boxes = [[one_box(records[index]) for index in runs[0]] for records in runs]
        moved = [stretch_y(box) if box else None for box in itertools.chain(*boxes)]
        shape = len(runs), len(truths)
        return cls(
            iou=np.array([iou_of(box, truth) for row in boxes for box, truth in zip(row, truths, strict=True)]).reshape(
                shape
            ),
            stretched=np.array(
                [iou_of(box, truth) for box, truth in zip(moved, truths * len(runs), strict=True)]
            ).reshape(shape),
            shift=np.array([[centre_of(box) for box in row] for row in boxes]) - [centre_of(box) for box in truths],
            centre=np.array([centre_of(box) for box in truths]),
            clusters=np.array([numbers[images] for images in names]),
        )


def one_box(record: Record) -> Box | None:
    return Box(*record.boxes[0]) if len(record.boxes) == 1 else None


def iou_of(box: Box | None, truth: Box) -> float:
    return box.iou(truth) if box else 0.0


def centre_of(box: Box | None) -> tuple[float, float]:
    return ((box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2) if box else (np.nan, np.nan)


def published_arm(data: Path, file: Path) -> Arm:
    bench = mig_bench.load(data)
    records = score(bench, read_answers(file, bench), Reading("published", QWEN))
    return Arm.of([{one.index: one for one in records}])


def mean(values: Array, clusters: NDArray[np.intp], seed: int = 0) -> tuple[float, float, float]:
    """The mean of `values` (seeds, questions), nan left out, and its 95% interval by drawing tuples of images.

    A tuple that is drawn brings all its questions, of all seeds; so the interval is about other questions, not about
    other seeds, whose own means are shown beside.
    """
    count = int(clusters.max()) + 1
    there = ~np.isnan(values)
    sums, sizes = (
        np.bincount(np.broadcast_to(clusters, values.shape).ravel(), weights=one.ravel(), minlength=count)
        for one in (np.where(there, values, 0.0), there.astype(float))
    )
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    low, high = np.quantile((draws @ sums) / np.maximum(draws @ sizes, 1), [0.025, 0.975])
    return float(sums.sum() / max(sizes.sum(), 1)), float(low), float(high)


def shown(values: Array, clusters: NDArray[np.intp], factor: float, digits: int) -> str:
    value, low, high = (factor * one for one in mean(values, clusters))
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def hits(iou: Array) -> Array:
    return (iou >= 0.5).astype(float)


def where(values: Array, used: NDArray[np.bool_]) -> Array:
    found: Array = np.where(used, values, np.nan)
    return found


def in_half(arm: Arm, axis: int, beyond: bool) -> Array:
    """Shifts along an axis (0 for x) of the boxes whose true centre lies in that half."""
    side = arm.centre[:, axis] - 0.5
    return where(arm.shift[..., axis], (side > 0) if beyond else (side < 0))


def in_quarter(arm: Arm, axis: int, quarter: int) -> Array:
    """Shifts of boxes that overlap the true one, whose true centre lies in that quarter (0 is at the top or left)."""
    place = np.minimum(np.floor(arm.centre[:, axis] * 4), 3) == quarter
    return where(arm.shift[..., axis], place & (arm.iou > 0))


def written(arms: Mapping[str, Arm], published: Mapping[str, Arm], settings: Mapping[str, Any]) -> str:
    some = arms["3-D | 3-D"]
    lines = [HEADER.format(**settings, n=some.iou.shape[1], tuples=len(set(some.clusters.tolist())))]
    lines += ["## Accuracy\n", "| stage 2 trained with | asked with | Acc@0.5 | each seed | against 3-D and 3-D | "
              "with the published y-stretch | what the y-stretch does |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, arm in arms.items():
        hit, stretched = hits(arm.iou), hits(arm.stretched)
        seeds = " ".join(f"{100 * one:.1f}" for one in hit.mean(axis=1))
        cells = [hit, hit - hits(some.iou), stretched, stretched - hit]
        first, *others = [shown(values, arm.clusters, 100, 1) for values in cells]
        lines.append(f"| {name} | {first} | {seeds} | {' | '.join(others)} |")
    lines += [HALVES_TEXT, f"| stage 2 trained with | asked with | {' | '.join(HALVES)} |", "|---|---|" + "---|" * 4]
    everyone = {**arms, **{f"{name} (published answers) | not known": arm for name, arm in published.items()}}
    for name, arm in everyone.items():
        cells = [shown(in_half(arm, axis, beyond), arm.clusters, 1000, 0) for axis, beyond in HALVES.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    heads = [f"{'xy'[axis]} {quarter + 1}" for axis, quarter in QUARTERS]
    lines += [QUARTERS_TEXT, f"| stage 2 trained with | asked with | {' | '.join(heads)} |", "|---|---|" + "---|" * 8]
    for name, arm in everyone.items():
        cells = [shown(in_quarter(arm, axis, quarter), arm.clusters, 1000, 0) for axis, quarter in QUARTERS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


HEADER = """\
# Positions in training and in answering

Made by `scripts/positions_experiment.py`; do not edit. The quickstart's tiny Qwen2-VL: one stage 1 with 3-D positions,
and from it a stage 2 of {steps} steps of 16 samples (learning rate {learning_rate}) with 3-D and with 1-D positions,
for each of the seeds {seeds}. Each is asked {n} held-out questions over {tuples} tuples of images with both. Intervals
are 95%, by drawing tuples of images; they say nothing about other seeds, which are shown one by one.
"""
HALVES_TEXT = """
## Where boxes move

How far the centres of boxes lie from the true ones, on the scale 0..1000; minus is up or left. A box on a wrong
object is on average nearer to the middle, in x as well as in y; the next table leaves these out.
"""
QUARTERS_TEXT = """
## By quarters, boxes that overlap the true one

The same for boxes on the right object: y 1 is the top quarter of the image, x 1 the left one.
"""


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
