"""Chain of thought on MIG-Bench: the target in words first, then its box (arXiv 2501.05767, section 5).

Step 1 shows all images and asks for a short description of the target. Step 2 asks for the box, with that text:
"single" shows only the image that the target is in, "multi" all of them again. Which image that is,
the benchmark's rules say by task; for group_grounding it is the one that the model's own description names, the first
if it names none. Under the wording "published" both steps ask what the published script asks (`prompts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import msgspec

from migician.benchmarks import Benchmark
from migician.benchmarks.published import prompts
from migician.benchmarks.scoring.boxes import BOXES, BoxQuestion, Record
from migician.benchmarks.scoring.scoring import Answer, Reading, SizeOf
from migician.boxes import Size
from migician.boxtext import plain
from migician.errors import UserError
from migician.evaluation.ask import Asking, ask
from migician.evaluation.report import Report
from migician.imagenames import asked_image, clear_names, image_names, ordinal
from migician.models.family import Family

Mode = Literal["single", "multi"]
"""Which images step 2 shows."""

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


def _words_only(question: BoxQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """The prompt of step 1: the question and what to describe, without a sentence on how to write a box."""
    return family.respelled(question.text, sizes)


def _with_format(question: BoxQuestion, wording: str, family: Family, sizes: Sequence[Size] | None) -> str:
    """The prompt of step 2 as published: every question says how to write a box, in a sentence without slips."""
    return f"{family.respelled(question.text, sizes)} {family.format}"


def evaluate_chain(bench: Benchmark, asking: Asking, reading: Reading, mode: Mode) -> Report:
    """Both steps, each resumable, then the report; `step-1` in the run's folder holds the descriptions as a run.

    Each record's question is that of step 2, with the description in it. Where step 1 failed, step 2 asks without a
    description; the report counts how often. Under `strict`, a box asked for in another image than the target's is
    "wrong_image". Raises what `evaluate` does.
    """
    first, second = (replace(asking.plan, chain=f"{mode}, step {step}") for step in (1, 2))
    described = ask(describing(chained(bench), first.wording), replace(asking, plan=first, out=asking.out / "step-1"))
    texts = {index: answer.response for index, answer in described.answers.items()}
    shown = {index: target_image(bench.questions[index], text) for index, text in texts.items()}
    asked, scored = locating(bench, texts, shown, mode, first.wording)
    located = ask(asked, replace(asking, plan=second))
    about = {"mode": mode, "step_1": described.spec, "step_1_failed": sum(text is None for text in texts.values())}
    located = replace(located, spec={**located.spec, "chain_of_thought": about})
    return asking.ranks.first(lambda: located.score(scored, asking, reading))


def rehearse(bench: Benchmark, mode: Mode, wording: str) -> tuple[Benchmark, Benchmark]:
    """Both steps as they would be asked, with a placeholder for the words of step 1; raises what `chained` does."""
    known = chained(bench)
    words: dict[int, str | None] = {one.index: "(the reply of step 1)" for one in known.questions}
    shown = {one.index: target_image(one, None) for one in known.questions}
    return describing(known, wording), locating(known, words, shown, mode, wording)[0]


def chained(bench: Benchmark) -> Benchmark:
    """`bench`, if it can be asked this way; raises `UserError` where it is not MIG-Bench asked image by image."""
    if bench.name != "mig-bench":
        raise UserError(f"chain of thought is for mig-bench, not for {bench.name}: leave --cot out")
    if any(question.is_absent for question in bench.questions):
        raise UserError(f"{bench.path}: chain of thought describes a target, and not all are there: leave --cot out")
    return bench


def describing(bench: Benchmark, wording: str = "corrected") -> Benchmark:
    """The questions of step 1."""

    def asked(one: BoxQuestion) -> str:
        if wording == "published":
            return prompts.describe(one)
        return f"{one.text.rstrip()}\n{_DESCRIBE.get(one.task, _ANY_TASK)}{_SHORT}"

    questions = tuple(replace(one, text=asked(one)) for one in bench.questions)
    return replace(bench, questions=questions, prompt=_words_only)


def target_image(question: BoxQuestion, description: str | None) -> int:
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
    bench: Benchmark,
    texts: Mapping[int, str | None],
    shown: Mapping[int, int],
    mode: Mode,
    wording: str = "corrected",
) -> tuple[Benchmark, Benchmark]:
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
        question = replace(one, text=text)
        scored.append(question)
        asked.append(replace(question, images=(one.images[image],)) if mode == "single" else question)
    scoring = BOXES
    if mode == "single":
        scoring = replace(BOXES, score_one=partial(_score_shown, shown))
    prompt = _with_format if wording == "published" else bench.prompt
    return (
        replace(bench, questions=tuple(asked), prompt=prompt),
        replace(bench, questions=tuple(scored), scoring=scoring),
    )


def _score_shown(shown: Mapping[int, int], question: Any, answer: Answer, reading: Reading, size_of: SizeOf) -> Record:
    """The record of a reply to one image of a row: whatever the reply calls it, its boxes are in the image shown."""
    seen = replace(question, target=None)
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
