"""Kimi-K2.5, through a server: a trillion parameters. MoonshotAI/Kimi-K2.5 documents no boxes.

It thinks unless `thinking` is off, as it is here: the way of vLLM and SGLang (README.md, "Instant Mode"). Moonshot's
own API has another switch, and thinks.
"""

from __future__ import annotations

from migician.models.family import in_generic_form

FAMILY = in_generic_form("kimi_k25", template_options={"thinking": False})
