"""Ask -> reply -> record: run a model over a benchmark, stop and go on at will, report.

A run's folder holds `run.json` (what was asked of whom), `answers.jsonl` (one line a reply,
written as it comes) and, at the end, `records.jsonl` and `report.json`. The same command again
goes on where the last one stopped. Batches are cut from the list of questions before anything
is asked and written in one piece, so a run that was killed gives the report of one that was not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from migician.benchmarks.mig_bench import MigBench, Question, prompt, resolve_images
from migician.boxes import Size
from migician.errors import UserError, writing
from migician.models import Model, Request, seen_sizes
from migician.report import Report, score_answers
from migician.scoring import Answer, Reading


@dataclass(frozen=True, slots=True)
class Plan:
    """Which questions are asked, and how; part of a run's identity."""

    wording: str = "corrected"
    batch_size: int = 1
    max_new_tokens: int = 128
    tasks: tuple[str, ...] = ()
    """Only these tasks; empty for all."""
    limit: int | None = None
    """Only so many questions of each task, the first ones."""


Progress = Callable[[int, int], None]
"""Called with (questions done, questions in all)."""


def choose(bench: MigBench, plan: Plan) -> list[Question]:
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


def evaluate(
    bench: MigBench,
    model: Model,
    images: Path,
    out: Path,
    *,
    reading: Reading,
    plan: Plan,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Ask `model` every question of the plan that `out` has no answer to, then score and report.

    Raises `UserError` if an image is missing or unreadable, or if `out` holds another run.
    """
    questions = choose(bench, plan)
    paths = {question.index: resolve_images(question, images) for question in questions}
    identity = {
        "data_sha256": bench.sha256,
        "model": model.describe(),
        "plan": msgspec.to_builtins(plan),
    }
    log = AnswerLog(out, identity, images)
    batches = [questions[at : at + plan.batch_size] for at in range(0, len(questions), plan.batch_size)]
    answers = log.resume(batches)
    progress(len(answers), len(questions))
    for batch in batches:
        if batch[0].index in answers:
            continue
        fresh = _ask(model, batch, paths, plan)
        log.append(fresh)
        answers.update((answer.index, answer) for answer in fresh)
        progress(len(answers), len(questions))
    _refuse_all_failed(answers, out)
    spec = {**identity, "model_seconds": round(sum(answer.seconds or 0 for answer in answers.values()), 3)}
    return score_answers(
        bench, answers, reading, out, images=images, partial=len(questions) < len(bench.questions), spec=spec
    )


class AnswerLog:
    """The answers of one run on disk, whole batches only."""

    def __init__(self, out: Path, identity: dict[str, Any], images: Path) -> None:
        self._path = out / "answers.jsonl"
        run = out / "run.json"
        if run.exists():
            _compare_runs(run, identity)
        elif self._path.exists():
            raise UserError(
                f"{self._path} exists, but not the run.json that says whose answers they are: choose another --out"
            )
        else:
            with writing(run) as stream:
                content = msgspec.json.encode({**identity, "images": str(images.resolve())})
                stream.write(msgspec.json.format(content, indent=2) + b"\n")

    def resume(self, batches: Sequence[Sequence[Question]]) -> dict[int, Answer]:
        """The answers kept from an earlier start, by row.

        A batch that was cut while it was written is dropped, to be asked again in full: then
        its replies do not depend on where the run was stopped.
        """
        if not self._path.exists():
            return {}
        content = self._path.read_bytes()
        kept: dict[int, Answer] = {}
        for line in content.split(b"\n")[:-1]:  # what follows the last newline was cut
            try:
                answer = msgspec.json.decode(line, type=Answer)
            except msgspec.DecodeError as error:
                raise UserError(
                    f"{self._path}: damaged ({error}): remove it to ask again, or choose another --out"
                ) from None
            kept[answer.index] = answer
        whole = {
            question.index: kept[question.index]
            for batch in batches
            if all(question.index in kept for question in batch)
            for question in batch
        }
        lines = b"".join(_line(answer) for answer in whole.values())
        if lines != content:
            with writing(self._path) as stream:
                stream.write(lines)
        return whole

    def append(self, answers: Sequence[Answer]) -> None:
        """Add the answers of one batch, in one write."""
        content = b"".join(_line(answer) for answer in answers)
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, content)
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}. What was answered is kept") from None
        finally:
            os.close(handle)


def images_of(out: Path) -> Path | None:
    """The image folder of the run in `out`; None where it holds no run."""
    run = out / "run.json"
    if not run.exists():
        return None
    return Path(msgspec.json.decode(run.read_bytes())["images"])


def _line(answer: Answer) -> bytes:
    return msgspec.json.encode(answer) + b"\n"


def _compare_runs(run: Path, identity: dict[str, Any]) -> None:
    try:
        before: dict[str, Any] = msgspec.json.decode(run.read_bytes())
    except msgspec.DecodeError:
        raise UserError(f"{run}: damaged: choose another --out") from None
    now = msgspec.json.decode(msgspec.json.encode(identity))
    for name in ("data_sha256", "model", "plan"):
        if before.get(name) == now[name]:
            continue
        different = _first_difference(before.get(name), now[name])
        raise UserError(f"{run.parent} holds another run: {name}{different}. Choose another --out to start anew")


def _first_difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in now:
            if before.get(key) != now[key]:
                return f".{key}{_first_difference(before.get(key), now[key])}"
    return f" was {before!r} and is now {now!r}"


def _ask(model: Model, batch: Sequence[Question], paths: Mapping[int, list[Path]], plan: Plan) -> list[Answer]:
    sizes = {question.index: seen_sizes(model, paths[question.index]) for question in batch}
    requests = [
        Request(
            tuple(paths[question.index]),
            prompt(question, plan.wording, model.family, sizes[question.index]),
            plan.max_new_tokens,
        )
        for question in batch
    ]
    started = time.perf_counter()
    replies = list(_replies(model, requests))
    seconds = round((time.perf_counter() - started) / len(batch), 4)
    return [
        Answer(question.index, reply, question.task, failure, seconds, _as_tuple(sizes[question.index]))
        for question, (reply, failure) in zip(batch, replies, strict=True)
    ]


def _as_tuple(sizes: list[Size] | None) -> tuple[Size, ...] | None:
    return None if sizes is None else tuple(sizes)


def _replies(model: Model, requests: Sequence[Request]) -> Iterator[tuple[str | None, str | None]]:
    """(reply, None) or (None, why not) for each request; where a batch fails, each is asked alone."""
    try:
        yield from [(reply, None) for reply in model.answer(requests)]
    except RuntimeError as error:  # torch's own class for what goes wrong in a model, out of memory included
        if len(requests) == 1:
            yield None, f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
        else:
            for request in requests:
                yield from _replies(model, [request])


def _refuse_all_failed(answers: Mapping[int, Answer], out: Path) -> None:
    if answers and all(answer.response is None for answer in answers.values()):
        reason = next(iter(answers.values())).error
        raise UserError(f"the model failed on every question ({reason}); see {out / 'answers.jsonl'}")
