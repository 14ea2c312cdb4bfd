"""Ask -> reply -> record: run a model over a benchmark, stop and resume at will, report.

A run's folder holds `run.json` (what was asked of whom), `answers.jsonl` (one line a reply,
written as it comes) and, at the end, `records.jsonl` and `report.json`. The same command again
resumes where the last one stopped. Batches are formed before anything is asked and written in one
piece, so a run that was killed gives the report of one that was not. Started with torchrun, the
processes divide the batches among them, and the report is that of one process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from migician.benchmarks import Benchmark, Question
from migician.benchmarks.images import resolve_images
from migician.benchmarks.scoring.scoring import Reading
from migician.boxes import Size
from migician.errors import UserError
from migician.evaluation.answer_log import ImageFile, Logged, answers_file, append, collect, lock_run
from migician.evaluation.asked_images import known_again, looking
from migician.evaluation.batch_runner import BatchRunner, Replies
from migician.evaluation.batches import Limits, form_batches, partition
from migician.evaluation.ranks import Ranks
from migician.evaluation.report import Report, score_answers
from migician.models import seen_sizes
from migician.models.faults import BEARING, FailureGuard, Tolerance
from migician.models.pictures import shrunk
from migician.models.protocol import Independent, Model, Request, Staged


@dataclass(frozen=True, slots=True)
class Plan:
    """Which questions are asked, and how; part of a run's identity."""

    wording: str = "corrected"
    batch_size: int = 1
    max_new_tokens: int = 128
    tasks: tuple[str, ...] = ()
    """Only these tasks; empty for all."""
    limit: int | None = None
    """Only the first N questions of each task."""
    chain: str = ""
    """The chain of thought that the questions are part of (see `chain_of_thought`); empty for none."""


ALONE = Ranks()
"""One process, as without torchrun."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One run: whom to ask, about which images, where the answers go, and how faults are taken."""

    model: Model
    images: Path
    """The folder that the benchmark's image names start from, or its parent."""
    out: Path
    """The run's folder."""
    plan: Plan
    tolerance: Tolerance = BEARING
    by_content: bool = False
    """Compare images by their content, not by size and time (see `asked_images`)."""
    force: bool = False
    """Throw away first what `out` holds, answers and all."""
    ranks: Ranks = ALONE
    """This process among several that were started for the same run; each of them gets the report."""
    progress: Callable[[int, int], None] = lambda done, total: None
    """Called with (questions done, questions in all)."""


_READING = ("protocol", "y_stretch", "style")
"""What a report says of how replies were read; the rest of a run's settings stands in `run.json`."""
_LETTERS_PER_TOKEN = 4


def choose(bench: Benchmark, plan: Plan) -> list[Any]:
    """The questions of a plan, in the order of the file; raises `UserError` for a task the file does not have."""
    known = list(dict.fromkeys(question.task for question in bench.questions))
    unknown = [task for task in plan.tasks if task not in known]
    if unknown:
        raise UserError(f"task {unknown[0]!r} is not in {bench.path}. Its tasks: {', '.join(known)}")
    taken: dict[str, int] = {}
    chosen = []
    for question in bench.questions:
        if plan.tasks and question.task not in plan.tasks:
            continue
        taken[question.task] = taken.get(question.task, 0) + 1
        if plan.limit is None or taken[question.task] <= plan.limit:
            chosen.append(question)
    return chosen


def evaluate(bench: Benchmark, asking: Asking, reading: Reading) -> Report:
    """Ask every question of the plan that the run has no answer to, then score and report.

    Where the folder has this very report already, nothing is written, and it is given as `Kept`. Raises `UserError` if
    an image is missing, if the folder holds another run or is in use, and if an image is another than when it was asked
    about. An image that turns out to be unreadable, and whatever else a single question brings about in the model, is
    an answer that failed; `RunStopped` is raised where more fail than tolerated, and where the fault is not a
    question's (see `migician.models.faults`).
    """
    answered = ask(bench, asking)
    return asking.ranks.first(lambda: answered.score(bench, asking, reading))


