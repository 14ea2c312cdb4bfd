"""The changed region against painted ones, under light, noise and JPEG."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from migician.boxes import Box
from migician.sources.formats.changed_region import changed_region
from migician.sources.scenes import Tally

SIZE = 224


def ground(rng: np.random.Generator) -> np.ndarray:
    """Something like asphalt and cars: blotches of two sizes."""
    grains = ((2, 40), (12, 60))
    blotches = [ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE, 3)), (s, s, 0)) * s * a for s, a in grains]
    return np.asarray((120 + sum(blotches)).clip(20, 235))


def taken(scene: np.ndarray, rng: np.random.Generator, noise: float, quality: int | None) -> np.ndarray:
    """A picture of the scene by a noisy sensor, through a JPEG with coarse colours where a quality is given."""
    image = Image.fromarray((scene + rng.normal(0, noise, scene.shape)).clip(0, 255).astype(np.uint8))
    if quality is None:
        return np.asarray(image)
    stored = io.BytesIO()
    image.save(stored, format="JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(stored))


def other_colour(rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
    """A colour that a person would tell from the mean of `scene`."""
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - scene.mean(axis=(0, 1))).max() >= 80:
            return np.asarray(colour)


def overlap(
    seed: int, sides: tuple[int, int], noise: float, light: int, quality: int | None
) -> tuple[float, dict[str, int]]:
    """The IoU of the region found with the one painted, and what was counted."""
    rng = np.random.default_rng(seed)
    width, height = sides
    x, y = (int(rng.integers(SIZE - side + 1)) for side in sides)
    before = ground(rng)
    after = before + light
    after[y : y + height, x : x + width] = other_colour(rng, before[y : y + height, x : x + width])
    tally = Tally()
    box = changed_region(taken(before, rng, noise, quality), taken(after, rng, noise, quality), tally)
    truth = Box.from_pixels(x, y, x + width, y + height, (SIZE, SIZE))
    return box.iou(truth) if box else 0.0, tally.counts


SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=60)
@given(
    seed=SEEDS,
    sides=st.tuples(st.integers(15, 110), st.integers(15, 110)),
    noise=st.floats(0, 6),
    light=st.integers(-15, 15),
)
def test_a_painted_change_is_found(seed: int, sides: tuple[int, int], noise: float, light: int) -> None:
    found, counted = overlap(seed, sides, noise, light, None)
    assert counted == {}
    assert found >= 0.9


@settings(deadline=None, max_examples=60)
@given(
    seed=SEEDS,
    sides=st.tuples(st.integers(70, 110), st.integers(70, 110)),
    noise=st.floats(0, 3),
    light=st.integers(-15, 15),
    quality=st.integers(85, 100),
)
def test_jpegs_cost_a_pixel_or_two(
    seed: int, sides: tuple[int, int], noise: float, light: int, quality: int
) -> None:  # fmt: skip
    found, counted = overlap(seed, sides, noise, light, quality)
    assert counted == {}
    assert found >= 0.9


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, noise=st.floats(0, 6), light=st.integers(-15, 15))
@pytest.mark.parametrize("quality", [None, 90, 75])
def test_light_noise_and_compression_are_no_change(quality: int | None, seed: int, noise: float, light: int) -> None:
    rng = np.random.default_rng(seed)
    scene = ground(rng)
    tally = Tally()
    assert changed_region(taken(scene, rng, noise, quality), taken(scene + light, rng, noise, quality), tally) is None
    assert tally.counts == {"nothing changes between the images": 1}


def painted(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), 100, np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 200
    return image


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [
        ([], "nothing changes between the images"),
        ([(10, 10, 15, 15)], "nothing changes between the images"),
        ([(10, 10, 40, 40), (100, 100, 130, 130)], "several regions change"),
        ([(10, 10, 40, 40), (60, 10, 72, 16), (80, 10, 84, 12)], "several regions change"),
        ([(10, 10, 30, 30), (60, 10, 66, 16), (80, 10, 86, 16)], "small changes beside the region"),
        ([(0, 0, 150, 150)], "change covers too much"),
        ([(0, 0, SIZE, 3), (0, 0, 3, SIZE)], "change covers too much"),
    ],
)
def test_what_is_not_one_region_is_counted(boxes: list[tuple[int, int, int, int]], reason: str) -> None:
    tally = Tally()
    assert changed_region(painted(), painted(*boxes), tally) is None
    assert tally.counts == {reason: 1}


@pytest.mark.parametrize(
    ("boxes", "whole"),
    [
        ([(10, 10, 30, 60), (33, 20, 50, 70)], (10, 10, 50, 70)),  # parts of one thing
        ([(0, 0, 30, 30)], (0, 0, 30, 30)),
        ([(190, 200, 224, 224)], (190, 200, 224, 224)),
        ([(10, 10, 50, 50), (100, 100, 104, 104)], (10, 10, 50, 50)),  # a speck
    ],
)
def test_one_region(boxes: list[tuple[int, int, int, int]], whole: tuple[int, int, int, int]) -> None:
    tally = Tally()
    assert changed_region(painted(), painted(*boxes), tally) == Box.from_pixels(*whole, (SIZE, SIZE))
    assert tally.counts == {}


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, lambda image: image.transpose(1, 0, 2)])
def test_mirrored_images_give_mirrored_boxes(turn: Callable[[np.ndarray], np.ndarray]) -> None:
    marked = np.zeros((SIZE, SIZE, 3), bool)
    marked[20:50, 30:90] = True
    rows, columns = np.nonzero(turn(marked)[..., 0])
    expected = Box.from_pixels(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, (SIZE, SIZE))
    assert changed_region(turn(painted()), turn(painted((30, 20, 90, 50))), Tally()) == expected


def test_a_camera_that_moved_gives_no_box() -> None:
    rng = np.random.default_rng(0)
    scene = ground(rng)
    tally = Tally()
    box = changed_region(taken(scene, rng, 2, None), taken(np.roll(scene, 4, axis=1), rng, 2, None), tally)
    assert box is None
    assert sum(tally.counts.values()) == 1
