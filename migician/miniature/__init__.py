"""A miniature world: small drawn pictures in the native formats of the source datasets.

It stands in for the source datasets where there is nothing to download, so that the real
readers and builders make its training set; its held-out set has MIG-Bench's format.
"""

from migician.miniature.writers import QUICKSTART, Amounts, make_world

__all__ = ["QUICKSTART", "Amounts", "make_world"]
