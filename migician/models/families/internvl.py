"""InternVL through transformers' own class: checkpoints whose name ends in -hf (InternVL2.5, 3, 3.5).

The released InternVL2 ships its code instead, see `internvl2.py`; box format and marks are the same. The chat template
ends each image's line.
"""

from __future__ import annotations

from migician.boxtext import STYLES
from migician.models.family import Family, OfficialPrompt

FAMILY = Family(
    name="internvl",
    style=STYLES["internvl"],
    format="Format:<box>[[x1,y1,x2,y2]]</box>. Don't generate additional words.",
    published_format="Format:<box>[[x1,y1,x2,y2]]</box>. Don't generate addtional words.",
    source="OpenGVLab/InternVL, internvl_chat/eval/refcoco",
    official=OfficialPrompt(
        "Please provide the bounding box coordinate of the region this sentence describes: <ref>{ref}</ref>",
        "Please provide the bounding box coordinate.",
    ),
    image_mark="Image-{n}: <image>",
)
