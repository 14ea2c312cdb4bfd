"""Verbs that converse with a model: chat."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from migician.cli.options import AsJson, FamilyName, MaxPixels, Revision, TrustRemoteCode, model_names
from migician.cli.terminal import note


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
