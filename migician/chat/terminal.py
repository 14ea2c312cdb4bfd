"""The same conversation in a terminal: questions from stdin, replies and boxes on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from migician.chat.grounding import Grounding
from migician.chat.session import Session
from migician.chat.transcript import box_lines
from migician.errors import UserError
from migician.models.protocol import Model
from migician.printable import counted, printable

HELP = """/image PATH            add an image
/region N: L, T, R, B  start your next question with a region of Image-N: left, top, right, bottom, 0..1000
/new                   forget images and turns
/quit                  quit"""


def converse(
    model: Model,
    images: Sequence[Path],
    out: Path,
    *,
    as_json: bool = False,
) -> None:
    """Answer each line of stdin until it ends or says /quit; pictures go to `out`.

    With `as_json` each turn is one line of JSON. Raises `UserError` if one of `images` cannot be used; later errors
    are printed, and the conversation continues.
    """
    session, region, saved = Session(), "", 0
    if refused := session.add(images):
        raise UserError(refused[0])
    print(printable(f"{model.name}, {counted(len(images), 'image')}. Ask, or type:\n{HELP}"), file=sys.stderr)
    for said in sys.stdin:
        command, _, rest = said.strip().partition(" ")
        try:
            if command == "/quit":
                return
            if command == "/new":
                session, region = Session(), ""
            elif command == "/image":
                for refusal in session.add([Path(rest).expanduser()]):
                    raise UserError(refusal)
                print(printable(f"{Path(rest).name} is Image-{len(session.pictures)}"), file=sys.stderr)
            elif command == "/region":
                region = session.reference(model, rest)
                print(f"your next question starts with: {region}", file=sys.stderr)
            elif command.startswith("/"):
                raise UserError(f"no command {command}; the commands are:\n{HELP}")
            elif command:
                turn = session.ask(model, f"{region} {said.strip()}".lstrip())
                region, saved = "", saved + 1
                out.mkdir(parents=True, exist_ok=True)
                print(printable(shown(turn, turn.save(_unused(out, saved)), as_json)), flush=True)
        except UserError as error:
            print(printable(str(error)), file=sys.stderr)


def _unused(out: Path, number: int) -> Path:
    while (file := out / f"turn-{number}.png").exists():
        number += 1
    return file


def shown(turn: Grounding, picture: Path | None, as_json: bool) -> str:
    """A turn as lines, or as a line of JSON; `picture` is where it was drawn."""
    if as_json:
        return msgspec.json.encode(turn.to_dict() | {"picture": picture and str(picture)}).decode()
    return "\n".join([turn.reply, *box_lines(turn), *([f"drawn: {picture}"] if picture else [])])
