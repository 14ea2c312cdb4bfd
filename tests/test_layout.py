"""The layout: folders in one order, each importing only what stands before it; no circle; no file too long."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import migician

PACKAGE = Path(migician.__file__).parent
GROUND = {
    "again", "boxes", "boxtext", "draw", "errors", "files", "imagenames", "metrics", "plotting", "printable",
    "progress", "provenance", "sampling", "workers",
}  # fmt: skip
FOLDERS = [
    "samples", "sources", "tasks", "models", "benchmarks", "build", "evaluation", "training", "hub", "reports",
    "miniature", "chat", "cli",
]  # fmt: skip
MODULES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}


def imports(module: str) -> set[str]:
    """The modules of the package that one imports, anywhere in it, for types too; with the packages these are in."""
    nodes = list(ast.walk(ast.parse(MODULES[module].read_text())))
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes), f"{module}: write names in full"
    named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= {one if one in MODULES else str(node.module) for one in whole}
    around = {".".join(one.split(".")[:end]) for one in named for end in range(2, one.count(".") + 1)}
    return {one for one in (named | around) & MODULES.keys() if not f"{module}.".startswith(f"{one}.")} | (
        named & MODULES.keys() - {module}
    )


def floor(module: str) -> int:
    """0 for the ground modules, then the folders in order; above them all the package's own names."""
    first = module.split(".")[1:2]
    return len(FOLDERS) + 1 if not first else FOLDERS.index(first[0]) + 1 if first[0] in FOLDERS else 0


def test_the_top_holds_what_it_should() -> None:
    assert {file.stem for file in PACKAGE.glob("*.py")} == {"__init__", *GROUND}
    assert {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")} == set(FOLDERS)
    assert len(GROUND) <= 14


def test_nothing_imports_upwards() -> None:
    upward = [f"{one} -> {other}" for one in MODULES for other in imports(one) if floor(other) > floor(one)]
    assert not upward


def test_no_circle() -> None:
    TopologicalSorter({module: imports(module) for module in MODULES}).prepare()  # raises CycleError, which shows it


def test_no_file_is_too_long() -> None:
    assert not {name: count for name, file in MODULES.items() if (count := len(file.read_text().splitlines())) > 400}
