"""What a build is made of: tasks, the sources of each, how many samples, and the builders' settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from migician.errors import UserError
from migician.mixture import shares
from migician.sources import SOURCES
from migician.tasks import TASKS
from migician.tasks.draft import Count


class TaskRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task family."""

    sources: dict[str, Count | None]
    """How many samples from each; None for as many as there are."""
    settings: dict[str, Any] = {}
    """What differs from the builder's `Settings`."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dataset."""

    tasks: dict[str, TaskRecipe]
    seed: int = 0
    split: str = "train"
    """Of the sources."""


def read_recipe(file: Path) -> Recipe:
    """The recipe in a YAML file; raises `UserError` listing all that is wrong in it at once."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        recipe = msgspec.convert(content, Recipe)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    except msgspec.ValidationError as error:
        raise UserError(f"{file}: {error}{_suggestion(str(error), Recipe)}") from None
    found = problems(recipe)
    if found:
        raise UserError(f"{file}: {'; '.join(found)}")
    return recipe


def problems(recipe: Recipe) -> list[str]:
    """All that is wrong with a recipe: unknown names, sources that do not fit a task, settings out of range."""
    found = []
    for name, task in recipe.tasks.items():
        if name not in TASKS:
            found.append(unknown("task", name, TASKS))
            continue
        for source in task.sources:
            if source not in SOURCES:
                found.append(unknown("source", source, SOURCES))
            elif SOURCES[source].gives is not TASKS[name].takes:
                found.append(f"task {name!r} cannot use source {source!r}. It can use: {', '.join(fitting(name))}")
        try:
            settings_of(name, task)
        except msgspec.ValidationError as error:
            found.append(f"settings of {name}: {error}{_suggestion(str(error), TASKS[name].settings)}")
    return found


def plain_recipe(tasks: Iterable[str], sources: Iterable[str], count: int | None) -> Recipe:
    """Every task of `tasks` from every fitting source of `sources`, `count` samples a task shared evenly."""
    given = list(sources)
    parts = {}
    for task in tasks:
        usable = [source for source in given if SOURCES[source].gives is TASKS[task].takes]
        if usable:
            parts[task] = _recounted(TaskRecipe(dict.fromkeys(usable)), count)
    return Recipe(parts)


def adjusted(recipe: Recipe, tasks: Iterable[str] | None, count: int | None, seed: int | None) -> Recipe:
    """`recipe` with only `tasks`, `count` samples a task in the recipe's proportions, and another seed.

    None leaves a part as it is. Raises `UserError` for a task that the recipe does not have.
    """
    names = list(recipe.tasks) if tasks is None else list(tasks)
    for name in names:
        if name not in recipe.tasks:
            raise UserError(f"the recipe does not have task {name!r}. It has: {', '.join(recipe.tasks)}")
    kept = {name: _recounted(recipe.tasks[name], count) for name in names}
    return Recipe(kept, recipe.seed if seed is None else seed, recipe.split)


def settings_of(name: str, task: TaskRecipe) -> Any:
    """The builder's settings; raises `msgspec.ValidationError` for what it does not know or allow."""
    return msgspec.convert(task.settings, TASKS[name].settings)


def fitting(task: str) -> list[str]:
    """The sources that a task can use."""
    return [name for name, source in SOURCES.items() if source.gives is TASKS[task].takes]


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A sentence about a name that is not known, with the closest one that is.

    >>> unknown("task", "diference", ["difference", "free_form"])
    "unknown task 'diference'. Known: difference, free_form. Did you mean 'difference'?"
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    suggestion = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}. Known: {', '.join(names)}.{suggestion}"


def _recounted(task: TaskRecipe, count: int | None) -> TaskRecipe:
    if count is None:
        return task
    weights: Mapping[str, float] = {source: amount or 1 for source, amount in task.sources.items()}
    amounts = shares(weights, count)
    return TaskRecipe({source: amount for source, amount in amounts.items() if amount}, task.settings)


def _suggestion(message: str, type_: type[msgspec.Struct]) -> str:
    """What may have been meant by the unknown field of an error message, if it is about one."""
    field = re.search(r"unknown field `([^`]*)`", message)
    if not field:
        return ""
    names = [*_fields(type_)]
    close = difflib.get_close_matches(field[1], names, n=1)
    return f". Did you mean {close[0]!r}?" if close else f". Known: {', '.join(names)}"


def _fields(type_: type[msgspec.Struct]) -> Iterable[str]:
    for field in msgspec.structs.fields(type_):
        yield field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _fields(field.type)
        if type_ is Recipe and field.name == "tasks":
            yield from _fields(TaskRecipe)
