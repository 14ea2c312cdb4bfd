"""What a build consists of: tasks, the sources of each, how many samples, and the settings of the tasks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from migician.errors import UserError, closest, unknown
from migician.files import read_yaml
from migician.sampling import shares
from migician.sources import SOURCES, misplaced
from migician.tasks import TASKS
from migician.tasks.draft import Count


class TaskRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of one task."""

    sources: dict[str, Count | None]
    """How many samples from each; None for as many as there are."""
    settings: dict[str, Any] = {}
    """What differs from the defaults of the task's settings."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dataset."""

    tasks: dict[str, TaskRecipe]
    seed: int = 0
    split: str = "train"
    """Of the sources."""


def read_recipe(file: Path) -> Recipe:
    """The recipe in a YAML file; raises `UserError` that lists all its faults at once."""
    try:
        recipe = msgspec.convert(read_yaml(file), Recipe)
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
            if getattr(settings_of(name, task), "absent", 0) and not _telling(task):
                known = [source for source in fitting(name) if SOURCES[source].exhaustive]
                found.append(
                    f"settings of {name}: absent: no source of it annotates all objects of its categories, so that "
                    f"nothing is sure to be absent. Those that do: {', '.join(known)}"
                )
        except msgspec.ValidationError as error:
            found.append(f"settings of {name}: {error}{_suggestion(str(error), TASKS[name].settings)}")
    return found


def chosen(
    tasks: Sequence[str],
    sources: Mapping[str, Path],
    count: int | None,
    seed: int | None,
    config: Path | None,
    settings: Mapping[str, Mapping[str, Any]],
    absent: float | None = None,
) -> Recipe:
    """The recipe for the arguments of `dataset.build`; raises `UserError` where they do not fit together."""
    names = None if "all" in tasks else list(dict.fromkeys(tasks))
    bad = [unknown("task", name, ["all", *TASKS]) for name in names or [] if name not in TASKS]
    check_request(sources, SOURCES, count, bad)
    if config is not None:
        recipe = adjusted(read_recipe(config), names, count, seed)
    else:
        usable = {task: [source for source in sources if source in fitting(task)] for task in names or TASKS}
        all_of_it = {task: TaskRecipe(dict.fromkeys(given)) for task, given in usable.items() if given}
        recipe = adjusted(Recipe(all_of_it), None, count, seed)
    bad = [sentence for name in names or recipe.tasks or TASKS for sentence in _lacking(name, recipe, sources)]
    if bad:
        raise UserError("; ".join(bad))
    if absent is not None:
        recipe = _with_absent(recipe, absent)
    return _with_settings(recipe, settings)


def check_request(
    sources: Mapping[str, Path], known: Collection[str], count: int | None, bad: Sequence[str] = ()
) -> None:
    """Raise `UserError` for `bad`, sources that are not `known` or not where they are said to be, and a bad count."""
    found = [*bad, *(unknown("source", name, known) for name in sources if name not in known)]
    found += [fault for name, root in sources.items() if name in known and (fault := misplaced(name, Path(root)))]
    if count is not None and count < 1:
        found.append(f"count must be 1 or more, not {count}")
    if found:
        raise UserError("; ".join(found))


def _lacking(name: str, recipe: Recipe, sources: Mapping[str, Path]) -> list[str]:
    """What a task still needs, in at most one sentence."""
    if name not in recipe.tasks:
        usable = fitting(name)
        return [f"task {name!r} needs one of these sources: {', '.join(usable)}. Give --source {usable[0]}=ROOT"]
    lacking = [source for source in recipe.tasks[name].sources if source not in sources]
    return [f"task {name!r} needs source {', '.join(lacking)}: give --source {lacking[0]}=ROOT"] if lacking else []


