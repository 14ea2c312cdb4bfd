"""The page over one or several runs: every figure, and every question with the boxes drawn over its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from migician.benchmarks.images import find_image
from migician.benchmarks.published_figures import PUBLISHED, Published, caution
from migician.comparison import average_label, compare
from migician.draw import PALETTE, TRUTH
from migician.errors import UserError
from migician.pagefiles import Shelf, write_index
from migician.report import (
    HEADINGS,
    Report,
    averages,
    check_alike,
    headline_metric,
    metric_names,
    notes,
    of_task,
    read_report,
    scoring_of,
    title,
)
from migician.scoring import Shown, read_records
from migician.tables import Cell, Table, Value, name_of_task, remarks, tables, task_order

BESIDE = ("migician", "qwen2-vl-7b")
"""The paper's own figures that stand beside runs over a released MIG-Bench file."""
_COLOURS = [colour for colour in PALETTE if colour != TRUTH]
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def write_page(
    folders: Sequence[Path],
    names: Sequence[str],
    images: Path,
    out: Path,
    *,
    published: Sequence[Published] | None = None,
    processes: int = 1,
) -> Path:
    """Write `out/index.html` and `out/images/` over runs of the same benchmark file and rows; gives the page's path.

    `images` is the folder the benchmark's images lie below; each is stored once, at most 640 pixels
    long, and what an earlier page left there is used again. `published` are the paper's rows to set
    beside the runs; None for `BESIDE` where the file is a released one. An image that cannot be shown
    leaves a gap, and the page says so; raises `UserError` if none of them is there.
    """
    if len(folders) > len(_LETTERS):
        raise UserError(f"a page shows at most {len(_LETTERS)} runs, and here are {len(folders)}")
    runs = [_Run(folder, name) for folder, name in zip(folders, names, strict=True)]
    reports = {run.name: run.report for run in runs}
    if len(reports) < len(runs):
        raise ValueError(f"runs need names of their own: {', '.join(names)}")
    check_alike(reports)
    _check_rows(runs)
    if published is None:
        released = all(run.report.get("file_released_as") for run in runs)
        published = [PUBLISHED[name] for name in BESIDE] if released else []
    shelf = Shelf(lambda name: find_image(name, images))
    tasks = task_order(reports)
    samples = _samples(runs, tasks, shelf)
    shown, faults = shelf.fill(out / "images", processes)
    if shown and not any(image[0] for image in shown):
        raise UserError(f"{faults[0]}: none of the images is below {images}: say where they are with --images")
    first = runs[0]
    content = {
        "kind": "runs",
        "title": title(first.report),
        "facts": _facts(first.report),
        "looks": [
            {"name": "true box", "look": "truth", "colour": TRUTH, "letter": ""},
            *({"name": run.name, "look": "run", **look} for run, look in zip(runs, _looks(len(runs)), strict=True)),
        ],
        "tasks": [[task, name_of_task(task)] for task in tasks],
        "outcomes": list(first.scoring.outcomes),
        "scores": _scores(reports, published, tasks),
        "cautions": [line for one in published if (line := caution(reports, one)) is not None],
        "counts": _counts(runs, tasks),
        "comparisons": [_comparison(runs, left, right, tasks) for left, right in _pairs(runs)],
        "tables": [_all_metrics(reports, tasks), *map(_written, tables(reports, published)[1:])],
        "notes": [*remarks(reports, published), *(f"{run.name}: {one}" for run in runs for one in notes(run.report))],
        "faults": faults,
        "images": shown,
        "samples": samples,
    }
    return write_index(out, content)


def _check_rows(runs: Sequence[_Run]) -> None:
    """Raise `UserError` where runs do not hold the same rows of a task that they share."""
    held: dict[str, tuple[_Run, set[int]]] = {}
    for run in runs:
        for task in run.report["per_task"]:
            rows = {record.index for record in run.records.values() if record.task == task}
            other, known = held.setdefault(task, (run, rows))
            if rows != known:
                raise UserError(f"{run.folder} and {other.folder} do not hold the same rows: score both in full")


