"""What papers report on MIG-Bench, to stand beside our own figures, each with its file and its protocol.

Acc@0.5 in percent; source of the paper's rows: arXiv 2501.05767 v3, of the last two their own papers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from migician.errors import UserError, unknown

TASK_NAMES: dict[str, str] = {
    "diff": "static difference",
    "view_diff": "robust difference",
    "common_object": "common object",
    "object_tracking": "object tracking",
    "multi_view": "multi-view",
    "region": "region locating",
    "refer_grounding": "referring",
    "group_grounding": "group grounding",
    "reasoning": "reasoning",
    "correspondence": "correspondence",
}
"""Task as the files name it: as the paper does, in the paper's order."""

Way = Literal["published", "univg-r1", "own", "people"]
_WAYS: dict[Way, str] = {
    "published": "scored by the published script",
    "univg-r1": "scored by UniVG-R1's script",
    "own": "scored by its authors",
    "people": "people, not a model",
}


@dataclass(frozen=True, slots=True)
class Published:
    """One row of a paper's table."""

    name: str
    acc: tuple[float, ...]
    """Acc@0.5 in percent, in the order of `TASK_NAMES`."""
    average: float
    """As printed, which for some rows is not quite the mean of `acc`."""
    file: Literal["original", "revised"] = "original"
    """Of MIG-Bench; accuracies over one are not comparable with those over the other."""
    way: Way = "published"
    y_stretch: bool = False
    """Whether the script stretches this model's boxes downwards."""
    chain_of_thought: bool = False
    """Whether a first step asked for a description, which the second, for the box, could read."""
    source: str = "arXiv 2501.05767"

    @property
    def per_task(self) -> dict[str, float]:
        """Acc@0.5 in percent by task, as the files name it."""
        return dict(zip(TASK_NAMES, self.acc, strict=True))

    def describe(self) -> str:
        """Which file and protocol the figures belong to."""
        how = _WAYS[self.way]
        how += " with its y-stretch" if self.y_stretch else ""
        how += ", chain of thought in two steps" if self.chain_of_thought else ""
        return f"{self.name}: as published in {self.source}, {self.file} file, {how}; no interval given"


# fmt: off
PUBLISHED: dict[str, Published] = {
    "human": Published(
        "Human", (99.50, 97.87, 98.00, 100.00, 96.88, 100.00, 98.99, 91.06, 92.08, 97.44), 97.18, way="people"),
    "qwen2-vl-72b": Published(
        "Qwen2-VL-72B", (46.12, 46.81, 64.46, 26.73, 22.57, 18.62, 33.33, 62.53, 50.50, 17.09), 38.88),
    "internvl2-76b": Published(
        "InternVL2-76B", (15.91, 10.64, 36.40, 30.73, 20.83, 5.74, 46.46, 41.28, 32.67, 26.50), 26.72),
    "llava-onevision-72b": Published(
        "LLaVA-OV-72B", (13.26, 5.34, 26.84, 12.91, 7.64, 2.14, 17.83, 21.60, 11.88, 8.55), 13.65),
    "mantis": Published(
        "Mantis", (1.52, 0.00, 3.31, 12.18, 2.08, 1.00, 1.01, 10.02, 0.00, 0.85), 3.20),
    "llava-onevision-7b": Published(
        "LLaVA-OV-7B", (6.06, 3.19, 3.43, 0.18, 1.04, 1.08, 9.09, 15.43, 6.93, 0.85), 4.73),
    "minicpm-v-2.6": Published(
        "MiniCPM-V 2.6", (14.58, 2.13, 14.34, 9.82, 6.25, 1.75, 11.11, 10.02, 2.97, 2.56), 7.55),
    "mplug-owl3": Published(
        "mPLUG-Owl3", (18.56, 6.38, 34.93, 8.55, 7.64, 2.41, 7.07, 22.85, 9.09, 5.98), 12.35),
    "internvl2-8b": Published(
        "InternVL2-8B", (6.92, 7.45, 25.49, 20.73, 9.72, 3.49, 28.28, 30.26, 17.82, 9.40), 15.96),
    "qwen2-vl-7b": Published(
        "Qwen2-VL-7B", (27.84, 38.30, 19.36, 20.73, 11.81, 25.95, 23.23, 58.52, 48.51, 11.97), 28.62),
    "mplug-owl3-cot": Published(
        "mPLUG-Owl3 + CoT", (16.29, 8.51, 55.39, 44.36, 25.35, 19.04, 36.36, 30.86, 18.81, 10.26), 26.52,
        chain_of_thought=True),
    "internvl2-8b-cot": Published(
        "InternVL2-8B + CoT", (14.58, 7.45, 72.54, 40.91, 27.78, 28.60, 67.68, 44.49, 41.58, 11.97), 35.76,
        chain_of_thought=True),
    "qwen2-vl-7b-cot": Published(
        "Qwen2-VL-7B + CoT", (23.48, 40.43, 63.85, 62.73, 42.71, 24.85, 54.55, 43.29, 51.49, 30.77), 43.82,
        chain_of_thought=True),
    "migician": Published(
        "Migician", (65.15, 46.81, 84.19, 70.73, 60.07, 74.31, 76.77, 66.53, 59.41, 34.19), 63.82, y_stretch=True),
    "univg-r1": Published(
        "UniVG-R1", (71.97, 58.51, 93.13, 76.36, 66.32, 81.71, 82.83, 88.04, 62.89, 44.44), 72.64,
        file="revised", way="univg-r1", source="the paper of UniVG-R1"),
    # Its counts say which file: 88.25% of 485 rows and 72.16% of 97 are whole, of the original's rows they are not.
    "mg-thinker-7b": Published(
        "MG-Thinker 7B", (78.98, 62.77, 93.01, 82.55, 66.67, 88.78, 86.87, 88.25, 72.16, 47.01), 76.71,
        file="revised", way="own", source="arXiv 2609.37374"),
}
# fmt: on
"""By the name that `--published` takes."""