@dataclass(frozen=True, slots=True)
class Answered:
    """All answers of a run, and what a report must say of how they came about."""

    answers: dict[int, Logged]
    spec: dict[str, Any]

    def score(self, bench: Benchmark, asking: Asking, reading: Reading) -> Report:
        """Write the report over the answers into the run's folder, in place of one that was read alike."""
        partial = len(self.answers) < len(bench.questions)
        return score_answers(
            bench,
            self.answers,
            reading,
            asking.out,
            images=asking.images,
            partial=partial,
            spec=self.spec,
            same=_READING,
        )


def ask(bench: Benchmark, asking: Asking) -> Answered:
    """Ask every question of the plan that the run has no answer to; see `evaluate`."""
    model, plan, out, tolerance, ranks = asking.model, asking.plan, asking.out, asking.tolerance, asking.ranks
    questions = choose(bench, plan)
    paths = {question.index: resolve_images(question, asking.images) for question in questions}
    identity = {
        "benchmark": bench.name,
        "data_sha256": bench.sha256,
        "max_side_px": bench.max_side_px,
        "model": model.describe(),
        "plan": msgspec.to_builtins(plan),
    }
    tokens = _lengths(model, questions, paths, plan, bench.max_side_px)
    limits = Limits(plan.batch_size, model.token_budget if isinstance(model, Staged) else None)
    batches = form_batches(questions, tokens, limits)
    if isinstance(model, Independent):
        batches = [[question] for batch in batches for question in batch]
    rows = [[question.index for question in batch] for batch in batches]
    look = looking(asking.by_content)
    with ExitStack() as held:

        def admit(before: dict[int, Logged]) -> dict[int, Logged]:
            _refuse_foreign(before, questions, out)
            staying = {row: answer for row, answer in before.items() if not tolerance.retries(answer.fault)}
            return {**before, **known_again(staying, paths, look, by_content=asking.by_content)}

        def open_folder() -> dict[int, str | None]:
            """What is answered already: the reason for each that failed, None for the others."""
            held.enter_context(lock_run(out, identity, asking.images, force=asking.force))
            return {row: answer.fault for row, answer in collect(out, rows, admit).items()}

        def gathered() -> Answered:
            answers = collect(out, rows)
            if missing := len(questions) - len(answers):
                raise UserError(f"{missing} answers of other processes are not in {out}: all must see the same folder")
            faults = [answer.fault for answer in answers.values()]
            guard = FailureGuard(tolerance, len(questions), (), is_proven=False)
            if faults and not guard.admit(faults):
                raise guard.none_answered()
            guard.check()
            return Answered(answers, {**identity, **_effort(answers, questions, len(batches))})

        before = ranks.first(open_folder)
        done = {row for row, fault in before.items() if not tolerance.retries(fault)}
        failed = [fault for row in done if (fault := before[row]) is not None]
        guard = FailureGuard(
            tolerance, len(questions), failed, is_proven=any(fault is None for fault in before.values())
        )
        guard.check()
        rest = [left for batch in batches if (left := [one for one in batch if one.index not in done])]
        costs = [len(batch) * max(tokens[question.index] for question in batch) for batch in rest]
        mine = partition(rest, costs, ranks.count)[ranks.rank]
        answered, total = len(done), len(done) + sum(map(len, mine))
        asking.progress(answered, total)
        asked = [question.index for batch in mine for question in batch]
        sizes = {index: seen_sizes(model, paths[index], bench.max_side_px) for index in asked}
        files = {path: look(path, None) for index in asked for path in paths[index]}

        def request(question: Question) -> Request:
            prompt = bench.prompt(question, plan.wording, model.family, sizes[question.index])
            pictures = tuple(paths[question.index])
            return Request(pictures, prompt, plan.max_new_tokens, max_side_px=bench.max_side_px)

        requests = [[request(question) for question in batch] for batch in mine]
        unbooked: list[Logged] = []
        with closing(BatchRunner(model).ask(requests)) as coming:
            for replies in coming:
                batch = mine[replies.batch]
                unbooked += _answers(batch, replies, sizes, paths, files)
                answered += len(batch)
                if guard.admit([reply.fault for reply in replies.replies]):
                    append(answers_file(out, ranks.rank), unbooked)
                    unbooked.clear()
                    guard.check()
                asking.progress(answered, total)
        if unbooked:
            if ranks.count == 1:
                raise guard.none_answered()
            append(answers_file(out, ranks.rank), unbooked)  # other processes may have been answered
        return ranks.first(gathered)


