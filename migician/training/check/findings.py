"""What a check can find, each kind with its fix; how often and where it was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

Severity = Literal["problem", "warning"]
PLACES = 3
"""How many places of each kind are kept; all are counted."""
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that can be wrong."""

    phrase: str
    fix: str
    severity: Severity = "problem"


KINDS: dict[str, Kind] = {
    # A training's settings.
    "setting_unknown": Kind("key that LLaMA-Factory does not know", "rename or remove it: training stops at it"),
    "setting_value": Kind("invalid setting", "change it as described"),
    "setting_refused": Kind("settings that LLaMA-Factory refuses, in its words", "change what its message names"),
    "package_missing": Kind(
        "package that the training needs, not installed here", "install it where the training runs", "warning"
    ),
    "not_counted": Kind("setting that the memory estimate ignores", "measure it on one step", "warning"),
    "setting_path": Kind("path that does not exist or cannot be used", "fix it, or make what it names"),
    "dataset_unknown": Kind("dataset that dataset_info.json does not name", "fix the name, or mix or build it first"),
    "thinking": Kind(
        "template that puts an empty thought before each answer, for a model that does not think",
        "use its template that ends in _nothink",
        "warning",
    ),
    "tokens_missing": Kind(
        "box or reference token that the tokenizer does not have", "copy Qwen2-VL's tokenizer files"
    ),
    "resume_lossy": Kind(
        "resumes without DeepSpeed, where LLaMA-Factory loses the weights",
        "use DeepSpeed, set overwrite_output_dir, or set model_name_or_path to the checkpoint too",
    ),
    "resume_never": Kind(
        "starts over on top of earlier checkpoints", "to resume, set overwrite_output_dir: false", "warning"
    ),
    "memory": Kind("does not fit on the GPUs", "more GPUs, a higher ZeRO stage, a smaller batch or shorter samples"),
    "disk": Kind("disk too small for the checkpoints", "set save_total_limit, or save to a larger disk"),
    "keys_unknown": Kind("keys that could not be checked", "check where the training runs", "warning"),
    # The files.
    "info": Kind("dataset_info.json does not fit its files", "fix the entry, or build the dataset again"),
    "not_checked": Kind(
        "dataset that is not checked", "only JSON files of turns or instructions with images are checked", "warning"
    ),
    "file": Kind("file that is not a list of records", "fetch or build it again"),
    "no_samples": Kind("file without samples", "build it again, or leave it out of dataset_info.json"),
    "convention": Kind(
        "boxes in another convention than the base model learns",
        "migician data convert records --from FILE --media DIR --to CONVENTION --out NEW, and train on NEW",
    ),
    # The records.
    "not_json": Kind("record that is not JSON", "fix or drop it: readers of JSON stop at it"),
    "record": Kind("record with wrong fields or types", "fix or drop it: LLaMA-Factory stops at it"),
    "mixed": Kind(
        "field that holds text in one record and something else in another",
        "write it the same way everywhere, as migician mix does: LLaMA-Factory stops at it",
    ),
    "late_images": Kind(
        "first image after 1,000 samples without one",
        "shuffle the file, as migician mix does: LLaMA-Factory then expects no images, and stops",
    ),
    "image_count": Kind(
        "<image> marks and images differ in number", "one <image> per image: LLaMA-Factory stops at it"
    ),
    "media_mark": Kind("mark of a video or a sound", "write it without < and >: LLaMA-Factory stops at it"),
    "roles": Kind(
        "turns out of order", "alternate question and answer, at most one system turn first: LLaMA-Factory skips others"
    ),
    "empty_text": Kind("turn without text", "drop the sample"),
    "special_token": Kind("template token in a text", "drop the token: it ends turns and images"),
    "box_tokens": Kind("unpaired box or reference tokens", "close each before the next one opens"),
    "box_text": Kind(
        "box that cannot be read",
        "write <|box_start|>(x1,y1),(x2,y2)<|box_end|> in integers 0-1000, or the base's JSON",
    ),
    "box_scale": Kind("box off the scale of 0-1000", "divide by the size of the whole image, times 1000"),
    "box_corners": Kind(
        "box corners swapped (x2 < x1 or y2 < y1)", "write the top left corner first, then the bottom right"
    ),
    "box_area": Kind("box without area", "drop the sample: the object is narrower than 1/1000 of the image"),
    "reward": Kind(
        "own answer that does not earn all that the reward gives",
        "choose another --preset, or change the answers: training would push away from them",
    ),
    "anchor": Kind(
        "shuffled tracking sample that answers for its first frame in time",
        "give the box of that frame in the question: 'the first image' is the first in time, not in the list",
        "warning",
    ),
    "repeated": Kind(
        "sample that repeats an earlier one of its file", "drop it, unless the repeat is meant as weight", "warning"
    ),
    "id_missing": Kind("sample without an id", "number the samples, so that reports can name them", "warning"),
    "id_repeated": Kind("id of an earlier sample of the file", "number the samples again", "warning"),
    "mark_in_answer": Kind("<image> mark in an answer", "models write no images: move it to a question", "warning"),
    "format_slip": Kind(
        "published format hint, closed by <|box_start|>", "write <|box_end|>, unless the slip is wanted", "warning"
    ),
    # The images.
    "path": Kind("path outside the media folder", "write it relative to that folder, without .."),
    "missing": Kind("missing image", "fetch it, or set --media-dir to the folder that the paths are relative to"),
    "unreadable": Kind("file that is not an image", "fetch it again"),
    "truncated": Kind("image cut off or damaged", "fetch it again"),
    "bomb": Kind("image with more pixels than Pillow allows", "scale it down"),
    "annotated_size": Kind(
        "image size differs from the size its boxes were divided by", "build again: boxes may be off by that ratio"
    ),
    "narrow": Kind("image over 200 times longer than wide", "crop it: Qwen2-VL refuses it, LLaMA-Factory squeezes it"),
    "rotated": Kind(
        "image with an EXIF rotation that training ignores", "save it upright: evaluation rotates it", "warning"
    ),
    "transparent": Kind(
        "image whose transparency training ignores and evaluation puts on white",
        "save it on white, without transparency: build --collect does",
        "warning",
    ),
    "palette": Kind(
        "image with a palette, which training scales without smoothing",
        "save it as RGB: build --collect does",
        "warning",
    ),
    "deep": Kind(
        "image with more than 8 bits, which training clips and evaluation scales",
        "save it with 8 bits: build --collect does",
        "warning",
    ),
    "thin": Kind(
        "image below 28 pixels per side, which training stretches and evaluation does not",
        "drop it, or save it at least 28 pixels wide and high, as build --collect does",
        "warning",
    ),
    "tiny": Kind("image below 28 pixels per side", "one token is 28 pixels wide: drop it, or crop more", "warning"),
    # Leakage and length.
    "leak_name": Kind("image of MIG-Bench, by its name", "drop the sample; builds leave such images out"),
    "leak_picture": Kind("image of MIG-Bench, by its content", "compare the two, then drop or keep the sample"),
    "too_long": Kind("sample longer than --cutoff-len", "drop it, raise cutoff_len or lower image_max_pixels"),
}


