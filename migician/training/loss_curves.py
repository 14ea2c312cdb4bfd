"""The losses of trainings as a picture, of stage 3 the rewards: as logged and smoothed, one panel per training."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from migician.draw import PALETTE
from migician.errors import UserError
from migician.plotting import FAINT, GRID, canvas, over_steps, png
from migician.training.log import LoggedStep, diverged_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SPAN = 0.01
"""Share of a training after which a loss counts half in the smoothed one."""
_COLOURS = 64


def smoothed(steps: Sequence[int], values: Sequence[float], span: float) -> list[float]:
    """An exponential mean that decays with steps, not with logged lines; `span` is its half-life in steps.

    The start is not biased to zero: the mean is over the values so far.

    >>> smoothed([1, 2, 3], [4.0, 4.0, 4.0], 10)
    [4.0, 4.0, 4.0]
    """
    kept = weight = 0.0
    before = steps[0] if steps else 0
    result = []
    for step, value in zip(steps, values, strict=True):
        fade = 0.5 ** ((step - before) / max(span, 1e-9))
        kept, weight, before = fade * kept + value, fade * weight + 1.0, step
        result.append(kept / weight)
    return result


def loss_curves(logs: Mapping[str, Sequence[LoggedStep]]) -> bytes:
    """A PNG: the loss, or of stage 3 the sampled reward, over the steps, faint as logged, strong smoothed.

    A thin line marks where a training resumed; after a divergence the panel is shaded and says so. Raises `UserError`
    for a log without a loss.
    """
    for name, lines in logs.items():
        if not lines:
            raise UserError(f"{name}: no loss is logged there yet")
    with canvas(1.0 + 6.0 * len(logs), 4.4) as figure:
        shared = len({_drawn(lines) for lines in logs.values()}) == 1
        panels = figure.subplots(1, len(logs), squeeze=False, sharey=shared)[0]
        figure.subplots_adjust(left=0.9 / figure.get_figwidth(), right=0.98, bottom=0.13, top=0.88, wspace=0.06)
        for place, (axes, (name, lines)) in enumerate(zip(panels, logs.items(), strict=True)):
            _panel(axes, name, lines, PALETTE[place % len(PALETTE)])
        return png(figure, colours=_COLOURS)


def _panel(axes: Axes, name: str, lines: Sequence[LoggedStep], colour: str) -> None:
    sound = [line for line in lines if not line.diverged]
    steps = [line.current_steps for line in sound]
    losses = [value for line in sound if (value := getattr(line, _drawn(lines))) is not None]
    few = {"marker": ".", "markersize": 4} if len(steps) < 60 else {}
    axes.plot(steps, losses, color=colour, alpha=0.35, linewidth=1, label="as logged", **few)  # type: ignore[arg-type]
    since = diverged_at(lines)
    if sound:
        even = smoothed(steps, losses, _SPAN * lines[-1].total_steps)
        now = f", now {even[-1]:.3f}" if since is None else ""
        axes.plot(steps, even, color=colour, linewidth=2, label=f"smoothed{now}")
    for before, after in itertools.pairwise(lines):
        if after.launch != before.launch:
            axes.axvline((before.current_steps + after.current_steps) / 2, color=FAINT, linewidth=0.8, linestyle=":")
    if since is not None:
        axes.axvspan(since, lines[-1].total_steps, color=GRID, label=f"diverged: no loss since step {since:,}")
    if axes.get_subplotspec().is_first_col() or _drawn(lines) == "reward":  # type: ignore[union-attr]
        axes.set_ylabel(_drawn(lines))
    axes.set_title(name if since is None else f"{name}: diverged")
    axes.set_xlim(0, lines[-1].total_steps)
    over_steps(axes)
    axes.legend(loc="upper right", frameon=False)


def _drawn(lines: Sequence[LoggedStep]) -> str:
    """What is drawn of a training."""
    return "loss" if lines[-1].reward is None else "reward"
