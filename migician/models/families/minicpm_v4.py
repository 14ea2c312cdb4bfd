"""MiniCPM-V 4.6 and 4.7, through the classes that newer transformers have. No box form of theirs is documented.

MiniCPM-V 4.0 and 4.5 ship their code, with the call of 2.6: they are the family `minicpmv`. The documents of
OpenBMB/MiniCPM-V for version 4 do not mention boxes.
"""

from __future__ import annotations

from migician.models.family import in_generic_form

FAMILY = in_generic_form("minicpmv4_6")
MINICPMV4_7 = in_generic_form("minicpmv4_7")
