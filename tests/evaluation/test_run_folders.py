"""Run folders of another shape: every verb that reads one works as before or says in one line what is wrong."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
pytest.importorskip("datasets", reason="data extra not installed: bash scripts/setup.sh")

from mutations import VALUES, mutations, places
from spoiled_runs import KINDS, VERBS, attempt, call, make_world, sweep

from migician.errors import UserError
from migician.evaluation.run_folder import read_report, read_run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("runs") / "world"
    make_world(home)
    return home


def test_sound_runs_are_read_by_all_verbs(world: Path, tmp_path: Path) -> None:
    """Else the sweep would take a refusal of everything for a good end."""
    for verb in VERBS:
        for run in verb.runs:
            work = tmp_path / "work"
            shutil.copytree(world, work)
            with contextlib.chdir(work):
                status, error = call(verb, run)
            assert (status, verb.name, run) == (0, verb.name, run), error
            shutil.rmtree(work)


def test_a_sample_of_all_ways_to_spoil_a_run(tmp_path: Path) -> None:
    # As hypothesis' searches: the same each time, unless new ones are asked for.
    seed = int.from_bytes(os.urandom(4)) if os.environ.get("HYPOTHESIS_SEARCH") else 0
    tried = list(sweep(tmp_path / "sweep", seed, 250))
    assert [one for one in tried if one.wrong] == []
    # Most fields are looked at; where all tries ended well, nothing would have been spoiled.
    assert 40 < sum(one.refused for one in tried) < len(tried)


FOUND = [
    # verb, run, file, place, value: tracebacks of the version before
    ("page", "asked", "report.json", ("breakdowns", "by_images", "2", "mean_iou"), "text"),
    ("table", "asked", "report.json", ("breakdowns", "image_choice", "region", "chance"), None),
    ("page", "asked", "report.json", ("without_malformed", "average"), 1e308),
    ("page", "asked", "report.json", ("failures", "reasons", 0), {}),
    ("page", "asked", "report.json", ("failures", "n"), "text"),
    ("page", "asked", "report.json", ("per_task", "diff", "several"), None),
    ("plot", "asked", "report.json", ("per_task", "diff", "interval", "acc@0.5", 0), 10**30),
    ("notebook", "asked", "report.json", ("per_task", "diff", "interval"), {"acc@0.5": [0, 100]}),
    ("compare", "asked", "report.json", ("plan",), [[]]),
    ("compare", "asked", "report.json", ("plan",), True),
    ("page", "choices", "report.json", ("answers_sha256",), {"a": {"a": None}}),
    ("table", "choices", "report.json", ("average", "chance"), "text"),
    ("page", "asked", "records.jsonl", ("task",), "text"),
    ("notebook", "asked", "records.jsonl", ("images",), []),
    ("page", "choices", "records.jsonl", ("options",), []),
    ("page", "choices", "records.jsonl", ("answer",), 10**30),
    ("records", "several", "records.jsonl", ("rows", 0), 2**63),
    ("notebook", "several", "records.jsonl", ("index",), 2**63),
]


@pytest.mark.parametrize(("verb", "run", "file", "place", "value"), FOUND)
def test_what_was_a_traceback(
    world: Path, tmp_path: Path, verb: str, run: str, file: str, place: tuple[Any, ...], value: Any
) -> None:
    rows = [json.loads(row) for row in (world / run / file).read_text().split("\n" if file[-1] == "l" else "\0") if row]
    inside = rows[0]
    for key in place[:-1]:
        inside = inside[key]
    assert place[-1] in inside or isinstance(inside, list)
    inside[place[-1]] = value
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (one,) = (known for known in VERBS if known.name == verb)
    tried = attempt(world, tmp_path / "work", one, run, file, content)
    assert (tried.wrong, tried.refused) == ("", True)


@pytest.mark.parametrize("run", KINDS)
def test_no_field_of_another_type_comes_through(world: Path, tmp_path: Path, run: str) -> None:
    """Every fifteenth, without the verbs: what the border lets through has figures, intervals and its records."""
    shutil.copytree(world / run, tmp_path / "run")
    ends: Counter[str] = Counter()
    number = KINDS.index(run)
    for file in ("report.json", "records.jsonl"):
        sound = (world / run / file).read_bytes()
        for one in itertools.islice(mutations(sound, lines=file.endswith("l")), number, None, 5 * len(KINDS)):
            (tmp_path / "run" / file).write_bytes(one.content)
            try:
                report, records = read_run(tmp_path / "run")
            except UserError as error:
                assert "\n" not in str(error) and str(error).endswith("migician score or eval"), one.what
                ends["refused"] += 1
                continue
            ends["read"] += 1
            assert len(records) == report["n"] or "['n']" in one.what
            for figures in (report["average"], report["micro"], *report["per_task"].values()):
                for metric, (low, high) in figures["interval"].items():
                    if metric in report["average"]["interval"]:
                        assert 0 <= low <= figures[metric] <= high <= 100, one.what
        (tmp_path / "run" / file).write_bytes(sound)
    assert min(ends["refused"], ends["read"]) > 20


def test_mutations_are_systematic() -> None:
    whole = {"a": [{"b": 1}], "c": "text"}
    assert list(places(whole)) == [("a",), ("a", 0), ("a", 0, "b"), ("c",)]
    found = {one.what: one.content for one in mutations(json.dumps(whole).encode())}
    assert json.loads(found["['a'][0]['b'] missing"]) == {"a": [{}], "c": "text"}
    assert json.loads(found["['a'][0] is null"]) == {"a": [None], "c": "text"}
    assert found["['c'] is NaN"] == b'{"a": [{"b": 1}], "c": NaN}\n'
    assert "['c'] is a text" not in found, "no mutation leaves the file as it was"
    assert sum(what.startswith("['a'][0]['b'] is") for what in found) >= len(VALUES) - 1


# ---- what earlier versions wrote ----

_LATER = ("scoring", "breakdowns", "rows_sha256", "failures", "hardware", "commit", "plan", "model", "unanswered")


@pytest.mark.parametrize("gone", [*((one,) for one in _LATER), _LATER])
@pytest.mark.parametrize("verb", ["table", "compare", "page", "plot"])
def test_what_earlier_versions_did_not_write_is_not_asked_for(
    world: Path, tmp_path: Path, verb: str, gone: tuple[str, ...]
) -> None:
    report = json.loads((world / "asked/report.json").read_text())
    kept = {name: value for name, value in report.items() if name not in gone}
    (one,) = (known for known in VERBS if known.name == verb)
    tried = attempt(world, tmp_path / "work", one, "asked", "report.json", json.dumps(kept).encode())
    assert (tried.wrong, tried.refused) == ("", False)


def test_records_of_the_first_version(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "asked", tmp_path / "run")
    rows = [json.loads(row) for row in (world / "asked/records.jsonl").read_text().splitlines()]
    for row in rows:
        del row["reasoning"], row["seconds"]
    (tmp_path / "run/records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(read_run(tmp_path / "run")[1]) == list(read_run(world / "asked")[1])


def test_answers_and_run_of_earlier_versions_resume(world: Path, tmp_path: Path) -> None:
    rows = [json.loads(row) for row in (world / "asked/answers.jsonl").read_text().splitlines()]
    plain = [{"index": row["index"], "response": row.get("response"), "error": row.get("error")} for row in rows]
    content = "".join(json.dumps(row) + "\n" for row in plain).encode()
    (one,) = (known for known in VERBS if known.name == "eval")
    tried = attempt(world, tmp_path / "work", one, "asked", "answers.jsonl", content)
    assert (tried.wrong, tried.refused) == ("", False)
    before, after = (read_run(home / "asked")[0] for home in (world, tmp_path / "work"))
    assert before["per_task"] == after["per_task"]


# ---- one run of one piece ----


def test_records_of_another_scoring_are_not_taken_for_those_of_the_report(world: Path, tmp_path: Path) -> None:
    """As after a kill between the two files, or a copy of one of them."""
    shutil.copytree(world / "asked", tmp_path / "run")
    shutil.copy(world / "asked-other/records.jsonl", tmp_path / "run")
    with pytest.raises(UserError, match=r"records\.jsonl: 8 records, not the 8 that report\.json sums up"):
        read_run(tmp_path / "run")
    assert read_report(tmp_path / "run")["n"] == 8


def test_an_answer_to_another_question_is_not_taken(world: Path, tmp_path: Path) -> None:
    rows = [json.loads(row) for row in (world / "asked/answers.jsonl").read_text().splitlines()]
    rows[0]["task"], rows[1]["task"] = rows[1]["task"], rows[0]["task"]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (one,) = (known for known in VERBS if known.name == "eval")
    tried = attempt(world, tmp_path / "work", one, "asked", "answers.jsonl", content)
    assert (tried.wrong, tried.refused) == ("", True)
