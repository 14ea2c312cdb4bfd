"""The verb that says what there is to choose from: list."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from migician.boxes import Box
from migician.boxtext import STYLES, BoxStyle
from migician.cli.options import AsJson
from migician.cli.terminal import console, say
from migician.errors import UserError, unknown

if TYPE_CHECKING:
    from migician.models.family import Family

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
    "qwen3-vl-30b-a3b": "qwen3_vl_moe",
    "qwen3.5-9b": "qwen3_5",
    "onethinker-8b": "onethinker",
    "rex-omni": "rex_omni",
    "univg-r1": "univg_r1",
    "llava-onevision-7b": "llava_onevision",
    "llava-onevision-1.5-8b": "llavaonevision1_5",
    "glm-4.1v-9b": "glm4v",
    "glm-4.5v": "glm4v_moe",
    "glm-4.6v-flash": "glm46v",
    "internvl3-8b": "internvl",
    "internvl3.5-8b": "internvl",
    "internvl2-8b": "internvl_chat",
    "mantis": "idefics2",
    "minicpm-v-2.6": "minicpmv",
    "minicpm-v-4.5": "minicpmv",
    "minicpm-v-4.6": "minicpmv4_6",
    "molmo2-8b": "molmo2",
    "gemma-4-e4b": "gemma4",
    "smolvlm2-2.2b": "smolvlm",
    "mplug-owl3": "mplugowl3",
    "cogvlm": "cogvlm",
}
"""What `find_family` reads from the config.json of a released checkpoint, which is not here before it is downloaded."""


def _models() -> list[Row]:
    from migician.models import CHECKPOINTS, FAMILIES, MODELS, find_family

    rows = [
        _model(name, checkpoint, find_family(checkpoint, _FAMILY_OF[name])) for name, checkpoint in CHECKPOINTS.items()
    ]
    # Some have no checkpoint with a short name: those behind servers, and those that any folder may be of.
    others = sorted(FAMILIES.keys() - {row["family"] for row in rows})
    rows += [_model(f"--family {name}", "", find_family("", name)) for name in others]
    for name, place in MODELS.items():
        rows.append(dict.fromkeys(rows[0], "") | {"name": f"{name}:...", "note": _about(place)})
    return rows


def _model(name: str, checkpoint: str, family: Family) -> Row:
    notes = (["--trust-remote-code"] if family.ships_code else []) + ([] if family.source else ["no box form"])
    return {
        "name": name,
        "checkpoint": checkpoint,
        "family": family.name,
        "style": family.style.name,
        "range": _scale(family.style),
        "box": _example(family.style),
        "source": family.source,
        "official": family.official.phrase if family.official else "",
        "note": ", ".join(notes),
    }


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
    return [
        {"name": name, "box": _example(style), "scale": _scale(style), "absent": style.absent}
        for name, style in STYLES.items()
    ]


def _published() -> list[Row]:
    from migician.benchmarks.published.figures import PUBLISHED

    return [{"name": name, "average": f"{one.average:.2f}", "what": one.describe()} for name, one in PUBLISHED.items()]


def _rewards() -> list[Row]:
    from migician.training.rewards import PRESETS

    return [
        {
            "name": name,
            "parts": ", ".join(f"{part} {one.weight:g}" for part, one in preset.parts.items()),
            "most": f"{preset.most(1):g}",
            "tags": "<think> <answer>" if preset.thinks else "",
            "source": preset.source,
        }
        for name, preset in PRESETS.items()
    ]


def _bases() -> list[Row]:
    from migician.samples.bases import BASES

    return [
        {
            "name": base.name,
            "what": base.title,
            "templates": ", ".join(base.templates),
            "convention": base.convention,
            "pixels": f"{base.side} a side",
        }
        for base in BASES.values()
    ]


KINDS: dict[str, Callable[[], list[Row]]] = {
    "models": _models,
    "benchmarks": _benchmarks,
    "tasks": _tasks,
    "sources": _sources,
    "styles": _styles,
    "bases": _bases,
    "rewards": _rewards,
    "published": _published,
}
"""What can be listed, and its rows: from the registries, without loading torch."""


def show_list(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}.", autocompletion=lambda: list(KINDS))],
    as_json: AsJson = False,
) -> None:
    """List the models, benchmarks, tasks, sources, box styles, bases, rewards or published figures that verbs take."""
    if kind not in KINDS:
        raise UserError(unknown("list", kind, KINDS))
    rows = KINDS[kind]()
    if as_json:
        import msgspec

        say(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
    else:
        console(piped=80).print(_table(rows))  # words, which fold


_ONLY_IN_JSON = ("files", "checkpoint", "range", "source", "official")
"""What would make a table wider than a terminal; --json has it."""


def _table(rows: list[Row]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    hidden = (*_ONLY_IN_JSON, "box") if "style" in rows[0] else _ONLY_IN_JSON
    shown = [heading for heading in rows[0] if heading not in hidden]
    for heading in shown:
        table.add_column(heading, no_wrap=heading in ("name", "average", "family", "style"), overflow="fold")
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
    if style.scale == "pixel":
        return "pixels, resized" if style.resized_to else "pixels of the file"
    return {"permille": "0..1000", "fraction": "0..1", "bins": "0..999"}[style.scale] + (
        ", y first" if style.y_first else ""
    )
