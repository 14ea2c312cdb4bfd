"""Write eval/results.md and its pictures: real answers under each protocol, and where models are good.

python scripts/results.py --data revised_MIG_bench.json --answers Migician=migician.jsonl --answers Qwen2-VL=qwen2.jsonl
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from migician.benchmarks import Benchmark, mig_bench
from migician.benchmarks.published.figures import published_named
from migician.benchmarks.scoring.boxes import Record
from migician.benchmarks.scoring.scoring import Reading
from migician.benchmarks.scoring.values import value_of
from migician.boxtext import QWEN
from migician.errors import writing
from migician.evaluation.answer_files import read_answers
from migician.evaluation.records import score
from migician.evaluation.report import HEADINGS, build_report
from migician.metrics import METRICS
from migician.reports.figures import PICTURES
from migician.reports.tables import tables
from migician.reports.writers import write_markdown

READINGS = {
    "strict": Reading("strict", QWEN),
    "published": Reading("published", QWEN),
    "published + y-stretch": Reading("published", QWEN, y_stretch=True),
}
WHY = {
    "garbled": "written in another spelling than declared, or cut off, which `published` reads and `strict` does not",
    "wrong_image": "tied by the reply to another image, which `published` does not look at",
    "off_scale": "with a number beyond 1000, which `published` takes all the same",
    "no_box": "only in what is not the final answer",
    "other box": "with several boxes, of which `strict` takes the one tied to the image and `published` the first",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--answers", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, default=Path("eval/results.md"))
    parser.add_argument("--pictures", type=Path, default=Path("docs"))
    options = parser.parse_args()
    bench = mig_bench.load(options.data)
    given = dict(one.split("=", 1) for one in options.answers)
    sections = [section(bench, name, file) for name, file in given.items()]
    as_published = {name: published_run(bench, name, file) for name, file in given.items()}
    beside = published_named(["univg-r1"])
    for name, draw in PICTURES.items():
        with writing(options.pictures / f"{name}.png") as stream:
            stream.write(draw(as_published, beside))
    shown = tables(as_published, published_named(["migician", "qwen2-vl-7b", "univg-r1", "mg-thinker-7b"]))
    text = HEADER.format(file=bench.path.name, n=len(bench.questions), sha=bench.sha256) + "\n".join(sections)
    text += BESIDE + "\n".join(map(write_markdown, shown))
    with writing(options.out) as stream:
        stream.write(text.encode())
    print(f"written: {options.out}, {options.pictures}/{{{','.join(PICTURES)}}}.png")


HEADER = """# Real answers, scored

Made by `scripts/results.py`; do not edit. Scored are published answers to `{file}` ({n} rows, sha256 `{sha}`).
Percent, with 95% intervals clustered by image tuple. Figures over the original file are not comparable with these.

`strict` is this project's default; `published` is the paper's script; the y-stretch belongs to the released Migician
weights alone and is shown for the other model only to say what it costs.

"""


BESIDE = """
## Beside published figures

Each model as the paper scores it: `published`, with the y-stretch for Migician alone.

![Acc@0.5 by task as a radar](../docs/radar.png)

![Acc@0.5 by task as bars with intervals](../docs/bars.png)

"""


def published_run(bench: Benchmark, name: str, file: str) -> dict:  # type: ignore[type-arg]
    stretched = name == "Migician"
    reading = READINGS["published + y-stretch" if stretched else "published"]
    records = score(bench, read_answers(file, bench), reading)
    return build_report(bench, records, protocol={"protocol": "published", "y_stretch": stretched})


def section(bench: Benchmark, name: str, file: str) -> str:
    answers = read_answers(file, bench)
    records = {label: score(bench, answers, reading) for label, reading in READINGS.items()}
    reports = {
        label: build_report(bench, some, protocol={"protocol": label, "y_stretch": False})
        for label, some in records.items()
    }
    lines = [
        f"## {name}\n",
        "### Averages over the ten tasks\n",
        "| protocol | " + " | ".join(HEADINGS[metric] for metric in METRICS) + " |",
    ]
    lines.append("|---|" + "---|" * len(METRICS))
    for label, report in reports.items():
        lines.append(
            f"| {label} | " + " | ".join(str(value_of(report["average"], metric)) for metric in METRICS) + " |"
        )
    lines += [
        "\n### Acc@0.5 by task\n",
        "| task | n | " + " | ".join(reports) + " |",
        "|---|---|" + "---|" * len(reports),
    ]
    for task, figures in reports["strict"]["per_task"].items():
        cells = " | ".join(str(value_of(report["per_task"][task], "acc@0.5")) for report in reports.values())
        lines.append(f"| {task} | {figures['n']} | {cells} |")
    lines += ["\n### Where strict and published differ\n", *differences(records["strict"], records["published"])]
    return "\n".join(lines) + "\n"


def differences(strict: list[Record], published: list[Record]) -> list[str]:
    causes: dict[str, Counter[str]] = {}
    hits: Counter[str] = Counter()
    for ours, theirs in zip(strict, published, strict=True):
        if abs(ours.iou - theirs.iou) > 1e-9:
            cause = ours.outcome if ours.outcome in WHY else "other box"
            causes.setdefault(ours.task, Counter())[cause] += 1
            hits[ours.task] += (theirs.iou >= 0.5) - (ours.iou >= 0.5)
    if not causes:
        return ["No row differs."]
    sentences = []
    for task, counts in causes.items():
        what = "; ".join(f"{count} {WHY[cause]}" for cause, count in counts.items())
        sentences.append(f"- `{task}`: {what}. `published` counts {hits[task]:+d} hits at 0.5.")
    return sentences


if __name__ == "__main__":
    main()
