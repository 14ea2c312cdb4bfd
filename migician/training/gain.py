"""What reinforcement learning gained: greedy accuracy on held-out questions beside the sampled reward.

Sampled replies earn more as soon as sampling comes nearer to what greedy decoding gave from the start. Only greedy
accuracy, on questions that were not trained on, shows that anything was learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from migician.errors import UserError
from migician.evaluation.comparison import compare_folders
from migician.evaluation.report import Report, headline_metric
from migician.evaluation.run_folder import read_report
from migician.files import write_json
from migician.training.log import LoggedStep, read_log

FILE = "gain.json"
ROSE, SHARPENED, NOTHING = "greedy accuracy rose", "sharpening only", "nothing rose"


class Gain(msgspec.Struct, frozen=True):
    """What a stage 3 gained."""

    verdict: str
    """`ROSE`, `SHARPENED` or `NOTHING`."""
    sampled: tuple[float, float]
    """Mean reward of the sampled replies, over the first and over the last tenth of the logged steps."""
    steps: int
    before: dict[str, float]
    """Greedy accuracy on the held-out questions, averaged over the tasks."""
    after: dict[str, float]
    comparison: Report
    """How the two differ, as `migician compare` gives it: with 95% intervals."""

    def sentence(self) -> str:
        """The verdict with its figures."""
        average = self.comparison["average"]
        parts = []
        for name in _judged(average):
            low, high = average["interval"][name]
            now = f"{name} {self.before[name]:.2f} to {self.after[name]:.2f}"
            parts.append(f"{now} ({average[name]:+.2f}, 95% interval {low:+.2f} to {high:+.2f})")
        first, last = self.sampled
        return f"{self.verdict}: sampled reward {first:.3f} to {last:.3f}; greedy, held out: {', '.join(parts)}"


def gain_of(output_dir: Path) -> Gain:
    """What a stage 3 gained, by its log and the scores in its folder; also written as `gain.json` there.

    Raises `UserError` where no reward is logged, or a report is missing.
    """
    lines = read_log(output_dir)
    before, after = (output_dir / "scores" / name for name in ("before", "after"))
    sampled = sampled_reward(lines)
    if sampled is None:
        raise UserError(f"{output_dir}: no reward is logged there: expected the output_dir of scripts/stage3.sh")
    for folder in (before, after):
        if not (folder / "report.json").exists():
            raise UserError(f"{folder}: no report there: run scripts/stage3.sh again, it asks the held-out questions")
    comparison = compare_folders(before, after)
    average = comparison["average"]
    gain = Gain(
        verdict(sampled, average),
        sampled,
        lines[-1].current_steps,
        before=_averages(before, average),
        after=_averages(after, average),
        comparison=comparison,
    )
    write_json(output_dir / FILE, gain)
    return gain


def sampled_reward(lines: Sequence[LoggedStep]) -> tuple[float, float] | None:
    """Mean logged reward over the first and the last tenth of the lines; None where none has a reward."""
    rewards = [line.reward for line in lines if line.reward is not None]
    tenth = max(1, len(rewards) // 10)
    return (fmean(rewards[:tenth]), fmean(rewards[-tenth:])) if rewards else None


def verdict(sampled: tuple[float, float], average: dict[str, Any]) -> str:
    """Whether greedy accuracy rose, by an interval above zero, or the sampled reward alone.

    >>> verdict((0.45, 0.52), {"mean_iou": 0.4, "interval": {"mean_iou": [-1.0, 1.8]}})
    'sharpening only'
    """
    if any(average["interval"][name][0] > 0 for name in _judged(average)):
        return ROSE
    return SHARPENED if sampled[1] > sampled[0] else NOTHING


def _averages(folder: Path, compared: dict[str, Any]) -> dict[str, float]:
    average = read_report(folder)["average"]
    return {name: float(average[name]) for name in _judged(compared)}


def _judged(average: dict[str, Any]) -> list[str]:
    known: list[str] = [name for name in ("acc@0.5", "acc@0.7", "mean_iou") if name in average]
    return known or [headline_metric(average)]
