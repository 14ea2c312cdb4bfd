"""What a model family declares: how it writes boxes, marks images, and is asked.

A family's name is the `model_type` of its checkpoints' config.json, or another where that type is shared. Nothing is
guessed from a reply or from the size of a number, and nothing here loads torch. Sources: thunlp/Migician
(eval/MIG_bench_eval.py), AMAP-ML/UniVG-R1 (the same file), and the model cards that each family's own file names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from migician.boxes import Size
from migician.boxtext import BOX_END, BOX_START, QWEN, REF_END, REF_START, STYLES, BoxStyle, translate
from migician.errors import UserError
from migician.imagenames import image_names
from migician.samples.sample import IMAGE_MARK

TOKENS = (BOX_START, BOX_END, REF_START, REF_END)
"""How Qwen2-VL marks a box and what a box belongs to; benchmark files write these."""
TAGS = ("<box>", "</box>", "<ref>", "</ref>")
NO_TAGS = ("", "", "", "")
QUOTES = ("", "", '"', '"')
ANY = "*"
"""A `model_type` that stands for every one."""
THINK = "<think>"


@dataclass(frozen=True, slots=True)
class OfficialPrompt:
    """How a family's makers ask for boxes, for `--prompt official`."""

    phrase: str
    """The whole prompt for one phrase, {ref}, in one image."""
    format: str
    """Its part on how to answer: what follows a question that is more than a phrase."""


@dataclass(frozen=True, slots=True)
class Family:
    """One model family."""

    name: str
    """Its key in `FAMILIES`."""
    style: BoxStyle
    """How it writes boxes, scale included; its replies are read in this style only."""
    format: str
    """What follows a MIG-Bench question by default: how to write the box."""
    published_format: str | None
    """The same in the published script, typos included; None if it does not know the family."""
    source: str = ""
    """Where its makers show how it writes boxes; empty where they do not, and then it is asked in the generic form."""
    official: OfficialPrompt | None = None
    """How its makers ask for boxes, if they document it."""
    format_always: bool = True
    """Whether rows whose `need_format` is false get the sentence too: that field is about Qwen2-VL's training."""
    image_mark: str = IMAGE_MARK
    """The mark of image {n}, counted from 1, where a text does not place its images itself."""
    tags: tuple[str, str, str, str] = TAGS
    """What replaces Qwen2-VL's four tokens (box start and end, reference start and end) in a question."""
    published_choice_ends: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Benchmark -> what the published script adds to its multiple-choice questions for this family."""
    new_tokens: int = 128
    """The default limit of a reply."""
    max_images: int | None = None
    """Images per request; None for as many as fit."""
    marks_in_text: bool = False
    """Whether images are marked in the text, because its chat template would move all of them to the front."""
    model_type: str = ""
    """What its checkpoints' config.json says, where that is not its name; `ANY` for all that transformers loads."""
    template_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What its chat template is given beside the conversation, in every engine."""
    frames: int = 1
    """Frames that its processor counts an image as in its limits of pixels."""
    ask: Callable[..., str] | None = None
    """For families whose weights come with their own code: the call of that code (see `remote_code`)."""
    auto_class: str = "AutoModel"
    """The class of transformers that loads such code."""
    loader: str = "migician.models.engines.transformers_auto:load"
    """"module:function" that loads a checkpoint: called with its folder or Hub id, the family, and options."""

    @property
    def if_absent(self) -> str:
        """What follows its format sentence where what is asked for may be in none of the images."""
        return f"If it is in none of the images, answer: {self.style.absent}"

    @property
    def template_facts(self) -> dict[str, Any]:
        """What a report says of `template_options`: nothing where there are none."""
        return {"template_options": dict(self.template_options)} if self.template_options else {}

    @property
    def ships_code(self) -> bool:
        """Whether its weights come with their own code, which needs trust and a pinned revision."""
        return self.ask is not None

    def placed(self, text: str, images: int) -> str:
        """`text` with a mark per image: its own marks if it has any, else this family's before it.

        Raises `UserError` where the numbers of marks and images differ.
        """
        marks = text.count(IMAGE_MARK)
        if marks == 0 and images:
            return "".join(self.image_mark.format(n=number) for number in range(1, images + 1)) + text
        if marks != images:
            raise UserError(f"{marks} {IMAGE_MARK} marks for {images} images in {text!r:.80}")
        return text

    def respelled(self, text: str, sizes: Sequence[Size] | None = None) -> str:
        """A question in Qwen2-VL's form, with boxes and references as this family writes them.

        `sizes` are those of the images as the model sees them, for styles that count pixels and questions with a box:
        its pixels are those of the image named last before it. Raises `UserError` where the text does not say which
        image a box is in, ValueError where sizes are needed and missing.
        """

        known = sizes or ()

        def size_at(position: int) -> Size:
            named = [name.image for name in image_names(text, 0, position) if name.image < len(known)]
            if not named and len(known) > 1:
                raise UserError(f"{self.name} counts pixels, and no image is named before the box in {text!r:.120}")
            return known[named[-1] if named else 0]

        text = translate(text, self.style, size_at if known else None)
        for token, tag in zip(TOKENS, self.tags, strict=True):
            text = text.replace(token, tag)
        return text


QWEN2_VL = Family(
    name="qwen2_vl",
    style=QWEN,
    format=f"Format:{BOX_START}(x1,y1),(x2,y2){BOX_END}. Don't generate additional words.",
    published_format=f"Format:{BOX_START}(x1,y1),(x2,y2){BOX_START}. Don't generate addtional words.",
    source="the model cards of Qwen2-VL; thunlp/Migician, eval/MIG_bench_eval.py",
    format_always=False,
    tags=TOKENS,
    loader="migician.models.engines.qwen2_vl:load",
)
"""Qwen2-VL and Migician: coordinates 0..1000 between special tokens."""

UNIVG_R1 = Family(
    name="univg_r1",
    style=QWEN,
    format="First output the thinking process in <think> </think> tags and then output the bounding box in "
    "<answer> </answer> tags.",
    published_format="First output the thinking process in <think> </think> tags and then output the bounding box in "
    "<answer> </answer> tags.",
    source="AMAP-ML/UniVG-R1, eval/MIG_bench_eval.py",
    tags=TOKENS,
    new_tokens=256,
    model_type="qwen2_vl",
    loader="migician.models.engines.qwen2_vl:load",
)
"""UniVG-R1: a Qwen2-VL checkpoint that thinks in tags first. Sentence and 256 new tokens are its own script's."""


def in_generic_form(name: str, **fields: Any) -> Family:
    """A family whose makers document no form for boxes: its format sentence says form and scale.

    What it then scores says how well it follows that sentence, too; the report names the box style.
    """
    sentence = (
        'Answer with JSON only: {"bbox_2d": [x1, y1, x2, y2]}, the left, top, right and bottom edge as whole numbers '
        "from 0 to 1000, where 1000 is the full width or height of the image."
    )
    return Family(name, STYLES["generic"], sentence, None, tags=QUOTES, **fields)


GENERIC = in_generic_form("generic", model_type=ANY)
"""Any model at all: a hosted one behind a server, or a checkpoint that transformers has a class for."""
