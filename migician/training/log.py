"""The progress and speed of a training: from LLaMA-Factory's trainer_log.jsonl and the report of `migician check`.

LLaMA-Factory's own speed and time left are wrong after a resume: it divides all steps, earlier ones too, by the time
since. Here a speed is the difference between two lines of one launch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from migician.errors import NOT_JSON, UserError
from migician.files import read_json
from migician.training.check.report import TrainingCost
from migician.training.check.settings.cost import peak_of

LOG, CHECK = "trainer_log.jsonl", "check.json"
"""In the output_dir of a training; the second is what `migician check --out` wrote."""
_WINDOW = 20
"""Logged lines per speed: LLaMA-Factory logs whole seconds only."""


_Step = Annotated[int, Meta(ge=1, le=2**53)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_LONGEST_S = 10**13
"""Longer than any training, and within what a timedelta can hold."""


class LoggedStep(msgspec.Struct, frozen=True):
    """One logged step."""

    current_steps: _Step
    total_steps: _Step
    elapsed_time: str
    """Since the launch, [D days, ]H:MM:SS."""
    loss: float | None = None
    lr: float | None = None
    reward: float | None = None
    """Mean reward of the sampled replies; of stage 3 only."""
    total_tokens: _Count | None = None
    """Since the first launch, if `include_num_input_tokens_seen` is set."""
    launch: int = 0
    """How many launches came before this one."""

    @property
    def diverged(self) -> bool:
        """Whether the loss is no longer a number.

        By default (`logging_nan_inf_filter`) transformers leaves such losses out of the mean that it logs, which is
        exactly 0 if there are no others. With a reward a loss of 0 is a step whose replies all earned the same.
        """
        if self.loss is None:
            return False
        return not math.isfinite(self.loss) or (self.loss == 0 and self.reward is None)

    @property
    def elapsed_s(self) -> int:
        """Seconds since the launch; raises `ValueError` for an invalid text."""
        days, _, clock = self.elapsed_time.rpartition(", ")
        hours, minutes, seconds = (int(part) for part in clock.split(":"))
        elapsed = (int(days.split()[0]) if days else 0) * 86_400 + hours * 3600 + minutes * 60 + seconds
        if not 0 <= elapsed <= _LONGEST_S:
            raise ValueError(f"{elapsed} seconds")
        return elapsed


@dataclass(frozen=True, slots=True)
class Pace:
    """The speed of a training; None for what is unknown."""

    steps: float
    """Per second, like all of them."""
    tokens: float | None
    samples: float | None
    images: float | None
    mfu: float | None
    """Model FLOPs utilisation, 0..1: operations of the samples over the peak of the GPUs, without recomputation."""
    left_s: float


def read_log(output_dir: str | Path) -> list[LoggedStep]:
    """The logged steps with a loss, in order, each once.

    A training that was killed and resumed logs some steps twice: the later ones count, so that the log is that of an
    uninterrupted run. Half-written lines are left out. Empty if there is no log yet.
    Raises `UserError` for a log that cannot be read.
    """
    file = Path(output_dir) / LOG
    try:
        raw = file.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    kept: list[LoggedStep] = []
    launch, before = 0, 0
    for text in raw:
        try:
            line = msgspec.convert(json.loads(text), LoggedStep)  # msgspec's own JSON knows no NaN
            elapsed = line.elapsed_s
        except (*NOT_JSON, ValueError):
            # A run that was killed while writing may leave such a line at the end of any launch.
            continue
        if line.loss is None:
            continue
        again = bool(kept) and line.current_steps <= kept[-1].current_steps
        launch += again or elapsed < before
        before = elapsed
        while kept and kept[-1].current_steps >= line.current_steps:
            kept.pop()
        kept.append(msgspec.structs.replace(line, launch=launch))
    return kept


def diverged_at(lines: Sequence[LoggedStep]) -> int | None:
    """The first logged step after which no loss is a number; None if the last one is."""
    first = None
    for line in reversed(lines):
        if not line.diverged:
            break
        first = line.current_steps
    return first


def read_check(output_dir: str | Path) -> TrainingCost | None:
    """What the training takes, by `migician check`; None if its report was not kept."""
    file = Path(output_dir) / CHECK
    if not file.exists():
        return None
    return read_json(file, _Checked, "what migician check --out writes", "Remove it").training


class _Checked(msgspec.Struct):
    training: TrainingCost


def is_held(output_dir: str | Path) -> bool:
    """Whether a training started by scripts/stage.sh or scripts/quickstart.sh still runs in it: both lock a file there.

    Some disks have no locks, or do not show them to other machines: a free lock only means something if it was held
    before.
    """
    import fcntl  # late: Windows has none

    folder = Path(output_dir)
    for file in (*folder.glob(".lock-*"), folder.parent / ".lock"):
        try:
            with file.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
    return False


def pace(lines: list[LoggedStep], training: TrainingCost | None = None) -> Pace | None:
    """The speed of the last lines; None for fewer than two of one launch, at least a second apart.

    Tokens are as counted by the trainer, if they were; samples, images and MFU need `training`, and use its means.
    """
    recent = [line for line in lines[-_WINDOW:] if line.launch == lines[-1].launch]
    if len(recent) < 2 or recent[-1].elapsed_s == recent[0].elapsed_s:
        return None
    first, last = recent[0], recent[-1]
    seconds = last.elapsed_s - first.elapsed_s
    steps = (last.current_steps - first.current_steps) / seconds
    tokens = samples = images = mfu = None
    if training and training.samples_a_step:
        samples = steps * training.samples_a_step
        tokens = samples * training.tokens_a_sample
        images = samples * training.images_a_sample
        peak = peak_of(training.gpu)
        mfu = samples * training.flop_a_sample / (peak * training.gpus) if peak else None
    if first.total_tokens is not None and last.total_tokens is not None:
        tokens = (last.total_tokens - first.total_tokens) / seconds
    return Pace(steps, tokens, samples, images, mfu, (last.total_steps - last.current_steps) / steps)


def progress_line(lines: list[LoggedStep], training: TrainingCost | None = None) -> str:
    """The progress of a training in one line; empty if nothing is logged yet."""
    if not lines:
        return ""
    last, since = lines[-1], diverged_at(lines)
    parts = [f"step {last.current_steps:,} of {last.total_steps:,}"]
    if since is None:
        parts.append(f"loss {last.loss:.4f}" if last.reward is None else f"reward {last.reward:.3f}")
    else:
        parts.append(f"loss {last.loss:g}: diverged, no loss is a number since step {since:,}; lower the learning rate")
    if now := pace(lines, training):
        for value, unit in ((now.tokens, "tokens/s"), (now.samples, "samples/s"), (now.images, "images/s")):
            if value is not None:
                parts.append(f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}")
        if training:
            parts.append(f"MFU {now.mfu:.1%}" if now.mfu is not None else "MFU none (no GPU of a known peak)")
        parts.append(f"{timedelta(seconds=round(min(now.left_s, _LONGEST_S)))} left")
    return ", ".join(parts)
