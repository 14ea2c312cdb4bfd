"""Records -> report: per task and averaged, each figure with its n and its interval."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from migician.again import first_difference
from migician.benchmarks import Benchmark
from migician.benchmarks.scoring.scoring import Answer, Reading, Scoring, scoring_named
from migician.benchmarks.scoring.values import Value, value_of
from migician.errors import UserError, writing
from migician.evaluation.breakdowns import breakdowns
from migician.evaluation.headings import is_released
from migician.evaluation.image_sizes import sizes_for
from migician.evaluation.records import NO_ANSWER, RecordColumns, score, write_records
from migician.files import read_json
from migician.models.faults import commonest
from migician.provenance import provenance

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
    max_pixels: int | None = None,
    force: bool = False,
    same: Sequence[str] = (),
) -> Report:
    """Score answers and write `report.json` and `records.jsonl` into `out`; gives the report.

    A report that is there and says the same but for `WHEN` stays, and is given as `Kept`. Another one is replaced only
    with `force`, or where it agrees in all that `same` names; else `UserError` says what differs first.
    For `images` and `max_pixels` see `migician.evaluation.image_sizes.sizes_for`.
    """
    size_of = sizes_for(bench, answers, reading, images=images, max_pixels=max_pixels)
    records = score(bench, answers, reading, partial=partial, size_of=size_of)
    protocol: dict[str, Any] = {"protocol": reading.protocol}
    if bench.scoring.has_boxes:
        protocol["y_stretch"] = reading.y_stretch
        protocol["style"] = reading.style.name if reading.protocol == "strict" else None
    if max_pixels is not None:
        protocol["max_pixels"] = max_pixels
    report = build_report(bench, records, protocol=protocol, **spec, **provenance())
    if not force and (kept := _kept(out, report, records, same)):
        return kept
    write_report(out, report, records)
    return report


class Kept(Report):
    """A report that was there already, and says what would have been written."""


WHEN = ("versions", "commit", "hardware", "date")
"""What a report says of when and where it was made, which is not what it reports."""


def _kept(out: Path, report: Report, records: Sequence[Any], same: Sequence[str]) -> Kept | None:
    """The report in `out` if it is this one; None where there is none, or one that may be replaced."""
    file = out / "report.json"
    if not file.exists():
        return None
    otherwise = "--force replaces it, or choose another --out"
    before = read_json(file, dict[str, Any], "a report", otherwise)
    now = msgspec.json.decode(msgspec.json.encode(report))
    names = [name for name in dict.fromkeys((*now, *before)) if name not in WHEN]
    differing = [name for name in names if before.get(name) != now.get(name)]
    if decisive := [name for name in differing if not same or name in same]:
        name = decisive[0]
        what = f"{name}{first_difference(before.get(name), now.get(name))}"
        raise UserError(f"{file}: holds another report: {what:.200}. {otherwise[0].upper()}{otherwise[1:]}")
    if differing or not _has_records(out / "records.jsonl", records):
        return None
    return Kept(report | {name: before.get(name) for name in WHEN})


def _has_records(file: Path, records: Sequence[Any]) -> bool:
    content = io.BytesIO()
    write_records(content, records)
    return file.is_file() and file.read_bytes() == content.getvalue()


def build_report(bench: Benchmark, records: Sequence[Any], *, protocol: dict[str, Any], **spec: Any) -> Report:
    """The report over `records`, in the order of `DESIGN`: benchmark, protocol, per task, averages.

    `average` is the unweighted mean over the tasks that have rows, `micro` the mean over rows;
    `without_malformed` leaves out the rows whose truth is impossible. `spec` is kept as it
    is: model, prompts, versions, times. Raises `UserError` where nothing was scored.
    """
    if not records:
        raise UserError(f"{bench.path}: nothing was scored: there is no answer to any of its questions")
    scoring = bench.scoring
    rows = RecordColumns(records, scoring)
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
        **bench.facts,
        "n": len(records),
        "rows_in_file": len(bench.questions),
        **_which_rows(bench, records),
        "unanswered": sum(record.error == NO_ANSWER for record in records),
        "per_task": per_task,
        **({"breakdowns": breakdowns(records, rows)} if scoring.name == "boxes" else {}),
        "average": {"tasks": len(per_task), **rows.figures(everything, macro=True)},
        "micro": rows.figures(everything),
        **scoring.whole(records),
        "without_malformed": {
            "average": rows.figures(sound, macro=True),
            "micro": rows.figures(sound),
        }
        if sound.any()
        else None,
        "malformed_rows": list(bench.malformed),
        **_failures(records),
        **spec,
    }


def _which_rows(bench: Benchmark, records: Sequence[Any]) -> dict[str, str]:
    """Which rows were scored, where not all were: the same number of other rows has another digest."""
    if len(records) == len(bench.questions):
        return {}
    rows = msgspec.json.encode([record.index for record in records])
    return {"rows_sha256": hashlib.sha256(rows).hexdigest()}


def _failures(records: Sequence[Any]) -> dict[str, Any]:
    """How many questions the model failed on, and the three commonest reasons; nothing where it failed on none."""
    reasons = [one.error or "no reason was given" for one in records if one.reply is None and one.error != NO_ANSWER]
    if not reasons:
        return {}
    given = [{"reason": reason, "n": count} for reason, count in commonest(reasons)]
    return {"failures": {"n": len(reasons), "reasons": given}}


def scoring_of(report: Report) -> Scoring:
    """How the records beside a report were scored."""
    return scoring_named(report.get("scoring", "boxes"))


def write_report(out: Path, report: Report, records: Sequence[Any]) -> None:
    """Write `report.json` and `records.jsonl` into `out`, each whole or not at all."""
    with writing(out / "records.jsonl") as stream:
        write_records(stream, records)
    with writing(out / "report.json") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def metric_names(figures: Mapping[str, Any]) -> list[str]:
    """The metrics that some figures of a report hold."""
    return list(figures["interval"])


HEADINGS = {
    "acc@0.3": "Acc@0.3",
    "acc@0.5": "Acc@0.5",
    "acc@0.7": "Acc@0.7",
    "mean_iou": "mean IoU",
    "accuracy": "Accuracy",
    "precision@0.5": "Precision@0.5",
    "recall@0.5": "Recall@0.5",
    "f1@0.5": "F1@0.5",
    "image_accuracy": "Image accuracy",
}


def notes(report: Report) -> list[str]:
    """What a reader of the figures must know, a sentence each."""
    lines = []
    if not is_released(report):
        own = f" ({report['file_declared_as']})" if report.get("file_declared_as") else ""
        lines.append(f"{report['data']}{own} is not a released MIG-Bench file: compare only with runs on the same file")
    if report["protocol"] == "univg-r1" and report.get("file_kind") != "revised":
        lines.append("UniVG-R1's script knows the revised form of MIG-Bench only: here its rules stand on other truths")
    if counts := report.get("published_counts"):
        if not report["is_whole"]:
            whole = " in ".join(f"{count:,} {name}" for name, count in counts.items())
            lines.append(f"the file is not the whole benchmark, which has {whole}")
        mean = {"micro": "rows", "average": "tasks"}[report["published_figure"]]
        lines.append(f"papers quote the mean over {mean} of this benchmark")
    if ap := report.get("ap50"):
        lines.append(f"AP50 {Value(ap['value'], tuple(ap['interval']))} over {ap['n']:,} true boxes")
    if report.get("unanswered"):
        lines.append(f"{report['unanswered']} of {report['rows_in_file']} rows have no answer and count as failed")
    elif report["n"] < report["rows_in_file"]:
        lines.append(f"only {report['n']} of {report['rows_in_file']} rows were scored")
    if failures := report.get("failures"):
        reasons = "; ".join(f"{one['reason']} ({one['n']})" for one in failures["reasons"])
        lines.append(f"the model failed on {failures['n']} of {report['n']} questions, each scored 0: {reasons}")
    if report.get("dropped_parameters"):
        lines.append(f"the server does not take {', '.join(report['dropped_parameters'])}: left out")
    if report.get("malformed_rows"):
        sound, name = report.get("without_malformed"), headline_metric(report["average"])
        without = Value(sound["average"][name]).text if sound else "none"
        rows = _counted(len(report["malformed_rows"]), "row has an impossible truth", "rows have an impossible truth")
        lines.append(f"{rows} (kept; average {HEADINGS.get(name, name)} without {without})")
    if report.get("duplicate_rows"):
        lines.append(_counted(len(report["duplicate_rows"]), "row repeats", "rows repeat") + " an earlier one (kept)")
    if target := report.get("breakdowns", {}).get("by_target"):
        refused, name = target["absent"], headline_metric(report["average"])
        lines.append(
            f"{refused['n']} of {report['n']} questions ask for what is in none of their images: "
            f"percent of these refused {value_of(refused, name)}"
            + (f", {HEADINGS[name]} on the others {value_of(target['present'], name)}" if "present" in target else "")
        )
    outcomes: Counter[str] = Counter()
    for figures in report["per_task"].values():
        outcomes.update(figures.get("outcomes", {}))
    lines.append("outcomes: " + ", ".join(f"{name} {count}" for name, count in outcomes.items() if count))
    if several := sum(figures.get("several", 0) for figures in report["per_task"].values()):
        lines.append(_counted(several, "of these replies holds several boxes", "of these replies hold several boxes"))
    return lines


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def headline_metric(figures: Mapping[str, Any]) -> str:
    """The metric that a report is quoted by."""
    names = metric_names(figures)
    return next((name for name in ("acc@0.5", "f1@0.5") if name in names), names[0])
