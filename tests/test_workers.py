"""Processes that work for one: they end with it, however it ends."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

_STARTS_ONE = """
import os, sys
from migician.workers import in_processes
def own(_):
    return os.getpid()
if __name__ == "__main__":
    with in_processes(2) as pool:
        print(*pool(own, [0]), flush=True)
        sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open, which Linux has")
def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "starts_one.py"
    script.write_text(_STARTS_ONE)
    words = [sys.executable, str(script)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        worker = os.pidfd_open(int(starter.stdout.readline()))
        starter.kill()
    waits = select.poll()  # select takes no file above the 1,024th
    waits.register(worker, select.POLLIN)
    ended = waits.poll(60_000)
    os.close(worker)
    assert ended
