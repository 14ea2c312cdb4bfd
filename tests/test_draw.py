"""Boxes land where they should, in the right colour, at a readable size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from migician.boxes import Box
from migician.draw import PREDICTION, TRUTH, LineStyle, Mark, contact_sheet, draw_boxes, prediction, truth

GREY = (90, 90, 90)


def painted(picture: Image.Image, colour: str) -> np.ndarray:
    """Where `picture` has exactly `colour`, as (height, width) of bool."""
    return (np.asarray(picture) == np.array(ImageColor.getrgb(colour))).all(axis=-1)


def extent(mask: np.ndarray) -> tuple[float, float, float, float]:
    ys, xs = np.nonzero(mask)
    height, width = mask.shape
    return xs.min() / width, ys.min() / height, (xs.max() + 1) / width, (ys.max() + 1) / height


@pytest.mark.parametrize("size", [(112, 112), (640, 480), (37, 300), (4000, 1500)])
@pytest.mark.parametrize("mark", [prediction(Box(0.25, 0.1, 0.75, 0.6), ""), truth(Box(0.25, 0.1, 0.75, 0.6), "")])
def test_the_outline_lies_on_the_box(size: tuple[int, int], mark: Mark) -> None:
    picture = draw_boxes(Image.new("RGB", size, GREY), [mark])
    found = extent(painted(picture, mark.colour))
    assert found == pytest.approx(mark.box.as_tuple(), abs=2 / min(picture.size))
    middle = picture.getpixel((round(picture.width * 0.5), round(picture.height * 0.35)))
    assert middle == GREY, "the inside of a box stays visible"


@pytest.mark.parametrize(("size", "longer"), [((112, 84), 384), ((800, 600), 800), ((6000, 400), 1280)])
def test_small_images_are_enlarged_and_large_ones_shrunk(size: tuple[int, int], longer: int) -> None:
    picture = draw_boxes(Image.new("RGB", size), [])
    assert max(picture.size) == longer
    assert picture.width / picture.height == pytest.approx(size[0] / size[1], rel=0.02)


def test_the_given_image_is_left_alone() -> None:
    image = Image.new("RGB", (500, 500), GREY)
    draw_boxes(image, [prediction(Box(0, 0, 1, 1))])
    contact_sheet([image], [[prediction(Box(0, 0, 1, 1))]])
    assert image.getcolors() == [(250000, GREY)]


def test_a_truth_hit_exactly_shows_both_colours() -> None:
    box = Box(0.2, 0.2, 0.8, 0.8)
    picture = draw_boxes(Image.new("RGB", (400, 400), GREY), [truth(box, ""), prediction(box, "")])
    assert painted(picture, TRUTH).sum() > 500
    assert painted(picture, PREDICTION).sum() > 500


def test_labels_of_equal_boxes_do_not_cover_each_other() -> None:
    box = Box(0.2, 0.2, 0.8, 0.8)
    image = Image.new("RGB", (400, 400), GREY)
    alone = [painted(draw_boxes(image, [mark]), mark.colour).sum() for mark in (truth(box), prediction(box))]
    outlines = [painted(draw_boxes(image, [mark]), mark.colour).sum() for mark in (truth(box, ""), prediction(box, ""))]
    both = draw_boxes(image, [truth(box), prediction(box)])
    for colour, label in zip((TRUTH, PREDICTION), np.subtract(alone, outlines), strict=True):
        assert painted(both, colour).sum() > label > 100, "each label is there in full"


def test_each_box_stands_on_its_own_image_only() -> None:
    images = [Image.new("RGB", (200, 100), GREY) for _ in range(3)]
    sheet = contact_sheet(images, [[], [prediction(Box(0.1, 0.1, 0.9, 0.9), "")], []], row_height_px=100)
    left, top, right, bottom = extent(painted(sheet, PREDICTION))
    assert 1 / 3 < left < right < 2 / 3
    assert 0 < top < bottom < 1
    plain = contact_sheet(images, row_height_px=100)
    assert plain.size == sheet.size
    assert not painted(plain, PREDICTION).any()


def test_a_sheet_wraps_its_rows_and_never_grows_wider_than_asked() -> None:
    images = [Image.new("RGB", size, GREY) for size in [(300, 300)] * 5 + [(5000, 50), (50, 3000)]]
    sheet = contact_sheet(images, title="a question " * 60, note="a reply\nof two lines", sheet_width_px=900)
    assert sheet.width <= 900
    assert sheet.height > 3 * 300


def test_letters_have_the_size_asked_for() -> None:
    image = Image.new("RGB", (100, 100), GREY)
    heights = [contact_sheet([image], row_height_px=100, text_px=text_px).height for text_px in (12, 24)]
    assert heights[1] - heights[0] == pytest.approx(12 * 1.7, abs=1)


def test_captions_and_marks_must_match_the_images() -> None:
    image = Image.new("RGB", (10, 10))
    for wrong in ({"captions": ["a", "b"]}, {"marks": [[], []]}):
        with pytest.raises(ValueError, match="1 images"):
            contact_sheet([image], **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 images"):
        contact_sheet([])


@settings(max_examples=40, deadline=None)
@given(
    corners=st.tuples(*[st.floats(-3, 3) | st.sampled_from([0.0, 1.0, 0.5])] * 4),
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    label=st.sampled_from(["", "x", "a label longer than the picture is wide, by far", "第二张图"]),
    line=st.sampled_from(["solid", "dashed", "dotted"]),
)
def test_any_box_can_be_drawn(corners: tuple[float, ...], size: tuple[int, int], label: str, line: LineStyle) -> None:
    picture = draw_boxes(Image.new("RGB", size, GREY), [Mark(Box(*corners), label, line=line)])
    assert picture.mode == "RGB"
