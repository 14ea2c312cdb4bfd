"""Verbs that ask a model about images at hand: ground, chat."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import AsJson, Dtype, FamilyName, MaxPixels, Revision, TrustRemoteCode, model_names
from migician.cli.terminal import note, say


def ground(
    given: Annotated[list[str], typer.Argument(metavar="IMAGES QUESTION", help="The images, then the question.")],
    model: Annotated[
        str,
        typer.Option(
            help="A known name, a folder, a Hub id; vllm: before it, or server:ADDRESS#MODEL.",
            autocompletion=model_names,
        ),
    ],
    save: Annotated[
        Path | None, typer.Option(help="Draw the boxes into this picture; of several questions, NAME-1, NAME-2, ...")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="A text file with a question a line, about all the images.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each question.")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest reply in tokens.")] = 128,
    max_pixels: MaxPixels = None,
    dtype: Dtype = None,
    revision: Revision = None,
    family: FamilyName = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Find in images what a question describes. Exit status 1 says that a reply has no box."""
    from migician.chat.grounding import ground as found_by
    from migician.chat.grounding import picture_format
    from migician.chat.terminal import shown
    from migician.errors import UserError
    from migician.files import read_text
    from migician.models import load_model

    if questions is None and len(given) < 2:
        raise UserError(f"{given[0]}: only this was given; the images come first, then the question")
    asked = [line.strip() for line in read_text(questions).splitlines()] if questions else [given[-1]]
    asked = [line for line in asked if line.strip()]
    if not asked:
        raise UserError(f"{questions}: holds no question; write one a line" if questions else "the question is empty")
    images = [Path(name) for name in (given if questions else given[:-1])]
    for image in images:
        if not image.is_file():
            raise UserError(f"{image}: no such image; the images come first, then the question in quotes")
    pictures: Sequence[Path | None] = _pictures(save, len(asked)) if save else [None] * len(asked)
    for picture in pictures:
        if picture and picture.exists() and any(picture.samefile(image) for image in images):
            raise UserError(f"--save {picture}: is one of the images, and would take its place: choose another name")
    if save:
        picture_format(save)
    options = {
        "max_pixels": max_pixels,
        "dtype": dtype,
        "revision": revision,
        "family": family,
        "trust_remote_code": trust_remote_code or None,
    }
    loaded = load_model(model, **{name: value for name, value in options.items() if value is not None})
    all_found = True
    for question, picture in zip(asked, pictures, strict=True):
        found = found_by(loaded, images, question, max_new_tokens=max_new_tokens)
        drawn = picture and found.save(picture)
        all_found &= bool(found.boxes)
        say(shown(found, drawn, as_json))
    if not all_found:
        raise typer.Exit(1)


def _pictures(save: Path, count: int) -> list[Path]:
    """The picture of each question."""
    return [save] if count == 1 else [save.with_stem(f"{save.stem}-{number}") for number in range(1, count + 1)]


def chat(
    images: Annotated[list[Path] | None, typer.Argument(help="With --terminal: the images to start with.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A known name, a folder or a Hub id; repeat it to offer several on the page.",
            autocompletion=model_names,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 127.0.0.1 is this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 7860,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name the page is reached under, such as localhost:8000; repeatable."),
    ] = None,
    terminal: Annotated[bool, typer.Option("--terminal", help="Chat in this terminal, without a page.")] = False,
    out: Annotated[Path, typer.Option(help="With --terminal: the folder for pictures with boxes.")] = Path(
        "outputs/chat"
    ),
    as_json: AsJson = False,
    max_pixels: MaxPixels = None,
    revision: Revision = None,
    family: FamilyName = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Chat with a model about several images, in the browser or with --terminal here."""
    from migician.chat.session import OfferedModels
    from migician.chat.terminal import converse
    from migician.errors import UserError
    from migician.models import load_model

    if not model:
        raise UserError("no model: add --model, such as --model Michael4933/Migician")
    if not terminal and (images or as_json):
        raise UserError("images on the command line and --json need --terminal; on the page, add images there")
    options = {
        "max_pixels": max_pixels,
        "revision": revision,
        "family": family,
        "trust_remote_code": trust_remote_code or None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    models = OfferedModels(model, lambda name: load_model(name, **given))
    if terminal:
        converse(models.get(models.names[0]), images or [], out, as_json=as_json)
        return
    from migician.chat.page import serve

    first = models.get(models.names[0])  # an error in loading is reported before a page is shown
    server = serve(models, host, port, allow_hosts=allow_host or ())
    note(f"chat with {first.name}: {server.address}   (Ctrl+C stops it)")
    if host not in ("127.0.0.1", "localhost", "::1"):
        note(f"listening on {host}: anyone who can reach this machine can use it; there is no password")

    def ended(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, ended)
    try:
        threading.Event().wait()
    finally:
        server.stop()
