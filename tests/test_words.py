"""Words that must not come back: a hurried reader trips over them in messages, help, docstrings and pages."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INSTEAD = {
    r"mend(s|ed|ing)?": "fix",
    r"cure[sd]?": "fix",
    r"anew": "again",
    r"(goes|go|going|gone|went) on": "resume, or continue",
    r"told": "given, detected or said",
    r"spelled": "formatted",
    r"so many": "N, or that number of",
    r"inside out": "corners swapped (x2 < x1 or y2 < y1)",
    r"thousandths?": "0..1000",
    r"cannot be(?= *([.,;:)\"']|$))": "invalid",
    r"thereof|whereof|borne|held against|what is not so|let it be|as far as it goes": "plain words",
    r"flattered|can be believed": "optimistic; reproducible",
}
"""Pattern of whole words: what to write instead."""
ALLOWED = {
    # What models and annotators write, which is read and not said.
    "migician/benchmarks/scoring/option_text.py": "so many",
    # Prompts of the synthesis: another word would ask every model again.
    "migician/build/synthesis/requests.py": "thousandths",
}
"""File: a pattern that it needs, with the reason above it."""
FOUND = re.compile("|".join(rf"\b(?:{pattern})(?!\w)" for pattern in INSTEAD), re.IGNORECASE)


def texts(file: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of all that a file says to people: strings and docstrings of code, paragraphs of anything else."""
    content = file.read_text()
    if file.suffix == ".py":
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value
    elif file.suffix == ".ipynb":
        yield from ((0, "".join(cell["source"])) for cell in json.loads(content)["cells"])
    else:
        for paragraph in re.finditer(r"(?:.+\n?)+", content):
            yield content.count("\n", 0, paragraph.start()) + 1, paragraph[0]


COUNTED = re.compile(
    r" (?:\w+ )?(?:samples|images|files|checkpoints|questions|records|steps|predictions|groups|requests|processes|turns"
    r"|shards|folders|models|marks|characters|tokens|boxes)\b"
)
"""What follows a number that may be 1: `printable.counted` writes it."""


def files() -> list[Path]:
    code = [one for folder in ("migician", "scripts", "train", "eval", "data") for one in (ROOT / folder).rglob("*.*")]
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.*"), *(ROOT / "findings").glob("*.md")]
    kinds = {".py", ".sh", ".slurm", ".yaml", ".md", ".ipynb"}
    return sorted(one for one in {*code, *pages} if one.suffix in kinds and ".ipynb_checkpoints" not in one.parts)


def found_in(file: Path) -> list[str]:
    name = str(file.relative_to(ROOT))
    return [
        f"{name}:{line}: {text[max(0, word.start() - 30) : word.end() + 30]}"
        for line, broken in texts(file)
        for text in [" ".join(broken.split())]
        for word in FOUND.finditer(text)
        if not re.fullmatch(ALLOWED.get(name, "(?!)"), word[0], re.IGNORECASE)
    ]


def test_no_such_word_is_written() -> None:
    assert [line for file in files() for line in found_in(file)] == []


@pytest.mark.parametrize("folder", ["cli", "chat"])
def test_no_number_is_followed_by_a_fixed_plural(folder: str) -> None:
    found = []
    for file in (ROOT / "migician" / folder).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            for number, text in zip(parts, parts[1:], strict=False):
                if isinstance(number, ast.FormattedValue) and isinstance(text, ast.Constant):
                    is_limit = re.match(r"limits\.|[A-Z_]+$", ast.unparse(number.value))
                    if not is_limit and COUNTED.match(text.value):
                        found.append(f"{file.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("it can be mended", "mended"),
        ("Told by its name", "Told"),
        ("a setting that cannot be", "cannot be"),
        ("the run goes on", "goes on"),
        ("in thousandths", "thousandths"),
        ("it cannot be read, recommended as a secure or amended text", None),
    ],
)
def test_whole_words_are_found(text: str, word: str | None) -> None:
    found = FOUND.search(text)
    assert (found[0] if found else None) == word
