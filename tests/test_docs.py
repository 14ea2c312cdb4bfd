"""The documents hold: links lead somewhere, commands parse, and the examples of docs/adding.md work as they stand."""

from __future__ import annotations

import functools
import importlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from migician import benchmarks, models, sources, tasks
from migician.benchmarks.published.figures import PUBLISHED
from migician.boxtext import parse_boxes
from migician.cli import ALSO, GROUPS, VERBS, app
from migician.samples.sample import read_samples
from migician.sources import Source
from migician.sources.scenes import Scene

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "eval/results.md"]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def texts() -> Iterator[tuple[Path, str]]:
    """Pages, and the words of notebooks."""
    for page in PAGES:
        yield page, page.read_text()
    for file in NOTEBOOKS:
        cells = json.loads(file.read_text())["cells"]
        yield file, "\n\n".join("".join(cell["source"]) for cell in cells)


def slug(heading: str) -> str:
    """A heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(line.lstrip("#")) for line in page.read_text().splitlines() if line.startswith("#")}


def test_every_relative_link_leads_somewhere() -> None:
    broken = []
    for page, text in texts():
        for target in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            if re.match(r"[a-z]+:", target):
                continue
            place, _, anchor = target.partition("#")
            file = (page.parent / place).resolve() if place else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                broken.append(f"{page.name}: {target}")
    assert not broken


def test_every_page_of_docs_is_linked_from_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text()
    files = [*(ROOT / "docs").glob("*.md"), *NOTEBOOKS]
    assert not [file.name for file in files if file.name != "README.md" and f"{file.name})" not in index]


def commands(text: str) -> Iterator[str]:
    """What follows `migician` wherever a text shows it as code: in blocks, with lines joined, and in backticks."""
    blocks = re.findall(r"```(?:bash|sh)?\n(.*?)```", text, flags=re.DOTALL)
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]
    for line in lines:
        found = re.match(r"!?(?:\w+=\S+ |torchrun .* -m |python -m |time )*migician(?:\.cli)? (.+)$", line.strip())
        if found:
            yield re.split(r"\s+#|\s[|>&]+\s", found[1])[0]


@functools.cache
def options_of(verb: str) -> dict[str, Any]:
    command: Any = typer.main.get_command(app)
    for word in ALSO.get(verb, verb).split():
        command = command.commands[word]
    options = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    return options | {"--help": None}


SHOWN = [(page.name, command) for page, text in texts() for command in commands(text)]


@pytest.mark.parametrize(("page", "command"), SHOWN, ids=[f"{page}: {command[:50]}" for page, command in SHOWN])
def test_every_command_shown_parses(page: str, command: str) -> None:
    """The verb exists (or each of `a|b`), and so does each option; values in capitals and dots are left alone."""
    words = [word.strip("[]") for word in shlex.split(command.replace("{", "").replace("}", ""))]
    group = [words.pop(0)] if words[0] in GROUPS else []
    if group and not words:
        return
    verbs = [" ".join([*group, verb]) for verb in words[0].split("|")]
    assert all(verb in VERBS or verb in ALSO or verb.startswith("--") for verb in verbs), f"{page}: migician {command}"
    for word in words[1:]:
        if word.startswith("--") and len(word) > 2:
            known = options_of(verbs[0])
            assert word.partition("=")[0] in known, f"{page}: migician {command}: {word} is no option"


def test_some_commands_are_found() -> None:
    pages = {page for page, _ in SHOWN}
    assert len(SHOWN) > 40 and {"README.md", "data.md", "training.md", "evaluation.md"} <= pages


def blocks() -> dict[str, str]:
    """The examples of docs/adding.md by their first line."""
    text = (ROOT / "docs/adding.md").read_text()
    found = re.findall(r"```python\n# ([^\n]+)\n(.*?)```", text, flags=re.DOTALL)
    return {first.removeprefix("in "): body for first, body in found}


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of docs/adding.md where their packages find them, and the lines in their dicts."""
    parts = blocks()
    known: dict[str, Any] = {"Source": Source, "Scene": Scene, "_task": tasks._task}
    for place, body in parts.items():
        if place.endswith(".py"):
            file = tmp_path / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(body)
            package = importlib.import_module(".".join(Path(place).parent.parts))
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(file.parent)])
            name = ".".join(Path(place).with_suffix("").parts)
            known[file.stem] = importlib.import_module(name)
    for name, owner in (("SOURCES", sources), ("TASKS", tasks), ("FAMILIES", models), ("BENCHMARKS", benchmarks)):
        for key, value in eval("{" + parts[name] + "}", known).items():
            monkeypatch.setitem(getattr(owner, name), key, value)
    return tmp_path


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def shelf(root: Path) -> dict[str, list[int]]:
    """A dataset of the documented form; gives the box of the largest thing of each image, in permille."""
    (root / "images").mkdir(parents=True)
    rows, largest = [], {}
    for number in range(6):
        Image.new("RGB", (200, 100), (40 * number, 90, 90)).save(root / f"images/{number}.jpg")
        large = [10 * number, 10, 10 * number + 100, 90]
        largest[f"{number}.jpg"] = [5 * large[0], 100, 5 * large[2], 900]
        things = [{"label": "mug", "xyxy": [0, 0, 20, 20]}, {"label": "box", "xyxy": large}]
        rows.append({"image": f"{number}.jpg", "things": things})
    rows.append({"image": "gone.jpg", "things": []})
    (root / "boxes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return largest


def test_the_source_and_the_task_of_the_page_build_a_dataset(added: Path, tmp_path: Path) -> None:
    largest = shelf(tmp_path / "shelf")
    source = f"shelf={tmp_path / 'shelf'}"
    said = run("build", "biggest", "--source", source, "--workers", 1, "--out", tmp_path / "data")
    samples = read_samples(tmp_path / "data/Biggest_Object.json")
    assert f"{len(samples)} samples" in said and len(samples) >= 2
    for one in samples:
        assert not one.problems() and one.type == "big_train"
        (box,) = parse_boxes(one.conversations[1].value).boxes
        assert list(box.to_permille()) in [largest[Path(image).name] for image in one.images]
    card = json.loads((tmp_path / "data/card.json").read_text())
    assert card["parts"][0]["left_out"] == {"image missing": 1}
    assert "- Shelf: licence unverified" in (tmp_path / "data/README.md").read_text()


def test_the_family_and_the_benchmark_of_the_page_are_asked_and_scored(
    added: Path, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf(tmp_path / "shelf")
    row = {"images": ["0.jpg", "1.jpg"], "what": "the mug", "image": 1, "box": [0.1, 0.2, 0.5, 0.6]}
    (tmp_path / "shelves.jsonl").write_text("\n".join([json.dumps(row)] * 2))
    replies = [f"Image-{number}: [0.1, 0.2, 0.5, 0.6]" for number in (2, 1)]
    lines = [json.dumps({"index": index, "response": reply}) for index, reply in enumerate(replies)]
    (tmp_path / "answers.jsonl").write_text("\n".join(lines))
    data = ["--data", tmp_path / "shelves.jsonl"]
    given = [*data, "--answers", tmp_path / "answers.jsonl", "--style", "list-fraction", "--out", tmp_path / "scored"]
    run("score", "shelves", *given)
    outcomes = json.loads((tmp_path / "scored/report.json").read_text())["per_task"]["find"]["outcomes"]
    assert outcomes == {"correct": 1, "wrong_image": 1}
    run("dev", "baseline", "shelves", *data, "--out", tmp_path / "floor")

    monkeypatch.setitem(models.FAMILIES, "qwen2_vl", models.FAMILIES["newcomer"])  # as if the config said newcomer
    asked = ["--images", tmp_path / "shelf/images", "--max-new-tokens", 3]
    run("eval", "shelves", "--model", tiny_folder, *data, *asked, "--out", tmp_path / "run")
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert (report["n"], report["style"], report["model"]["family"]) == (2, "list-fraction", "newcomer")


def test_the_table_of_the_paper_is_the_published_one() -> None:
    """docs/reproducing.md names every row of the paper's table, with the average that is published."""
    lines = (ROOT / "docs/reproducing.md").read_text().splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| ")]
    said = {cells[1].strip(): cells[2].strip() for cells in rows if re.fullmatch(r"\d+\.\d\d", cells[2].strip())}
    assert said == {one.name: f"{one.average:.2f}" for one in PUBLISHED.values()}
