"""The MGrounding record: several images, a conversation about them, boxes in the text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from migician.errors import writing
from migician.files import read_json
from migician.samples.record_file import lines_of

NAME = "MGrounding-630k"


IMAGE_MARK = "<image>"


class Turn(msgspec.Struct, frozen=True):
    """One utterance; `value` is plain text with `<image>` marks and box tokens."""

    from_: Literal["human", "gpt", "system", "observation", "function_call"] = msgspec.field(name="from")
    """The last two are a tool's result, where a human's turn stands, and the call of it, where a gpt's does."""
    value: str


class Sample(msgspec.Struct, frozen=True):
    """One training sample, exactly as MGrounding-630k releases it.

    `images` are paths as the JSON holds them (`./MGrounding-630k/...`); the first human turn
    has one `<image>` mark for each. Source: Michael4933/MGrounding-630k on the Hub.
    """

    id: str | int
    images: list[str]
    conversations: list[Turn]
    type: str

    def problems(self) -> list[str]:
        """What is wrong with the structure of this sample, empty when nothing is."""
        found = []
        marks = sum(turn.value.count(IMAGE_MARK) for turn in self.conversations)
        if marks != len(self.images):
            found.append(f"{marks} {IMAGE_MARK} marks for {len(self.images)} images")
        spoken = [turn for turn in self.conversations if turn.from_ != "system"]
        if not spoken or len(spoken) % 2:
            found.append("turns must come in pairs of human and gpt")
        for position, turn in enumerate(spoken):
            expected = (("human", "observation"), ("gpt", "function_call"))[position % 2]
            if turn.from_ not in expected:
                found.append(f"turn {position} is from {turn.from_}, expected {expected[0]}")
            if not turn.value.replace(IMAGE_MARK, "").strip():
                found.append(f"turn {position} has no text")
        return found


def sample(id: str | int, images: list[str], turns: Iterable[tuple[str, str]], type: str) -> Sample:
    """A sample from (question, answer) pairs; the first question must carry the `<image>` marks."""
    conversation = [turn for asked, answered in turns for turn in (Turn("human", asked), Turn("gpt", answered))]
    return Sample(id, images, conversation, type)


def read_samples(path: str | Path) -> list[Sample]:
    """The samples of one JSON file (a list of records, as released).

    Raises `UserError` naming the file and the place of the fault.
    """
    return read_json(Path(path), list[Sample], "a list of samples")


def write_samples(path: str | Path, samples: Iterable[Sample], *, force: bool = True) -> int:
    """Write samples as one JSON list, one record a line, streaming; gives how many.

    The file appears whole or not at all; for `force` see `migician.errors.writing`.
    """
    count = 0
    with writing(path, force=force) as stream:
        # The piece behind the last record closes the list, so its number is that of the records.
        for count, line in enumerate(lines_of(map(msgspec.json.Encoder().encode, samples), as_list=True)):  # noqa: B007
            stream.write(line)
    return count
