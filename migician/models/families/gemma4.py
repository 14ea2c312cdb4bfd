"""Gemma 4, through transformers' own class.

Google says that it detects objects (ai.google.dev/gemma/docs/capabilities/vision) and, where that was looked up, not
how it writes a box: Gemini's form, y first, is documented for Gemini only.
"""

from __future__ import annotations

from migician.models.family import in_generic_form

FAMILY = in_generic_form("gemma4")
