"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from migician import errors
from migician.errors import UserError, alone, appearing, writing


def test_a_folder_appears_when_all_of_it_is_written(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    with appearing(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a"] and list(target.parent.iterdir()) == [target]


def test_a_failed_one_vanishes(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with pytest.raises(KeyError), appearing(target) as folder:
        (folder / "a").write_text("1")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_an_empty_target_is_taken_and_a_full_one_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with appearing(target) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(UserError, match=r"folder was not written"), appearing(target) as folder:
        (folder / "b").write_text("2")
    assert [path.name for path in target.iterdir()] == ["a"] and list(tmp_path.iterdir()) == [target]


def test_what_the_file_system_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    said = f"^{target}: No space left on device; {target} was not written$"
    with pytest.raises(UserError, match=said), appearing(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory"), appearing(tmp_path / "file" / "x"):
        pass


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from migician.errors import appearing
        with appearing(Path(sys.argv[1])) as folder:
            (folder / "half").write_text("1")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    assert subprocess.run([sys.executable, "-c", script, str(target)]).returncode == -signal.SIGKILL
    assert not target.exists()
    with appearing(target) as folder:
        (folder / "whole").write_text("1")
    assert [path.name for path in target.iterdir()] == ["whole"] and list(tmp_path.iterdir()) == [target]


HOLDING = """if True:
    import sys
    from pathlib import Path
    from migician.errors import appearing, writing
    with {kind}(Path(sys.argv[1])) as place:
        {act}
        print("inside", flush=True)
        sys.stdin.readline()
    """
ACTS = {"appearing": '(place / "a").write_text("first")', "writing": 'place.write(b"first")'}


@contextmanager
def another(kind: str, target: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is in the middle of writing `target`; at a line of input, or at the end, it finishes."""
    script = HOLDING.format(kind=kind, act=ACTS[kind])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script, str(target)], **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "inside\n"
        yield process
        process.communicate()


def test_a_second_process_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with another("appearing", target) as process:
        for _ in range(3):
            with pytest.raises(UserError, match=f"^{target}: another process is writing it; wait"), appearing(target):
                pass
        process.communicate("\n")
        assert process.returncode == 0
    assert (target / "a").read_text() == "first" and list(tmp_path.iterdir()) == [target]
    with pytest.raises(UserError, match="was not written"), appearing(target):
        pass


def test_a_second_process_waits_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    with another("writing", target) as process:
        with monkeypatch.context() as patch, pytest.raises(UserError, match="another process is writing it"):
            patch.setattr(errors, "_PATIENCE_S", 0.0)
            with writing(target):
                pass
        with ThreadPoolExecutor() as pool:
            done = pool.submit(_write, target, b"second")
            process.communicate("\n")
            done.result()
    assert target.read_bytes() == b"second" and list(tmp_path.iterdir()) == [target]


def _write(target: Path, content: bytes) -> None:
    with writing(target) as stream:
        stream.write(content)


def test_many_threads_write_one_file(tmp_path: Path) -> None:
    contents = [bytes([65 + number]) * 1000 * (1 + number) for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: _write(tmp_path / "f", content), contents * 5))
    assert (tmp_path / "f").read_bytes() in contents and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", ACTS)
def test_what_a_killed_process_left_is_met_again(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "x"
    with another(kind, target) as process:
        process.kill()
        process.wait()
    (left,) = tmp_path.iterdir()
    assert left.name == ".x.part"
    if kind == "writing":
        _write(target, b"2")
    else:
        with appearing(target):
            pass
    assert list(tmp_path.iterdir()) == [target]


def test_a_child_that_was_forked_meanwhile_keeps_nothing(tmp_path: Path) -> None:
    with writing(tmp_path / "f") as stream:
        stream.write(b"1")
        read, write = os.pipe()
        if not (child := os.fork()):
            os.read(read, 1)
            os._exit(0)
    _write(tmp_path / "f", b"2")
    os.write(write, b"x")
    os.waitpid(child, 0)
    assert (tmp_path / "f").read_bytes() == b"2"


@pytest.mark.parametrize("name", ["n" * 250, "é" * 125, "名" * 85])
def test_long_names(tmp_path: Path, name: str) -> None:
    _write(tmp_path / name, b"1")
    with alone(tmp_path / "w", tmp_path), appearing(tmp_path / "d" / name):
        pass
    assert (tmp_path / name).read_bytes() == b"1" and (tmp_path / "d" / name).is_dir()


def test_the_file_that_failed_is_named_whichever_it_is(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.json"
    said = f"^{tmp_path}/gone: No such file or directory; {target} was not written$"
    with pytest.raises(UserError, match=said), writing(target):
        (tmp_path / "gone").read_bytes()
    with pytest.raises(UserError, match=f"^{target}: cannot be written: No space left on device$"), writing(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    (tmp_path / "file").write_text("")
    said = f"^{tmp_path}/file: cannot be written: .*Not a directory"
    with pytest.raises(UserError, match=said), writing(tmp_path / "file" / "x"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
