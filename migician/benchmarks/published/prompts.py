"""What the published chain-of-thought script asks on MIG-Bench, task by task, for `--cot ... --prompt published`.

Source: eval/MIG_bench_cot.py of thunlp/Migician, its slips in spelling included. Two of its faults are not repeated:
for Qwen2-VL it sends the benchmark's question in step 1 and never the one that asks for a description (the
other families get it), and its step 2 over all images, for Qwen2-VL, sends that same question again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from migician.errors import UserError
from migician.imagenames import ordinal

if TYPE_CHECKING:
    from migician.benchmarks.scoring.boxes import BoxQuestion

_REF = "<|object_ref_start|>{words}<|object_ref_end|>"

DESCRIBE: dict[str, str] = {
    "common_object": "These images share one object in common. Recognize it and tell me its name in single phrase or "
    "words.",
    "correspondence": "For the first image, briefly describe the semantic/functional feature of the area marked by the "
    "red bounding box with really simple words.",
    "diff": "Compare these two images carefully and tell me where does they differ. Please answer briefly in single "
    "phrase or words.",
    "multi_view": "Describe the object in the first image marked with red bounding box with simple phrase or word. You "
    "can refer to other images for more precise recognition and description.",
    "reasoning": "{question} Name this object in the Image-2 with simple phrase.",
    "refer_grounding": "Watch carefully and briefly describe the object in the Image-1 with simple phrase.",
    "region": "Describe the content of the {picture}th picture with simple phrase or words.",
    "view_diff": "Compare these two images carefully and describe the prominent different object with !really simple "
    "words or phrase!",
    "object_tracking": "Describe the object in the first image marked with red bounding box with simple phrase.",
    "group_grounding": "{question} Just recognize and tell me which image is it in. Strictly answer from choice list: "
    "{choices}.",
}
"""Step 1, by task."""

LOCATE: dict[str, str] = {
    "common_object": f"Please locate and ground the target object according to the reference:{_REF}.",
    "correspondence": "Ground the area that shares the same semantic or functional meaning of: <ref>{words}</ref>.",
    "diff": "According to the object difference/change: {words}, please ground this difference with bounding box "
    "coordinates.",
    "multi_view": f"Locate and ground the object {_REF} with bounding box coordinates.",
    "reasoning": f"Please locate and ground the object {_REF} with bounding box coordinates.",
    "refer_grounding": f"Please find and ground the object {_REF} with bounding box coordinates.",
    "region": f"Please ground the object {_REF} with bounding box coordinates.",
    "view_diff": "Now ground the object difference <ref>{words}</ref> with bounding box coordinates.",
    "object_tracking": "Now ground the target moving object <ref>{words}<ref> with bounding box coordinates.",
    "group_grounding": "{question}",
}
"""Step 2, by task, with the words of step 1."""

_NOT_ASKED_FIRST = "Find it and locate it in the second image. "
_BY_DIGIT = {"region": 0, "correspondence": 1, "diff": 1, "reasoning": 1, "refer_grounding": 1, "view_diff": 1}
_REGION = re.compile(r"(\d+)(?:st|nd|rd|th) region")


def describe(question: BoxQuestion) -> str:
    """What step 1 asks; raises `UserError` for a task that the script does not know."""
    template = _of_task(DESCRIBE, question)
    region = _REGION.search(question.text)
    choices = " | ".join(f"Image{number}" for number in range(1, len(question.images) + 1))
    asked = question.text.replace(_NOT_ASKED_FIRST, "").rstrip()
    # The source comes first, so that a question's first region is the second picture.
    return template.format(question=asked, picture=int(region[1]) + 1 if region else 2, choices=choices)


def locate(question: BoxQuestion, words: str, image: int, *, all_images: bool) -> str:
    """What step 2 asks with the `words` of step 1, about `image` (0-based), before the sentence on the format."""
    template = _of_task(LOCATE, question)
    # `words` is a reply, so it is put in last: braces in it mean nothing.
    text = template.replace("{question}", question.text.rstrip()).replace("{words}", words)
    if not all_images:
        return text
    digit = _BY_DIGIT.get(question.task)
    return f"Now ONIY look at {f'Image{digit + 1}' if digit is not None else f'the {ordinal(image)} image'}. {text}"


def _of_task(templates: dict[str, str], question: BoxQuestion) -> str:
    if question.task not in templates:
        raise UserError(
            f"row {question.index}: the published script does not know {question.task!r}: use --prompt corrected"
        )
    return templates[question.task]
