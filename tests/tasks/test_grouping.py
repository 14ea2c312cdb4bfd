"""What groups of images show, found in arrays, against what one finds by looking at image after image."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from migician.boxes import Box
from migician.sources.index.scenes import Scenes, write_scenes
from migician.sources.scenes import Instance, Scene, Tally
from migician.tasks import common_object, region_locating
from migician.tasks.grouping import REPEATED, groups, inside, named, standing

SIZE = (100, 100)
BOXES = [Box(0, 0, 1, 1), Box(0, 0, 0.5, 0.5), Box(0.2, 0.2, 0.2001, 0.9), Box(0.5, 0.5, 0.6, 0.6)]
AREA = (0.05, 0.9)

labels = st.sampled_from(["dog", "cat", "cow", "elk", ""])
instances = st.lists(st.builds(Instance, st.sampled_from(BOXES), labels), max_size=6)
images = st.lists(st.tuples(instances, st.frozensets(labels, max_size=2)), min_size=1, max_size=8)


@given(images, st.data())
@settings(max_examples=150, deadline=None)
def test_arrays_find_what_a_look_at_every_image_finds(drawn: list[tuple[list[Instance], frozenset[str]]], data) -> None:
    written = [Scene(str(at), Path(f"/{at}.jpg"), SIZE, tuple(one), unboxed) for at, (one, unboxed) in enumerate(drawn)]
    chosen = data.draw(
        st.lists(st.lists(st.integers(0, len(drawn) - 1), min_size=1, max_size=5, unique=True), max_size=5)
    )
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(written, Path(folder), Path("/"))
        scenes = Scenes(Path(folder))
        found = list(standing(scenes, chosen, AREA))
        common = inside(scenes, chosen).common.tolist()
        assert list(named(scenes, chosen, AREA)) == [one.named for one in found]
    ends = np.cumsum([0, *(len(scene.instances) for scene in written)])
    for group, one, number in zip(chosen, found, common, strict=True):
        there = [{instance.label for instance in written[image].instances} | written[image].unboxed for image in group]
        times = Counter(label for labels_ in there for label in labels_)
        assert number == len(set.intersection(*map(set, there)))
        companions = [
            {instance.label for instance in written[image].instances if instance.label and times[instance.label] == 1}
            for image in group
        ]
        assert [{scenes.labels[label] for label in labels_} for labels_ in one.companions] == companions
        names, told = [], []
        for place, image in enumerate(group):
            scene = written[image]
            for at, instance in enumerate(scene.instances, start=int(ends[image])):
                alone = [other.label for other in scene.instances].count(instance.label) == 1
                clear = alone and instance.label and instance.label not in scene.unboxed and instance.box != BOXES[2]
                if clear and AREA[0] <= instance.box.area <= AREA[1]:
                    assert scenes.place(at, group) == place
                    if times[instance.label] == 1:
                        names.append(at)
                    elif companions[place]:
                        told.append(at)
        assert (one.named, one.accompanied) == (names, told)


@given(st.integers(0, 60), st.integers(2, 4), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_in_each_pass_every_image_is_in_one_group(count: int, fewest: int, more: int, seed: int) -> None:
    tally = Tally()
    among = range(1000, 1000 + count)
    made = list(groups(among, (fewest, fewest + more), 2, seed, tally))
    assert all(fewest <= len(images_) <= fewest + more for _, _, *images_ in made)
    left = []
    for turn in range(2):
        used = [image for at, _, *images_ in made if at == turn for image in images_]
        assert len(used) == len(set(used))
        assert set(used) <= set(among)
        left.append(count - len(used))
    assert len({frozenset(images_) for _, _, *images_ in made}) == len(made)
    repeated = tally.counts.pop(REPEATED, 0)
    assert repeated == 0 or left[0] < fewest  # only a later pass can repeat
    if not repeated:
        assert max(left) < fewest
        assert tally.counts == ({"too few images left for a group": sum(map(bool, left))} if any(left) else {})
    else:
        assert repeated * fewest <= left[1] < fewest + repeated * (fewest + more)
    assert made == list(groups(among, (fewest, fewest + more), 2, seed, Tally()))


def test_groups_of_one_label_are_drawn_evenly() -> None:
    choices = [np.array([10, 11, 12]), np.arange(20, 60)]
    wanted = common_object.CommonSettings(images=(3, 5))
    drawn = [group for at in range(6) for group in common_object._groups(choices, np.random.default_rng(at), wanted)]
    assert all(len(set(group)) == len(group) and (max(group) < 20 or min(group) >= 20) for group in drawn)
    small = Counter(tuple(group) for group in drawn if group[0] < 20)
    assert len(small) == 6  # every order of the only three
    assert max(small.values()) < 1.3 * min(small.values())
    large = [group for group in drawn if group[0] >= 20]
    assert set(map(len, large)) == {3, 4, 5}
    for place in range(3):  # each thing as likely, in each place
        counts = Counter(group[place] for group in large)
        assert set(counts) == set(range(20, 60))
        assert max(counts.values()) < 2.2 * min(counts.values())


rectangles = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20)).map(
    lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3])
)


@given(st.lists(st.tuples(st.integers(0, 3), rectangles), max_size=25), st.floats(0.05, 1))
def test_regions_that_are_alike_are_kept_once(drawn: list[tuple[int, tuple[int, int, int, int]]], overlap: float):
    drawn.sort(key=lambda one: one[0])
    crops = np.array([crop for _, crop in drawn], np.int64).reshape(-1, 4)
    rows = np.array([row for row, _ in drawn], np.int64)
    expected: list[bool] = []
    kept: dict[int, list[Box]] = {}
    for row, crop in drawn:
        box = Box(*map(float, crop))
        expected.append(all(box.iou(other) < overlap for other in kept.setdefault(row, [])))
        if expected[-1]:
            kept[row].append(box)
    assert region_locating._different(crops, rows, overlap).tolist() == expected
