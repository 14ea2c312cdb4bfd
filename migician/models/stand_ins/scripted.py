"""A model that answers from a script: for tests, dry runs, and replies made elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from migician.boxtext import QWEN, BoxStyle
from migician.errors import UserError
from migician.files import read_lines
from migician.models.family import QWEN2_VL
from migician.models.protocol import Request


class Scripted:
    """Answers with what `reply` gives for each request."""

    family = QWEN2_VL

    def __init__(
        self, reply: Callable[[Request], str], name: str = "scripted", box_style: BoxStyle = QWEN, script: str = ""
    ) -> None:
        self.name = name
        self.box_style = box_style
        self._reply = reply
        self._script = script

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """The scripted replies, one per request."""
        return [self._reply(request) for request in requests]

    def describe(self) -> dict[str, Any]:
        """The name, and the sha256 of the script if there is one."""
        return {"name": self.name, "family": "scripted", "script_sha256": self._script or None}


class ScriptLine(msgspec.Struct, frozen=True):
    """One line of a script: the reply to every request with this prompt."""

    prompt: str
    reply: str


def load(argument: str) -> Scripted:
    """The model that answers from a JSONL file of {"prompt": ..., "reply": ...}, found by the whole prompt.

    Raises `UserError` for an unreadable script, and for a prompt that it does not have.
    """
    file = Path(argument)
    lines = read_lines(file, ScriptLine, '{"prompt": ..., "reply": ...}')
    replies = {line.prompt: line.reply for line in lines}
    if not replies:
        raise UserError(f'{file}: has no line of {{"prompt": ..., "reply": ...}}')

    def reply(request: Request) -> str:
        if request.prompt not in replies:
            raise UserError(f"{file}: has no reply to {request.prompt!r:.120}")
        return replies[request.prompt]

    return Scripted(reply, f"scripted:{file.name}", script=hashlib.sha256(file.read_bytes()).hexdigest())
