"""scripts/stage.sh over a launcher that, like torchrun, gives each worker a session of its own and no file above 2."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc: stage.sh is for Linux")

LAUNCHER = """#!{python}
import subprocess, sys
worker = "import os, signal; open({ready!r}, 'w').write(f'{{os.getppid()}} {{os.getpid()}}\\\\n'); signal.pause()"
workers = [subprocess.Popen([sys.executable, "-c", worker], start_new_session=True) for _ in range(2)]
sys.exit(max(abs(one.wait()) for one in workers))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for a run, and the programs that stage.sh calls: only migician is the real one."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    programs = {
        "llamafactory-cli": LAUNCHER.format(python=sys.executable, ready=str(ready)),
        "migician": f'#!/bin/sh\nexec {sys.executable} -m migician.cli "$@"\n',
        "python": "#!/bin/sh\necho 0\n",  # asked how many GPUs there are
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def command(place: Path) -> list[str]:
    config = ROOT / "configs/quickstart/stage-1.yaml"
    return ["bash", str(ROOT / "scripts/stage.sh"), str(config), f"output_dir={place / 'out'}"]


def environment(place: Path) -> dict[str, str]:
    return os.environ | {
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SKIP_CHECK": "1",
    }


def hear() -> None:
    """Of nohup and of "&" in a script a process inherits that it ignores these, and bash cannot trap them then."""
    for sign in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_DFL)


@contextmanager
def started(place: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, list[int]]]:
    """A running stage.sh, the id of its launcher, and those of its two workers."""
    with (place / "said").open("wb") as said:
        process = subprocess.Popen(
            command(place), env=environment(place), stderr=said, start_new_session=True, preexec_fn=hear
        )
    lines: list[str] = []
    while len(lines) < 2:  # each worker opens and closes the pipe
        lines += (place / "ready").read_text().splitlines()
    launcher = int(lines[0].split()[0])
    workers = [int(line.split()[1]) for line in lines]
    try:
        yield process, launcher, workers
    finally:
        for one in (-process.pid, launcher, *workers):  # its whole group: what says how far it is outlives it, too
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()


def gone(ids: list[int], within_ms: int = 60_000) -> bool:
    """Whether all these end so soon; a zombie has."""
    for one in ids:
        try:
            handle = os.pidfd_open(one)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        ended = bool(poll.poll(within_ms))
        os.close(handle)
        if not ended:
            return False
    return True


def again(place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(place), env=environment(place), capture_output=True, text=True, check=False)


KILLS: dict[str, Callable[[int], None]] = {
    "the script": lambda pid: os.kill(pid, signal.SIGKILL),
    "its group": lambda pid: os.killpg(pid, signal.SIGKILL),
}


@pytest.mark.parametrize("kill", KILLS)
def test_nothing_starts_beside_workers_that_outlived_a_kill(place: Path, kill: str) -> None:
    with started(place) as (process, launcher, workers):
        KILLS[kill](process.pid)
        process.wait()
        alive = workers if kill == "its group" else [launcher, *workers]
        assert kill != "its group" or gone([launcher])
        before = {file.name: file.stat().st_mtime_ns for file in (place / "out").iterdir()}
        refused = again(place)
        assert refused.returncode == 2
        said = re.fullmatch(
            rf"stage\.sh: {place / 'out'}: processes of an earlier start still run: ([\d ]+)\. "
            r"Wait for them, or end them: (kill [\d ]+)\n",
            refused.stderr,
        )
        assert said and {int(one) for one in said[1].split()} == set(alive)
        assert {file.name: file.stat().st_mtime_ns for file in (place / "out").iterdir()} == before
        subprocess.run(said[2], shell=True, check=True)  # noqa: S602 - what it says to the user must work
        assert gone(alive)
    with started(place) as (_, _, others):
        assert not set(others) & set(workers)


@pytest.mark.parametrize(("sign", "status"), [("TERM", 143), ("INT", 130), ("HUP", 129)])
def test_workers_end_with_the_script(place: Path, sign: str, status: int) -> None:
    with started(place) as (process, launcher, workers):
        process.send_signal(getattr(signal, f"SIG{sign}"))
        assert process.wait() == status
        assert gone([launcher, *workers], 0)


def test_workers_end_where_their_launcher_is_killed(place: Path) -> None:
    with started(place) as (process, launcher, workers):
        os.kill(launcher, signal.SIGKILL)
        assert process.wait() == 128 + signal.SIGKILL
        assert gone(workers, 0)


@pytest.mark.slow  # they are given 20 s
def test_workers_that_do_not_listen_are_killed(place: Path) -> None:
    file = place / "bin/llamafactory-cli"
    file.write_text(file.read_text().replace("import os, signal;", "import os, signal; signal.signal(15, 1);"))
    with started(place) as (process, _, workers):
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
        assert gone(workers, 0)
