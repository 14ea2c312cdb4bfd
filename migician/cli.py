"""migician <verb>: the command line, thin over the package."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from migician.boxtext import STYLES
from migician.errors import UserError, writing

if TYPE_CHECKING:
    from migician.benchmarks.mig_bench import Question

app = typer.Typer(
    name="migician",
    help="Multi-image grounding: build data, train, evaluate, compare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataFile = Annotated[Path, typer.Option("--data", help="The benchmark's JSON file.")]
OutFolder = Annotated[Path, typer.Option("--out", help="The folder to write into.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of a table.")]


class Benchmark(StrEnum):
    """Benchmarks that can be run and scored."""

    mig_bench = "mig-bench"


class ProtocolName(StrEnum):
    """How replies are read."""

    strict = "strict"
    published = "published"


class PromptName(StrEnum):
    """What follows each question."""

    corrected = "corrected"
    published = "published"


Protocol = Annotated[ProtocolName, typer.Option(help="How replies are read: this project's way, or the paper's.")]
Style = Annotated[str | None, typer.Option(help=f"How the boxes are spelled, under strict: {', '.join(STYLES)}.")]
YStretch = Annotated[
    bool, typer.Option("--y-stretch", help="Stretch boxes downwards as published for the Migician weights.")
]


@app.command(
    epilog="Example: migician score mig-bench --data MIG_data.json --answers answers.jsonl --out outputs/scored"
)
def score(
    benchmark: Annotated[Benchmark, typer.Argument(help="What was answered.")],
    data: DataFile,
    answers: Annotated[Path, typer.Option(help='Lines like {"index": row, "response": "text"}.')],
    out: OutFolder,
    protocol: Protocol = ProtocolName.strict,
    style: Style = None,
    y_stretch: YStretch = False,
    images: Annotated[
        Path | None, typer.Option(help="The image folder; only styles that count pixels need it.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Leave out rows without an answer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score answers that exist already: no model, no torch."""
    from migician.benchmarks import mig_bench
    from migician.report import score_answers
    from migician.scoring import read_answers

    reading = _reading(protocol, style, y_stretch)
    bench = mig_bench.load(data)
    given = read_answers(answers, bench)
    report = score_answers(
        bench,
        given,
        reading,
        out,
        images=images,
        partial=partial,
        spec={"answers": answers.name, "answers_sha256": hashlib.sha256(answers.read_bytes()).hexdigest()},
    )
    _show(report, out, as_json)


