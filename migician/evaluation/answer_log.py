"""The answers of one run on disk: appended batch by batch, whole or not at all, by one run at a time.

`run.json` says whose answers they are. The first process of a run appends to `answers.jsonl`, the
others to `answers-1.jsonl` and so on; when a run starts or ends, all are put into `answers.jsonl`.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from migician.again import first_difference
from migician.benchmarks.scoring.scoring import Answer, Count
from migician.errors import NOT_JSON, UserError, alone, made, writing
from migician.files import decode, read_bytes


class ImageFile(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One image file as it was when a run began."""

    size: Count
    """In bytes."""
    mtime_ns: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    sha256: str | None = None
    """None where content was never compared."""


_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
_Pixels = Annotated[int, Meta(ge=0, le=10**6)]
"""0 where an image could not be read."""


class Logged(Answer, frozen=True, omit_defaults=True):
    """An answer as a run keeps it."""

    index: Count
    seconds: _Seconds | None = None
    sizes: tuple[tuple[_Pixels, _Pixels], ...] | None = None
    work: dict[str, Count] | None = None
    """In the line of a batch's first answer: what the model counted for the whole batch."""
    outside_seconds: _Seconds | None = None
    """There too: how long the model stood still before this batch."""
    dropped: tuple[str, ...] | None = None
    """Parameters that the server does not take and that were left out."""
    image_files: tuple[ImageFile, ...] | None = None
    """Of each image of the question, in order."""

    @property
    def fault(self) -> str | None:
        """Why there is no reply; None where there is one."""
        return None if self.response is not None else self.error or "no reason was given"


@contextlib.contextmanager
def lock_run(out: Path, identity: Mapping[str, Any], images: Path, *, force: bool = False) -> Iterator[None]:
    """Keep `out` for one run, against any other process, while the block lasts.

    With `force` the run that it holds is thrown away first, answers and all. Raises `UserError` if it holds another run
    than that of `identity`, or is in use.
    """
    with made(out), alone(out, out):
        run = out / "run.json"
        if force:
            # Whose answers they are goes last, so that what a kill leaves is not taken for another run's.
            for file in (*(out / name for name in ("report.json", "records.jsonl")), *_parts(out), run):
                file.unlink(missing_ok=True)
        if run.exists():
            _compare_runs(run, identity)
        elif parts := _parts(out):
            raise UserError(
                f"{parts[0]} exists, but not the run.json that says whose answers they are: choose another --out"
            )
        else:
            with writing(run) as stream:
                content = msgspec.json.encode({**identity, "images": str(images.resolve())})
                stream.write(msgspec.json.format(content, indent=2) + b"\n")
        yield


def collect(
    out: Path,
    batches: Sequence[Sequence[int]],
    admit: Callable[[dict[int, Logged]], dict[int, Logged]] = lambda answers: answers,
) -> dict[int, Logged]:
    """The answers of all processes to whole batches (lists of rows), in order of rows; they alone remain on disk.

    `admit` is given them first and gives them as they remain, or raises: then nothing on disk changes.

    A batch that was cut while it was written is dropped, to be asked again in full: then its
    replies do not depend on where the run was stopped. Of two answers to a question the later one counts.
    """
    kept: dict[int, Logged] = {}
    parts, target = _parts(out), out / "answers.jsonl"
    for part in parts:
        for answer in _read(part):
            kept[answer.index] = _after(kept.get(answer.index), answer)
    rows = sorted(row for batch in batches if all(row in kept for row in batch) for row in batch)
    answers = admit({row: kept[row] for row in rows})
    lines = b"".join(map(_line, answers.values()))
    if parts and (parts != [target] or target.read_bytes() != lines):
        with writing(target) as stream:
            stream.write(lines)
    for part in parts:
        if part != target:
            part.unlink()
    return answers


def _after(before: Logged | None, answer: Logged) -> Logged:
    """`answer`, with the counts of the one before it to the same question, which was asked for too."""
    if before is None or before.work is None:
        return answer
    work = dict(Counter(before.work) + Counter(answer.work or {}))
    outside = (before.outside_seconds or 0) + (answer.outside_seconds or 0)
    return msgspec.structs.replace(answer, work=work, outside_seconds=outside)


def answers_file(out: Path, rank: int) -> Path:
    """Where the process of that rank appends."""
    return out / (f"answers-{rank}.jsonl" if rank else "answers.jsonl")


def append(path: Path, answers: Sequence[Logged]) -> None:
    """Add the answers of one batch and wait until they are on the disk.

    Where that fails none of them stays, and `UserError` is raised.
    """
    content = b"".join(map(_line, answers))
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    before = os.fstat(handle).st_size
    try:
        while content:  # a disk that becomes full takes a part
            content = content[os.write(handle, content) :]
        os.fsync(handle)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, before)
        raise UserError(
            f"{path}: cannot be written: {error.strerror}. What was answered is kept: make room, and run the same "
            "command again"
        ) from None
    finally:
        os.close(handle)


def images_of(out: Path) -> Path | None:
    """The image folder of the run in `out`; None where it holds no run."""
    run = out / "run.json"
    if not run.exists():
        return None
    return Path(_read_run(run).images)


class _Run(msgspec.Struct):
    """What is read of a run.json; the first ones did not name the benchmark."""

    data_sha256: str
    model: dict[str, Any]
    plan: dict[str, Any]
    images: str
    benchmark: str = ""


def _read_run(run: Path) -> _Run:
    return decode(read_bytes(run), _Run, f"{run}: damaged, choose another folder", "what migician eval writes")


def _parts(out: Path) -> list[Path]:
    """The answer files of a folder, in order of rank."""
    others = (path for path in out.glob("answers-*.jsonl") if path.stem.removeprefix("answers-").isdecimal())
    first = out / "answers.jsonl"
    return [*([first] if first.exists() else []), *sorted(others)]


def _read(path: Path) -> list[Logged]:
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline was cut
    try:
        return [msgspec.json.decode(line, type=Logged) for line in lines]
    except NOT_JSON as error:
        raise UserError(f"{path}: damaged ({error}): remove it to ask again, or choose another --out") from None


def _line(answer: Logged) -> bytes:
    return msgspec.json.encode(answer) + b"\n"


def _compare_runs(run: Path, identity: Mapping[str, Any]) -> None:
    before = msgspec.to_builtins(_read_run(run))
    now = msgspec.json.decode(msgspec.json.encode(identity))
    for name in ("benchmark", "data_sha256", "model", "plan"):
        if before[name] == now[name]:
            continue
        different = first_difference(before[name], now[name])
        raise UserError(
            f"{run.parent} holds another run: {name}{different}. --force throws it away, or choose another --out"
        )
