"""Records -> report: per task and averaged, each figure with its n and its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from migician.benchmarks.mig_bench import MigBench, resolve_images
from migician.boxes import Size
from migician.breakdowns import breakdowns
from migician.errors import NOT_JSON, UserError, writing
from migician.metrics import METRICS, Estimate, estimate, metric_columns
from migician.provenance import provenance
from migician.scoring import OUTCOMES, Answer, Reading, Record, score, write_records

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table

Report = dict[str, Any]
"""The content of `report.json`; percentages are 0..100."""


def score_answers(
    bench: MigBench,
    answers: Mapping[int, Answer],
    reading: Reading,
    out: Path,
    *,
    images: Path | None,
    partial: bool,
    spec: Mapping[str, Any],
) -> Report:
    """Score answers and write `report.json` and `records.jsonl` into `out`; gives the report."""
    sizes = _sizes(bench, answers, images) if reading.style.scale == "pixel" else None
    records = score(bench, answers, reading, partial=partial, sizes=sizes)
    protocol = {
        "protocol": reading.protocol,
        "y_stretch": reading.y_stretch,
        "style": reading.style.name if reading.protocol == "strict" else None,
    }
    report = build_report(bench, records, protocol=protocol, **spec, **provenance())
    write_report(out, report, records)
    return report


def _sizes(bench: MigBench, answers: Mapping[int, Answer], images: Path | None) -> dict[int, Size]:
    """The size of the image each answer's pixels belong to: the row's target, else its first image."""
    from PIL import Image

    if images is None:
        raise UserError("this box style counts pixels: say where the images are with --images")
    sizes: dict[int, Size] = {}
    for index in answers:
        question = bench.questions[index]
        path = resolve_images(question, images)[question.target or 0]
        try:
            with Image.open(path) as image:
                sizes[index] = image.size
        except OSError:
            raise UserError(f"row {index}: {path} cannot be read as an image") from None
    return sizes


class Rows:
    """Records as columns."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.tasks = np.array([record.task for record in records])
        self.clusters = _cluster_labels(records)
        self.columns = metric_columns([record.iou for record in records])
        self.outcomes = np.array([record.outcome for record in records])
        self.several = np.array([record.several for record in records], dtype=bool)

    def figures(self, chosen: NDArray[np.bool_], *, macro: bool = False) -> dict[str, Any]:
        """The four metrics over some rows, in percent, with their intervals."""
        groups = self.tasks[chosen] if macro else None
        estimates = {
            name: estimate(column[chosen], self.clusters[chosen], groups) for name, column in self.columns.items()
        }
        return {**{name: 100 * one.value for name, one in estimates.items()}, **spread(estimates)}

    def task_names(self) -> list[str]:
        """The tasks, in order of first appearance."""
        return list(dict.fromkeys(self.tasks.tolist()))


def build_report(bench: MigBench, records: Sequence[Record], *, protocol: dict[str, Any], **spec: Any) -> Report:
    """The report over `records`, in the order of `DESIGN`: benchmark, protocol, per task, averages.

    `average` is the unweighted mean over the tasks that have rows, `micro` the mean over rows;
    `without_malformed` leaves out the rows whose true box is impossible. `spec` is kept as it
    is: model, prompts, versions, times.
    """
    rows = Rows(records)
    everything = np.ones(len(records), dtype=bool)
    impossible = set(bench.malformed)
    sound = np.array([record.index not in impossible for record in records])
    per_task = {}
    for task in rows.task_names():
        chosen = rows.tasks == task
        counts = Counter(rows.outcomes[chosen].tolist())
        per_task[task] = {
            **rows.figures(chosen),
            "outcomes": {name: counts[name] for name in OUTCOMES if counts[name]},
            "several": int(rows.several[chosen].sum()),
        }
    return {
        "benchmark": "mig-bench",
        **protocol,
        "data": bench.path.name,
        "data_sha256": bench.sha256,
        "file_kind": bench.kind,
        "file_released_as": bench.released_as,
        "n": len(records),
        "rows_in_file": len(bench.questions),
        "unanswered": sum(record.error == "no answer in the file" for record in records),
        "per_task": per_task,
        "breakdowns": breakdowns(records),
        "average": {"tasks": len(per_task), **rows.figures(everything, macro=True)},
        "micro": rows.figures(everything),
        "without_malformed": {
            "average": rows.figures(sound, macro=True),
            "micro": rows.figures(sound),
        }
        if sound.any()
        else None,
        "malformed_rows": bench.malformed,
        "duplicate_rows": [{"row": row, "repeats": earlier} for row, earlier in bench.duplicates],
        **spec,
    }


