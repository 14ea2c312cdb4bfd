"""Threads on the CPU: how they wait, how many there are, and that whoever says a number gets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
from migician.models.engines import threads  # noqa: E402

SAYS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def python(script: str, **given: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in SAYS} | given
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    ("first", "given", "spins"),
    [
        ("import migician.models.engines.machine", {}, "0"),
        ("import migician.cli, migician.models.engines.machine", {}, "0"),
        ("import migician.models.engines.machine", {"OMP_WAIT_POLICY": "ACTIVE"}, None),
        ("import migician.models.engines.machine", {"GOMP_SPINCOUNT": "77"}, "77"),
    ],
)
def test_threads_wait_without_spinning_unless_said(first: str, given: dict[str, str], spins: str | None) -> None:
    said = python(first, OMP_DISPLAY_ENV="VERBOSE", **given).stderr
    if "GOMP_SPINCOUNT" not in said:
        pytest.skip("this torch runs on another OpenMP than GNU's")
    counts = {line.split("'")[1] for line in said.splitlines() if "GOMP_SPINCOUNT" in line}
    assert counts == {spins} if spins is not None else counts.isdisjoint({"0"})


@pytest.mark.parametrize("most", [1, 2, 7, 64])
def test_a_number_of_threads_is_always_one_that_there_is(most: int) -> None:
    for parameters in (1, threads.SMALL - 1, threads.SMALL, 10**10):
        for load in (0.0, 0.4, 1.0, 50.0):
            assert 1 <= threads.choose(parameters, most, load) <= most
    assert threads.choose(threads.SMALL - 1, most, 0) == 1
    assert threads.choose(threads.SMALL, most, 0) == most
    assert threads.choose(threads.SMALL, most, 1) == -(-most // 2)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As at the start of a process with two threads, on a machine without other work."""
    for name in SAYS:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(threads, "_MAX", 2)
    monkeypatch.setattr(threads, "_chosen", 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("free")
def test_size_and_load_decide_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads.settle(1000) == ("1 of 2 CPU threads, a small model (set OMP_NUM_THREADS to change that)",)
    assert torch.get_num_threads() == 1
    assert threads.settle(10**9) == () and torch.get_num_threads() == 2, "a large one after it has all again"
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0 * (os.cpu_count() or 1), 0.0, 0.0))
    (said,) = threads.settle(10**9)
    assert said == "1 of 2 CPU threads, 300% of this machine is busy (set OMP_NUM_THREADS to change that)"
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_in_the_environment_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "2")
    assert threads.settle(1000) == () and torch.get_num_threads() == 2


@pytest.mark.usefixtures("free")
def test_a_number_given_to_torch_stands() -> None:
    torch.set_num_threads(3)
    assert threads.settle(1000) == () and torch.get_num_threads() == 3


def test_a_run_says_its_threads_and_they_are_not_part_of_what_it_is(tiny_folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (56, 56)).save(tmp_path / "a.png")
    row = {"task": "diff", "images": ["./a.png"], "question": "Where?", "answer": [0, 0, 1, 1], "need_format": False}
    (tmp_path / "data.json").write_text(json.dumps([row]))
    words = ["eval", "mig-bench", "--model", str(tiny_folder), "--data", str(tmp_path / "data.json"), "--images",
             str(tmp_path), "--out", str(tmp_path / "out"), "--max-new-tokens", "2", "--json"]  # fmt: skip
    script = f"import sys; sys.argv = ['migician', *{words!r}]; from migician.cli import main; main()"
    # What torch takes by itself is known before the run sets it.
    counts = "import sys, migician.models.engines.machine, torch; print(torch.get_num_threads(), file=sys.stderr)"
    first = python(f"{counts}\n{script}").stderr
    cores = next(line for line in first.splitlines() if line.isdecimal())
    assert cores == "1" or f"tiny: 1 of {cores} CPU threads, a small model" in first
    assert json.loads((tmp_path / "out/report.json").read_text())["hardware"]["threads"] == 1
    run = (tmp_path / "out/run.json").read_bytes()
    # The same run, not another; then by force once more.
    copied, out = tmp_path / "copied.json", tmp_path / "out"
    both = f"""if True:
        import shutil, sys
        from migician.cli import main
        sys.argv = ["migician", *{words!r}]
        try:
            main()
        except SystemExit as ended:
            assert not ended.code
        shutil.copy({str(out / "run.json")!r}, {str(copied)!r})
        print("by force", file=sys.stderr)
        sys.argv.append("--force")
        main()
        """
    again, forced = python(both, OMP_NUM_THREADS="2").stderr.split("by force")
    assert copied.read_bytes() == run and b'"threads"' not in run
    assert "CPU threads" not in again and "done already" in again
    assert "done already" not in forced
    assert json.loads((out / "report.json").read_text())["hardware"]["threads"] == 2
