"""Names and texts of others reach a terminal as they are: never markup, never commands to it."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from migician import cli
from migician.cli import app
from migician.printable import LiteralConsole, one_line, printable
from migician.progress import progress_bar

PACKAGE = Path(cli.__file__).parent.parent
NAMES = ("a[/b]", "[red]x[/red]", ":smile: [link=file:///x]y", "b\x1b[31mc\x9b2Jd\re\u202ef", "[bold", "\\[x]")
SHOWN = ("a[/b]", "[red]x[/red]", ":smile: [link=file:///x]y", r"b\u001b[31mc\u009b2Jd\u000de\u202ef", "[bold", "\\[x]")


@given(st.text(st.characters()))
def test_nothing_commands_the_terminal(text: str) -> None:
    shown = printable(text)
    assert not [sign for sign in shown if not sign.isprintable() and sign in "\x1b\x9b\r\b\x07\x7f\u202e\u2066\ud800"]
    assert one_line(text).splitlines() in ([], [one_line(text)])
    shown.encode()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_stays_the_same_json(text: str) -> None:
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two runs over tasks and images of such names; in a folder of such a name."""
    home = tmp_path / "[red]of"
    images = [f"MIG-Bench/images/{number}[x].png" for number in range(2)]
    for name in images:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "grey").save(home / name)
    asked = "Find it in the second image."
    rows = [{"task": task, "images": images, "question": asked, "answer": [0.1, 0.1, 0.5, 0.5]} for task in NAMES]
    (home / "data[y].json").write_text(json.dumps(rows))
    for name, reply in (("one[z]", "(100,100),(500,500)"), ("two", "nothing")):
        lines = [json.dumps({"index": at, "response": reply}) for at in range(len(rows))]
        (home / f"{name}.jsonl").write_text("\n".join(lines))
    return home


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def score(home: Path, name: str) -> Result:
    given = ["--data", home / "data[y].json", "--answers", home / f"{name}.jsonl", "--out", home / name]
    return run("score", "mig-bench", *given)


def test_tables_show_what_is_written(home: Path) -> None:
    for done in (score(home, "one[z]"), score(home, "two")):
        assert done.exit_code == 0 and "data[y].json" in done.output
        assert_shown(done.output)
    for words in (
        ("compare", home / "one[z]", home / "two"),
        ("report", home / "one[z]", home / "two", "--images", home, "--workers", 1),
        ("table", home / "one[z]", home / "two"),
        ("dev", "baseline", "mig-bench", "--data", home / "data[y].json", "--out", home / "base"),
        ("score", "mig-bench", "--data", home / "data[y].json", "--answers", home / "two.jsonl", "--out", home / "x"),
    ):
        done = run(*words)
        assert done.exit_code == 0
        assert_shown(done.output)
        assert "one[z]" in done.output or words[0] in ("dev", "score")
    asked = run("eval", "mig-bench", "--model", "constant:1,1,2,2", "--data", home / "data[y].json", "--images", home,
                "--out", home / "z", "--dry-run")  # fmt: skip
    assert_shown(asked.output)


def assert_shown(output: str) -> None:
    assert "\x1b" not in output and "\x9b" not in output and "\u202e" not in output
    for name in SHOWN:
        assert name in output or name.replace("_", " ") in output


def test_a_check_lists_what_is_written(home: Path) -> None:
    turns = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "!"}]
    records = [{"id": name, "images": [f"{name.replace('/', '')}.png"], "conversations": turns} for name in NAMES]
    (home / "set[s].json").write_text(json.dumps([*records, {"id": "a[/b]", "images": 1}]))
    done = run("check", home / "set[s].json", "--workers", 1)
    told = "".join(done.output.split())
    assert done.exit_code == 1 and "\x1b" not in done.output and "\x9b" not in done.output
    assert "set[s].json" in told and "[red]x[red].png" in told and ":smile:" in told


def test_an_error_is_one_line_whatever_a_file_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["migician", "table", str(tmp_path / "a\nb\x1b[2J[/c]\udcff")])
    with pytest.raises(SystemExit):
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert r"a\u000ab\u001b[2J[/c]\udcff" in line


def test_the_label_of_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar("asking [/b] :smile: \x1b[2J") as report:
        report(1, 2)
    assert r"asking [/b] :smile: \u001b[2J" in stream.getvalue()


def test_a_terminal_that_knows_few_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set.json").write_text("[]")
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["migician", "eval", "nothing"])
    with pytest.raises(SystemExit):
        cli.main()
    print("█ –", file=stream, flush=True)
    assert stream.buffer.getvalue() == rb"\u2588 \u2013" + b"\n"


def test_there_is_no_other_way_to_the_terminal() -> None:
    """No console but the literal one, and no verb that prints past `say`, `note` and `console`."""
    found = []
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text())
        name = file.relative_to(PACKAGE).as_posix()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
                found += [(name, one.name) for one in node.names if one.name == "Console"]
            if isinstance(node, ast.Call) and name.startswith("cli/"):
                found += (
                    [(name, ast.unparse(node.func))] if ast.unparse(node.func) in ("print", "sys.stdout.write") else []
                )
    assert set(found) == {("printable.py", "Console"), ("cli/terminal.py", "print")}


def test_styles_of_our_own_are_kept() -> None:
    from rich.text import Text

    stream = io.StringIO()
    console = LiteralConsole(file=stream, force_terminal=True, color_system="standard")
    console.print(Text.assemble("1.00 ", ("0-2", "dim")))
    assert stream.getvalue() == "1.00 \x1b[2m0-2\x1b[0m\n"


def test_a_text_of_rich_is_as_harmless_as_a_string() -> None:
    from rich.table import Table
    from rich.text import Text

    stream = io.StringIO()
    table = Table(title=Text("a\x1b[2Jb"))
    table.add_column(Text("c\x9bd"))
    table.add_row(Text("e\x1b[31m[red]f"))
    LiteralConsole(file=stream, width=100).print(table, Text("g\x07h"))
    shown = stream.getvalue()
    assert "\x1b" not in shown and "\x9b" not in shown and "\x07" not in shown
    assert r"a\u001b[2Jb" in shown
