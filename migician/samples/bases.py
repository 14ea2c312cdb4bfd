"""The base models that are trained: what LLaMA-Factory makes of a sample for each, and how its data writes boxes.

A base's name is the `model_type` of its checkpoints' config.json, and of the folder of its recipes (train/NAME).
Sources: data/template.py and extras/constants.py of LLaMA-Factory 0.9.5, and the preprocessor_config.json of the
released checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from migician.errors import UserError, unknown
from migician.files import is_file, is_folder, read_object


@dataclass(frozen=True, slots=True)
class Template:
    """How LLaMA-Factory writes a conversation."""

    name: str
    """Its `template`."""
    system: str = ""
    """The system turn of a sample without one; empty for none."""
    thought: str = ""
    """What stands before each answer that has no thought of its own."""


SYSTEM = "You are a helpful assistant."
_THOUGHT = "<think>\n\n</think>\n\n"
TEMPLATES = {
    one.name: one
    for one in (
        Template("qwen2_vl", SYSTEM),
        Template("qwen3_vl_nothink"),
        Template("qwen3_vl", thought=_THOUGHT),
        Template("qwen3_5_nothink"),
        Template("qwen3_5", thought=_THOUGHT),
    )
}


@dataclass(frozen=True, slots=True)
class Base:
    """A base model."""

    name: str
    title: str
    """Of its makers; their names on the Hub begin with it."""
    templates: tuple[str, ...]
    """Those that fit it: the one of its recipes, and the one of its thinking checkpoints."""
    convention: str
    """How its training data writes boxes: one of `migician.samples.conventions.CONVENTIONS`."""
    side: int = 28
    """Pixels a side of the square that becomes one token."""
    min_pixels: int = 56 * 56
    """Of an image, by the released image processor."""
    max_pixels: int = 16384 * 28 * 28
    recurrent: bool = False
    """Whether layers carry a state along the text, which ignores where packed samples end."""

    @property
    def template(self) -> Template:
        """The template of its recipes."""
        return TEMPLATES[self.templates[0]]


_SINCE_3 = (32, 256 * 256, 4096 * 4096)
BASES = {
    one.name: one
    for one in (
        Base("qwen2_vl", "Qwen2-VL", ("qwen2_vl",), "qwen2_vl"),
        Base("qwen2_5_vl", "Qwen2.5-VL", ("qwen2_vl",), "qwen2_5_vl"),
        Base("qwen3_vl", "Qwen3-VL", ("qwen3_vl_nothink", "qwen3_vl"), "qwen3_vl", *_SINCE_3),
        Base("qwen3_5", "Qwen3.5", ("qwen3_5_nothink", "qwen3_5"), "qwen3_vl", *_SINCE_3, recurrent=True),
    )
}
QWEN2_VL = BASES["qwen2_vl"]


def base_of(reference: str | Path) -> Base | None:
    """The base of a checkpoint: by the config.json of its folder, else by its name; None where neither says.

    Raises `UserError` for a folder whose config.json is damaged.

    >>> base_of("Qwen/Qwen3-VL-8B-Instruct").name, base_of("someone/model")
    ('qwen3_vl', None)
    """
    file = Path(reference).expanduser() / "config.json"
    if is_file(file):
        return BASES.get(str(read_object(file).get("model_type")))
    name = str(reference).lower()
    return next((one for one in BASES.values() if one.title.lower() in name), None)


def base_named(reference: str) -> Base:
    """The base that `--base` names: its name, a checkpoint's folder, or a Hub id, where one that does not say which is
    a Qwen2-VL. Raises `UserError` for a folder of another model, and for a name that is none of these.
    """
    if reference in BASES:
        return BASES[reference]
    if "/" not in reference and not is_folder(Path(reference).expanduser()):
        raise UserError(f"{unknown('base', reference, BASES)} A folder or a Hub id (OWNER/NAME) is taken too.")
    found = base_of(reference)
    if found is None and is_file(Path(reference).expanduser() / "config.json"):
        raise UserError(f"{reference}: not a base that there are recipes for. Known: {', '.join(BASES)}")
    return found or QWEN2_VL
