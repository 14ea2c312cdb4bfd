"""Qwen3.5, dense and mixture of experts, through transformers' own classes: boxes as Qwen3-VL writes them.

Its chat template opens a thought unless `enable_thinking` is off; here it is off, so that replies are as short as those
of the other families. Source: QwenLM/Qwen3-VL, whose cookbook and answers (#1721) speak of both.
"""

from __future__ import annotations

from dataclasses import replace

from migician.models.families.qwen3_vl import MOE as QWEN3_VL_MOE

FAMILY = replace(QWEN3_VL_MOE, name="qwen3_5", template_options={"enable_thinking": False})
MOE = replace(FAMILY, name="qwen3_5_moe")
