"""migician <verb>: the command line, thin over the package.

A new verb is one function in a module beside this one and one line in `VERBS`; `PANELS` says which ones --help shows.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from migician.cli import (
    asking,
    chatting,
    checking,
    checkpoints,
    converting,
    data,
    fetching,
    listing,
    mixing,
    presenting,
    publishing,
    rewarding,
    scoring,
    synthesising,
    training,
)
from migician.cli.terminal import note, say
from migician.errors import Done, UserError
from migician.files import HALF

VERBS: dict[str, tuple[Callable[..., None], str]] = {
    "fetch": (fetching.fetch, "mgrounding-630k --to data/downloads --only Difference"),
    "build": (data.build, "all --source coco=/data/coco --source got10k=/data/GOT-10k --out data/MGrounding"),
    "data synthesise": (
        synthesising.synthesise,
        "--source objects365=/data/objects365 --server http://localhost:8000/v1 --count 1000 "
        "--vision-model Qwen/Qwen2-VL-72B-Instruct --text-model Qwen/Qwen2.5-72B-Instruct "
        "--cache outputs/replies --out data/Synthesised",
    ),
    "data convert": (
        converting.convert,
        "llava --from m4_instruct_annotations.json --images data/M4 --media data --out data/converted/m4.json",
    ),
    "data mix": (mixing.mix, "--part Difference.json=1 --part Free-Form.json=2 --count 3000 --out stage2.json"),
    "data export": (publishing.export, "data/MGrounding --to data/MGrounding-parquet"),
    "data push": (publishing.push, "data/MGrounding-parquet --repo USER/MGrounding --private"),
    "check": (checking.check, "data/MGrounding --mig-bench MIG_data.json --images . --cutoff-len 6000"),
    "train reward": (rewarding.reward, "--data data/mixtures/stage2.json --answers replies.jsonl --preset mg-thinker"),
    "train resume": (checkpoints.resume, "saves/stage-1 --processes 8"),
    "train progress": (training.progress, "saves/stage-1 --follow 60"),
    "train curves": (training.curves, "saves/stage-1 saves/stage-2 --out saves/loss.png"),
    "train watch": (
        training.watch,
        "saves/stage-1 --data MIG-Bench/MIG_data.json --images . --out saves/scores/stage-1",
    ),
    "train gain": (training.gain, "saves/stage-3"),
    "train merge": (checkpoints.merge, "saves/stage-1 saves/stage-2 --out saves/migician"),
    "train card": (
        publishing.card,
        "saves/migician --report outputs/migician --base Qwen/Qwen2-VL-7B-Instruct --license apache-2.0",
    ),
    "eval": (
        asking.evaluate,
        "mig-bench --model Michael4933/Migician --data MIG-Bench/MIG_data.json --images . --out outputs/migician",
    ),
    "score": (scoring.score, "mig-bench --data MIG_data.json --answers answers.jsonl --out outputs/scored"),
    "compare": (scoring.compare, "outputs/qwen2-vl outputs/migician"),
    "report": (presenting.report, "outputs/stage-1 outputs/merged --images data"),
    "table": (presenting.table, "outputs/qwen2-vl outputs/migician --format latex --published migician"),
    "plot": (presenting.plot, "outputs/qwen2-vl outputs/migician --published univg-r1 --out outputs/pictures"),
    "ground": (chatting.ground, 'a.jpg b.jpg "the red car of Image-1 in Image-2" --model migician --save found.png'),
    "chat": (chatting.chat, "--model Michael4933/Migician"),
    "list": (listing.show_list, "models"),
    "dev miniature": (data.miniature, "--out outputs/world"),
    "dev tiny": (checkpoints.tiny, "--texts outputs/stage1.json --out outputs/untrained"),
    "dev baseline": (scoring.baseline, "mig-bench --data MIG_data.json --out outputs/constant"),
    "dev index": (data.index, "objects365=/data/Objects365 --out indexes/objects365"),
    "dev base": (checkpoints.base, "qwen3_vl --data data/mixtures --media data"),
    "dev setting": (checkpoints.setting, "train/stage-1_finetune_full.yaml output_dir"),
}
"""Verb: its function, and an example of its arguments for --help. Of two words, the first is one of `GROUPS`."""

GROUPS = {
    "data": "Synthesise, convert, mix, export or push a dataset.",
    "train": "Check, follow, resume, judge or merge a training, and write its model card.",
    "dev": "Tools for tests and scripts: a drawn world, a tiny model, a baseline, an index, a base model, a setting.",
}
PANELS = {
    "Data": ("fetch", "build", "data"),
    "Training": ("check", "train"),
    "Evaluation": ("eval", "score", "compare", "report", "table", "plot"),
    "Tools": ("ground", "chat", "list"),
}
"""What --help shows, in this order; `dev` is named below it."""
ALSO = {"merge": "train merge", "reward": "train reward", "train check": "check"}
"""Second names of verbs, which stay: what people and other programs call at the top."""
_NEW = ("dev base", "train gain")
"""Verbs that the last release did not have."""
MOVED = {verb.split()[1]: verb for verb in VERBS if " " in verb and verb not in (*ALSO.values(), *_NEW)}
"""Names of the last release, which still work and say what they are now. To be removed in the next one."""


class _Verbs(TyperGroup):
    """The verbs of `PANELS`; second names and those of the last release lead to the same verbs."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        train: Any = self.commands["train"]
        for name in ("merge", "reward"):
            self.commands[name] = train.commands[name]
        train.commands = {"check": self.commands["check"], **train.commands}

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for names in PANELS.values() for name in names]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in MOVED:
            return super().get_command(ctx, cmd_name)
        if not ctx.resilient_parsing:
            note(f"migician {cmd_name} is now migician {MOVED[cmd_name]}")
        group: Any = self.commands[MOVED[cmd_name].split()[0]]
        return group.commands[cmd_name]


def _app() -> typer.Typer:
    settings: dict[str, Any] = {"no_args_is_help": True, "context_settings": {"help_option_names": ["-h", "--help"]}}
    made = typer.Typer(name="migician", cls=_Verbs, pretty_exceptions_enable=False, **settings)
    made.callback()(_root)
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    groups = {name: typer.Typer(help=line, **settings) for name, line in GROUPS.items()}
    for name, group in groups.items():
        made.add_typer(group, name=name, rich_help_panel=panels.get(name))
    for verb, (run, example) in VERBS.items():
        first, _, second = verb.partition(" ")
        owner = groups[first] if second else made
        line = f"Example: migician {verb} {example}"
        owner.command(second or first, epilog=line, rich_help_panel=panels.get(first, "Tools"))(run)
    return made


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # slow

        say(f"migician {version('migician')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Multi-image grounding: ask a model, build data, train, evaluate, compare. For tests and scripts: migician dev."""


app = _app()


def main() -> None:
    """Run the command line; what the user can fix, and what the system refuses, is one line on stderr and status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may know fewer characters than a table has
    try:
        app()
    except Done as done:
        note(f"migician: {done}")
    except UserError as error:
        note(f"migician: {error}")
        sys.exit(2)
    except UnicodeEncodeError as error:
        if not isinstance(error.object, str) or not HALF.search(error.object):
            raise
        note(f"migician: {error.object}: not UTF-8, so no file can name it; rename it")
        sys.exit(2)
    except OSError as error:
        if error.errno is None:  # a library's own, which needs its traceback
            raise
        note(f"migician: {f'{error.filename}: ' if error.filename else ''}{error.strerror}")
        sys.exit(2)
    except KeyboardInterrupt:
        note("migician: interrupted")
        sys.exit(130)
