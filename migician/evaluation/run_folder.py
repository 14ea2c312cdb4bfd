"""A scored run read back from its folder: `report.json` and `records.jsonl`, whole and of one run, or one line.

This is the one place that doubts them. Whoever shows, compares or exports a run takes what comes from here as it is.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from migician.benchmarks.scoring.scoring import SCORINGS, Count
from migician.errors import UserError
from migician.evaluation.report import Report, metric_names, scoring_of
from migician.files import read_json, read_lines
from migician.printable import one_line

_AGAIN = "Make it again with: migician score or eval"

Percent = Annotated[float, Meta(ge=0, le=100)]
_Metrics = Annotated[dict[str, tuple[Percent, Percent]], Meta(min_length=1)]


def read_report(folder: Path) -> Report:
    """The `report.json` of a folder that `score` or `eval` wrote, in this version or an earlier one.

    Raises `UserError` naming the file, what is wrong in it, and how to make it again; so do the functions below.
    """
    file = folder / "report.json"
    with _made_again():
        report = read_json(file, dict[str, Any], "a report of this version")
        try:
            _check_figures(report, msgspec.convert(report, _Report))
        except (msgspec.ValidationError, ValueError) as error:
            raise UserError(f"{file}: not a report of this version: {error}") from None
    report["average"].setdefault("tasks", len(report["per_task"]))
    for figures in report["per_task"].values():
        figures.setdefault("outcomes", {})
    return report


def read_run(folder: Path) -> tuple[Report, dict[int, Any]]:
    """The report of a run, and the records that it sums up, by the question's index, in the order of the file.

    Raises `UserError` also where the records are not those of the report.
    """
    report = read_report(folder)
    file = folder / "records.jsonl"
    with _made_again():
        read = list(read_lines(file, scoring_of(report).record, "a record of this version"))
        records = {record.index: record for record in read}
        if len(records) < len(read):
            twice = next(index for index, count in Counter(record.index for record in read).items() if count > 1)
            raise UserError(f"{file}: holds question {twice} twice")
        if not _are_summed_up(read, report):
            raise UserError(f"{file}: {len(read)} records, not the {report['n']} that report.json sums up")
    return report, records


def _are_summed_up(records: Iterable[Any], report: Report) -> bool:
    """Whether a report counts those records: of each task as many, and with the same outcomes."""
    found: dict[str, Counter[str]] = {}
    for record in records:
        found.setdefault(record.task, Counter())[record.outcome] += 1
    per_task = report["per_task"]
    return found.keys() == per_task.keys() and all(
        counts.total() == per_task[task]["n"] and counts == Counter(per_task[task]["outcomes"] or counts)
        for task, counts in found.items()
    )


@contextlib.contextmanager
def _made_again() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{one_line(str(error))}. {_AGAIN}") from None


def _check_figures(report: Report, form: _Report) -> None:
    """All figures of a report are of the same metrics, each within its interval."""
    metrics = metric_names(report["average"])
    sound, shown = report.get("without_malformed") or {}, report.get("breakdowns", {})
    blocks = [(place, report[place]) for place in ("average", "micro")]
    blocks += [(f"without_malformed.{place}", figures) for place, figures in sound.items()]
    blocks += [(f"per_task.{task}", figures) for task, figures in report["per_task"].items()]
    for place, figures in blocks:
        _check(figures, metrics, place)
    for name, expected in _SHOWN.items():
        for label, figures in shown.get(name, {}).items():
            _check(figures, expected, f"breakdowns.{name}.{label}")


_SHOWN = {
    "by_target": ("acc@0.5", "mean_iou"),
    "by_box_size": ("acc@0.5", "mean_iou"),
    "by_images": ("acc@0.5", "mean_iou"),
    "image_choice": ("right_image",),
}
"""Breakdown -> the figures of it that tables show."""


def _check(figures: dict[str, Any], metrics: Iterable[str], place: str) -> None:
    for metric in metrics:
        value, (low, high) = figures.get(metric), figures["interval"].get(metric, (0, -1))
        if type(value) not in (int, float) or not low <= value <= high:
            raise ValueError(f"no `{metric}` within an interval of its own - at `$.{place}`")


class _Figures(msgspec.Struct):
    n: Count
    interval: _Metrics
    chance: Percent | UnsetType = UNSET


class _Task(_Figures, kw_only=True):
    outcomes: dict[str, Count] = {}
    several: Count = 0


class _Average(_Figures, kw_only=True):
    tasks: Count = 0


class _Sound(msgspec.Struct):
    average: _Figures
    micro: _Figures


class _Choice(_Figures, kw_only=True):
    chance: Percent
    known: Count


class _Breakdowns(msgspec.Struct):
    by_target: dict[str, _Figures] = {}
    by_box_size: dict[str, _Figures] = {}
    by_images: dict[str, _Figures] = {}
    image_choice: dict[str, _Choice] = {}


class _Reason(msgspec.Struct):
    reason: str
    n: Count


class _Failures(msgspec.Struct):
    n: Count
    reasons: list[_Reason]


class _Plan(msgspec.Struct):
    wording: str | UnsetType = UNSET
    max_new_tokens: Count = 0


class _Chain(msgspec.Struct):
    mode: str


class _Decoding(msgspec.Struct):
    method: str | None = None


class _Model(msgspec.Struct):
    weights_fingerprint: str | None = None
    dtype: str | None = None
    max_pixels: Count | None = None
    positions: str | None = None
    decoding: _Decoding | None = None


class _Hardware(msgspec.Struct):
    gpus: list[str] = []
    cpus: Count | None = None


class _Report(msgspec.Struct):
    """What every report has, and of what only some have all that is ever looked at."""

    benchmark: str
    protocol: str
    data: str
    data_sha256: str
    n: Annotated[int, Meta(ge=1, le=2**53)]
    rows_in_file: Count
    per_task: Annotated[dict[str, _Task], Meta(min_length=1)]
    average: _Average
    micro: _Figures
    scoring: str = "boxes"
    y_stretch: bool = False
    style: str | None = None
    file_kind: str | UnsetType = UNSET
    file_released_as: str | UnsetType | None = UNSET
    file_declared_as: str = ""
    rows_sha256: str = ""
    unanswered: Count = 0
    breakdowns: _Breakdowns | UnsetType = UNSET
    without_malformed: _Sound | None = None
    malformed_rows: list[Count] = []
    duplicate_rows: list[Any] = []
    failures: _Failures | UnsetType = UNSET
    answers_sha256: str | None = None
    max_pixels: Count | None = None
    plan: _Plan | None = None
    chain_of_thought: _Chain | None = None
    model: _Model | None = None
    dropped_parameters: list[str] = []
    hardware: _Hardware | None = None
    date: str = ""
    commit: str | None = None

    def __post_init__(self) -> None:
        if self.scoring not in SCORINGS:
            raise ValueError(f"`scoring` is {self.scoring!r:.60}, not one of {', '.join(SCORINGS)}")
        if self.file_kind is UNSET and isinstance(self.file_released_as, str):
            raise ValueError("`file_released_as` without `file_kind`")
