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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PARENT = """
import atexit, json, os, select, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # some packages talk while they are imported
exec(sys.argv[1])
print("ready", file=answers, flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    pipes = [os.pipe(), os.pipe()]
    child = os.fork()
    if child:
        said = {}
        for near, far in pipes:
            os.close(far)
            said[near] = b""
        still = list(said)
        while still:
            for end in select.select(still, [], [])[0]:
                part = os.read(end, 65536)
                said[end] += part
                if not part:
                    still.remove(end)
                    os.close(end)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = [text.decode(errors="replace") for text in said.values()]
        print(json.dumps([status, *texts]), file=answers, flush=True)
        continue
    status = 0
    try:
        for number, end in ((0, os.open(os.devnull, os.O_RDONLY)), (1, pipes[0][1]), (2, pipes[1][1])):
            os.dup2(end, number)
        for end in (*pipes[0], *pipes[1]):
            os.close(end)
        os.chdir(asked["cwd"])
        os.environ.update(asked["environment"])
        sys.argv = ["-c", *asked["words"]]
        exec(compile(asked["script"], "<script>", "exec"), {"__name__": "__main__"})
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

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, script: str, *words: Any, cwd: str | Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)`."""
        argv = list(map(str, words))
        asked = {"script": script, "words": argv, "cwd": str(cwd or Path.cwd()), "environment": environment}
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        status, output, error = json.loads(self._process.stdout.readline())
        return subprocess.CompletedProcess(argv, status, output, error)


@contextlib.contextmanager
def parent_with(imports: str, **environment: str) -> Iterator[Parent]:
    """A parent for scripts that has run `imports`."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PARENT, imports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), **environment},
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        said = process.stdout.readline()
        assert said == "ready\n", f"{said!r}: {imports} fails"
        yield Parent(process)
        assert process.stdin is not None
        process.stdin.close()
