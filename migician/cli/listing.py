"""The verb that says what there is to choose from: list."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Annotated, Any

import typer

from migician.boxes import Box
from migician.boxtext import STYLES, BoxStyle
from migician.cli.options import AsJson
from migician.cli.terminal import console, say
from migician.errors import UserError, unknown

Row = dict[str, str]
_BOX, _SIZE = Box(0.25, 0.1, 0.7, 0.9), (1000, 1000)
"""What the examples of box styles show, in an image of this size."""
_GIVES = {"Scene": "images with boxes", "ImagePair": "pairs of images", "Track": "tracks"}
_FAMILY_OF = {
    "migician": "qwen2_vl",
    "qwen2-vl-2b": "qwen2_vl",
    "qwen2-vl-7b": "qwen2_vl",
    "qwen2-vl-72b": "qwen2_vl",
    "qwen2.5-vl-7b": "qwen2_5_vl",
    "qwen3-vl-8b": "qwen3_vl",
    "univg-r1": "univg_r1",
    "llava-onevision-7b": "llava_onevision",
    "internvl3-8b": "internvl",
    "internvl2-8b": "internvl_chat",
    "mantis": "idefics2",
    "minicpm-v-2.6": "minicpmv",
    "mplug-owl3": "mplugowl3",
    "cogvlm": "cogvlm",
}
"""What `find_family` reads from the config.json of a released checkpoint, which is not here before it is downloaded."""


def _models() -> list[Row]:
    from migician.models import CHECKPOINTS, MODELS, find_family

    rows = []
    for name, checkpoint in CHECKPOINTS.items():
        row = {
            "name": name,
            "checkpoint": checkpoint,
            "family": "see its config.json",
            "style": "",
            "box": "",
            "note": "",
        }
        if declared := _FAMILY_OF.get(name):
            family = find_family(checkpoint, declared)
            note = "--trust-remote-code" if family.ships_code else ""
            row |= {"family": family.name, "style": family.style.name, "box": _example(family.style), "note": note}
        rows.append(row)
    for name, place in MODELS.items():
        rows.append(
            {"name": f"{name}:...", "checkpoint": "", "family": "", "style": "", "box": "", "note": _about(place)}
        )
    return rows


def _benchmarks() -> list[Row]:
    from migician.benchmarks import BENCHMARKS

    return [{"name": name, "what": _about(module)} for name, module in BENCHMARKS.items()]


def _tasks() -> list[Row]:
    from migician.tasks import TASKS

    return [
        {
            "name": name,
            "takes": _GIVES[task.takes.__name__],
            "what": _about(task.drafts.__module__),
            "file": f"{task.folder}/{task.stem}.json",
        }
        for name, task in TASKS.items()
    ]


def _sources() -> list[Row]:
    from migician.sources import SOURCES

    return [
        {
            "name": name,
            "gives": _GIVES[source.gives.__name__],
            "what": _about(source.read.__module__),
            "terms": source.terms,
            "files": " ".join("".join(_paragraphs(source.read.__module__)[1:2]).split()),
        }
        for name, source in SOURCES.items()
    ]


def _styles() -> list[Row]:
    return [{"name": name, "box": _example(style), "scale": _scale(style)} for name, style in STYLES.items()]


def _published() -> list[Row]:
    from migician.benchmarks.published.figures import PUBLISHED

    return [{"name": name, "average": f"{one.average:.2f}", "what": one.describe()} for name, one in PUBLISHED.items()]


KINDS: dict[str, Callable[[], list[Row]]] = {
    "models": _models,
    "benchmarks": _benchmarks,
    "tasks": _tasks,
    "sources": _sources,
    "styles": _styles,
    "published": _published,
}
"""What can be listed, and its rows: from the registries, without loading torch."""


def show_list(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}.", autocompletion=lambda: list(KINDS))],
    as_json: AsJson = False,
) -> None:
    """List the models, benchmarks, tasks, sources, box styles or published figures that other verbs take by name."""
    if kind not in KINDS:
        raise UserError(unknown("list", kind, KINDS))
    rows = KINDS[kind]()
    if as_json:
        import msgspec

        say(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
    else:
        console().print(_table(rows))


def _table(rows: list[Row]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown = [heading for heading in rows[0] if heading != "files" and not (heading == "box" and "style" in rows[0])]
    for heading in shown:
        table.add_column(heading, no_wrap=heading in ("name", "average", "checkpoint"), overflow="fold")
    for row in rows:
        table.add_row(*(row[heading] for heading in shown))
    return table


def _about(place: str) -> str:
    """The first line of the docstring of a module ("module" or "module:function")."""
    return _paragraphs(place)[0].partition("\n")[0]


def _paragraphs(place: str) -> list[str]:
    return (importlib.import_module(place.partition(":")[0]).__doc__ or "").strip().split("\n\n")


def _example(style: BoxStyle) -> str:
    return style.write(_BOX, _SIZE)


def _scale(style: BoxStyle) -> str:
    if style.scale != "pixel":
        return {"permille": "0..1000", "fraction": "0..1"}[style.scale]
    return "pixels of the image as the model resized it" if style.resized_to else "pixels of the image file"
