"""Scripts in processes of their own without their imports: forked from one process that has the heavy packages.

LLaMA-Factory takes nine seconds to import, transformers with torch six. `parent_with` imports once; `Parent.run` forks
that, so that each script finds the packages as they were before any other ran.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_PARENT = """
import atexit, json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # some packages talk while they are imported
exec(sys.argv[1])
print("ready", file=answers, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
        continue
    status = 0
    try:
        for number, file in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
            opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
            os.close(opened)
        os.chdir(asked["cwd"])
        os.environ.update(asked["environment"])
        sys.argv = ["-c", *asked["words"]]
        exec(compile(asked["script"], asked["name"], "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        status = 1
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
"""


class Parent:
    """A process that has imported what the scripts need."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder

    def run(
        self, script: str, *words: Any, cwd: str | Path | None = None, name: str = "<script>", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)`."""
        out, err = self._folder / "out", self._folder / "err"
        asked: Mapping[str, Any] = {
            "script": script, "words": list(map(str, words)), "cwd": str(cwd or Path.cwd()), "name": name,
            "environment": environment, "out": str(out), "err": str(err),
        }  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        status = int(self._process.stdout.readline())
        return subprocess.CompletedProcess([name, *map(str, words)], status, out.read_text(), err.read_text())


@contextlib.contextmanager
def parent_with(imports: str, folder: Path, **environment: str) -> Iterator[Parent]:
    """A parent for scripts; `folder` is an empty one for what they print."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", _PARENT, imports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), **environment},
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        said = process.stdout.readline()
        assert said == "ready\n", f"{said!r}: {imports} fails"
        yield Parent(process, folder)
        assert process.stdin is not None
        process.stdin.close()
