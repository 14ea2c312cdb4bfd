"""Finds the one region where two aligned images differ, from their pixels alone.

For pairs that nobody boxed. The images come from a fixed camera at two moments: the light may differ a
little, sensors are noisy, and compression leaves marks around edges. What is found is believed only where it is
one region; everything else is refused and counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from migician.boxes import Box
from migician.sources.formats.pairs import box_of, extent, patches
from migician.sources.scenes import Tally

_VISIBLE = 25.0
"""Least difference of a colour, of 255, that counts: sensor noise and good JPEGs stay below it, objects that a person
would name are above it."""
_ABOVE_NOISE = 3.0
"""In noisy pairs, how many times the typical difference of a pixel counts as a change."""
_SMEAR_PX = 2
"""How far a JPEG smears colours over an edge."""
_EDGE = 0.5
"""Part of the strongest change within that distance that a pixel must have: a smeared edge lies at half of its
height."""
_TIP_PX = 1
"""How much of a pointed tip the filter against noise cuts off."""
_REACH = 0.012
"""Half of the gap, as a fraction of the shorter side, over which changed pixels still are one region (2-3 pixels of
224): an object has parts of the ground's colour, and people in a group stand closer than that."""
_SMALLEST = 0.001
"""Least share of the image that makes a region (50 pixels of 224 x 224); the rest are specks."""
_SPECKS = 0.1
"""Largest share of all changed pixels in specks: more is a second change, if a small one."""
_LARGEST = 0.25
"""Largest share of the image in the box: one object seen by a surveillance camera is smaller; a moved camera or a
passing cloud is not."""


def changed_region(first: NDArray[np.uint8], second: NDArray[np.uint8], tally: Tally) -> Box | None:
    """The box of the one region where two images (H, W, 3) of the same size differ; None, counted, where there is none.

    Its edges are exact to about a pixel, the distance over which a JPEG smears colours.
    Counted: nothing changes, several regions change, small changes beside the region, and a
    change that covers too much.
    """
    marked = _changed(first, second)
    reach = max(1, round(_REACH * min(marked.shape)))
    near = ndimage.maximum_filter(marked, size=2 * reach + 1)
    labels, _ = patches(near)
    areas = np.bincount(labels[marked], minlength=1)
    regions = np.flatnonzero(areas >= _SMALLEST * marked.size)
    if not len(regions):
        tally.add("nothing changes between the images")
        return None
    if len(regions) > 1:
        tally.add("several regions change")
        return None
    if areas[regions[0]] < (1 - _SPECKS) * areas.sum():
        tally.add("small changes beside the region")
        return None
    box = box_of(extent(marked & (labels == regions[0])), marked.shape)
    if box.area > _LARGEST:
        tally.add("change covers too much")
        return None
    return box


def _changed(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels (H, W) differ by more than light and noise explain."""
    difference = first.astype(np.float32) - second
    difference -= np.median(difference, axis=(0, 1))  # most of the image is the same: what it differs by is the light
    strength: NDArray[np.float32] = np.abs(difference).max(axis=2)
    smooth: NDArray[np.float32] = ndimage.median_filter(strength, size=3)
    visible = max(_VISIBLE, _ABOVE_NOISE * float(np.median(smooth)))
    # The median takes away single pixels and leaves edges where they are, but for tips, which are given back.
    sound = _sharp(smooth, visible)
    marked = ndimage.binary_dilation(sound, np.ones((3, 3)), iterations=_TIP_PX, mask=_sharp(strength, visible) | sound)
    return np.asarray(marked)


def _sharp(strength: NDArray[np.float32], visible: float) -> NDArray[np.bool_]:
    """Where a change (H, W) can be seen and is no smear of a stronger one."""
    strongest_near: NDArray[np.float32] = ndimage.maximum_filter(strength, size=2 * _SMEAR_PX + 1)
    return np.asarray((strength >= visible) & (strength >= _EDGE * strongest_near))
