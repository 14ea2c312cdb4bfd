"""Reinforcement learning against further supervised training, from the quickstart's merged model, for equal core time.

    python scripts/rl_experiment.py try ARM ... --quickstart outputs/quickstart --folder outputs/rl
    python scripts/rl_experiment.py hold ARM ... --seeds 1 2 3    the chosen arms, asked the held-out questions
    python scripts/rl_experiment.py table                         the paired differences from where they began

An arm is one of ARMS. `try` asks its result the questions of a world of its own, drawn by another seed, so that the
held-out questions choose nothing. Each training ends after --minutes of its process's own time on a core, and its rate
falls to 0 by that clock; so arms that share a machine can be compared. Run it again to resume. It runs in .venv;
trainings of stage 3 run in --rl-python (scripts/stage3.sh makes it).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from migician.evaluation.comparison import compare_folders

ROOT = Path(__file__).resolve().parent.parent
BENCH = "MIG-Bench/MIG_data.json"
VALIDATION_SEED = 18
RL, SFT = "configs/quickstart/stage-3.yaml", "configs/quickstart/stage-2.yaml"
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "merged": ("", {}),
    # The run that only sharpened: few prompts a step, temperature 1, advantages divided by their spread.
    "first try": (
        RL,
        {"per_device_train_batch_size": 64, "temperature": 1.0, "scale_rewards": "group", "reward": "iou"},
    ),
    "iou": (RL, {"reward": "iou"}),
    "banded": (RL, {"reward": "mg-thinker"}),
    "ciou": (RL, {"reward": "leap"}),
    "temperature 1": (RL, {"reward": "iou", "temperature": 1.0}),
    "lower rate": (RL, {"reward": "iou", "learning_rate": 3e-5}),
    "higher rate": (RL, {"reward": "iou", "learning_rate": 3e-4}),
    "kl": (RL, {"reward": "iou", "beta": 0.04}),
    "divided": (RL, {"reward": "iou", "scale_rewards": "group"}),
    "16 replies": (RL, {"reward": "iou", "num_generations": 16}),
    "with answers": (RL, {"reward": "iou", "with_answers": True}),
    "with answers, higher rate": (RL, {"reward": "iou", "with_answers": True, "learning_rate": 3e-4}),
    "small steps": (RL, {"reward": "iou", "per_device_train_batch_size": 64, "learning_rate": 2e-4}),
    "with answers, small steps": (
        RL,
        {"reward": "iou", "with_answers": True, "per_device_train_batch_size": 64, "learning_rate": 2e-4},
    ),
    "lowest rate": (RL, {"reward": "iou", "learning_rate": 2e-5}),
    "with answers, only better": (
        RL,
        {
            "reward": "iou",
            "with_answers": True,
            "only_better": True,
            "num_generations": 4,
            "per_device_train_batch_size": 64,
            "learning_rate": 1.5e-4,
        },
    ),
    "supervised": (SFT, {}),
    "supervised, lower rate": (SFT, {"learning_rate": 5e-5}),
    "supervised, both sets": (SFT, {"dataset": "stage1,stage2"}),
}
"""Name: the YAML, and what differs from it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["try", "hold", "table", "train"])
    parser.add_argument("arms", nargs="*", metavar="ARM")
    parser.add_argument("--quickstart", type=Path, default=Path("outputs/quickstart"))
    parser.add_argument("--folder", type=Path, default=Path("outputs/rl"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--minutes", type=float, default=5.0, help="of one core, per training")
    parser.add_argument("--limit", type=int, default=100, help="questions of each task that `try` asks")
    parser.add_argument("--rl-python", default=str(ROOT / ".venv-rl/bin/python"))
    options = parser.parse_args()
    if strange := [one for one in options.arms if one not in ARMS]:
        sys.exit(f"rl_experiment.py: no arm {strange[0]!r}; known: {', '.join(ARMS)}")
    os.chdir(ROOT)
    if options.what == "train":
        train(options)
    elif options.what == "table":
        table(options.folder)
    else:
        for arm in options.arms:
            for seed in options.seeds:
                run(options, arm, seed)


def run(options: argparse.Namespace, arm: str, seed: int) -> None:
    """Train an arm where it is not trained yet, and ask it."""
    out = model_of(options, arm, seed)
    if not (out / "config.json").exists():
        python = options.rl_python if ARMS[arm][0] == RL else sys.executable
        given = ["--quickstart", options.quickstart, "--folder", options.folder, "--minutes", options.minutes]
        words = [python, __file__, "train", arm, "--seeds", seed, *given]
        with (options.folder / f"{out.name}.log").open("w") as log:
            subprocess.run([str(one) for one in words], check=True, stdout=log, stderr=log)
    world, kind = options.folder / "world", "try"
    if options.what == "hold":
        world, kind = options.quickstart / "world", "hold"
    elif not world.exists():
        migician("dev", "miniature", "--seed", VALIDATION_SEED, "--out", world)
    scores = options.folder / kind / out.name
    if not (scores / "report.json").exists():
        limit = ["--limit", options.limit] if kind == "try" else []
        migician(
            "eval", "mig-bench", "--model", out, "--data", world / BENCH, "--images", world, "--out", scores,
            "--batch-size", 32, "--max-new-tokens", 32, "--json", *limit,
        )  # fmt: skip


def model_of(options: argparse.Namespace, arm: str, seed: int) -> Path:
    """The folder of an arm's model."""
    if not ARMS[arm][0]:
        return Path(options.quickstart) / "merged"
    return Path(options.folder) / "models" / f"{arm.replace(' ', '-').replace(',', '')}-{seed}"


def migician(*words: Any) -> None:
    subprocess.run([sys.executable, "-m", "migician.cli", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def train(options: argparse.Namespace) -> None:
    """Train one arm in this process."""
    (arm,), (seed,) = options.arms, options.seeds
    file, changed = ARMS[arm]
    out, data = model_of(options, arm, seed), options.quickstart / "data"
    given = {
        "model_name_or_path": options.quickstart / "merged", "output_dir": out, "dataset_dir": data, "media_dir": data,
        "seed": seed, "max_steps": 100_000, "save_strategy": '"no"', "logging_steps": 5,
    }  # fmt: skip
    if file == RL:
        given |= {
            "per_device_train_batch_size": 256,
            "max_minutes": "null",
            "with_answers": False,
            "only_better": False,
        }
    given |= changed
    words = [f"{name}={value}" for name, value in given.items()]
    if file == RL:
        from migician.training.grpo import read_stage3
        from migician.training.grpo import train as train_stage3

        train_stage3(read_stage3(Path(file), words), callbacks=[core_clock(options.minutes)])
    else:
        from llamafactory.train.tuner import run_exp

        from migician.training.check.settings.training_yaml import read_given

        own = {
            "per_device_train_batch_size": 16,
            "lr_scheduler_type": "constant",
            "plot_loss": False,
            "overwrite_cache": False,
        }
        settings = {**read_given(Path(file), words), **own}
        run_exp({name: str(value) if isinstance(value, Path) else value for name, value in settings.items()},
                callbacks=[core_clock(options.minutes)])  # fmt: skip


def core_clock(minutes: float) -> Any:
    """A callback that ends a training after N minutes on a core, and lowers the rate to 0 until then."""
    from transformers import TrainerCallback

    class CoreClock(TrainerCallback):
        began = 0.0

        def share(self) -> float:
            return (time.process_time() - self.began) / (60 * minutes)

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.process_time()

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            for group in named["optimizer"].param_groups:
                group["lr"] = args.learning_rate * max(0.0, 1 - self.share()) * min(1.0, (state.global_step + 1) / 5)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = control.should_training_stop or self.share() >= 1

    return CoreClock()


def table(folder: Path) -> None:
    """Print, for each run that was asked, how it differs from the merged model on the same questions."""
    for kind in ("try", "hold"):
        runs = sorted(one.parent for one in (folder / kind).glob("*/report.json"))
        start = folder / kind / "merged"
        print(f"\n| {kind} | n | Acc@0.5 | Acc@0.7 | mean IoU | difference of Acc@0.7 | of mean IoU |")
        print("|---|---|---|---|---|---|---|")
        for one in runs:
            average = json.loads((one / "report.json").read_text())["average"]
            paired = compare_folders(start, one)["average"]
            cells = [f"{average[name]:.2f}" for name in ("acc@0.5", "acc@0.7", "mean_iou")]
            for name in ("acc@0.7", "mean_iou"):
                low, high = paired["interval"][name]
                cells.append(f"{paired[name]:+.2f} ({low:+.2f} to {high:+.2f})")
            n = json.loads((one / "report.json").read_text())["n"]
            print(f"| {one.name} | {n} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