class Place(msgspec.Struct, omit_defaults=True):
    """Where something was found."""

    file: str
    record: int | None = None
    """Position in the file, from 0."""
    byte: int | None = None
    id: str | int | None = None
    value: str = ""


class Finding(msgspec.Struct):
    """All of one kind."""

    kind: str
    phrase: str
    severity: Severity
    count: int
    fix: str
    places: list[Place]
    """The first few."""


class Findings:
    """Counts what is found, and keeps the first places of each kind."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}

    def add(self, kind: str, place: Place | Callable[[], Place]) -> None:
        """One more of `kind`, a key of `KINDS`; a `place` that costs a read is only asked for if it is kept."""
        found = self._found.get(kind)
        if found is None:
            about = KINDS[kind]
            found = self._found[kind] = Finding(kind, about.phrase, about.severity, 0, about.fix, [])
        found.count += 1
        if len(found.places) < PLACES:
            where = place() if callable(place) else place
            where.value = shown(where.value)
            found.places.append(where)

    def in_file(self, kind: str, file: Path, value: str = "") -> None:
        """One more of `kind` in a file as a whole."""
        self.add(kind, Place(str(file), value=value))

    def listed(self) -> list[Finding]:
        """Problems first, each in the order of `KINDS`."""
        found = [self._found[kind] for kind in KINDS if kind in self._found]
        return sorted(found, key=lambda one: one.severity != "problem")


def shown(text: str) -> str:
    """Untrusted text, fit for a terminal: no control characters, not too long."""
    head = text[: _WIDTH + 1]
    plain = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in head)
    return plain if len(plain) <= _WIDTH else plain[: _WIDTH - 3] + "..."
