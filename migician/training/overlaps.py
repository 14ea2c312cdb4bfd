"""How alike two boxes are, as rewards count it: plain, in bands, on a grid, generalised, complete."""

from __future__ import annotations

import math

from migician.boxes import Box


def iou(given: Box, truth: Box) -> float:
    """Intersection over union, 0..1."""
    return given.iou(truth)


def banded_iou(given: Box, truth: Box) -> float:
    """IoU, but all of 1 from 0.9 on, and nothing up to 0.1 (MG-Thinker)."""
    value = given.iou(truth)
    return 1.0 if value >= 0.9 else value if value > 0.1 else 0.0


def inner_iou(given: Box, truth: Box) -> float:
    """IoU on the grid 0..1000, nothing where the overlap is one unit wide or high, or less (VLM-R1, UniVG-R1)."""
    width = min(given.x2, truth.x2) - max(given.x1, truth.x1)
    height = min(given.y2, truth.y2) - max(given.y1, truth.y1)
    return given.iou(truth) if min(width, height) > 0.001 + 1e-9 else 0.0


def giou(given: Box, truth: Box) -> float:
    """Generalised IoU, -1..1: less by the share of the hull that neither covers. Source: arXiv 1902.09630."""
    hull = Box(min(given.x1, truth.x1), min(given.y1, truth.y1), max(given.x2, truth.x2), max(given.y2, truth.y2)).area
    overlap = given.iou(truth)
    union = (given.area + truth.area) / (1 + overlap)
    return overlap - (hull - union) / hull if hull > 0 else overlap


def ciou(given: Box, truth: Box) -> float:
    """Complete IoU: less by the distance of the centres and the difference in shape. Source: arXiv 1911.08287.

    As Liquid4All/leap-finetune computes it: the shape counts from IoU 0.5 on.
    """
    overlap = given.iou(truth)
    width = max(given.x2, truth.x2) - min(given.x1, truth.x1)
    height = max(given.y2, truth.y2) - min(given.y1, truth.y1)
    diagonal = width * width + height * height
    if diagonal <= 0:
        return overlap
    across = (given.x1 + given.x2 - truth.x1 - truth.x2) / 2
    down = (given.y1 + given.y2 - truth.y1 - truth.y2) / 2
    apart = overlap - (across * across + down * down) / diagonal
    if overlap < 0.5:
        return apart
    shape = (4 / math.pi**2) * (_angle(truth) - _angle(given)) ** 2
    return apart - shape / (1 - overlap + shape + 1e-6) * shape


def _angle(box: Box) -> float:
    return math.atan(max(1e-6, box.x2 - box.x1) / max(1e-6, box.y2 - box.y1))
