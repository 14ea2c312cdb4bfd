"""GLM-4.1V, GLM-4.5V and GLM-4.6V, through transformers' own classes.

Boxes are 0..1000 of width and height, x first; they stand between <|begin_of_box|> and <|end_of_box|>, in brackets that
vary ("[], [[]], (), <>"); lists are asked for, and read. Source: zai-org/GLM-V, README.md, "Grounding", which also
gives the prompt. Its API's documentation calls the field `bbox_2d`, with the same scale. GLM-4.1V always thinks first;
the later ones can leave it, and do here. Their processors count an image as two frames in their limits of pixels.
"""

from __future__ import annotations

from dataclasses import replace

from migician.boxtext import STYLES
from migician.models.family import QUOTES, Family, OfficialPrompt

FAMILY = Family(
    name="glm4v",
    style=STYLES["glm-v"],
    format="Format:[[x1,y1,x2,y2]]. Don't generate additional words.",
    published_format=None,
    source="zai-org/GLM-V, README.md, Grounding",
    official=OfficialPrompt(
        "Help me to locate {ref} in the image and give me its bounding boxes.",
        "Give me its bounding boxes.",
    ),
    tags=QUOTES,
    new_tokens=2048,
    frames=2,
)
GLM4V_MOE = replace(FAMILY, name="glm4v_moe", new_tokens=128, template_options={"enable_thinking": False})
GLM46V = replace(GLM4V_MOE, name="glm46v")
