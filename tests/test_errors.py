"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from migician.errors import UserError, appearing, writing


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
