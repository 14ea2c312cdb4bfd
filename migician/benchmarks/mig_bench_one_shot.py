"""MIG-Bench asked in one shot: one box in each of several images, instead of one image at a time.

The file is MIG-Bench's own. The rows of `common_object`, `object_tracking` and `multi_view` that ask the
same of the same images, and differ only in the image they ask about, become one question; of
`group_grounding`, whose answer may be in any image, each row is one. The other tasks ask about one
fixed image and are left out. Its figures are of their own kind and compare with no polling figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from migician.benchmarks import Benchmark, mig_bench, no_official
from migician.benchmarks.scoring.boxes import BoxQuestion
from migician.benchmarks.scoring.matching import MATCHING, Placed, SetQuestion
from migician.boxes import Size
from migician.errors import UserError
from migician.imagenames import image_names
from migician.models.family import Family

POLLED = ("common_object", "object_tracking", "multi_view")
"""Tasks that ask for one object in one image after another."""
SEARCHED = ("group_grounding",)
"""Tasks whose answer may be in any of the images."""

FORMAT = {
    "each": "Answer with one line for each of them. Format: Image-N: {box}",
    "any": "Say in which image it is. Format: Image-N: {box}",
}
"""What follows a question: of several images, and of one that is to be found."""


def prompt(question: SetQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """The question, then how to write boxes with their images; nothing is published, so `wording` changes nothing."""
    no_official("mig-bench-one-shot", wording)
    form = FORMAT["each" if question.task in POLLED else "any"]
    box = family.style.filled("x1", "y1", "x2", "y2")
    return f"{family.respelled(question.text, sizes)} {form.format(box=box)}"


def load(path: str | Path) -> Benchmark:
    """The one-shot form of a MIG-Bench file; raises `UserError` as `mig_bench.load` does, and where nothing is left."""
    polling = mig_bench.load(path)
    groups: dict[tuple[str, tuple[str, ...], str], list[BoxQuestion]] = {}
    left_out: dict[str, int] = {}
    for question in polling.questions:
        stem = _stem(question)
        if stem is None:
            left_out[question.task] = left_out.get(question.task, 0) + 1
        else:
            groups.setdefault((question.task, question.images, stem), []).append(question)
    if not groups:
        raise UserError(f"{path}: has no question of {', '.join((*POLLED, *SEARCHED))}, so none to ask in one shot")
    merged = tuple(_merged(index, stem, rows) for index, ((*_, stem), rows) in enumerate(groups.items()))
    facts = {name: value for name, value in polling.facts.items() if name != "duplicate_rows"} | {
        "form": "one-shot: several images asked at once, boxes matched one to one within their image",
        "rows_merged": sum(len(question.rows) for question in merged),
        "rows_left_out": left_out,
        "prompt": FORMAT,
    }
    name = "mig-bench-one-shot"
    return Benchmark(name, polling.path, polling.sha256, merged, MATCHING, prompt, facts, max_new_tokens=512)


def _stem(question: BoxQuestion) -> str | None:
    """What rows about the same object share: the text with "{images}" for the asked image; None for other rows."""
    if question.target is None:
        return None
    text = question.text.strip().replace("{", "{{").replace("}", "}}")
    if question.task in SEARCHED:
        return text
    names = image_names(text)
    if question.task not in POLLED or not names:
        return None
    start, end = names[-1].span
    before = text[:start]
    return f"{before.removesuffix('the ')}{{images}}{text[end:]}"


def _merged(index: int, stem: str, rows: list[BoxQuestion]) -> SetQuestion:
    # Two of the file's rows are there twice; a box asked for once is there once.
    truths = {(row.target, row.truth) for row in rows if row.target is not None and row.truth is not None}
    placed = tuple(Placed(image, box) for image, box in sorted(truths, key=lambda one: (one[0], one[1].as_tuple())))
    asked = ", ".join(f"Image-{image + 1}" for image in sorted({truth.image for truth in placed}))
    text = stem.format(images=f"each of these images: {asked}")
    return SetQuestion(index, rows[0].task, rows[0].images, text, placed, tuple(row.index for row in rows))
