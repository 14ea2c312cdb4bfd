"""Every archive of `border_archives`, fetched: one short line at once, little memory, and nothing in the way later."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="models extra not installed: bash scripts/setup.sh")

from border_archives import ARCHIVES, FAMILY, packed
from command_line import command
from hub_stand_in import Hub
from mgrounding_hub import mgrounding, tree

from migician.errors import partial_of
from migician.hub.transfer import HubFile, partial_path

MOST_BYTES = 64 << 20
"""Of memory: what a fetch of small files takes is far below, what the archives claim far above."""
OWN = {"README.md", "fetched.json"}


def put(hub: Hub, files: dict[str, bytes]) -> None:
    """Exchange the files of one family on the stand-in."""
    for name in [name for name in hub.files if name.startswith(f"{FAMILY}.")]:
        del hub.files[name]
    hub.files |= {f"{FAMILY}.{ending}": content for ending, content in files.items()}


@pytest.mark.parametrize("name", ARCHIVES)
def test_it_is_refused_in_one_line(hub: Hub, tmp_path: Path, name: str) -> None:
    put(hub, ARCHIVES[name].files())
    words = ("fetch", "mgrounding-630k", "--to", tmp_path / "to", "--only", FAMILY)
    for _ in range(2):  # what the first leaves must not change what the second says
        tracemalloc.start()
        begun = time.monotonic()
        ended = command(*words)
        took_s, (_, peak) = time.monotonic() - begun, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        line = ended.error.splitlines()[-1]
        assert ended.status == 2, ended.error
        assert "Traceback" not in ended.error
        assert line.startswith("migician: ")
        assert ARCHIVES[name].says in line
        assert len(line) < 500 + len(str(tmp_path))
        assert took_s < 20
        assert peak < MOST_BYTES
    root = tmp_path / "to" / "MGrounding-630k"
    archives = {f"archives/{file}" for file in hub.files if file.startswith(f"{FAMILY}.")}
    assert tree(root) == OWN | archives
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]


def test_a_sound_archive_comes_where_one_was_refused(hub: Hub, tmp_path: Path) -> None:
    sound = {name.partition(".")[2]: content for name, content in mgrounding().items() if name.startswith(FAMILY)}
    put(hub, ARCHIVES["3,000 folders deep"].files())
    words = ("fetch", "mgrounding-630k", "--to", tmp_path, "--only", FAMILY)
    assert command(*words).status == 2
    root = tmp_path / "MGrounding-630k"
    (root / "archives" / f"{FAMILY}.zip").unlink()
    put(hub, sound)
    # What an earlier version let in.
    (root / ".unpacking.part" / "folder").mkdir(parents=True)
    ended = command(*words)
    assert ended.status == 0, ended.error
    assert len(list((root / FAMILY / "SRC").iterdir())) == 6
    assert not (root / ".unpacking.part").exists()


@pytest.mark.parametrize("name", ["fetched.json", "archives/a.jpg", ".a.part", "d/.a.jpg.part", "a" * 256, "a/" * 200])
def test_a_listing_with_names_that_cannot_be(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.files[f"{name}b" if name.endswith("/") else name] = b"x"
    ended = command("fetch", "mgrounding-630k", "--to", tmp_path / "to")
    assert ended.status == 2
    assert len(ended.error.splitlines()) == 1
    assert not (tmp_path / "to").exists()


def test_the_longest_name_that_a_file_may_have_is_downloaded_and_unpacked(hub: Hub, tmp_path: Path) -> None:
    name = "a" * 251 + ".jpg"
    hub.files[name] = b"x"
    put(hub, {"zip": packed([(f"{FAMILY}/{name}", b"y")])})
    ended = command("fetch", "mgrounding-630k", "--to", tmp_path, "--only", FAMILY)
    assert ended.status == 0, ended.error
    root = tmp_path / "MGrounding-630k"
    assert ((root / name).read_bytes(), (root / FAMILY / name).read_bytes()) == (b"x", b"y")


def test_an_unfinished_download_is_where_it_ever_was() -> None:
    file = HubFile("a.zip", 1, "0123456789abcdef", None)
    assert partial_path(Path("d/a.zip"), file) == Path("d/.a.zip.0123456789ab.part")
    assert partial_of(Path("d/a.zip")) == Path("d/.a.zip.part")
