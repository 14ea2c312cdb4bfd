"""Headings of figures: what a run was scored on and how, and what runs set side by side differ in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from migician.errors import UserError

Reports = Mapping[str, Mapping[str, Any]]
"""The contents of several `report.json`, by the names that the runs are shown under."""


def benchmark_words(report: Mapping[str, Any]) -> str:
    """The benchmark and its file; one that only has MIG-Bench's form is never called MIG-Bench.

    >>> benchmark_words({"benchmark": "mig-bench", "file_kind": "original", "file_released_as": "MIG_data.json of ..."})
    'mig-bench, original file'
    >>> benchmark_words({"benchmark": "mig-bench", "file_kind": "original", "file_released_as": None})
    "MIG-Bench's form, not a released file"
    """
    name: str = report["benchmark"]
    if "file_kind" not in report:
        return name
    if is_released(report):
        return f"{name}, {report['file_kind']} file"
    form = "MIG-Bench's form" + (" in one shot" if name == "mig-bench-one-shot" else "")
    return f"{form}, {report.get('file_declared_as') or 'not a released file'}"


def is_released(report: Mapping[str, Any]) -> bool:
    """Whether the file is the benchmark's own, or cannot be known not to be."""
    return report.get("file_released_as", "") is not None


def title(report: Mapping[str, Any]) -> str:
    """What was scored, and how."""
    facts = _facts(report)
    unusual = [facts[what].words for what in _UNUSUAL if what in facts and facts[what].key is not None]
    how = [_protocol(report), *unusual]
    return f"{benchmark_words(report)} ({report['data']}), {', '.join(how)}"


def describe(name: str, report: Mapping[str, Any]) -> str:
    """All that the figures of a run belong to, in a sentence."""
    facts = _facts(report)
    more = [facts[what].words for what in _MORE if what in facts]
    if (positions := facts.get("positions")) and positions.key:
        more.append(positions.words)
    return (
        f"{name}: {benchmark_words(report)} ({report['data']}, sha256 {report['data_sha256'][:12]}), "
        f"{facts['rows'].words}, {', '.join([_protocol(report), *more])}."
    )


_UNUSUAL = ("rows", "chain of thought", "positions")
_MORE = ("prompt", "chain of thought", "longest reply", "pixel limit")


def unlike(reports: Reports) -> dict[str, dict[str, str]]:
    """What runs differ in, with each run's own words for it; empty where they are like for like.

    What a report does not say, such as the pixel limit of a server, is no difference. The box style counts where the
    same replies, or those of the same weights, are read in two.
    """
    facts = {name: _facts(report) for name, report in reports.items()}
    found: dict[str, dict[str, str]] = {}
    for what in dict.fromkeys(what for one in facts.values() for what in one):
        given = {name: one[what] for name, one in facts.items() if what in one}
        if len({repr(one.key) for one in given.values()}) > 1:
            found[what] = {name: one.words for name, one in given.items()}
    sources = Counter(_source(report) for report in reports.values())
    if "rows" in found:
        found.pop("choice of rows", None)
    if "box style" in found and all(count == 1 for source, count in sources.items() if source):
        del found["box style"]
    return found


def headed(reports: Reports) -> dict[str, str]:
    """How each run is called where they stand side by side: its name, and its own words where they are not alike."""
    words = own_words(reports)
    return {name: f"{name} ({words[name]})" if words[name] else name for name in reports}


def own_words(reports: Reports) -> dict[str, str]:
    """Of each run what sets it apart; empty where the runs are like for like."""
    found = unlike(reports)
    return {name: ", ".join(words[name] for words in found.values() if name in words) for name in reports}


def title_of(reports: Reports) -> str:
    """One title for several runs, which claims no more than holds for all of them."""
    some = next(iter(reports.values()))
    found = unlike(reports)
    if not found:
        return title(some)
    if "benchmark" in found:
        what = "several benchmarks"
    elif "file" not in found:
        what = f"{benchmark_words(some)} ({some['data']})"
    elif all(is_released(report) for report in reports.values()):
        what = f"{some['benchmark']}, several files"
    else:
        what = "MIG-Bench's form, several files"
    return f"{what}, {len(reports)} runs not like for like"


def mark(reports: Reports) -> str | None:
    """That runs are not like for like, what they differ in, and how; None where they are."""
    found = unlike(reports)
    if not found:
        return None
    return f"Not like for like, the runs differ in {_listed(list(found))}: {'; '.join(headed(reports).values())}."


def unreplied(reports: Reports) -> str | None:
    """How many questions of each run have no reply and count as 0; None where all have one."""
    runs = []
    for name, report in reports.items():
        lost = [(report.get("unanswered"), "without an answer"), ((report.get("failures") or {}).get("n"), "failed")]
        if words := [f"{count:,} {what}" for count, what in lost if count]:
            runs.append(f"{name} {_listed(words)} of {report['n']:,}")
    return f"Questions without a reply, each scored 0: {'; '.join(runs)}." if runs else None


