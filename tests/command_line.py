"""The command line for tests: in this process, or in one of its own where that is what a test is about."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from typer.main import get_command

from migician import cli

ROOT = Path(__file__).resolve().parent.parent


class Ended(NamedTuple):
    """How a verb ended."""

    status: int
    output: str
    """What it wrote to stdout."""
    error: str
    """What it wrote to stderr."""


def command(*words: Any, cwd: str | Path | None = None, **environment: str) -> Ended:
    """A verb, run in this process as the command runs it; a second faster than in one of its own.

    Folder, environment, arguments and streams are as before afterwards. Not for threads: they are of the process.
    """
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2)]
    verbs = _verbs()
    before, sys.argv = (sys.argv, sys.stdin, Path.cwd()), ["migician", *_split(words)]
    sys.stdin = io.StringIO()
    status = 0
    try:
        os.chdir(cwd or ".")
        with (
            mock.patch.dict(os.environ, environment),
            mock.patch.object(cli, "app", verbs),
            contextlib.redirect_stdout(streams[0]),
            contextlib.redirect_stderr(streams[1]),
        ):
            try:
                cli.main()
            except SystemExit as end:
                status = int(end.code or 0)
            except Exception:  # noqa: BLE001 - any may be the fault that is looked for
                status = 1
                traceback.print_exc()
    finally:
        sys.argv, sys.stdin = before[:2]
        os.chdir(before[2])
    output, error = (_text(stream) for stream in streams)
    return Ended(status, output, error)


def process(*words: Any, cwd: str | Path | None = None, **environment: str) -> Ended:
    """As `command`, in a process of its own: for imports, signals, locks and what a library writes to the streams."""
    done = subprocess.run(
        [sys.executable, "-m", "migician.cli", *_split(words)], cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def _split(words: tuple[Any, ...]) -> list[str]:
    """The arguments; a verb of two words may come as one."""
    return [*str(words[0]).split(), *map(str, words[1:])] if words else []


@functools.cache
def _verbs() -> Any:
    """What typer makes of the verbs, once instead of at each call."""
    return get_command(cli.app)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    written = stream.buffer
    assert isinstance(written, io.BytesIO)
    return written.getvalue().decode().replace("\r\n", "\n")
