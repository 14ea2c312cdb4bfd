"""Indexes: what went in comes out, nothing half-written, faults in one line."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migician.boxes import Box, is_writable
from migician.errors import Done, UserError
from migician.miniature import Amounts, make_world
from migician.sources import SOURCES
from migician.sources.index import make_index, open_index
from migician.sources.index.columns import PathColumn
from migician.sources.index.pairs import Pairs, write_pairs
from migician.sources.index.scenes import Scenes, write_scenes
from migician.sources.index.tracks import Tracks, write_tracks
from migician.sources.scenes import Frame, ImagePair, Instance, Scene, Tally, Track

ROOT = Path("/data/source")
HAIR = 2**-31


def boxes() -> st.SearchStrategy[Box]:
    pair = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).filter(lambda two: two[0] < two[1])
    return st.builds(lambda x, y: Box(x[0], y[0], x[1], y[1]), pair, pair)


# No name of a file holds a slash, and none is "." or "..".
names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=9).filter(
    lambda name: name not in (".", "..")
)
labels = st.sampled_from(["dog", "cat", "", "Hund / Köter", "犬"])
scenes = st.builds(
    lambda folder, name, size, instances, unboxed: Scene("s", ROOT / folder / name, size, tuple(instances), unboxed),
    st.sampled_from(["", "a", "a/b", "ü"]),
    names,
    st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
    st.lists(st.builds(Instance, boxes(), labels, st.text(max_size=8)), max_size=6),
    st.frozensets(labels, max_size=3),
)


@given(st.lists(scenes, max_size=6), st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_scenes_come_out_as_they_went_in(written: list[Scene], shares: tuple[float, float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert write_scenes(written, Path(folder), ROOT) == len(written)
        read = Scenes(Path(folder))
        assert len(read) == len(written)
        clear = read.clear_ones(shares)
        for image, scene in enumerate(written):
            assert (ROOT / read.paths[image], read.size(image)) == (scene.image, scene.size)
            span = read.span(image)
            assert len(span) == len(scene.instances)
            in_image = [instance.label for instance in scene.instances]
            for instance, was in zip(span, scene.instances, strict=True):
                assert (
                    max(abs(a - b) for a, b in zip(read.box(instance).as_tuple(), was.box.as_tuple(), strict=True))
                    <= HAIR
                )
                assert (read.label(instance), read.phrase(instance)) == (was.label, was.phrase)
                assert read.images_of(np.array([instance])) == [image]
                alone = was.label != "" and in_image.count(was.label) == 1 and was.label not in scene.unboxed
                area = np.float32(was.box.area)
                assert clear[instance] == (alone and is_writable(was.box) and shares[0] <= area <= shares[1])
            instances, _ = read.instances_in(np.array([image]))
            assert instances.tolist() == list(span)
            assert read.clear_ones(shares, instances).tolist() == clear[instances].tolist()
        images = np.arange(len(written))[::-1]
        instances, rows = read.instances_in(images)
        assert [(row, read.label(instance)) for instance, row in zip(instances, rows, strict=True)] == [
            (row, instance.label) for row, scene in enumerate(written[::-1]) for instance in scene.instances
        ]
        hidden, rows = read.unboxed_in(images)
        assert [(row, read.labels[label]) for label, row in zip(hidden, rows, strict=True)] == [
            (row, label) for row, scene in enumerate(written[::-1]) for label in sorted(scene.unboxed)
        ]
        by_label = read.by_label(clear)
        assert (
            sorted(instance for instances in by_label.values() for instance in instances.tolist())
            == np.flatnonzero(clear).tolist()
        )
        assert all(
            read.label(instance) == read.labels[label]
            for label, instances in by_label.items()
            for instance in instances
        )


@given(st.lists(st.lists(st.booleans() | boxes(), min_size=1, max_size=9), max_size=5))
@settings(max_examples=40, deadline=None)
def test_tracks_come_out_as_they_went_in(sequences: list[list[Box | bool]]) -> None:
    def frame_of(image: Path, given: Box | bool) -> Frame:
        return Frame(image, None, given) if isinstance(given, bool) else Frame(image, given)

    written = [
        Track(str(at), tuple(frame_of(ROOT / f"{at}/{k}.jpg", box) for k, box in enumerate(one)), f"label {at % 2}")
        for at, one in enumerate(sequences)
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_tracks(written, Path(folder), ROOT)
        read = Tracks(Path(folder))
        for number, track in enumerate(written):
            span, seen = read.span(number), read.seen(number)
            assert [ROOT / read.paths[frame] for frame in span] == [frame.image for frame in track.frames]
            assert read.labels[read.label_of[number]] == track.label
            for frame, was, visible in zip(span, track.frames, seen, strict=True):
                assert visible == (was.box is not None and is_writable(was.box))
                assert read.is_hidden(frame) == was.is_hidden
                if visible and was.box:
                    assert read.box(frame).as_tuple() == pytest.approx(was.box.as_tuple(), abs=HAIR)


def test_pairs_come_out_as_they_went_in(tmp_path: Path) -> None:
    half = Box(0.1, 0.2, 0.3, 0.4)
    written = [
        ImagePair("a", ROOT / "x/1.png", ROOT / "y/1.png", half, None, "Ein Hund\nmehr", is_instruction=True),
        ImagePair("b", ROOT / "2.png", ROOT / "3.png", None, half),
    ]
    write_pairs(written, tmp_path, ROOT)
    read = Pairs(tmp_path)
    assert [(read[at].before, read[at].after, read[at].description) for at in range(len(read))] == [
        ("x/1.png", "y/1.png", "Ein Hund\nmehr"),
        ("2.png", "3.png", ""),
    ]
    assert [read[at].boxes for at in range(2)] == [(half, None), (None, half)]
    assert [read[at].is_instruction for at in range(2)] == [True, False]


def test_paths_stay_below_the_root(tmp_path: Path) -> None:
    column = PathColumn(tmp_path, ROOT)
    for path in (Path("/elsewhere/1.jpg"), ROOT / "../../etc/passwd", ROOT / "a/../../b/1.jpg"):
        with pytest.raises(ValueError, match=r"subpath|leads out"):
            column.append(path)


class TestFolders:
    @pytest.fixture(scope="class")
    def world(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
        return make_world(
            tmp_path_factory.mktemp("world") / "w", 5, Amounts(got10k=5, coco=9, objects365=4, magicbrush=5, held_out=1)
        )

    @pytest.mark.parametrize("source", ["got10k", "coco", "objects365", "magicbrush"])
    def test_an_index_holds_what_the_reader_gives(self, world: dict[str, Path], tmp_path: Path, source: str) -> None:
        made = make_index(source, world[source], tmp_path / "i")
        tally = Tally()
        assert len(made.items) == len(list(SOURCES[source].read(world[source], tally))) > 0
        assert made.left_out == tally.counts
        again = open_index(tmp_path / "i")
        assert (again.source, again.split, again.root) == (source, "train", world[source].resolve())

    def test_a_source_that_cannot_be_read_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "coco").mkdir()
        with pytest.raises(UserError, match="instances_train2017"):
            make_index("coco", tmp_path / "coco", tmp_path / "i")
        assert [entry.name for entry in tmp_path.iterdir()] == ["coco"]

    def test_names_and_places(self, world: dict[str, Path], tmp_path: Path) -> None:
        with pytest.raises(UserError, match="unknown source 'coko'.*Did you mean 'coco'"):
            make_index("coko", world["coco"], tmp_path / "i")
        with pytest.raises(UserError, match="nowhere is not a folder"):
            make_index("coco", tmp_path / "nowhere", tmp_path / "i")
        make_index("coco", world["coco"], tmp_path / "i")
        with pytest.raises(Done, match="done already"):
            make_index("coco", world["coco"], tmp_path / "i")
        with pytest.raises(UserError, match="made with other settings: split was 'train' and is now 'val'"):
            make_index("coco", world["coco"], tmp_path / "i", split="val")
        with pytest.raises(UserError, match="not an index"):
            open_index(tmp_path)

    @pytest.mark.parametrize(("source", "is_read"), [("coco", True), ("sa1b", False), ("magicbrush", False)])
    def test_an_index_of_version_1_is_read_where_it_says_the_same(
        self, world: dict[str, Path], tmp_path: Path, source: str, is_read: bool
    ) -> None:
        make_index("coco", world["coco"], tmp_path / "i")
        file = tmp_path / "i" / "index.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 1, "source": source}))
        if is_read:
            assert len(open_index(tmp_path / "i").items) > 0
        else:
            with pytest.raises(UserError, match="made by another version"):
                open_index(tmp_path / "i")

    @pytest.mark.parametrize(
        ("changed", "said"),
        [({"version": 0}, "made by another version"), ({"root": "/nowhere/at/all"}, "no longer at /nowhere/at/all")],
    )
    def test_indexes_that_no_longer_fit(
        self, world: dict[str, Path], tmp_path: Path, changed: dict[str, object], said: str
    ) -> None:
        make_index("coco", world["coco"], tmp_path / "i")
        file = tmp_path / "i" / "index.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))
        with pytest.raises(UserError, match=said):
            open_index(tmp_path / "i")
