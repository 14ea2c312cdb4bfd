"""Score the checkpoints of a training on a fixed slice of a benchmark, in processes of their own, as they appear."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from migician.canvas import GRID, canvas, png
from migician.draw import PALETTE
from migician.errors import UserError, writing
from migician.report import HEADINGS, Report, headline_metric, read_report
from migician.resuming import saved_in

TABLE, PICTURE = "checkpoints.csv", "checkpoints.png"
_FINISHED = "train_results.json"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that a training left."""

    folder: Path
    name: str
    """`checkpoint-N`, or `final` for what the output folder itself holds at the end."""
    step: int


def candidates(output_dir: str | Path) -> list[Candidate]:
    """The whole checkpoints of a training, oldest first, and at the end its result.

    One that is still being written is not among them: what LLaMA-Factory saves last, the processor, is there in each.
    """
    folder = Path(output_dir)
    found = [
        Candidate(one.folder, one.folder.name, one.step)
        for one in reversed(saved_in(folder))
        if not one.fault and _has_processor(one.folder)
    ]
    if (folder / _FINISHED).is_file() and _has_processor(folder):
        found.append(Candidate(folder, "final", max((one.step for one in found), default=0)))
    return found


def _has_processor(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json"))


def is_finished(output_dir: str | Path) -> bool:
    """Whether a training is done, so that no more checkpoints come."""
    return (Path(output_dir) / _FINISHED).is_file()


def eval_command(candidate: Candidate, out: Path, options: Sequence[str]) -> list[str]:
    """What scores one checkpoint: `migician eval mig-bench` with `options`, into a folder of its name in `out`."""
    words = [sys.executable, "-m", "migician.cli", "eval", "mig-bench", "--model", str(candidate.folder)]
    return [*words, "--out", str(out / candidate.name), *options]


def score_new(
    output_dir: Path,
    out: Path,
    options: Sequence[str],
    skip: set[str],
    run: Callable[[list[str]], int] = subprocess.call,
) -> list[str]:
    """Score each whole checkpoint without a report in `out`, those in `skip` left out; gives the names that failed.

    After each, table and curve in `out` are written anew. `run` is given a command and gives its status.
    """
    failed = []
    for one in candidates(output_dir):
        if one.name in skip or (out / one.name / "report.json").is_file():
            continue
        if run(eval_command(one, out, options)):
            failed.append(one.name)
        else:
            write_curve(output_dir, out)
    return failed


def write_curve(output_dir: Path, out: Path) -> None:
    """`checkpoints.csv` and `checkpoints.png` in `out`, from the reports that are there.

    Raises `UserError` where they were not made from the same questions.
    """
    scored = [
        (one, read_report(out / one.name))
        for one in _known(output_dir, out)
        if (out / one.name / "report.json").is_file()
    ]
    if not scored:
        return
    first = scored[0][1]
    for one, report in scored:
        for key in ("data_sha256", "n", "protocol"):
            if report[key] != first[key]:
                raise UserError(
                    f"{out / one.name}: {key} is {report[key]}, of {scored[0][0].name} it is {first[key]}: checkpoints "
                    f"are compared on the same questions; give another --out"
                )
        if report["per_task"].keys() != first["per_task"].keys():
            raise UserError(
                f"{out / one.name}: is over other tasks than {scored[0][0].name}: checkpoints are compared on the same "
                "questions; give another --out"
            )
    metric = headline_metric(first["average"])
    tasks = list(first["per_task"])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["checkpoint", "step", "n", metric, "low", "high", *tasks])
    for one, report in scored:
        figures = [report["average"][metric], *report["average"]["interval"][metric]]
        figures += [report["per_task"][task][metric] for task in tasks]
        table.writerow([one.name, one.step, report["n"], *(f"{value:.2f}" for value in figures)])
    with writing(out / TABLE) as stream:
        stream.write(text.getvalue().encode())
    with writing(out / PICTURE) as stream:
        stream.write(_curve([(one.step, report) for one, report in scored], metric))


def _known(output_dir: Path, out: Path) -> list[Candidate]:
    """The checkpoints that were scored, those too that the training has removed since."""
    there = {one.name: one for one in candidates(output_dir)}
    for folder in out.glob("checkpoint-*"):
        step = folder.name.removeprefix("checkpoint-")
        if step.isdigit():
            there.setdefault(folder.name, Candidate(output_dir / folder.name, folder.name, int(step)))
    # The result comes last, and is of the last step.
    ordered = sorted((one for one in there.values() if one.name != "final"), key=lambda one: one.step)
    final = there.get("final")
    last = max((one.step for one in ordered), default=0)
    return [*ordered, Candidate(final.folder, "final", last)] if final else ordered


def _curve(scored: Sequence[tuple[int, Report]], metric: str) -> bytes:
    """A PNG: the average of each checkpoint with its 95% interval, over the steps."""
    steps = [step for step, _ in scored]
    values = [report["average"][metric] for _, report in scored]
    spans = [report["average"]["interval"][metric] for _, report in scored]
    errors = [[value - low for value, (low, _) in zip(values, spans, strict=True)]]
    errors.append([high - value for value, (_, high) in zip(values, spans, strict=True)])
    with canvas(7.0, 4.2) as figure:
        axes = figure.add_axes((0.1, 0.13, 0.87, 0.74))
        axes.errorbar(steps, values, errors, color=PALETTE[0], marker="o", linewidth=2, elinewidth=1.1, capsize=3)
        first = scored[0][1]
        axes.set_title(f"average {HEADINGS.get(metric, metric)} by step, {first['n']:,} questions, 95% intervals")
        axes.set_xlabel("step")
        axes.set_ylim(0, 100)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(True, color=GRID)
        axes.set_axisbelow(True)
        axes.tick_params("both", length=0, labelsize=9)
        axes.spines[["top", "right", "left"]].set_visible(False)
        return png(figure, colours=64)
