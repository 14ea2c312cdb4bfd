"""Miniature ImageNet and SA-1B: what was drawn is what the real readers find."""

from __future__ import annotations

from pathlib import Path

import pytest

from migician.boxes import Box
from migician.miniature import Amounts, drawing, make_world
from migician.miniature.drawing import Drawn, Style
from migician.miniature.photos import write_imagenet, write_sa1b
from migician.miniature.saving import TRAIN
from migician.sampling import stream
from migician.sources import imagenet, sa1b
from migician.sources.scenes import Tally

STYLE = Style(size=168, cell=28, several=(3, 4))


def fractions(drawn: Drawn, style: Style = STYLE) -> Box:
    return Box.from_pixels(*drawn.box, (style.size, style.size))


class TestImageNet:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        write_imagenet(tmp_path, 20, 5, STYLE)
        return tmp_path

    def test_boxes_are_those_drawn(self, root: Path) -> None:
        tally = Tally()
        scenes = list(imagenet.read(root, tally))
        assert (len(scenes), tally.counts) == (20, {})
        for scene in scenes:
            (instance,) = scene.instances
            number = int(scene.id.split("_")[1])
            draw = drawing.alone if number % 2 else drawing.hidden
            _, drawn = draw(stream(5, TRAIN, "imagenet", number), instance.label, STYLE)
            assert (instance.box, instance.label) == (fractions(drawn), drawn.label)

    def test_each_class_has_a_large_and_a_small_one(self, root: Path) -> None:
        areas: dict[str, list[float]] = {}
        for scene in imagenet.read(root, Tally()):
            areas.setdefault(scene.instances[0].label, []).append(scene.instances[0].box.area)
        assert len(areas) == 10
        for small, large in map(sorted, areas.values()):
            assert small < 0.1 < 0.24 < large

    def test_clutter_is_never_of_the_class_hidden_in_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[list[str]] = []
        real = drawing.picture
        monkeypatch.setattr(
            drawing,
            "picture",
            lambda rng, objects, style: (shown.append([one.label for one in objects]), real(rng, objects, style))[1],
        )
        for number in range(200):
            drawing.hidden(stream(1, number), "red disc")
        assert all(labels.count("red disc") == 1 for labels in shown)
        assert min(map(len, shown)) == 1 + drawing.STYLE.small[0]


class TestSa1b:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        write_sa1b(tmp_path, 12, 5, STYLE)
        return tmp_path

    def test_boxes_labels_and_phrases_are_those_drawn(self, root: Path) -> None:
        tally = Tally()
        scenes = list(sa1b.read(root, tally))
        assert (len(scenes), tally.counts) == (12, {})
        for scene in scenes:
            _, objects = drawing.several(stream(5, TRAIN, "sa1b", int(scene.id[3:])), STYLE)
            assert [instance.box for instance in scene.instances] == [fractions(drawn) for drawn in objects]
            assert [instance.label for instance in scene.instances] == [drawn.label.split()[1] for drawn in objects]
            for instance, drawn in zip(scene.instances, objects, strict=True):
                assert instance.phrase.removeprefix("an ").removeprefix("a ") == drawn.label
            assert len({instance.phrase for instance in scene.instances}) == len(objects) > 2
            assert not any(a.iou(b) for a in map(fractions, objects) for b in map(fractions, objects) if a != b)

    def test_the_boxes_of_its_masks_are_the_same(self, root: Path) -> None:
        described = [[instance.box for instance in scene.instances] for scene in sa1b.read(root, Tally())]
        for file in (root / "GranD").iterdir():
            file.unlink()
        tally = Tally()
        masks = [[instance.box for instance in scene.instances] for scene in sa1b.read(root, tally)]
        assert masks == described
        assert tally.counts == {"image without phrases": 12}


def test_what_is_not_asked_for_is_not_drawn(tmp_path: Path) -> None:
    roots = make_world(tmp_path / "w", 0, Amounts(coco=2, held_out=1))
    assert set(roots) == {"coco", "mig-bench"}
    assert [folder.name for folder in (tmp_path / "w" / "sources").iterdir()] == ["coco"]
