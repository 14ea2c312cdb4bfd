"""migician <verb>: the command line, thin over the package.

A new verb is one function in a module beside this one and one line in `VERBS`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import typer

from migician.cli import (
    asking,
    chatting,
    checking,
    checkpoints,
    converting,
    data,
    fetching,
    presenting,
    publishing,
    scoring,
    synthesising,
    training,
)
from migician.cli.terminal import note
from migician.errors import Done, UserError
from migician.files import HALF

VERBS: dict[str, tuple[Callable[..., None], str]] = {
    "fetch": (fetching.fetch, "fetch mgrounding-630k --to data/downloads --only Difference"),
    "build": (
        data.build,
        "build all --source coco=/data/coco --source got10k=/data/GOT-10k --out data/MGrounding",
    ),
    "index": (data.index, "index objects365=/data/Objects365 --out indexes/objects365"),
    "synthesise": (
        synthesising.synthesise,
        "synthesise --source objects365=/data/objects365 --server http://localhost:8000/v1 --count 1000 "
        "--vision-model Qwen/Qwen2-VL-72B-Instruct --text-model Qwen/Qwen2.5-72B-Instruct "
        "--cache outputs/replies --out data/Synthesised",
    ),
    "convert": (
        converting.convert,
        "convert llava --from m4_instruct_annotations.json --images data/M4 --media data --out data/converted/m4.json",
    ),
    "mix": (data.mix, "mix --part Difference.json=1 --part Free-Form.json=2 --count 3000 --out stage2.json"),
    "check": (checking.check, "check data/MGrounding --mig-bench MIG_data.json --images . --cutoff-len 6000"),
    "export": (publishing.export, "export data/MGrounding --to data/MGrounding-parquet"),
    "push": (publishing.push, "push data/MGrounding-parquet --repo USER/MGrounding --private"),
    "resume": (checkpoints.resume, "resume saves/stage-1 --processes 8"),
    "progress": (training.progress, "progress saves/stage-1 --follow 60"),
    "curves": (training.curves, "curves saves/stage-1 saves/stage-2 --out saves/loss.png"),
    "watch": (
        training.watch,
        "watch saves/stage-1 --data MIG-Bench/MIG_data.json --images . --out saves/scores/stage-1",
    ),
    "merge": (checkpoints.merge, "merge saves/stage-1 saves/stage-2 --out saves/migician"),
    "card": (
        publishing.card,
        "card saves/migician --report outputs/migician --base Qwen/Qwen2-VL-7B-Instruct --license apache-2.0",
    ),
    "setting": (checkpoints.setting, "setting train/stage-1_finetune_full.yaml output_dir"),
    "eval": (
        asking.evaluate,
        "eval mig-bench --model Michael4933/Migician --data MIG-Bench/MIG_data.json --images . --out outputs/migician",
    ),
    "score": (scoring.score, "score mig-bench --data MIG_data.json --answers answers.jsonl --out outputs/scored"),
    "baseline": (scoring.baseline, "baseline mig-bench --data MIG_data.json --out outputs/constant"),
    "compare": (scoring.compare, "compare outputs/qwen2-vl outputs/migician"),
    "report": (presenting.report, "report outputs/stage-1 outputs/merged --images data"),
    "table": (presenting.table, "table outputs/qwen2-vl outputs/migician --format latex --published migician"),
    "plot": (presenting.plot, "plot outputs/qwen2-vl outputs/migician --published univg-r1 --out outputs/pictures"),
    "chat": (chatting.chat, "chat --model Michael4933/Migician"),
    "miniature": (data.miniature, "miniature --out outputs/world"),
    "tiny": (checkpoints.tiny, "tiny --texts outputs/stage1.json --out outputs/untrained"),
}
"""Verb: its function, and an example of its arguments for --help."""

HEADINGS = {"fetch": "Data", "resume": "Training", "eval": "Evaluation", "chat": "Looking and trying"}
"""What --help prints above a verb and those behind it."""

app = typer.Typer(
    name="migician",
    help="Multi-image grounding: build data, train, evaluate, compare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_heading = ""
for _verb, (_run, _example) in VERBS.items():
    _heading = HEADINGS.get(_verb, _heading)
    app.command(name=_verb, epilog=f"Example: migician {_example}", rich_help_panel=_heading)(_run)


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
