"""Rex-Omni, a Qwen2.5-VL with a token for each of 1,000 bins of a coordinate: `<12><412><339><568>`, 0..999.

What is not in the image is answered with None between the box tokens, and counts as no box. The checkpoint's
`model_type` is Qwen2.5-VL's: use its Hub id, or --family rex_omni. Source: IDEA-Research/Rex-Omni,
rex_omni/{parser,tasks}.py. It was trained on one image at a time.
"""

from __future__ import annotations

from migician.boxtext import STYLES
from migician.models.family import TOKENS, Family, OfficialPrompt

FAMILY = Family(
    name="rex_omni",
    style=STYLES["rex-omni"],
    format="Output the bounding box coordinates in [x0, y0, x1, y1] format.",
    published_format=None,
    source="IDEA-Research/Rex-Omni, rex_omni/parser.py",
    official=OfficialPrompt(
        "Detect {ref}. Output the bounding box coordinates in [x0, y0, x1, y1] format.",
        "Output the bounding box coordinates in [x0, y0, x1, y1] format.",
    ),
    tags=TOKENS,
    model_type="qwen2_5_vl",
    loader="migician.models.engines.qwen2_vl:load",
)