def check_one_measure(reports: Reports) -> None:
    """Raise `UserError` for runs of different benchmarks, which have no figure in common."""
    (first, some), *others = reports.items()
    for name, report in others:
        if report["benchmark"] != some["benchmark"]:
            raise UserError(
                f"{first} and {name} score different benchmarks ({some['benchmark']}, {report['benchmark']}): "
                "show them apart"
            )
        if report["average"]["interval"].keys() != some["average"]["interval"].keys():
            raise UserError(f"{first} and {name} have figures of other kinds: score them again, by one version")


def check_same_questions(reports: Reports) -> None:
    """Raise `UserError` for runs that are not over the same file and rows, so that no question pairs their replies."""
    check_one_measure(reports)
    (first, some), *others = reports.items()
    for name, report in others:
        if report["data_sha256"] != some["data_sha256"]:
            files = f"{_file(some)}, {_file(report)}"
            raise UserError(
                f"{first} and {name} score different benchmark files ({files}): score both against the same"
            )
        counts, expected = ({t: f["n"] for t, f in one["per_task"].items()} for one in (report, some))
        if counts != expected or len({one["rows_sha256"] for one in (some, report) if "rows_sha256" in one}) > 1:
            raise UserError(f"{first} and {name} do not hold the same rows: score both in full, or show them apart")


@dataclass(frozen=True, slots=True)
class _Fact:
    """One of the things that figures depend on."""

    key: Any
    """What is compared; None for what is usual."""
    words: str
    """How it is said to a reader."""


def _facts(report: Mapping[str, Any]) -> dict[str, _Fact]:
    """What the figures of a report depend on beside the model; what the report does not say is left out."""
    plan, model = report.get("plan") or {}, report.get("model") or {}
    stretched = bool(report.get("y_stretch"))
    found = {
        "benchmark": _Fact(report["benchmark"], report["benchmark"]),
        "file": _Fact(report["data_sha256"], _file(report)),
        "rows": _rows(report),
        "protocol": _Fact(report["protocol"], f"{report['protocol']} protocol"),
        "y-stretch": _Fact(stretched, "with y-stretch" if stretched else "without y-stretch"),
    }
    if model:
        positions = model.get("positions")
        found["positions"] = _Fact(positions, f"{positions} positions" if positions else "its own positions")
    if "rows_sha256" in report:
        found["choice of rows"] = _Fact(report["rows_sha256"], f"rows of sha256 {report['rows_sha256'][:8]}")
    if report.get("style"):
        found["box style"] = _Fact(report["style"], f"boxes read as {report['style']}")
    if "wording" in plan:
        found["prompt"] = _Fact(plan["wording"], f"{plan['wording']} prompt")
    elif "answers" in report:
        found["prompt"] = _Fact(None, "prompt not known")
    if plan:
        mode = (report.get("chain_of_thought") or {}).get("mode")
        found["chain of thought"] = _Fact(mode, f"chain of thought ({mode})" if mode else "no chain of thought")
    if plan.get("max_new_tokens"):
        found["longest reply"] = _Fact(plan["max_new_tokens"], f"at most {plan['max_new_tokens']:,} new tokens")
    if pixels := model.get("max_pixels") or report.get("max_pixels"):
        found["pixel limit"] = _Fact(pixels, f"at most {pixels:,} pixels an image")
    return found


def _file(report: Mapping[str, Any]) -> str:
    known = "file_kind" in report and is_released(report)
    name = f"{report['file_kind']} file" if known else report.get("file_declared_as") or report["data"]
    return f"{name}, sha256 {report['data_sha256'][:8]}"


def _rows(report: Mapping[str, Any]) -> _Fact:
    if report["n"] == report["rows_in_file"]:
        return _Fact(None, f"all {report['n']:,} rows")
    counts = sorted((task, figures["n"]) for task, figures in report["per_task"].items())
    tasks = f"in {len(counts)} tasks" if len(counts) > 3 else f"of {_listed([task for task, _ in counts])}"
    return _Fact(counts, f"{report['n']:,} of {report['rows_in_file']:,} rows, {tasks}")


def _protocol(report: Mapping[str, Any]) -> str:
    return f"{report['protocol']} protocol" + (" with y-stretch" if report.get("y_stretch") else "")


def _source(report: Mapping[str, Any]) -> str | None:
    """Whose replies were scored: a file of answers, or weights."""
    found: str | None = report.get("answers_sha256") or (report.get("model") or {}).get("weights_fingerprint")
    return found


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
