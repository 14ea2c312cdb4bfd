"""Score the checkpoints of a training on a fixed slice of a benchmark as they appear, each in its own process."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from migician.benchmarks.scoring.values import Value
from migician.draw import PALETTE
from migician.errors import UserError, writing
from migician.evaluation.headings import title, unlike
from migician.evaluation.report import HEADINGS, Report, headline_metric
from migician.evaluation.run_folder import read_report
from migician.files import is_file, read_text
from migician.plotting import canvas, over_steps, png
from migician.training.adapters import is_adapter, merge_adapter, read_trained
from migician.training.log import read_log
from migician.training.resume import saved_in, step_of

TABLE, PICTURE = "checkpoints.csv", "checkpoints.png"
_FINISHED = "train_results.json"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model saved by a training."""

    folder: Path
    name: str
    """`checkpoint-N`, or `final` for the model in the output folder itself."""
    step: int


def candidates(output_dir: str | Path) -> list[Candidate]:
    """The complete checkpoints of a training, oldest first, and at the end its result.

    One that is still being written is left out: each has the processor, which LLaMA-Factory saves last.
    """
    folder = Path(output_dir)
    found = [
        Candidate(one.folder, one.folder.name, one.step)
        for one in reversed(saved_in(folder))
        if not one.fault and _has_processor(one.folder)
    ]
    if is_finished(folder) and _has_processor(folder):
        found.append(Candidate(folder, "final", max((one.step for one in found), default=0)))
    return found


def _has_processor(folder: Path) -> bool:
    return any(is_file(folder / name) for name in ("processor_config.json", "preprocessor_config.json"))


def is_finished(output_dir: str | Path) -> bool:
    """Whether a training is finished, so that no more checkpoints come.

    One that was extended still has the files of its earlier end, and later checkpoints or logged steps.
    """
    folder = Path(output_dir)
    if not is_file(folder / _FINISHED):
        return False
    end = step_of(folder)
    if end is None:
        return True
    lines = read_log(folder)
    return max([end, *(one.step for one in saved_in(folder)), *(line.current_steps for line in lines[-1:])]) == end


def eval_command(candidate: Candidate, out: Path, options: Sequence[str]) -> list[str]:
    """The command that scores a checkpoint: `migician eval mig-bench` with `options`, into its folder in `out`."""
    words = [sys.executable, "-m", "migician.cli", "eval", "mig-bench", "--model", str(candidate.folder)]
    return [*words, "--out", str(out / candidate.name), *options]


def score_new(
    output_dir: Path,
    out: Path,
    options: Sequence[str],
    skip: set[str],
    run: Callable[[list[str]], int] = subprocess.call,
    before: int | None = None,
) -> list[str]:
    """Score each complete checkpoint that has no report in `out` and is not in `skip`; gives the names that failed.

    With `before` only those of earlier steps. A report about other weights, such as a result that was trained further
    since, is moved aside. Table and curve in `out` are written again after each score. `run` runs a command and gives
    its status.
    """
    wanted = [one for one in candidates(output_dir) if one.name not in skip and (before is None or one.step < before)]
    for one in wanted:
        _move_older(one, out)
    failed = []
    for one in wanted:
        if is_file(out / one.name / "report.json"):
            continue
        if _score(one, out, options, run):
            failed.append(one.name)
        else:
            (out / one.name / "weights.txt").write_text(_weights(one.folder) + "\n", encoding="utf-8")
            write_curve(output_dir, out)
    return failed


def _score(one: Candidate, out: Path, options: Sequence[str], run: Callable[[list[str]], int]) -> int:
    """The status of the evaluation; an adapter is first merged into its base, in a temporary folder."""
    if not is_adapter(one.folder):
        return run(eval_command(one, out, options))
    whole = out / f".{one.name}.model"
    shutil.rmtree(whole, ignore_errors=True)
    try:
        return run(eval_command(replace(one, folder=merge_adapter(one.folder, whole)), out, options))
    finally:
        shutil.rmtree(whole, ignore_errors=True)


def _weights(folder: Path) -> str:
    """The fingerprint of the trained weights; empty while they cannot be read."""
    try:
        return read_trained(folder).fingerprint()
    except UserError:
        return ""


def _move_older(one: Candidate, out: Path) -> None:
    """Move a report aside if it is about other weights than the candidate has now."""
    if not is_file(out / one.name / "report.json"):
        return
    kept = out / one.name / "weights.txt"
    if kept.is_file():
        scored = read_text(kept).strip()
    else:
        scored = (read_report(out / one.name).get("model") or {}).get("weights_fingerprint") or ""
    now = _weights(one.folder)
    if scored and now and scored != now:
        aside = out / f"{one.name}.{scored[:12]}"
        shutil.rmtree(aside, ignore_errors=True)
        (out / one.name).rename(aside)


def write_curve(output_dir: Path, out: Path) -> None:
    """Write `checkpoints.csv` and `checkpoints.png` in `out` from the reports there.

    Raises `UserError` if they were not made from the same questions.
    """
    scored = [
        (one, read_report(out / one.name)) for one in _known(output_dir, out) if is_file(out / one.name / "report.json")
    ]
    if not scored:
        return
    first = scored[0][1]
    for one, report in scored:
        for what, words in unlike({one.name: report, scored[0][0].name: first}).items():
            differ = ", ".join(f"{said} ({name})" for name, said in words.items())
            raise UserError(
                f"{out / one.name}: another {what} than {scored[0][0].name}: {differ}. Checkpoints are compared on the "
                "same questions, asked and scored the same way; set another --out"
            )
    metric = headline_metric(first["average"])
    tasks = list(first["per_task"])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["checkpoint", "step", "n", metric, "low", "high", *tasks])
    for one, report in scored:
        figures = [report["average"][metric], *report["average"]["interval"][metric]]
        figures += [report["per_task"][task][metric] for task in tasks]
        table.writerow([one.name, one.step, report["n"], *(Value(value).text for value in figures)])
    with writing(out / TABLE) as stream:
        stream.write(text.getvalue().encode())
    with writing(out / PICTURE) as stream:
        stream.write(_curve([(one.step, report) for one, report in scored], metric))


def _known(output_dir: Path, out: Path) -> list[Candidate]:
    """The checkpoints that were scored, including those that the training has removed since."""
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
        axes.set_title(
            f"average {HEADINGS.get(metric, metric)} by step, {first['n']:,} questions, 95% intervals\n{title(first)}",
            size=10,
        )
        axes.set_ylim(0, 100)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")
        over_steps(axes)
        return png(figure, colours=64)
