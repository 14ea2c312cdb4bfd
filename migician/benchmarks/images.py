"""Where a benchmark's images lie, and whether they are all there before a model is asked; those inside its file are
made files first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from migician.benchmarks import Benchmark, Question
from migician.errors import UserError, writing
from migician.files import is_file


def unpack_images(bench: Benchmark, questions: Sequence[Question], root: Path) -> int:
    """Write the images of `questions` that are inside the benchmark's file into `root`; gives how many were written.

    What is there already stays: a name says the content. Memory holds a few rows at a time. Each file appears whole or
    not at all, so that several processes may do this at once.
    """
    if bench.pictures is None:
        return 0
    missing = {name for question in questions for name in question.images if not is_file(root / name)}
    count = 0
    for name, content in bench.pictures() if missing else ():
        if name in missing:
            with writing(root / name, durable=False) as stream:
                stream.write(content)
            missing.remove(name)
            count += 1
            if not missing:
                break
    return count


def resolve_images(question: Question, root: Path) -> list[Path]:
    """Where the images of a question lie below `root`.

    `root` may be the folder that holds `MIG-Bench/` (or what the names begin with) or that folder
    itself. Raises `UserError` naming the first image that is not there; a path that leads out of
    `root` is not there.
    """
    found = []
    for name in question.images:
        path = find_image(name, root)
        if path is None:
            raise UserError(
                f"row {question.index}: image {name} is not below {root}. --images must name the folder that holds "
                f"{next(iter(Path(name).parts), name)}/"
            )
        found.append(path)
    return found


def find_image(name: str, root: Path) -> Path | None:
    """Where one image, named as the file names it, lies below `root`; None where it does not."""
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        return None
    candidates = (root / relative, root.joinpath(*relative.parts[1:]))
    return next((path for path in candidates if is_file(path)), None)


def check_readable(questions: Sequence[Question], root: Path) -> None:
    """Raise `UserError` for the first image that is missing or no image, before any model is loaded."""
    from PIL import Image

    seen: set[Path] = set()
    for question in questions:
        for path in resolve_images(question, root):
            if path in seen:
                continue
            seen.add(path)
            try:
                with Image.open(path):
                    pass
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise UserError(
                    f"row {question.index}: {path} cannot be read as an image ({type(error).__name__}). Fetch it again"
                ) from None
