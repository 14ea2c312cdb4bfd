"""Docstrings in one form: a first sentence that ends, then what is given and taken, and every error by its name."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

import migician

PACKAGE = Path(migician.__file__).parent
FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.parent.name != "cli"]  # there they are help texts


def public(node: ast.AST) -> Iterator[ast.FunctionDef]:
    """The functions and methods of a module that others may call."""
    for one in ast.iter_child_nodes(node):
        if isinstance(one, ast.FunctionDef | ast.ClassDef) and not one.name.startswith("_"):
            yield from [one] if isinstance(one, ast.FunctionDef) else public(one)


def names(handler: ast.ExceptHandler) -> Iterator[str]:
    """What a handler catches; names of tuples count as ValueError, which each of them here holds."""
    kinds = [one.id for one in ast.walk(handler.type or handler) if isinstance(one, ast.Name)]
    yield from ("ValueError" if kind.isupper() or kind.startswith("_") else kind for kind in kinds)


def lineage(name: str) -> set[str]:
    """An error's name and those of its bases, if it is one of Python's own."""
    return {name, *(one.__name__ for one in getattr(builtins, name, object).__mro__)}


def raised(node: ast.AST) -> Iterator[str]:
    """The errors that the statements of a function raise themselves and do not catch again."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
        yield node.exc.func.id
    for one in ast.iter_child_nodes(node):
        if isinstance(one, ast.FunctionDef | ast.Lambda):
            continue
        if not isinstance(one, ast.Try):
            yield from raised(one)
            continue
        caught = {name for handler in one.handlers for name in names(handler)}
        yield from (name for part in one.body for name in raised(part) if not caught & lineage(name))
        yield from chain.from_iterable(raised(part) for part in (*one.handlers, *one.orelse, *one.finalbody))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_errors_and_first_sentences(file: Path) -> None:
    wrong = []
    for function in public(ast.parse(file.read_text())):
        said = ast.get_docstring(function)
        if said is None:
            continue  # an override: ruff asks for all others
        first = said.split("\n\n")[0].rstrip()
        if not first.endswith((".", ":")):
            wrong.append(f"{function.name}: no sentence: {first!r}")
        unsaid = {name for name in raised(function) if name not in said and not name.startswith("_")}
        wrong += [f"{function.name}: does not name {name}" for name in sorted(unsaid)]
    assert not wrong
