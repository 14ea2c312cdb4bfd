"""Records -> report: per task and averaged, each figure with its n and its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from migician.benchmarks import Benchmark, Question
from migician.benchmarks.images import resolve_images
from migician.boxes import Size
from migician.breakdowns import breakdowns
from migician.errors import NOT_JSON, UserError, writing
from migician.metrics import Estimate, estimate
from migician.provenance import provenance
from migician.scoring import NO_ANSWER, Answer, Reading, Scoring, SizeOf, score, scoring_named, write_records

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table

Report = dict[str, Any]
"""The content of `report.json`; percentages are 0..100."""


def score_answers(
    bench: Benchmark,
    answers: Mapping[int, Answer],
    reading: Reading,
    out: Path,
    *,
    images: Path | None,
    partial: bool,
    spec: Mapping[str, Any],
) -> Report:
    """Score answers and write `report.json` and `records.jsonl` into `out`; gives the report."""
    counts_pixels = bench.scoring.has_boxes and reading.protocol == "strict" and reading.style.scale == "pixel"
    if counts_pixels and images is None and any(answer.sizes is None for answer in answers.values()):
        raise UserError("this box style counts pixels: say where the images are with --images")
    sizes = {"size_of": _sizes_below(images)} if counts_pixels and images else {}
    records = score(bench, answers, reading, partial=partial, **sizes)
    protocol: dict[str, Any] = {"protocol": reading.protocol}
    if bench.scoring.has_boxes:
        protocol["y_stretch"] = reading.y_stretch
        protocol["style"] = reading.style.name if reading.protocol == "strict" else None
    report = build_report(bench, records, protocol=protocol, **spec, **provenance())
    write_report(out, report, records)
    return report


def _sizes_below(root: Path) -> SizeOf:
    """What looks up the size of an image in its file, upright as a model sees it, once each."""
    from migician.models.pictures import upright_size

    known: dict[Path, Size] = {}

    def size_of(question: Question, image: int) -> Size:
        path = resolve_images(question, root)[image]
        if path not in known:
            try:
                known[path] = upright_size(path)
            except UserError as error:
                raise UserError(f"row {question.index}: {error}") from None
        return known[path]

    return size_of


class Rows:
    """Records as columns."""

    def __init__(self, records: Sequence[Any], scoring: Scoring) -> None:
        self.tasks = np.array([record.task for record in records])
        self.clusters = _cluster_labels(records)
        self.outcomes = np.array([record.outcome for record in records])
        self.measures = {
            name: (np.asarray(values), np.ones(len(records)) if sizes is None else np.asarray(sizes))
            for name, (values, sizes) in scoring.measures(records).items()
        }
        self.chances = np.array([scoring.chance(record) for record in records]) if scoring.chance else None

    def figures(self, chosen: NDArray[np.bool_], *, macro: bool = False) -> dict[str, Any]:
        """Each metric over some rows, in percent, with its interval; `macro` averages over the tasks."""
        groups = self.tasks[chosen] if macro else None
        clusters = self.clusters[chosen]
        estimates = {
            name: estimate(values[chosen], clusters, groups, sizes[chosen])
            for name, (values, sizes) in self.measures.items()
        }
        figures = {**{name: 100 * one.value for name, one in estimates.items()}, **spread(estimates)}
        if self.chances is not None:
            figures["chance"] = 100 * estimate(self.chances[chosen], clusters, groups).value
        return figures

    def task_names(self) -> list[str]:
        """The tasks, in order of first appearance."""
        return list(dict.fromkeys(self.tasks.tolist()))


def build_report(bench: Benchmark, records: Sequence[Any], *, protocol: dict[str, Any], **spec: Any) -> Report:
    """The report over `records`, in the order of `DESIGN`: benchmark, protocol, per task, averages.

    `average` is the unweighted mean over the tasks that have rows, `micro` the mean over rows;
    `without_malformed` leaves out the rows whose truth is impossible. `spec` is kept as it
    is: model, prompts, versions, times.
    """
    if not records:
        raise UserError(f"{bench.path}: nothing was scored: there is no answer to any of its questions")
    scoring = bench.scoring
    rows = Rows(records, scoring)
    everything = np.ones(len(records), dtype=bool)
    impossible = set(bench.malformed)
    sound = np.array([record.index not in impossible for record in records])
    per_task = {}
    for task in rows.task_names():
        chosen = rows.tasks == task
        counts = Counter(rows.outcomes[chosen].tolist())
        per_task[task] = {
            **rows.figures(chosen),
            "outcomes": {name: counts[name] for name in scoring.outcomes if counts[name]},
            **scoring.counts([record for record in records if record.task == task]),
        }
    kind = {} if scoring.name == "boxes" else {"scoring": scoring.name}
    return {
        "benchmark": bench.name,
        **kind,
        **protocol,
        "data": bench.path.name or bench.path.resolve().name,
        "data_sha256": bench.sha256,
        **bench.facts(),
        "n": len(records),
        "rows_in_file": len(bench.questions),
        "unanswered": sum(record.error == NO_ANSWER for record in records),
        "per_task": per_task,
        **({"breakdowns": breakdowns(records)} if scoring.name == "boxes" else {}),
        "average": {"tasks": len(per_task), **rows.figures(everything, macro=True)},
        "micro": rows.figures(everything),
        "without_malformed": {
            "average": rows.figures(sound, macro=True),
            "micro": rows.figures(sound),
        }
        if sound.any()
        else None,
        "malformed_rows": list(bench.malformed),
        **spec,
    }


def scoring_of(report: Report) -> Scoring:
    """How the records beside a report were scored."""
    return scoring_named(report.get("scoring", "boxes"))


def write_report(out: Path, report: Report, records: Sequence[Any]) -> None:
    """Write `report.json` and `records.jsonl` into `out`, each whole or not at all."""
    with writing(out / "records.jsonl") as stream:
        write_records(stream, records)
    with writing(out / "report.json") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def read_report(folder: Path) -> Report:
    """The `report.json` of a folder that `score` or `eval` wrote."""
    file = folder / "report.json"
    try:
        report: Report = msgspec.json.decode(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}. Make it with: migician score or eval") from None
    except NOT_JSON as error:
        raise UserError(f"{file}: not a report: {error}") from None
    return report


def table(report: Report) -> Table:
    """The report as a table for the terminal: each figure with its 95% interval."""
    result = _figure_table(report, ["task", "n"])
    for task, figures in report["per_task"].items():
        result.add_row(task, str(figures["n"]), *_cells(figures))
    for label, key in ((f"average of {report['average']['tasks']} tasks", "average"), ("over all rows", "micro")):
        result.add_row(label, str(report[key]["n"]), *_cells(report[key]), style="bold")
    return result


def side_by_side(reports: Mapping[str, Report]) -> Table:
    """Several reports over one benchmark file as one table, by name: task by task, a row for each."""
    some = next(iter(reports.values()))
    for name, report in reports.items():
        if any(report[key] != some[key] for key in ("benchmark", "data_sha256")):
            raise UserError(f"{name} scores another benchmark or file than {next(iter(reports))}: show them apart")
    result = _figure_table(some, ["task", "n", "model"])
    for task in [*some["per_task"], "average"]:
        for position, (name, report) in enumerate(reports.items()):
            figures = report["average"] if task == "average" else report["per_task"][task]
            label = ("", "") if position else (task if task != "average" else "average", str(figures["n"]))
            result.add_row(*label, name, *_cells(figures), style="bold" if task == "average" else None)
        result.add_section()
    return result


def _figure_table(report: Report, leading: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    result = Table(
        title=f"{title(report)}; percent, 95% interval",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
    )
    for name in leading:
        result.add_column(name, justify="right" if name == "n" else "left")
    for name in metric_names(report["average"]):
        result.add_column(HEADINGS.get(name, name), justify="right")
    if "chance" in report["average"]:
        result.add_column("chance", justify="right")
    return result


def metric_names(figures: Mapping[str, Any]) -> list[str]:
    """The metrics that some figures of a report hold."""
    return list(figures["interval"])


def _cells(figures: Mapping[str, Any]) -> list[str]:
    """Each metric as "63.37 61-66": the value and its interval, in percent; last the level of chance, if known."""
    spans = ((figures[name], *figures["interval"][name]) for name in metric_names(figures))
    chance = [f"{figures['chance']:.2f}"] if "chance" in figures else []
    return [*(f"{value:.2f} [dim]{low:.0f}-{high:.0f}[/dim]" for value, low, high in spans), *chance]


HEADINGS = {
    "acc@0.3": "Acc@0.3",
    "acc@0.5": "Acc@0.5",
    "acc@0.7": "Acc@0.7",
    "mean_iou": "mean IoU",
    "accuracy": "Accuracy",
    "precision@0.5": "Precision@0.5",
    "recall@0.5": "Recall@0.5",
    "f1@0.5": "F1@0.5",
}


def notes(report: Report) -> list[str]:
    """What a reader of the figures must know, a sentence each."""
    told = []
    if report.get("file_released_as", "") is None:
        told.append(f"{report['data']} is not a released MIG-Bench file: compare only with runs on the same file")
    if report["unanswered"]:
        told.append(f"{report['unanswered']} of {report['rows_in_file']} rows have no answer and count as failed")
    elif report["n"] < report["rows_in_file"]:
        told.append(f"only {report['n']} of {report['rows_in_file']} rows were scored")
    if report["malformed_rows"]:
        sound, name = report["without_malformed"], headline_metric(report["average"])
        without = f"{sound['average'][name]:.2f}" if sound else "none"
        told.append(
            f"{len(report['malformed_rows'])} rows have an impossible truth (kept; average {HEADINGS.get(name, name)} "
            f"without them {without})"
        )
    if report.get("duplicate_rows"):
        told.append(f"{len(report['duplicate_rows'])} rows repeat an earlier one (kept)")
    missed: Counter[str] = Counter()
    for figures in report["per_task"].values():
        missed.update(figures["outcomes"])
        missed["several"] += figures.get("several", 0)
    told.append("outcomes: " + ", ".join(f"{name} {count}" for name, count in missed.items() if count))
    return told


def headline_metric(figures: Mapping[str, Any]) -> str:
    """The metric that a report is quoted by."""
    names = metric_names(figures)
    return next((name for name in ("acc@0.5", "f1@0.5") if name in names), names[0])


def spread(estimates: dict[str, Estimate]) -> dict[str, Any]:
    """n, clusters and the intervals in percent, as they stand in a report."""
    some = next(iter(estimates.values()))
    return {
        "n": some.n,
        "clusters": some.clusters,
        "interval": {name: [100 * one.low, 100 * one.high] for name, one in estimates.items()},
    }


def title(report: Report) -> str:
    """What was scored, and how."""
    form = f", {report['file_kind']} form" if "file_kind" in report else ""
    protocol = f"{report['protocol']} protocol" + (" with y-stretch" if report.get("y_stretch") else "")
    return f"{report['benchmark']}{form} ({report['data']}), {protocol}"


def _cluster_labels(records: Sequence[Any]) -> NDArray[np.intp]:
    """One number for each tuple of images, (N,)."""
    seen: dict[tuple[str, ...], int] = {}
    return np.array([seen.setdefault(record.images, len(seen)) for record in records], dtype=np.intp)
