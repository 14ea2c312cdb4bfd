"""The page over one or several runs: every figure, and every question with the boxes drawn over its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from migician.benchmarks.published.figures import PUBLISHED, Published, caution
from migician.benchmarks.scoring.scoring import Drawn
from migician.benchmarks.scoring.values import Value, iou_text, p_text, value_of
from migician.build.image_roots import ImageRoots
from migician.draw import PALETTE, TRUTH
from migician.errors import UserError
from migician.evaluation.headings import check_same_questions, headed, mark, title_of
from migician.evaluation.report import HEADINGS, Report, headline_metric, notes
from migician.reports.page.files import AssetStore, page_in, write_index
from migician.reports.runs import Run, compare, open_run
from migician.reports.tables import by_task, every_metric, name_of_task, remarks, tables, task_order
from migician.reports.writers import for_page, value_for_page

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
    roots: Sequence[Path] = (),
    published: Sequence[Published] | None = None,
    processes: int = 1,
) -> Path:
    """Write `out/index.html` and `out/images/` over runs of the same benchmark file and rows; gives the page's path.

    `images` is the folder the benchmark's images lie below; each is stored once, at most 640 pixels
    long, and what an earlier page left there is used again. `published` are the paper's rows to set
    beside the runs; None for `BESIDE` where the file is a released one. An image that cannot be shown, or that a link
    brings in from outside of `images` and `roots`, leaves a gap, and the page says so; raises `UserError` if none of
    them is there, or for too many runs, and ValueError for two of the same name.
    """
    if len(folders) > len(_LETTERS):
        raise UserError(f"a page shows at most {len(_LETTERS)} runs, not {len(folders)}")
    if len(set(names)) < len(folders):
        raise ValueError(f"runs need names of their own: {', '.join(names)}")
    runs = [open_run(folder) for folder in folders]
    reports = {name: run.report for name, run in zip(names, runs, strict=True)}
    check_same_questions(reports)
    heads = headed(reports)
    for run in runs:
        if run.records.keys() != runs[0].records.keys():
            raise UserError(f"{run.folder} and {runs[0].folder} do not hold the same rows: score both in full")
    if published is None:
        released = all(run.report.get("file_released_as") for run in runs)
        published = [PUBLISHED[name] for name in BESIDE] if released else []
    store = AssetStore(ImageRoots([images], [images, *roots]).find)
    tasks = task_order(reports)
    letters = _LETTERS if len(runs) > 1 else [""]
    seen = [(run, _ious(run)) for run in runs]
    outcomes = _outcomes(runs)
    samples = [_sample(record, seen, tasks.index(record.task), store, outcomes) for record in runs[0].records.values()]
    with page_in(out):
        shown, faults = store.fill(out / "images", processes)
        if shown and not any(image[0] for image in shown):
            raise UserError(f"{faults[0]}: none of the images is below {images}: say where they are with --images")
        first = runs[0]
        facts = [
            ("questions", f"{first.report['n']:,}"),
            ("date", str(first.report.get("date", ""))[:10]),
            ("file", f"sha256 {first.report['data_sha256'][:12]}"),
        ]
        content = {
            "kind": "runs",
            "title": title_of(reports),
            "facts": [(name, value) for name, value in facts if value],
            "looks": [
                {"name": "true box", "look": "truth", "colour": TRUTH, "letter": ""},
                *(
                    {"name": heads[name], "look": "run", "colour": _COLOURS[at % len(_COLOURS)], "letter": letters[at]}
                    for at, name in enumerate(names)
                ),
            ],
            "tasks": [[task, name_of_task(task)] for task in tasks],
            "outcomes": outcomes,
            "scores": _scores(reports, published),
            "cautions": [line for line in (mark(reports), *(caution(reports, one) for one in published)) if line],
            "counts": _counts(runs, tasks, outcomes),
            "comparisons": [_comparison(runs, names, pair, tasks) for pair in _pairs(len(runs))],
            "tables": [
                for_page(every_metric({heads[name]: report for name, report in reports.items()})),
                *map(for_page, tables(reports, published)[1:]),
            ],
            "notes": [
                *remarks(reports, published),
                *(f"{name}: {one}" for name, report in reports.items() for one in notes(report)),
            ],
            "faults": faults,
            "images": shown,
            "samples": samples,
        }
        return write_index(out, content)


def _ious(run: Run) -> dict[int, float]:
    """By index: the mean IoU of a record, where its scoring knows one."""
    records = list(run.records.values())
    measures = run.scoring.measures(records)
    if "mean_iou" not in measures:
        return {}
    values, sizes = measures["mean_iou"]
    share = np.asarray(values) / np.maximum(np.ones(len(records)) if sizes is None else np.asarray(sizes), 1)
    return {record.index: float(one) for record, one in zip(records, share, strict=True)}


def _pairs(count: int) -> list[tuple[int, int]]:
    """Which runs are compared: each pair of a few, else each with the first."""
    return list(combinations(range(count), 2)) if count <= 3 else [(0, place) for place in range(1, count)]


def _sample(
    record: Any,
    runs: Sequence[tuple[Run, Mapping[int, float]]],
    task: int,
    store: AssetStore,
    known_outcomes: Sequence[str],
) -> dict[str, Any]:
    """A question as the page has it; see `assets/gallery.js`."""
    shown = runs[0][0].scoring.show(record)
    marks = _marks(0, shown.truths)
    texts: list[Any] = [["question", record.question]]
    if shown.answer:
        texts.append(["right answer", shown.answer])
    outcomes, ious = [], []
    for place, (run, known) in enumerate(runs):
        own = run.records[record.index]
        fit = run.scoring.show(own)
        marks += _marks(1 + place, fit.boxes)
        texts.append([place, own.reply, ", ".join(filter(None, (fit.remark, own.error)))])
        outcomes.append(known_outcomes.index(own.outcome))
        iou = known.get(record.index)
        ious.append(None if iou is None else [iou, iou_text(iou)])
    return {
        "id": record.index,
        "task": task,
        "images": [store.number(name) for name in record.images],
        "marks": marks,
        "texts": texts,
        "outcomes": outcomes,
        "ious": ious,
    }


def _marks(look: int, drawn: Sequence[Drawn]) -> list[list[Any]]:
    """[look, image (0-based) or None for all, x1, y1, x2, y2 as fractions] of each box that is in an image."""
    return [
        [look, images[0] if len(images) == 1 else None, *(round(side, 5) for side in box)]
        for images, box in drawn
        if images
    ]


def _scores(reports: Mapping[str, Report], published: Sequence[Published]) -> dict[str, Any]:
    """The headline figure of each task, a value with its interval for each run, without for each published row."""
    shown = by_task(reports, published)
    rows = [
        {
            "task": place if place < len(shown.rows) - 1 else None,
            "n": int(str(n)),
            "cells": [value_for_page(one) if isinstance(one, Value) else None for one in cells],
        }
        for place, (_, n, *cells) in enumerate(shown.rows)
    ]
    return {"metric": shown.title.removesuffix(" by task"), "published": [one.name for one in published], "rows": rows}


def _outcomes(runs: Sequence[Run]) -> list[str]:
    """What replies can have become: without a refusal where none is one, because most benchmarks do not know any."""
    found = {name for run in runs for figures in run.report["per_task"].values() for name in figures["outcomes"]}
    return [name for name in runs[0].scoring.outcomes if name != "refused" or name in found]


def _counts(runs: Sequence[Run], tasks: Sequence[str], outcomes: Sequence[str]) -> list[list[list[int]]]:
    """How often each outcome is, by task, run and outcome."""
    return [
        [[run.report["per_task"][task]["outcomes"].get(name, 0) for name in outcomes] for run in runs] for task in tasks
    ]


def _comparison(
    runs: Sequence[Run], names: Sequence[str], pair: tuple[int, int], tasks: Sequence[str]
) -> dict[str, Any]:
    """The paired difference of two runs in the headline figure, the second of the pair minus the first."""
    found = compare(*(runs[at] for at in pair)).figures
    metric = headline_metric(found["average"])
    rows: list[dict[str, Any]] = []
    parts = [(place, found["per_task"][task]) for place, task in enumerate(tasks)]
    for place, figures in [*parts, (None, found["average"])]:
        test = figures["mcnemar"]
        only = [test["first_only"], test["second_only"]]
        cell = value_for_page(value_of(figures, metric, signed=True))
        rows.append({"task": place, "n": figures["n"], "cell": cell, "only": only, "p": p_text(test["p"])})
    return {
        "first": pair[0],
        "second": pair[1],
        "metric": HEADINGS.get(metric, metric),
        "rows": rows,
        "caution": mark({names[at]: runs[at].report for at in pair}),
    }
