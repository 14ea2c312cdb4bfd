"""Whether each record's own answer earns all that a reward gives: what is true must not be trained away."""

from __future__ import annotations

import re

from msgspec.structs import replace

from migician.errors import UserError
from migician.samples.dataset_info import Inputs
from migician.samples.record_file import records
from migician.training.check.findings import Findings, Place
from migician.training.check.options import CheckOptions
from migician.training.check.report import OwnRewards
from migician.training.prompts import Prompt, PromptReader
from migician.training.rewards import in_form, preset_named

_NEARLY = 1e-9
_SPECIAL = re.compile(r"<\|[a-z_]+\|>")


def own_rewards(inputs: Inputs, options: CheckOptions, findings: Findings) -> OwnRewards:
    """What the own answers in these files earn by the preset of `options`; each that earns less is a finding.

    They are rewarded as written, and as TRL, verl and EasyR1 decode a reply: without special tokens. Records that
    cannot be read are left to the other checks. Raises `UserError` for an unknown preset.
    """
    preset_named(options.preset)
    found = OwnRewards(options.preset, 0, 0)
    known: set[int] = set()
    for samples in inputs.files:
        try:
            reader = PromptReader(samples.file, inputs.media_dir, options.resize.image_max_pixels, samples.layout)
            for number, (offset, content) in enumerate(records(samples.file)):
                if hash(content) not in known:
                    known.add(hash(content))
                    _add(found, reader, content, Place(str(samples.file), number, offset), findings)
        except UserError as error:
            findings.in_file("not_checked", samples.file, f"rewards: {str(error).removeprefix(f'{samples.file}: ')}")
    return found


def _add(found: OwnRewards, reader: PromptReader, content: bytes, place: Place, findings: Findings) -> None:
    """Count the turns of one record, and find those whose answer earns less than the most."""
    try:
        prompts = reader.of(content, place.record or 0)
    except UserError:
        return
    for prompt in prompts:
        found.turns += 1
        lacks = _lacking(prompt, reader.style, found.preset)
        found.full += not lacks
        if lacks:
            findings.add("reward", replace(place, id=prompt.id, value=f"turn {prompt.turn}: {lacks}"))


def _lacking(prompt: Prompt, style: str, preset: str) -> str:
    """What the own answer of a turn does not earn, in words; empty where it earns all there is."""
    truths = [(one.image, one.box) for one in prompt.truths]
    whole = preset_named(preset)
    written = in_form(prompt.answer, preset)
    for reply, how in ((written, ""), (_SPECIAL.sub("", written), ", decoded without special tokens")):
        earned = whole(reply, truths, style, prompt.sizes or ())
        if earned["total"] < whole.most(len(truths)) - _NEARLY:
            lost = [
                f"{name} {earned[name]:g} of {part.most(len(truths)):g}"
                for name, part in whole.parts.items()
                if earned[name] < part.most(len(truths)) - _NEARLY
            ]
            return f"{', '.join(lost)}{how}"
    return ""
