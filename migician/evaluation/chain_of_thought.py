"""Chain of thought on MIG-Bench: the target in words first, then its box (arXiv 2501.05767, section 5).

Step 1 shows all images and asks for a short description of the target. Step 2 asks for the box, with that text:
"single" shows only the image that the target is in, "multi" all of them again. Which image that is,
the benchmark's rules say by task; for group_grounding it is the one that the model's own description names, the first
if it names none. Under the wording "published" both steps ask what the published script asks (`prompts`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from migician.benchmarks import Benchmark
from migician.benchmarks.mig_bench import MigBench
from migician.benchmarks.published import prompts
from migician.benchmarks.scoring.boxes import BOXES, Question, Record
from migician.benchmarks.scoring.scoring import Answer, Reading, SizeOf
from migician.boxes import Size
from migician.boxtext import plain
from migician.errors import UserError
from migician.evaluation.ask import ALONE, Plan, Progress, ask
from migician.evaluation.ranks import Ranks
from migician.evaluation.report import Report
from migician.imagenames import asked_image, clear_names, image_names, ordinal
from migician.models.family import Family
from migician.models.faults import BEARING, Tolerance
from migician.models.protocol import Model

Mode = Literal["single", "multi"]

_SECOND = ("correspondence", "diff", "reasoning", "refer_grounding", "view_diff")
_DESCRIBE: dict[str, str] = {
    "diff": "In a few words, what differs between the two images?",
    "view_diff": "In a few words, which object differs between the two views?",
    "common_object": "In a few words, which object do all the images have in common?",
    "object_tracking": "In a few words, what is the marked object of the first image, and where is it in the other?",
    "multi_view": "In a few words, what is the marked object of the first image, and where is it in the other?",
    "region": "In a few words, what does the asked region show, and where is that in the first image?",
    "refer_grounding": "In a few words, what is the object in the first image?",
    "group_grounding": "Which image shows what is asked for? Give the image's number and a few words on it.",
    "reasoning": "In a few words, which object in the second image answers the question?",
    "correspondence": "In a few words, what is the marked area of the first image, and what in the second is like it?",
}
_ANY_TASK = "In a few words, what is the object that is asked for?"
_SHORT = " Give no coordinates."


@dataclass(frozen=True, slots=True)
class Described(MigBench):
    """Step 1: every question asks for words."""

    def prompt(self, question: Question, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
        """The question and what to describe, without a sentence on how to write a box."""
        return family.respelled(question.text, sizes)


@dataclass(frozen=True, slots=True)
class Located(MigBench):
    """Step 2 as published: every question says how to write a box, in the chain's sentence, which has no slips."""

    def prompt(self, question: Question, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
        """The question, then the family's format."""
        return f"{family.respelled(question.text, sizes)} {family.format}"


def evaluate_chain(
    bench: Benchmark,
    model: Model,
    images: Path,
    out: Path,
    *,
    mode: Mode,
    reading: Reading,
    plan: Plan,
    tolerance: Tolerance = BEARING,
    by_content: bool = False,
    ranks: Ranks = ALONE,
    progress: Progress = lambda done, total: None,
    force: bool = False,
) -> Report:
    """Both steps, each resumable, then the report; `out/step-1` holds the descriptions as a run of its own.

    Each record's question is that of step 2, with the description in it. Where step 1 failed, step 2 asks without a
    description; the report counts how often. Under `strict`, a box asked for in another image than the target's is
    "wrong_image". Raises what `evaluate` does.
    """
    bench = chained(bench)
    first = dataclasses.replace(plan, chain=f"{mode}, step 1")
    asked_of = partial(ask, tolerance=tolerance, by_content=by_content, ranks=ranks, progress=progress, force=force)
    told = asked_of(describing(bench, plan.wording), model, images, out / "step-1", plan=first)
    texts = {index: answer.response for index, answer in told.answers.items()}
    shown = {index: target_image(bench.questions[index], text) for index, text in texts.items()}
    asked, scored = locating(bench, texts, shown, mode, plan.wording)
    second = dataclasses.replace(plan, chain=f"{mode}, step 2")
    replies = asked_of(asked, model, images, out, plan=second)
    about = {"mode": mode, "step_1": told.spec, "step_1_failed": sum(text is None for text in texts.values())}
    replies = dataclasses.replace(replies, spec={**replies.spec, "chain_of_thought": about})
    return ranks.first(lambda: replies.score(scored, reading, out, images))


def rehearse(bench: Benchmark, mode: Mode, wording: str) -> tuple[MigBench, MigBench]:
    """Both steps as they would be asked, with a placeholder for the words of step 1; raises what `chained` does."""
    known = chained(bench)
    words: dict[int, str | None] = {one.index: "(the reply of step 1)" for one in known.questions}
    shown = {one.index: target_image(one, None) for one in known.questions}
    return describing(known, wording), locating(known, words, shown, mode, wording)[0]


def chained(bench: Benchmark) -> MigBench:
    """`bench`, if it can be asked this way; raises `UserError` where it is not MIG-Bench asked image by image."""
    if not isinstance(bench, MigBench):
        raise UserError(f"chain of thought is for mig-bench, not for {bench.name}: leave --cot out")
    return bench


def describing(bench: MigBench, wording: str = "corrected") -> Described:
    """The questions of step 1."""

    def asked(one: Question) -> str:
        if wording == "published":
            return prompts.describe(one)
        return f"{one.text.rstrip()}\n{_DESCRIBE.get(one.task, _ANY_TASK)}{_SHORT}"

    questions = tuple(dataclasses.replace(one, text=asked(one)) for one in bench.questions)
    return Described(bench.path, bench.sha256, bench.kind, questions, bench.name)


def target_image(question: Question, description: str | None) -> int:
    """The image (0-based) that step 2 of "single" shows."""
    if question.task == "group_grounding":
        named = clear_names(description or "") or image_names(description or "")
        image = named[0].image if named else 0
    elif question.task == "region":
        image = 0
    else:
        image = 1 if question.task in _SECOND else asked_image(question.text) or 0
    return image if image < len(question.images) else 0


def locating(
    bench: MigBench,
    texts: Mapping[int, str | None],
    shown: Mapping[int, int],
    mode: Mode,
    wording: str = "corrected",
) -> tuple[MigBench, MigBench]:
    """The questions of step 2 as they are asked, and as their replies are scored: over all images of the row."""
    asked, scored = [], []
    for one in bench.questions:
        if one.index not in texts:
            asked.append(one)
            scored.append(one)
            continue
        image, described = shown[one.index], plain((texts[one.index] or "").strip())
        if wording == "published":
            text = prompts.locate(one, described.strip("."), image, all_images=mode == "multi")
        else:
            hint = f"\nThe target, described from all images: {described}" if described else ""
            where = f"\nYou now see only the {ordinal(image)} of the images. Locate the target in it."
            text = one.text.rstrip() + hint + (where if mode == "single" else "")
        question = dataclasses.replace(one, text=text)
        scored.append(question)
        asked.append(dataclasses.replace(question, images=(one.images[image],)) if mode == "single" else question)
    scoring = BOXES
    if mode == "single":
        scoring = dataclasses.replace(BOXES, score_one=partial(_score_shown, shown))
    kind = Located if wording == "published" else MigBench
    return (
        kind(bench.path, bench.sha256, bench.kind, tuple(asked), bench.name),
        dataclasses.replace(bench, questions=tuple(scored), scoring=scoring),
    )


def _score_shown(shown: Mapping[int, int], question: Any, answer: Answer, reading: Reading, size_of: SizeOf) -> Record:
    """The record of a reply to one image of a row: whatever the reply calls it, its boxes are in the image shown."""
    seen = dataclasses.replace(question, target=None)
    record: Record = BOXES.score_one(seen, answer, reading, lambda one, _: size_of(one, 0))
    record = _changed(record, target=question.target)
    image = shown.get(question.index)
    if reading.protocol != "strict" or record.outcome not in ("correct", "wrong_box"):
        return record
    if question.target is not None and image != question.target:
        return _changed(record, image=image, outcome="wrong_image", iou=0.0)
    return _changed(record, image=image)


def _changed(record: Record, **fields: Any) -> Record:
    return msgspec.structs.replace(record, **fields)