class _Run:
    """One run's report and records, with the name it goes by."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.report: Report = read_report(folder)
        self.scoring = scoring_of(self.report)
        records = read_records(folder / "records.jsonl", self.scoring.record)
        self.records = {record.index: record for record in records}
        measures = self.scoring.measures(records) if records else {}
        self.ious: dict[int, float] = {}
        """By index: the mean IoU of a record, where its scoring knows one."""
        if "mean_iou" in measures:
            values, sizes = measures["mean_iou"]
            share = np.asarray(values) / np.maximum(np.ones(len(records)) if sizes is None else np.asarray(sizes), 1)
            self.ious = {record.index: round(float(one), 4) for record, one in zip(records, share, strict=True)}


def _looks(count: int) -> list[dict[str, str]]:
    return [
        {"colour": _COLOURS[place % len(_COLOURS)], "letter": _LETTERS[place] if count > 1 else ""}
        for place in range(count)
    ]


def _pairs(runs: Sequence[_Run]) -> list[tuple[int, int]]:
    """Which runs are compared: each pair of a few, else each with the first; none that shares no task."""
    count = len(runs)
    pairs = list(combinations(range(count), 2)) if count <= 3 else [(0, place) for place in range(1, count)]
    tasks = [run.report["per_task"].keys() for run in runs]
    return [(left, right) for left, right in pairs if tasks[left] & tasks[right]]


def _facts(report: Report) -> list[tuple[str, str]]:
    """What stands under the title."""
    given = [
        ("questions", f"{report['n']:,}"),
        ("date", str(report.get("date", ""))[:10]),
        ("file", f"sha256 {report['data_sha256'][:12]}"),
    ]
    return [(name, value) for name, value in given if value]


def _samples(runs: Sequence[_Run], tasks: Sequence[str], shelf: Shelf) -> list[dict[str, Any]]:
    """Every question as the page has it, in the order of the file; see `templates/page/gallery.js`."""
    records = {index: record for run in reversed(runs) for index, record in run.records.items()}
    return [_sample(records[index], runs, tasks.index(records[index].task), shelf) for index in sorted(records)]


def _sample(record: Any, runs: Sequence[_Run], task: int, shelf: Shelf) -> dict[str, Any]:
    shown = runs[0].scoring.show(record)
    marks = [_mark(0, image, box) for image, box in shown.truths]
    texts: list[Any] = [["question", record.question]]
    if shown.answer:
        texts.append(["right answer", shown.answer])
    outcomes: list[int | None] = []
    ious: list[float | None] = []
    for place, run in enumerate(runs):
        own = run.records.get(record.index)
        if own is None:
            outcomes.append(None)
            ious.append(None)
            continue
        fit = run.scoring.show(own)
        marks += [_mark(1 + place, image, box) for image, box in fit.boxes]
        texts.append([place, own.reply, _fit(own, fit)])
        outcomes.append(run.scoring.outcomes.index(own.outcome))
        ious.append(run.ious.get(record.index))
    return {
        "id": record.index,
        "task": task,
        "images": [shelf.number(name) for name in record.images],
        "marks": marks,
        "texts": texts,
        "outcomes": outcomes,
        "ious": ious,
    }


def _mark(look: int, image: int | None, box: Sequence[float]) -> list[Any]:
    """[look, image (0-based) or None, x1, y1, x2, y2 as fractions]."""
    return [look, image, *(round(side, 5) for side in box)]


def _fit(record: Any, shown: Shown) -> str:
    return ", ".join(part for part in (shown.remark, record.error or "") if part)


def _scores(reports: Mapping[str, Report], published: Sequence[Published], tasks: Sequence[str]) -> dict[str, Any]:
    """The headline figure of each task, a value with its interval for each run, without for each published row."""
    metric = headline_metric(next(iter(reports.values()))["average"])
    rows: list[dict[str, Any]] = []
    for place, task in enumerate(tasks):
        theirs = [[one.per_task[task]] if task in one.per_task else None for one in published]
        rows.append({"task": place, **_scored(reports, of_task(reports, task), metric, theirs)})
    for place, (label, found) in enumerate(averages(reports)):
        means = [None if place else [one.average] for one in published]
        rows.append({"task": None, "label": label, **_scored(reports, found, metric, means)})
    return {"metric": HEADINGS.get(metric, metric), "published": [one.name for one in published], "rows": rows}


def _scored(reports: Mapping[str, Report], found: Mapping[str, Any], metric: str, theirs: list[Any]) -> dict[str, Any]:
    """A row: null in the place of a run that has no such figure."""
    cells = [_spanned(found[name], metric) if name in found else None for name in reports]
    return {"n": next(iter(found.values()))["n"], "cells": [*cells, *theirs]}


def _spanned(figures: Mapping[str, Any], metric: str) -> list[float]:
    return [round(value, 3) for value in (figures[metric], *figures["interval"][metric])]


def _counts(runs: Sequence[_Run], tasks: Sequence[str]) -> list[list[list[int] | None]]:
    """How often each outcome is, by task, run and outcome; null for a run that does not have the task."""

    def count(run: _Run, task: str) -> list[int] | None:
        found = run.report["per_task"].get(task)
        return None if found is None else [found["outcomes"].get(name, 0) for name in run.scoring.outcomes]

    return [[count(run, task) for run in runs] for task in tasks]


def _comparison(runs: Sequence[_Run], left: int, right: int, tasks: Sequence[str]) -> dict[str, Any]:
    """The paired difference of two runs in the headline figure, `right` minus `left`."""
    found = compare(runs[left].folder, runs[right].folder)
    metric = headline_metric(found["average"])
    rows: list[dict[str, Any]] = []
    parts = [(place, found["per_task"][task]) for place, task in enumerate(tasks) if task in found["per_task"]]
    for place, figures in [*parts, (None, found["average"])]:
        test = figures["mcnemar"]
        only = [test["first_only"], test["second_only"]]
        rows.append({"task": place, "n": figures["n"], "cell": _spanned(figures, metric), "only": only, "p": test["p"]})
    rows[-1]["label"] = average_label(found)
    protocols = [found[side]["protocol"] for side in ("first", "second")]
    return {
        "first": left,
        "second": right,
        "metric": HEADINGS.get(metric, metric),
        "rows": rows,
        "caution": "" if protocols[0] == protocols[1] else f"They are scored under {' and '.join(protocols)}.",
    }


def _all_metrics(reports: Mapping[str, Report], tasks: Sequence[str]) -> dict[str, Any]:
    metrics = metric_names(next(iter(reports.values()))["average"])
    rows: list[list[Cell]] = []
    for task in tasks:
        for name, own in of_task(reports, task).items():
            values = [Value(own[metric], tuple(own["interval"][metric])) for metric in metrics]
            rows.append([name_of_task(task), name, str(own["n"]), *values])
    columns = ["task", "run", "n", *(HEADINGS.get(metric, metric) for metric in metrics)]
    return _written(Table("Every metric by task", columns, rows, len(metrics) + 1))


def _written(table: Table) -> dict[str, Any]:
    """A table as the page has it: figures as [value, low, high]."""
    return {
        "title": table.title,
        "columns": list(table.columns),
        "numbers": table.numbers,
        "rows": [
            [
                [round(cell.value, 3), *(round(end, 3) for end in cell.span or ())] if isinstance(cell, Value) else cell
                for cell in row
            ]
            for row in table.rows
        ],
        "remarks": list(table.remarks),
    }
