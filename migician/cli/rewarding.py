"""The verb that says what replies would earn in reinforcement learning: reward."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migician.boxtext import STYLES
from migician.cli.options import AsJson, PresetName
from migician.cli.terminal import console, note, say
from migician.errors import UserError, unknown
from migician.printable import counted

if TYPE_CHECKING:
    from rich.table import Table

    from migician.training.reward_report import RewardReport

_SHOWN = 10
"""Rows that are shown; --json has all."""


def reward(
    data: Annotated[Path, typer.Option("--data", help="A file of records, or with --benchmark a benchmark's.")],
    answers: Annotated[Path, typer.Option("--answers", help="The replies, several per question allowed: docs/rl.md.")],
    preset: PresetName = "mg-thinker",
    style: Annotated[
        str | None,
        typer.Option(
            help=f"How the boxes are formatted: {', '.join(STYLES)}; default: as the card of --data says, else qwen."
        ),
    ] = None,
    benchmark: Annotated[str | None, typer.Option(help="The benchmark that --data is of, such as mig-bench.")] = None,
    media: Annotated[
        Path | None, typer.Option(help="Boxes in pixels: the folder image paths start from; default: that of --data.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what replies earn as a reward, part by part, and how far it spreads, before training on it."""
    import msgspec

    from migician.training.reward_report import of_benchmark, of_records, reward_report, warnings

    if style is not None and style not in STYLES:
        raise UserError(unknown("style", style, STYLES))
    if benchmark:
        report = reward_report(of_benchmark(benchmark, data, answers), preset, style or "qwen")
    else:
        asked, written = of_records(data, answers, media)
        report = reward_report(asked, preset, style or written)
    if as_json:
        say(msgspec.json.encode(report).decode())
    else:
        console().print(_rows(report))
        console().print(_spread(report))
    for sentence in warnings(report):
        note(f"warning: {sentence}")
    if report.unanswered:
        note(f"{counted(report.unanswered, 'question')} without a reply")


def _table(title: str, columns: list[str]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _rows(report: RewardReport) -> Table:
    shown = report.rows[:_SHOWN]
    more = f", the first {_SHOWN} of {counted(len(report.rows), 'question')}" if len(report.rows) > _SHOWN else ""
    parts = [one.part for one in report.spread]
    table = _table(f"{report.preset}: the mean of each question's n replies{more}", _HEADINGS + parts + ["of"])
    for row in shown:
        means = [sum(one[part] for one in row.replies) / len(row.replies) for part in parts]
        numbers = [f"{mean:.3f}" for mean in means]
        table.add_row(str(row.record), str(row.turn), str(len(row.replies)), *numbers, f"{row.most:g}")
    return table


_HEADINGS = ["record", "turn", "n"]


def _spread(report: RewardReport) -> Table:
    columns = ["part", "min", "mean", "max", "deviation", "zero"]
    table = _table(f"replies: {report.replies:,}, style {report.style}", columns)
    for one in report.spread:
        numbers = [f"{value:.3f}" for value in (one.min, one.mean, one.max, one.deviation)]
        table.add_row(one.part, *numbers, f"{one.zero:.1%}")
    return table
