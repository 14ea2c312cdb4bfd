"""The test command: lint and types beside the tests, all their output, the status of any, and nothing left running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import LONGEST, TOGETHER
from test_alone import gone, hear

ROOT = Path(__file__).resolve().parent.parent
FINE = {"ruff": "echo lint said", "mypy": "echo types said", "python": "echo tests said"}


def begun(place: Path, **programs: str) -> subprocess.Popen[str]:
    """The command in a folder of its own, with programs that do what is said in shell."""
    shutil.copytree(ROOT / "scripts", place / "scripts")
    (place / "scripts/setup.sh").write_text("")
    (place / ".venv/bin").mkdir(parents=True)
    for name, does in (FINE | programs).items():
        (place / ".venv/bin" / name).write_text(f"#!/bin/sh\n{does}\n")
        (place / ".venv/bin" / name).chmod(0o755)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    words = ["bash", place / "scripts/test.sh"]
    return subprocess.Popen(words, text=True, start_new_session=True, preexec_fn=hear, **pipes)


@pytest.mark.parametrize(
    ("programs", "status"),
    [
        ({}, 0),
        ({"ruff": "echo lint said; exit 1"}, 1),
        ({"ruff": '[ "$1" = check ]; echo lint said'}, 0),
        ({"ruff": 'echo lint said; [ "$1" = check ]'}, 1),  # the format is not that
        ({"mypy": "echo types said; exit 3"}, 3),
        ({"python": "echo tests said; exit 5"}, 5),
        ({"python": "echo tests said; exit 5", "mypy": "echo types said; exit 3"}, 5),
    ],
)
def test_all_say_what_they_find_and_any_failure_is_one(tmp_path: Path, programs: dict[str, str], status: int) -> None:
    with begun(tmp_path, **programs) as process:
        said = process.communicate()[0].splitlines()
    assert process.returncode == status
    assert said == ["tests said", "lint said", "lint said", "types said"]


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_all_end_with_it(tmp_path: Path, sign: int, status: int) -> None:
    for name in ("tests", "types"):
        os.mkfifo(tmp_path / name)
    waits = "echo $$ > {}; exec sleep infinity"
    programs = {"python": waits.format(tmp_path / "tests"), "mypy": waits.format(tmp_path / "types")}
    with begun(tmp_path, **programs) as process:
        waiting = [int((tmp_path / name).read_text()) for name in ("tests", "types")]
        process.send_signal(sign)
        assert process.wait() == status
    assert gone(waiting)


def test_the_files_that_the_order_names_are_there() -> None:
    named = {name for names in (LONGEST, *TOGETHER.values()) for name in names.split()}
    assert named <= {file.stem for file in (ROOT / "tests").rglob("test_*.py")}
