"""The scripts that train, killed; like torchrun, the launcher gives workers sessions of their own, no file above 2."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc: stage.sh is for Linux")

MIGICIAN = """#!/bin/sh
if [ -n "$WAITS" ] && [ "$2" = "$WAITS" ]; then # this verb never ends by itself
  echo "$PPID $$" > {ready}
  exec sleep infinity
fi
# Two seconds less in each test where another verb is what it is about.
case "$QUICK $2" in
  "1 setting") for one; do case "$one" in "$4="*) found="${{one#*=}}" ;; esac; done; echo "$found"; exit ;;
  "1 resume" | "1 progress") exit ;;
esac
exec {python} -m migician.cli "$@"
"""

LAUNCHER = """#!{python}
import subprocess, sys
worker = "import os, signal; open({ready!r}, 'w').write(f'{{os.getppid()}} {{os.getpid()}}\\\\n'); signal.pause()"
workers = [subprocess.Popen([sys.executable, "-c", worker], start_new_session=True) for _ in range(2)]
sys.exit(max(abs(one.wait()) for one in workers))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for a run, the scripts, and the programs that they call: migician is the real one, but for `QUICK`."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    os.mkfifo(tmp_path / "go")
    programs = {
        "llamafactory-cli": LAUNCHER.format(python=sys.executable, ready=str(ready)),
        "migician": MIGICIAN.format(python=sys.executable, ready=ready),
        "python": "#!/bin/sh\necho 0\n",  # asked how many GPUs there are
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")  # beside the checkout's they would use its .venv
    (tmp_path / "scripts/setup.sh").write_text("")
    return tmp_path


CONFIG = str(ROOT / "configs/quickstart/stage-1.yaml")
OPTIONS: dict[str, Callable[[Path], list[str]]] = {
    "stage.sh": lambda place: [CONFIG, f"output_dir={place / 'out'}"],
    "finetune.sh": lambda place: ["--saves", str(place / "saves"), "--stage1", CONFIG, "--stage2", CONFIG],
    "quickstart.sh": lambda place: [str(place / "quick")],
}


def command(place: Path, script: str = "stage.sh") -> list[str]:
    return ["bash", str(place / "scripts" / script), *OPTIONS[script](place)]


def environment(place: Path, **changed: str) -> dict[str, str]:
    return (
        os.environ
        | changed
        | {
            "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SKIP_CHECK": "" if changed.get("WAITS") == "check" else "1",
            "WAITS": changed.get("WAITS", ""),
            "QUICK": changed.get("QUICK", ""),
        }
    )


def hear() -> None:
    """Of nohup and of "&" in a script a process inherits that it ignores these, and bash cannot trap them then."""
    for sign in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_DFL)


def begun(place: Path, script: str, **changed: str) -> subprocess.Popen[bytes]:
    with (place / "said").open("wb") as said:
        return subprocess.Popen(
            command(place, script), env=environment(place, **changed), stdout=said, stderr=said,
            start_new_session=True, preexec_fn=hear,
        )  # fmt: skip


def heard(place: Path, n: int) -> list[str]:
    """What `n` processes say through the pipe: each opens and closes it."""
    lines: list[str] = []
    while len(lines) < n:
        lines += (place / "ready").read_text().splitlines()
    return lines


@contextmanager
def started(
    place: Path, script: str = "stage.sh", **changed: str
) -> Iterator[tuple[subprocess.Popen[bytes], int, list[int]]]:
    """A running script, the id of its launcher, and those of its two workers."""
    process = begun(place, script, **changed)
    lines = heard(place, 2)
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


