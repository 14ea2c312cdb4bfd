"""Molmo2, through the class that newer transformers have. It points (`<points ...>`), and documents no boxes.

Source: allenai/molmo2, README.md and olmo/preprocessing/point_formatter.py.
"""

from __future__ import annotations

from migician.models.family import in_generic_form

FAMILY = in_generic_form("molmo2")
