"""SmolVLM and SmolVLM2, through transformers' own class. Their model cards document no boxes."""

from __future__ import annotations

from migician.models.family import in_generic_form

FAMILY = in_generic_form("smolvlm")