def adjusted(recipe: Recipe, tasks: Iterable[str] | None, count: int | None, seed: int | None) -> Recipe:
    """`recipe` with only `tasks`, `count` samples per task in the recipe's proportions, and another seed.

    None changes nothing. A source that the recipe takes whole gets the mean share of the others. Raises
    `UserError` for a task that the recipe does not have.
    """
    names = list(recipe.tasks) if tasks is None else list(tasks)
    for name in names:
        if name not in recipe.tasks:
            raise UserError(f"the recipe does not have task {name!r}. It has: {', '.join(recipe.tasks)}")
    kept = {name: _recounted(recipe.tasks[name], count) for name in names}
    return Recipe(kept, recipe.seed if seed is None else seed, recipe.split)


def _with_settings(recipe: Recipe, changed: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """`recipe` with other settings for some tasks, all of which it must have."""
    for name, settings in changed.items():
        if name not in recipe.tasks:
            raise UserError(f"settings for {name} are given, which is not built. Built are: {', '.join(recipe.tasks)}")
        task = recipe.tasks[name]
        changed_task = msgspec.structs.replace(task, settings={**task.settings, **settings})
        recipe = msgspec.structs.replace(recipe, tasks=recipe.tasks | {name: changed_task})
    if found := problems(recipe):
        raise UserError("; ".join(found))
    return recipe


def _with_absent(recipe: Recipe, share: float) -> Recipe:
    """`recipe` with that share of samples that ask for what is not there, in all tasks that can have any."""
    able = [name for name, task in recipe.tasks.items() if hasattr(TASKS[name].settings(), "absent")]
    told = {name: {"absent": share} for name in able if _telling(recipe.tasks[name])}
    if not told:
        tasks = [name for name, task in TASKS.items() if hasattr(task.settings(), "absent")]
        sources = [name for name, source in SOURCES.items() if source.exhaustive]
        raise UserError(
            f"absent: nothing that is built can ask for what is not there. Tasks that can: {', '.join(tasks)}, "
            f"from {', '.join(sources)}, whose annotations tell"
        )
    return _with_settings(recipe, told)


def _telling(task: TaskRecipe) -> bool:
    """Whether a source of a task tells what is not in an image."""
    return any(source in SOURCES and SOURCES[source].exhaustive for source in task.sources)


def settings_for(source: str, task: TaskRecipe) -> dict[str, Any]:
    """What differs from the defaults for one source: nothing of it is absent where its annotations do not tell."""
    return {name: one for name, one in task.settings.items() if name != "absent" or SOURCES[source].exhaustive}


def settings_of(name: str, task: TaskRecipe) -> Any:
    """The builder's settings; raises `msgspec.ValidationError` for what it does not know or allow."""
    return msgspec.convert(task.settings, TASKS[name].settings)


def fitting(task: str) -> list[str]:
    """The sources that a task can use."""
    return [name for name, source in SOURCES.items() if source.gives is TASKS[task].takes]


def _recounted(task: TaskRecipe, count: int | None) -> TaskRecipe:
    if count is None:
        return task
    # A source that is wanted whole gets as much as one source gets on average.
    known = [amount for amount in task.sources.values() if amount is not None]
    mean = sum(known) / len(known) if known else 1
    weights = {source: mean if amount is None else amount for source, amount in task.sources.items()}
    amounts = shares(weights, count)
    return TaskRecipe({source: amount for source, amount in amounts.items() if amount}, task.settings)


def _suggestion(message: str, type_: type[msgspec.Struct]) -> str:
    """The closest known field, or all of them, for an error message about an unknown field; else empty."""
    field = re.search(r"unknown field `([^`]*)`", message)
    if not field:
        return ""
    names = [*_fields(type_)]
    known = f" Known: {', '.join(names)}"
    return f".{closest(field[1], names) or known}"


def _fields(type_: type[msgspec.Struct]) -> Iterable[str]:
    for field in msgspec.structs.fields(type_):
        yield field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _fields(field.type)
        if type_ is Recipe and field.name == "tasks":
            yield from _fields(TaskRecipe)
