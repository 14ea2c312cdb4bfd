"""MiniCPM-V 4.6 and 4.7, through the classes that newer transformers have.

OpenBMB/MiniCPM-V (README.md, docs/) names RefCOCO among what they do well, and documents no box form or prompt for it.
MiniCPM-V 4.0 and 4.5 ship their code, with the call of 2.6: they are the family `minicpmv`.
"""

from __future__ import annotations

from migician.models.family import in_generic_form

FAMILY = in_generic_form("minicpmv4_6")
MINICPMV4_7 = in_generic_form("minicpmv4_7")
