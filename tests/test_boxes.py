"""Boxes: conversions, overlap, and agreement with an independent implementation."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migician import Box, iou, iou_matrix, iou_pairs

fractions = st.floats(0, 1, allow_nan=False)
boxes = st.builds(Box, fractions, fractions, fractions, fractions)
proper = st.tuples(fractions, fractions, fractions, fractions).map(
    lambda v: Box(min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3]))
)
permille = st.integers(0, 1000)


@given(boxes, boxes)
@example(Box(0, 0, 8e-219, 8e-219), Box(0, 0, 8e-219, 8e-219))  # an area too small for a float
def test_iou_is_symmetric_and_within_bounds(a, b):
    assert iou(a, b) == iou(b, a) == pytest.approx(iou_pairs(a.as_tuple(), b.as_tuple()).item())
    assert 0 <= iou(a, b) <= 1 + 1e-12


@given(proper)
def test_a_box_with_area_overlaps_itself_wholly(box):
    if box.area > 1e-12:
        assert iou(box, box) == pytest.approx(1)


@given(permille, permille, permille, permille)
def test_permille_round_trip(x1, y1, x2, y2):
    assert Box.from_permille(x1, y1, x2, y2).to_permille() == (x1, y1, x2, y2)


@given(st.floats(-3, 3))
def test_thousandths_are_the_nearest(value):
    written = Box(value, 0, 0, 0).to_permille()[0]
    assert abs(Fraction(value) * 1000 - written) <= Fraction(1, 2) + Fraction(1, 10**6)


@pytest.mark.parametrize("sign", [1, -1])
def test_halves_are_rounded_away_from_zero(sign):
    for whole in range(1000):
        box = Box(sign * (whole + 0.5) / 1000, sign * float(f"0.{whole:03d}5"), 0, 0)
        assert box.to_permille()[:2] == (sign * (whole + 1), sign * (whole + 1))


@given(boxes, st.tuples(st.integers(1, 9000), st.integers(1, 9000)))
def test_pixel_round_trip(box, size):
    again = Box.from_pixels(*box.to_pixels(size), size)
    assert again.as_tuple() == pytest.approx(box.as_tuple())


@given(st.lists(boxes, min_size=1, max_size=8), st.lists(boxes, min_size=1, max_size=8))
def test_arrays_agree_with_single_pairs(first, second):
    a, b = (np.array([box.as_tuple() for box in some]) for some in (first, second))
    expected = np.array([[iou(one, other) for other in second] for one in first])
    np.testing.assert_allclose(iou_matrix(a, b), expected, atol=1e-12)
    n = min(len(first), len(second))
    np.testing.assert_allclose(iou_pairs(a[:n], b[:n]), expected[range(n), range(n)], atol=1e-12)


def test_arrays_agree_with_torchvision():
    torchvision = pytest.importorskip("torchvision", reason="models extra not installed")
    import torch

    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1000, (2, 60, 4))
    corners[..., 2:] = corners[..., :2] + rng.uniform(1, 500, (2, 60, 2))
    expected = torchvision.ops.box_iou(torch.tensor(corners[0]), torch.tensor(corners[1])).numpy()
    np.testing.assert_allclose(iou_matrix(corners[0], corners[1]), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (Box(0, 0, 1, 1), Box(0, 0, 1, 1), 1),
        (Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1), 0),  # touching
        (Box(0.2, 0.2, 0.2, 0.2), Box(0.2, 0.2, 0.2, 0.2), 0),  # no area: 0, where the published code divides by zero
        (Box(0.6, 0.2, 0.4, 0.8), Box(0, 0, 1, 1), 0),  # corners in the wrong order
        (Box(-0.5, 0, 0.5, 1), Box(0, 0, 0.5, 1), 0.5),  # leaves the image, taken as written
    ],
)
def test_iou_edge_cases(a, b, expected):
    assert iou(a, b) == pytest.approx(expected)
    assert iou_pairs(a.as_tuple(), b.as_tuple()) == pytest.approx(expected)


def test_rows_without_a_box_give_zero():
    assert iou_pairs([[math.nan] * 4], [[0, 0, 1, 1]]).tolist() == [0]
    assert iou_matrix([], [[0, 0, 1, 1]]).shape == (0, 1)


def test_malformed_shapes_and_sizes_are_refused():
    with pytest.raises(ValueError, match="last dimension of 4"):
        iou_pairs([[1, 2, 3]], [[1, 2, 3]])
    with pytest.raises(ValueError, match="positive"):
        Box.from_pixels(0, 0, 1, 1, (0, 10))


def test_impossible_boxes_keep_their_values():
    reversed_ = Box.from_permille(714, 640, 526, 835)
    assert reversed_.to_permille() == (714, 640, 526, 835)
    assert not reversed_.is_ordered and not reversed_.is_proper and reversed_.area == 0
    outside = Box(0.5, 0.2, 0.9, 1.035)
    assert outside.is_ordered and not outside.is_inside and outside.clipped() == Box(0.5, 0.2, 0.9, 1.0)


def test_xywh():
    assert Box.from_xywh_pixels(10, 20, 30, 40, (100, 200)) == Box(0.1, 0.1, 0.4, 0.3)