def published_named(names: Sequence[str]) -> list[Published]:
    """The rows of those names; raises `UserError` for one that is not known."""
    for name in names:
        if name not in PUBLISHED:
            raise UserError(unknown("published model", name, PUBLISHED))
    return [PUBLISHED[name] for name in names]


def caution(reports: Mapping[str, Mapping[str, Any]], published: Published) -> str | None:
    """Why a published row and runs (by name) are not of one measure, in a sentence; None where nothing differs.

    Raises `UserError` for a run of another benchmark.
    """
    runs: dict[str, list[str]] = {}
    for name, report in reports.items():
        for reason in _differences(name, report, published):
            runs.setdefault(reason, []).append(name)
    if not runs:
        return None
    found = [reason + (f" ({', '.join(names)})" if len(names) < len(reports) else "") for reason, names in runs.items()]
    return f"Not comparable with {published.name} as published: {'; '.join(found)}."


def _differences(name: str, report: Mapping[str, Any], published: Published) -> list[str]:
    if report["benchmark"] != "mig-bench":
        raise UserError(
            f"{name} is a run of {report['benchmark']}: the published figures here are of mig-bench. Drop --published"
        )
    found = []
    if report.get("file_released_as") is None:
        found.append(f"{report['data']} is no released MIG-Bench file")
    elif report["file_kind"] != published.file:
        found.append(f"it is on the {published.file} file, ours on the {report['file_kind']} one")
    if report["n"] < report["rows_in_file"]:
        found.append(f"ours is over {report['n']:,} of {report['rows_in_file']:,} rows")
    if published.way != "people":
        if published.way == "own" and report["protocol"] == "published":
            found.append("its authors may read replies in another way")
        elif published.way != report["protocol"]:
            found.append(f"it is {_WAYS[published.way]}, ours under {report['protocol']}")
        stretched = bool(report.get("y_stretch"))
        if published.y_stretch != stretched:
            found.append("only its boxes are y-stretched" if published.y_stretch else "only our boxes are y-stretched")
    wording = (report.get("plan") or {}).get("wording", "published")
    if published.way == "published" and wording != "published":
        found.append(f"it is asked with the published prompt, ours with the {wording} one")
    if published.chain_of_thought:
        found.append("it answers by chain of thought in two steps")
    elif report.get("chain_of_thought"):
        found.append("ours answers by chain of thought in two steps")
    return found