def write_report(out: Path, report: Report, records: Sequence[Record]) -> None:
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
    result = _figure_table(_title(report), ["task", "n"])
    for task, figures in report["per_task"].items():
        result.add_row(task, str(figures["n"]), *_cells(figures))
    for label, key in ((f"average of {report['average']['tasks']} tasks", "average"), ("over all rows", "micro")):
        result.add_row(label, str(report[key]["n"]), *_cells(report[key]), style="bold")
    return result


def side_by_side(reports: Mapping[str, Report]) -> Table:
    """Several reports over one benchmark file as one table, by name: task by task, a row for each."""
    some = next(iter(reports.values()))
    result = _figure_table(_title(some), ["task", "n", "model"])
    for task in [*some["per_task"], "average"]:
        for position, (name, report) in enumerate(reports.items()):
            figures = report["average"] if task == "average" else report["per_task"][task]
            label = ("", "") if position else (task if task != "average" else "average", str(figures["n"]))
            result.add_row(*label, name, *_cells(figures), style="bold" if task == "average" else None)
        result.add_section()
    return result


def _figure_table(title: str, leading: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in leading:
        result.add_column(name, justify="right" if name == "n" else "left")
    for name in METRICS:
        result.add_column(HEADINGS[name], justify="right")
    return result


def _cells(figures: Mapping[str, Any]) -> list[str]:
    """Each metric as "63.37 61-66": the value and its interval, in percent."""
    spans = ((figures[name], *figures["interval"][name]) for name in METRICS)
    return [f"{value:.2f} [dim]{low:.0f}-{high:.0f}[/dim]" for value, low, high in spans]


HEADINGS = {"acc@0.3": "Acc@0.3", "acc@0.5": "Acc@0.5", "acc@0.7": "Acc@0.7", "mean_iou": "mean IoU"}


def notes(report: Report) -> list[str]:
    """What a reader of the figures must know, a sentence each."""
    told = []
    if report["file_released_as"] is None:
        told.append(f"{report['data']} is not a released MIG-Bench file: compare only with runs on the same file")
    if report["unanswered"]:
        told.append(f"{report['unanswered']} of {report['rows_in_file']} rows have no answer and count as failed")
    elif report["n"] < report["rows_in_file"]:
        told.append(f"only {report['n']} of {report['rows_in_file']} rows were scored")
    if report["malformed_rows"]:
        sound = report["without_malformed"]["average"]["acc@0.5"]
        told.append(
            f"{len(report['malformed_rows'])} rows have an impossible true box (kept; average Acc@0.5 without them "
            f"{sound:.2f})"
        )
    if report["duplicate_rows"]:
        told.append(f"{len(report['duplicate_rows'])} rows repeat an earlier one (kept)")
    missed: Counter[str] = Counter()
    for figures in report["per_task"].values():
        missed.update(figures["outcomes"])
        missed["several"] += figures["several"]
    told.append("outcomes: " + ", ".join(f"{name} {count}" for name, count in missed.items() if count))
    return told


def spread(estimates: dict[str, Estimate]) -> dict[str, Any]:
    """n, clusters and the intervals in percent, as they stand in a report."""
    some = next(iter(estimates.values()))
    return {
        "n": some.n,
        "clusters": some.clusters,
        "interval": {name: [100 * one.low, 100 * one.high] for name, one in estimates.items()},
    }


def _title(report: Report) -> str:
    protocol = f"{report['protocol']} protocol" + (" with y-stretch" if report["y_stretch"] else "")
    return f"MIG-Bench, {report['file_kind']} form ({report['data']}), {protocol}; percent, 95% interval"


def _cluster_labels(records: Sequence[Record]) -> NDArray[np.intp]:
    """One number for each tuple of images, (N,)."""
    seen: dict[tuple[str, ...], int] = {}
    return np.array([seen.setdefault(record.images, len(seen)) for record in records], dtype=np.intp)