@app.command(
    name="eval",
    epilog="Example: migician eval mig-bench --model Michael4933/Migician --data MIG-Bench/MIG_data.json "
    "--images . --out outputs/migician",
)
def evaluate(
    benchmark: Annotated[Benchmark, typer.Argument(help="What to ask.")],
    model: Annotated[str, typer.Option(help="A known name, a folder with config.json, or a Hub id.")],
    data: DataFile,
    images: Annotated[Path, typer.Option(help="The folder that holds MIG-Bench/, or that folder itself.")],
    out: OutFolder,
    protocol: Protocol = ProtocolName.strict,
    y_stretch: YStretch = False,
    prompt: Annotated[PromptName, typer.Option(help="What follows each question: see docs/evaluation.md.")] = (
        PromptName.corrected
    ),
    batch_size: Annotated[int, typer.Option(min=1, help="Questions asked at once.")] = 1,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest reply.")] = 128,
    tasks: Annotated[list[str] | None, typer.Option("--task", help="Only this task; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions of each task.")] = None,
    max_pixels: Annotated[int | None, typer.Option(min=784, help="Shrink larger images to so many pixels.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the first prompts; load no model.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a model every question and report; the same command again goes on where it stopped."""
    from migician.benchmarks import mig_bench
    from migician.evaluation import Plan, choose
    from migician.evaluation import evaluate as run
    from migician.models import load_model
    from migician.scoring import Reading

    bench = mig_bench.load(data)
    plan = Plan(prompt.value, batch_size, max_new_tokens, tuple(tasks or ()), limit)
    if dry_run:
        _print_prompts(choose(bench, plan), plan.wording)
        return
    mig_bench.check_images(choose(bench, plan), images)
    options = {"max_pixels": max_pixels, "revision": revision}
    asked = load_model(model, **{name: value for name, value in options.items() if value is not None})
    reading = Reading(protocol.value, asked.box_style, y_stretch)
    with _progress(f"asking {asked.name}") as progress:
        report = run(bench, asked, images, out, reading=reading, plan=plan, progress=progress)
    _show(report, out, as_json)


@app.command(epilog="Example: migician baseline mig-bench --data MIG_data.json --out outputs/constant")
def baseline(
    benchmark: Annotated[Benchmark, typer.Argument(help="What to answer without looking.")],
    data: DataFile,
    out: OutFolder,
    as_json: AsJson = False,
) -> None:
    """Score the best constant box of each task, fitted on the questions themselves: the floor for any model."""
    from migician.baseline import constant_answers
    from migician.benchmarks import mig_bench
    from migician.boxtext import QWEN
    from migician.report import score_answers
    from migician.scoring import Reading

    bench = mig_bench.load(data)
    spec = {"model": {"name": "best constant box of each task"}}
    report = score_answers(
        bench, constant_answers(bench), Reading("strict", QWEN), out, images=None, partial=False, spec=spec
    )
    _show(report, out, as_json)


@app.command(epilog="Example: migician report outputs/stage-1 outputs/merged --images data")
def report(
    folders: Annotated[list[Path], typer.Argument(help="One or more folders that score or eval wrote.")],
    images: Annotated[Path | None, typer.Option(help="The image folder; without it, the one eval used.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where the page goes: by default into the first.")] = None,
    per_task: Annotated[int, typer.Option(min=1, help="Questions of each task to show.")] = 60,
) -> None:
    """The table and the page over one or several runs of the same benchmark file."""
    from migician.evaluation import images_of
    from migician.page import write_page
    from migician.report import read_report, side_by_side

    names = [folder.resolve().name for folder in folders]
    _console().print(side_by_side({name: read_report(one) for name, one in zip(names, folders, strict=True)}))
    root = images or next((found for one in folders if (found := images_of(one)) is not None), None)
    if root is None:
        raise UserError(f"{folders[0]} does not say where its images are: add --images")
    page = write_page(folders, names, root, out or folders[0] / "page", per_task=per_task)
    _note(f"open {page}")


@app.command(
    epilog="Example: migician build all --source coco=/data/coco --source got10k=/data/GOT-10k --out data/MGrounding"
)
def build(
    tasks: Annotated[list[str], typer.Argument(help="Task families, or all.")],
    source: Annotated[list[str], typer.Option(help="NAME=ROOT of a source dataset; may be repeated.")],
    out: OutFolder,
    count: Annotated[int | None, typer.Option(min=1, help="Samples a task; as many as there are without it.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that make images.")] = 2,
    config: Annotated[Path | None, typer.Option(help="A recipe, such as configs/mgrounding-630k.yaml.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier build.")] = False,
) -> None:
    """Build an MGrounding-style dataset from source datasets in their native formats."""
    from migician.build import build as build_dataset

    roots = {name: Path(root) for name, root in (_named(given, "--source") for given in source)}
    built = build_dataset(
        tasks, roots, out, count=count, seed=seed, workers=workers, config=config, overwrite=overwrite
    )
    for part in built.short:
        _note(f"{part.task} from {part.source}: {part.made} of {part.asked} samples; the card counts why")
    _note(f"{built.samples} samples in {built.folder}; see {built.folder / 'README.md'}")


@app.command(
    epilog="Example: migician mix --part Difference.json=1 --part Free-Form.json=2 --count 3000 --out stage2.json"
)
def mix(
    part: Annotated[list[str], typer.Option(help="FILE=WEIGHT, a JSON file of samples and its share; repeated.")],
    count: Annotated[int, typer.Option(min=1, help="Samples in all.")],
    out: Annotated[Path, typer.Option("--out", help="The JSON file to write; dataset_info.json goes beside it.")],
    seed: Annotated[int, typer.Option(help="Which samples, and in which order.")] = 0,
) -> None:
    """Mix files of samples by share, for LLaMA-Factory."""
    from migician.mixture import Part, add_dataset
    from migician.mixture import mix as mix_files

    parts = {}
    for file, weight in (_named(given, "--part") for given in part):
        try:
            parts[Path(file).stem] = Part(Path(file), float(weight))
        except ValueError:
            raise UserError(f"--part {file}={weight}: the weight must be a number, such as 0.5") from None
    counts = mix_files(parts, out, count, seed)
    add_dataset(out)
    _note(f"{out}: " + ", ".join(f"{name} {number}" for name, number in counts.items()))


@app.command(epilog="Example: migician miniature --out outputs/world")
def miniature(
    out: OutFolder,
    seed: Annotated[int, typer.Option(help="Another seed, another world.")] = 0,
) -> None:
    """Draw a small world in the native formats of the sources, with a held-out set in MIG-Bench's."""
    from migician.miniature import make_world

    make_world(out, seed)
    _note(f"sources in {out / 'sources'}, held-out questions in {out / 'MIG-Bench/MIG_data.json'}")


@app.command(epilog="Example: migician tiny --texts outputs/stage1.json --out outputs/untrained")
def tiny(
    out: OutFolder,
    texts: Annotated[list[Path], typer.Option(help="JSON files of samples: the tokenizer learns from their text.")],
    seed: Annotated[int, typer.Option(help="Of the random weights.")] = 0,
) -> None:
    """Make a tiny Qwen2-VL with random weights, to train without a download."""
    from migician.models.tiny import make_tiny
    from migician.samples import read_samples

    words = (turn.value for file in texts for one in read_samples(file) for turn in one.conversations)
    make_tiny(out, seed=seed, texts=words)
    _note(f"written: {out}")


@app.command(epilog="Example: migician merge saves/stage-1 saves/stage-2 --out saves/migician")
def merge(
    first: Annotated[str, typer.Argument(help="A checkpoint: a folder or a Hub id.")],
    second: Annotated[str, typer.Argument(help="Another of the same shape.")],
    out: OutFolder,
    weight: Annotated[float, typer.Option(min=0, max=1, help="The share of the second.")] = 0.5,
) -> None:
    """Average two checkpoints, a tensor at a time."""
    from migician.merging import merge as average

    with _progress("averaging (bytes)") as progress:
        average(first, second, out, weight, on_progress=progress)
    _note(f"written: {out}")


@app.command(epilog="Example: migician compare outputs/qwen2-vl outputs/migician")
def compare(
    first: Annotated[Path, typer.Argument(help="A folder that score or eval wrote.")],
    second: Annotated[Path, typer.Argument(help="Another, over the same questions.")],
    out: Annotated[Path | None, typer.Option("--out", help="Also write comparison.json into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """The paired difference of two runs, second minus first, with its interval."""
    import msgspec

    from migician.comparison import compare as compare_reports
    from migician.comparison import comparison_table

    comparison = compare_reports(first, second)
    content = msgspec.json.format(msgspec.json.encode(comparison), indent=2) + b"\n"
    if out is not None:
        with writing(out / "comparison.json") as stream:
            stream.write(content)
    if as_json:
        sys.stdout.write(content.decode())
    else:
        _console().print(comparison_table(comparison))
    if comparison["first"]["protocol"] != comparison["second"]["protocol"]:
        _note("the two runs were scored under different protocols")


def _reading(protocol: ProtocolName, style: str | None, y_stretch: bool) -> Any:
    from migician.scoring import Reading

    if style is not None and protocol is ProtocolName.published:
        raise UserError("--style is for --protocol strict: published tries six spellings on every reply. Drop one")
    name = style or "qwen"
    if name not in STYLES:
        raise UserError(f"--style {name!r} is not known. Known: {', '.join(STYLES)}.{_closest(name, STYLES)}")
    return Reading(protocol.value, STYLES[name], y_stretch)


def _named(given: str, option: str) -> tuple[str, str]:
    name, separator, value = given.partition("=")
    if not (name and separator and value):
        raise UserError(f"{option} {given!r}: expected two parts joined by =")
    return name, value


def _closest(name: str, known: Any) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _show(report: dict[str, Any], out: Path, as_json: bool) -> None:
    import msgspec

    from migician.report import notes, table

    if as_json:
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    else:
        _console().print(table(report))
    for sentence in notes(report):
        _note(sentence)
    _note(f"written: {out / 'report.json'}, {out / 'records.jsonl'}")


def _print_prompts(questions: Sequence[Question], wording: str) -> None:
    from migician.benchmarks.mig_bench import prompt

    first = {question.task: question for question in reversed(questions)}
    for question in sorted(first.values(), key=lambda one: one.index):
        print(f"--- row {question.index}, {question.task}, {len(question.images)} images\n{prompt(question, wording)}")
    _note(f"{len(questions)} questions; shown is the first of each task")


@contextlib.contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left on a terminal; elsewhere nothing but the result."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    console = Console(stderr=True)
    with Progress(
        *columns, TextColumn("left"), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _console() -> Console:
    # Piped output has no width of its own: give it room, so that no figure is cut.
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def _note(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr and status 2."""
    try:
        app()
    except UserError as error:
        print(f"migician: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("migician: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
