"""migician <verb>: the command line, thin over the package."""

from __future__ import annotations

import hashlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from migician.boxtext import STYLES
from migician.errors import UserError, writing

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
