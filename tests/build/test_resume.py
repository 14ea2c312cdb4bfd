"""Builds that are killed, shared out, or asked for twice at once: always the same bytes, or a refusal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from migician.again import MADE
from migician.build import dataset as building
from migician.build.dataset import build
from migician.build.rendering import Piece, Rendered, render
from migician.errors import UserError
from migician.miniature import Amounts, make_world
from migician.sources.index import make_index
from tests.build.test_build import MINIATURE, contents

pytestmark = pytest.mark.usefixtures("plain_card")

AMOUNTS = Amounts(got10k=30, coco=60, objects365=12, magicbrush=30, imagenet=40, sa1b=60)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = make_world(tmp_path_factory.mktemp("world") / "w", 5, AMOUNTS)
    return {name: root for name, root in roots.items() if name != "mig-bench"}


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_PIECE", 4)


# Counts down with every piece and kills the whole process, as the kernel would, when it comes to nothing.
DYING = """
import os, signal, sys
from pathlib import Path
from migician.build import dataset as building
from migician.errors import UserError
left = int(sys.argv[1])
real = building.render
def render(piece):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(piece)
building.render = render
building._PIECE = 4
sources = dict(pair.split("=") for pair in sys.argv[4:])
building.build(["all"], sources, sys.argv[2], config=sys.argv[3], count=20)
"""


@pytest.mark.parametrize("pieces", [0, 1, 9, 21])
def test_killed_and_asked_again_gives_the_same_bytes(
    sources: dict[str, Path], tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    build(["all"], sources, tmp_path / "whole", config=MINIATURE, count=20)
    given = [f"{name}={root}" for name, root in sources.items()]
    died = subprocess.run(
        [sys.executable, "-c", DYING, str(pieces), str(tmp_path / "killed"), str(MINIATURE), *given], check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".killed.part", "whole"]
    done = 0

    def counted(piece: Piece) -> Rendered:
        nonlocal done
        done += Path(piece.file).exists()
        return render(piece)

    monkeypatch.setattr(building, "render", counted)
    build(["all"], sources, tmp_path / "killed", config=MINIATURE, count=20)
    assert done == pieces  # none of what was finished is made again
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["killed", "whole"]


# Kills itself when half of the fifth crop is on the disk.
DYING_IN_A_CROP = """
import os, signal, sys
from migician.build import images as placing
from migician.build.dataset import build
left = 5
real = placing.writing
def writing(target, **how):
    global left
    left -= 1
    if left == 0:
        with real(target, **how) as stream:
            stream.write(b"half")
            stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    return real(target, **how)