def running(words: str, place: Path) -> list[int]:
    """The ids of the processes whose command line has these words and the place in it."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = one.read_bytes().decode().replace("\0", " ")
        except OSError:
            continue
        if words in line and str(place) in line:
            found.append(int(one.parent.name))
    return found


def again(place: Path, script: str = "stage.sh") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(place, script), env=environment(place), capture_output=True, text=True, check=False)


KILLS: dict[str, Callable[[int], None]] = {
    "the script": lambda pid: os.kill(pid, signal.SIGKILL),
    "its group": lambda pid: os.killpg(pid, signal.SIGKILL),
}


@pytest.mark.parametrize("kill", KILLS)
def test_nothing_starts_beside_workers_that_outlived_a_kill(place: Path, kill: str) -> None:
    with started(place) as (process, launcher, workers):
        KILLS[kill](process.pid)
        process.wait()
        assert gone(running("progress", place / "out"))  # though it may not even have been loaded when that came
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
    with started(place, QUICK="1") as (_, _, others):
        assert not set(others) & set(workers)


def test_a_chain_killed_alone_is_refused_with_the_stage_that_outlived_it(place: Path) -> None:
    with started(place, "finetune.sh") as (process, launcher, workers):
        process.kill()
        process.wait()
        stage = running("scripts/stage.sh", place)
        assert len(stage) == 1
        refused = again(place, "finetune.sh")
        assert refused.returncode == 2
        said = re.fullmatch(
            rf"stage\.sh: {place}/saves/stage-1: processes of an earlier start still run: ([\d ]+)\. "
            r"Wait for them, or end them: (kill [\d ]+)\n",
            refused.stderr,
        )
        assert said and {int(one) for one in said[1].split()} == {*stage, launcher, *workers}
        subprocess.run(said[2], shell=True, check=True)  # noqa: S602 - what it says to the user must work
        assert gone([*stage, launcher, *workers])


ENDS = [("TERM", 143), ("INT", 130), ("HUP", 129)]


@pytest.mark.parametrize("script", ["stage.sh", "finetune.sh"])
@pytest.mark.parametrize(("sign", "status"), ENDS)
def test_workers_end_with_the_script(place: Path, script: str, sign: str, status: int) -> None:
    # What follows the run is the real one once for each script.
    with started(place, script, QUICK="" if sign == "TERM" else "1") as (process, launcher, workers):
        process.send_signal(getattr(signal, f"SIG{sign}"))
        assert process.wait() == status
        assert gone([launcher, *workers], 0)
        assert not running("scripts/stage.sh", place) and not running("progress", place)


@pytest.mark.parametrize(
    ("script", "verb"),
    [("stage.sh", "check"), ("finetune.sh", "merge"), ("finetune.sh", "curves"), ("quickstart.sh", "miniature")],
)
@pytest.mark.parametrize(("sign", "status"), ENDS)
def test_what_a_script_waits_for_ends_with_it(place: Path, script: str, verb: str, sign: str, status: int) -> None:
    for stage in ("stage-1", "stage-2"):
        (place / "saves" / stage).mkdir(parents=True)
        (place / "saves" / stage / "train_results.json").write_text("{}")
    if verb == "curves":
        (place / "saves/migician").mkdir()
        (place / "saves/migician/merge.json").write_text("{}")
    process = begun(place, script, WAITS=verb, QUICK="1")
    waiting = int(heard(place, 1)[0].split()[1])
    try:
        process.send_signal(getattr(signal, f"SIG{sign}"))
        assert process.wait() == status
        assert gone([waiting], 0)
    finally:
        for one in (-process.pid, waiting):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)


def test_asked_to_end_twice_it_still_ends_its_workers(place: Path) -> None:
    """Their last work takes a while, such as a checkpoint's; Ctrl+C is often pressed again."""
    ready, go = place / "ready", place / "go"
    ends = f"lambda *_: (open('{ready}', 'w').write('x\\\\n'), open('{go}', 'rb', 0).read(1), os._exit(0))"
    file = place / "bin/llamafactory-cli"
    file.write_text(file.read_text().replace("import os, signal;", f"import os, signal; signal.signal(15, {ends});"))
    with go.open("r+b", 0) as release, started(place, QUICK="1") as (process, _, workers):
        process.send_signal(signal.SIGTERM)
        heard(place, 2)
        process.send_signal(signal.SIGTERM)
        assert not gone([process.pid], 500)
        release.write(b"xx")  # a letter each
        assert process.wait() == 143
        assert gone(workers, 0)


def test_of_those_that_start_at_once_one_begins(tmp_path: Path) -> None:
    """While another process looks all the time whether it runs."""
    gate, lock = tmp_path / "gate", tmp_path / "run/.lock-0"
    os.mkfifo(gate)
    lock.parent.mkdir()
    script = f". {ROOT}/scripts/alone.sh; lock_run {lock} test.sh run; head -c 1 {gate}"
    look = f"from migician.training.log import is_held\nwhile True: is_held({str(lock.parent)!r})"
    looking = subprocess.Popen([sys.executable, "-c", look], env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        with gate.open("r+b", 0) as release:
            for _ in range(5):
                them = [subprocess.Popen(["bash", "-ec", script], stdout=-1, stderr=-1, text=True) for _ in range(6)]
                ended = select.poll()
                handles = {os.pidfd_open(one.pid): one for one in them}
                for handle in handles:
                    ended.register(handle, select.POLLIN)
                refused = []
                while len(refused) < 5:
                    for handle, _ in ended.poll(60_000) or pytest.fail("more than one begins"):
                        ended.unregister(handle)
                        refused.append(handles.pop(handle))
                        os.close(handle)
                assert {one.wait() for one in refused} == {2}
                assert all("processes of an earlier start still run" in one.communicate()[1] for one in refused)
                release.write(b"x")
                for handle, one in handles.items():
                    assert one.communicate() == ("x", "")
                    os.close(handle)
    finally:
        looking.kill()
        looking.wait()


def test_workers_end_where_their_launcher_is_killed(place: Path) -> None:
    with started(place, QUICK="1") as (process, launcher, workers):
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
