"""The prompts that the makers of a family document, for `--prompt official`."""

from __future__ import annotations

import pytest

from migician.benchmarks import mibench, mig_bench, mig_bench_one_shot, muirbench, refcoco
from migician.benchmarks.scoring.boxes import BoxQuestion
from migician.boxes import Box
from migician.errors import UserError
from migician.models import find_family


def question(text: str) -> BoxQuestion:
    return BoxQuestion(0, "t", ("a.png", "b.png"), text, Box(0, 0, 1, 1), None, need_format=False)


def test_the_official_prompt_is_that_of_the_makers() -> None:
    """QwenLM/Qwen3-VL#991 and #1721; the README of zai-org/GLM-V; the parser's tasks of IDEA-Research/Rex-Omni."""
    phrase = refcoco.PhraseRow("a.jpg", "cat {x}", (0, 0, 1, 1), 2, 2)
    one, several = refcoco._question(0, phrase), question("Where is it in Image-2?")
    json_form = "bbox coordinates in JSON format."
    for name, whole, ending in (
        ("qwen2_5_vl", f"Locate cat {{x}} in this image and output the {json_form}", f"Output the {json_form}"),
        (
            "qwen3_vl",
            f'Locate every object that matches the description "cat {{x}}" in the image. Report {json_form}',
            f"Report {json_form}",
        ),
        (
            "glm4v",
            "Help me to locate cat {x} in the image and give me its bounding boxes.",
            "Give me its bounding boxes.",
        ),
        (
            "rex_omni",
            "Detect cat {x}. Output the bounding box coordinates in [x0, y0, x1, y1] format.",
            "Output the bounding box coordinates in [x0, y0, x1, y1] format.",
        ),
    ):
        family = find_family("", name)
        assert refcoco.prompt(one, "official", family, None) == whole
        assert mig_bench.prompt(several, "official", family) == f"Where is it in Image-2? {ending}"
        assert refcoco.prompt(one, "corrected", family, None) == mig_bench.prompt(one, "corrected", family)


def test_who_has_no_official_prompt_is_told_who_has() -> None:
    for name in ("qwen2_vl", "smolvlm", "onethinker"):
        with pytest.raises(UserError, match=f"makers of {name} document no prompt.*corrected. Known: glm46v, glm4v,"):
            mig_bench.prompt(question("?"), "official", find_family("", name))
    for module in (muirbench, mibench, mig_bench_one_shot):
        with pytest.raises(UserError, match="asks otherwise: leave it out"):
            module.prompt(question("?"), "official", find_family("", "qwen3_vl"), None)  # type: ignore[arg-type, unused-ignore]