placing.writing = writing
sources = dict(pair.split("=") for pair in sys.argv[3:])
build(["region_locating"], sources, sys.argv[1], config=sys.argv[2], count=10)
"""


def test_killed_in_a_crop(sources: dict[str, Path], tmp_path: Path) -> None:
    build(["region_locating"], sources, tmp_path / "whole", config=MINIATURE, count=10)
    given = [f"{name}={root}" for name, root in sources.items()]
    died = subprocess.run(
        [sys.executable, "-c", DYING_IN_A_CROP, str(tmp_path / "killed"), str(MINIATURE), *given], check=False
    )
    assert died.returncode == -signal.SIGKILL
    (left,) = (tmp_path / ".killed.part").rglob(".*.part")
    assert left.read_bytes() == b"half"
    build(["region_locating"], sources, tmp_path / "killed", config=MINIATURE, count=10)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert sorted(tmp_path.rglob(".*")) == [tmp_path / "killed" / MADE, tmp_path / "whole" / MADE]


def test_killed_while_it_replaces_an_earlier_build(sources: dict[str, Path], tmp_path: Path) -> None:
    build(["difference"], sources, tmp_path / "d", config=MINIATURE, count=2)
    whole = contents(tmp_path / "d")
    (tmp_path / "d").rename(tmp_path / ".d.old.part")  # what such a kill leaves
    build(["difference"], sources, tmp_path / "d", config=MINIATURE, count=2)
    assert contents(tmp_path / "d") == whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["d"]


def test_what_is_left_of_another_build_is_not_used(
    sources: dict[str, Path], tmp_path: Path, small_pieces: None
) -> None:
    build(["all"], sources, tmp_path / "whole", config=MINIATURE, count=20, seed=4)
    given = [f"{name}={root}" for name, root in sources.items()]
    subprocess.run([sys.executable, "-c", DYING, "9", str(tmp_path / "killed"), str(MINIATURE), *given], check=False)
    build(["all"], sources, tmp_path / "killed", config=MINIATURE, count=20, seed=4)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_two_builds_of_one_folder_at_once(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(piece: Piece) -> Rendered:
        with pytest.raises(UserError, match="another process is writing it"):
            build(["difference"], sources, tmp_path / "d", config=MINIATURE, count=2)
        return render(piece)

    monkeypatch.setattr(building, "render", again)
    build(["difference"], sources, tmp_path / "d", config=MINIATURE, count=2)
    assert json.loads((tmp_path / "d" / "card.json").read_text())["samples"] == 2


def test_a_process_that_dies_is_said(sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "render", _die)
    with pytest.raises(UserError, match="a worker process died"):
        build(["difference"], sources, tmp_path / "d", config=MINIATURE, count=2, workers=2)
    assert list(tmp_path.iterdir()) == []


def _die(piece: Piece) -> Rendered:
    os.kill(os.getpid(), signal.SIGKILL)
    return Rendered(0, {})


def test_from_indexes_as_from_the_sources(sources: dict[str, Path], tmp_path: Path) -> None:
    indexes = {name: tmp_path / "indexes" / name for name in sources}
    for name, root in sources.items():
        make_index(name, root, indexes[name])
    build(["all"], sources, tmp_path / "a", config=MINIATURE, count=8)
    build(["all"], indexes, tmp_path / "b", config=MINIATURE, count=8)
    for one in ("a", "b"):  # they say what they were made from, which differs
        (tmp_path / one / MADE).unlink()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    with pytest.raises(UserError, match="is an index of coco 'train', not of objects365"):
        build(["region_locating"], {"objects365": indexes["coco"]}, tmp_path / "c", config=MINIATURE, count=8)


class TestLinked:
    """Without `collect`, whole images stay where they are."""

    def test_every_image_is_reached_through_the_dataset(self, sources: dict[str, Path], tmp_path: Path) -> None:
        built = build(["all"], sources, tmp_path / "d", config=MINIATURE, count=8)
        samples = json.loads((built.folder / "MGrounding-630k.json").read_text())
        images = {image for sample in samples for image in sample["images"]}
        assert all((built.folder / image).is_file() for image in images)
        card = json.loads((built.folder / "card.json").read_text())
        assert card["links"]["MGrounding-630k/Common_Object/COCO"] == str(sources["coco"].resolve())
        assert card["images"] == len({image.split("/", 3)[-1] for image in images})  # COCO serves two families

    def test_records_are_those_of_a_collected_dataset_but_for_crops(
        self, sources: dict[str, Path], tmp_path: Path
    ) -> None:
        for collect in (True, False):
            build(["all"], sources, tmp_path / str(collect), config=MINIATURE, count=8, collect=collect)
        linked = (tmp_path / "False" / "MGrounding-630k.json").read_text()
        assert (
            linked.replace("Objects365-crops", "Objects365") == (tmp_path / "True" / "MGrounding-630k.json").read_text()
        )

    def test_no_source_is_written_to(self, sources: dict[str, Path], tmp_path: Path) -> None:
        before = {name: contents(root) for name, root in sources.items()}
        build(["all"], sources, tmp_path / "d", config=MINIATURE, count=8)
        build(["all"], sources, tmp_path / "d", config=MINIATURE, count=8, seed=2, force=True)
        assert {name: contents(root) for name, root in sources.items()} == before


@pytest.fixture
def ray_of_two() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="the ray extra is not installed: pip install 'migician[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_on_ray_as_here(sources: dict[str, Path], tmp_path: Path, small_pieces: None, ray_of_two: None) -> None:
    build(["all"], sources, tmp_path / "here", config=MINIATURE, count=20)
    build(["all"], sources, tmp_path / "ray", config=MINIATURE, count=20, ray=True)
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")