def _lengths(
    model: Model,
    questions: Sequence[Question],
    paths: Mapping[int, Sequence[Path]],
    plan: Plan,
    max_side_px: int | None,
) -> dict[int, int]:
    """About how many tokens each question and its reply take, by row; all alike for a model that does not say."""
    if not isinstance(model, Staged):
        return dict.fromkeys((question.index for question in questions), 1)
    files = {path for question in questions for path in paths[question.index]}
    images = {path: model.image_tokens(_size(path, max_side_px)) for path in files}
    return {
        question.index: sum(images[path] for path in paths[question.index])
        + len(question.text) // _LETTERS_PER_TOKEN
        + plan.max_new_tokens
        for question in questions
    }


def _size(path: Path, max_side_px: int | None) -> Size:
    """Width and height, before any turning, which costs no tokens; (0, 0) where the file cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return shrunk(image.size, max_side_px)
    except (OSError, ValueError, Image.DecompressionBombError):
        return 0, 0


Sizes = Mapping[int, Sequence[Size] | None]
"""Those of each question's images as the model sees them, by row; None for models that do not count pixels."""


def _answers(
    batch: Sequence[Question],
    replies: Replies,
    sizes: Sizes,
    paths: Mapping[int, Sequence[Path]],
    files: Mapping[Path, ImageFile],
) -> list[Logged]:
    """What is kept of a batch; its counts stand in its first line."""
    seconds = round(replies.model_seconds / len(batch), 4)
    return [
        Logged(
            question.index,
            reply.text,
            question.task,
            reply.fault,
            seconds,
            None if (seen := sizes[question.index]) is None else tuple(seen),
            reply.reasoning,
            dropped=reply.dropped or None,
            work=None if at else replies.work,
            outside_seconds=None if at else round(replies.outside_seconds, 4),
            image_files=tuple(files[path] for path in paths[question.index]),
        )
        for at, (question, reply) in enumerate(zip(batch, replies.replies, strict=True))
    ]


def _effort(answers: Mapping[int, Logged], questions: Sequence[Question], batches: int) -> dict[str, Any]:
    """What the questions are made of, how often the model did what, its time and the time between batches; over all
    processes and starts. Beside that, what a server refused.
    """
    tuples = {question.images for question in questions}
    counted: Counter[str] = Counter()
    for answer in answers.values():
        counted.update(answer.work or {})
    dropped = sorted({name for answer in answers.values() for name in answer.dropped or ()})
    return {
        "work": {
            "questions": len(questions),
            "image_slots": sum(len(question.images) for question in questions),
            "image_tuples": len(tuples),
            "distinct_images": len({image for images in tuples for image in images}),
            "batches": batches,
            **counted,
        },
        "model_seconds": round(sum(answer.seconds or 0 for answer in answers.values()), 3),
        "outside_seconds": round(sum(answer.outside_seconds or 0 for answer in answers.values()), 3),
        **({"dropped_parameters": dropped} if dropped else {}),
    }


def _refuse_foreign(answers: Mapping[int, Logged], questions: Sequence[Question], out: Path) -> None:
    """Raise `UserError` for an answer whose task or number of images is that of another question."""
    for question in questions:
        answer = answers.get(question.index)
        if answer is None:
            continue
        counts = {len(some) for some in (question.images, answer.sizes, answer.image_files) if some is not None}
        if answer.task not in (None, question.task) or len(counts) > 1:
            raise UserError(
                f"{out / 'answers.jsonl'}: damaged (the answer to question {question.index} is another's): remove it "
                "to ask again, or choose another --out"
            )
