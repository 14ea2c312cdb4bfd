"""Fetching that is killed, or runs twice at once: nothing is asked for twice, nothing is left half-written."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("huggingface_hub", reason="models extra not installed: bash scripts/setup.sh")

from mgrounding_hub import COMMAND, run

from migician.errors import UserError, alone


def kill_when(process, ready):
    deadline = time.monotonic() + 60
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline
        threading.Event().wait(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


PIECES = """
from huggingface_hub import constants
from migician.cli import main
constants.DOWNLOAD_CHUNK_SIZE = 1000
main()
"""


def test_killed_while_downloading_it_goes_on_from_there(hub, tmp_path):
    hub.gate = ("Difference.zip", len(hub.files["Difference.zip"]) // 3, threading.Event())
    process = subprocess.Popen(
        [sys.executable, "-c", PIECES, *COMMAND[3:], str(tmp_path)], env={**os.environ, "HF_ENDPOINT": hub.url}
    )
    archives = tmp_path / "MGrounding-630k/archives"

    def begun():
        return sum(part.stat().st_size for part in archives.glob(".Difference.zip.*.part"))

    kill_when(process, begun)
    hub.gate[2].set()
    hub.gate, got = None, begun()
    assert not (archives / "Difference.zip").exists() and got % 1000 == 0
    hub.asked.clear()
    assert run(tmp_path)[0].missing == 0
    assert [place for name, place in hub.asked if name == "Difference.zip"] == [f"bytes={got}-"]
    assert not list(tmp_path.rglob("*.part")) and not archives.exists()


SLOW = """
import sys, time
from migician.hub import archives
from migician.cli import main
write = archives._write
def slowly(*args):
    write(*args)
    print("wrote", flush=True)
    sys.stdin.readline()
archives._write = slowly
main()
"""


def test_killed_while_unpacking_the_same_command_completes(hub, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": hub.url}
    arguments = [sys.executable, "-c", SLOW, *COMMAND[3:], str(tmp_path)]
    process = subprocess.Popen(
        arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    for _ in range(9):  # in the second archive
        assert process.stdout.readline() == b"wrote\n"
        process.stdin.write(b"\n")
        process.stdin.flush()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    root = tmp_path / "MGrounding-630k"
    written = {path: path.stat().st_ino for path in root.rglob("*.jpg")}
    assert 6 <= len(written) < 18 and all(path.stat().st_size == 3000 for path in written)
    (root / ".unpacking.part").write_bytes(b"half")  # what a kill within a member leaves
    checked, _ = run(tmp_path)
    assert (checked.named, checked.missing) == (18, 0)
    assert all(path.stat().st_ino == inode for path, inode in written.items())
    assert not list(tmp_path.rglob("*.part"))


def test_two_at_once_in_one_folder_are_refused(hub, tmp_path):
    target = tmp_path / "MGrounding-630k"
    with alone(target, target), pytest.raises(UserError, match="another process is writing it"):
        run(tmp_path)
