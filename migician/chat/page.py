"""The chat page: Gradio's widgets around a `Session`, and a server that serves nothing else."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from migician.chat.examples import EXAMPLES, example
from migician.chat.guard import Guard
from migician.chat.look import CSS, CURSOR, HEAD, MOVE_CURSOR
from migician.chat.session import REGION, Session, Shelf, insert
from migician.chat.transcript import growing, line, strip, transcript
from migician.chat.uploads import LIMITS
from migician.errors import UserError

log = logging.getLogger(__name__)

_SESSIONS = 64
"""Visitors whose images are kept; where there are more, those not seen for longest are forgotten."""
_KEPT_S = 3600


@dataclass(frozen=True, slots=True)
class Server:
    """A chat page that is up."""

    address: str
    stop: Callable[[], None]


def serve(shelf: Shelf, host: str = "127.0.0.1", port: int = 7860) -> Server:
    """Start the page in threads of its own; port 0 takes a free one.

    Raises `UserError` where Gradio is not installed or the port is taken.
    """
    port = _free(host, port)
    folder = Path(tempfile.mkdtemp(prefix="migician-chat-")).resolve()  # only this user may look into it
    try:
        page = _page(_gradio(folder), shelf, folder)
        page.queue(max_size=64)
        page.launch(
            server_name=host, server_port=port, share=False, quiet=True, show_api=False, ssr_mode=False, pwa=False,
            prevent_thread_lock=True, allowed_paths=[], max_file_size=LIMITS.file_bytes, enable_monitoring=False,
            state_session_capacity=_SESSIONS, app_kwargs={"middleware": [_middleware(folder)], "docs_url": None},
        )  # fmt: skip
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise

    def stop() -> None:
        page.close(verbose=False)
        shutil.rmtree(folder, ignore_errors=True)

    return Server(f"http://{host}:{port}", stop)


def _gradio(folder: Path) -> Any:
    """Gradio, told before it is imported to call nobody and to keep uploads in `folder`."""
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        HF_HUB_DISABLE_TELEMETRY="1",
        GRADIO_TEMP_DIR=str(folder),
        GRADIO_SHARE="False",
    )
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise UserError(f"the chat page needs the package {error.name!r}: pip install 'migician[page]'") from None
    return gradio


def _middleware(folder: Path) -> Any:
    from starlette.middleware import Middleware

    return Middleware(Guard, folder=folder)


def _free(host: str, port: int) -> int:
    """`port`, or a free one for 0; asked for here, since Gradio takes minutes to say so less clearly."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{host}:{port}: cannot listen there ({reason}); choose another --port") from None
        return int(probe.getsockname()[1])


def _page(gr: Any, shelf: Shelf, folder: Path) -> Any:
    system = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
    theme = gr.themes.Default(primary_hue="blue", font=system, font_mono=("ui-monospace", "monospace")).set(
        body_text_color_subdued="*neutral_600", block_info_text_color="*neutral_600"
    )
    with gr.Blocks(
        title="Migician chat",
        theme=theme,
        css=CSS,
        head=HEAD,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(60, 600),
    ) as page:
        session = gr.State(None, time_to_live=_KEPT_S)  # a `Session` from the first thing done on
        gr.HTML("<h1>Migician</h1><p>Ask about several images at once; boxes are drawn where the answer puts them.</p>")
        model = gr.Dropdown(
            list(shelf.names), value=shelf.names[0], label="Model", visible=len(shelf.names) > 1, filterable=False
        )
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                shots = gr.HTML(strip([]), elem_id="mg-images")
                add = gr.UploadButton(
                    "Add images", file_count="multiple", file_types=["image"], elem_id="mg-add",
                )  # fmt: skip
                with gr.Row():
                    region = gr.Textbox(
                        label="Region: draw it on an image, or type it", info=REGION, elem_id="mg-region", max_length=60
                    )
                refer = gr.Button("Put the region into the question", elem_id="mg-refer")
                with gr.Row():
                    starts = [gr.Button(name, size="sm", min_width=90) for name in EXAMPLES]
            with gr.Column(scale=6, min_width=320):
                talk = gr.HTML(transcript([]), elem_id="mg-transcript")
                live = gr.HTML("", elem_id="mg-live")
                told = gr.HTML("", elem_id="mg-told")
                question = gr.Textbox(
                    label="Question", placeholder="Find the dog of Image-1 in Image-2.", lines=1, max_lines=8,
                    max_length=LIMITS.letters, elem_id="mg-question", info="Enter sends, Shift+Enter begins a new line",
                )  # fmt: skip
                cursor = gr.Number(0, precision=0, visible=False)  # where it stands in the question
                with gr.Row():
                    send = gr.Button("Ask", variant="primary", elem_id="mg-send")
                    stop = gr.Button("Stop", elem_id="mg-stop")
                    new = gr.Button("New conversation", elem_id="mg-new")

        def added(paths: list[str], now: Session | None) -> tuple[Any, ...]:
            now = now or Session()
            refused = now.add(paths, folder)
            for path in paths:
                Path(path).unlink(missing_ok=True)
            return now, strip(now.pictures), line("\n".join(refused), bad=True) if refused else "", None

        def referred(written: str, asked: str, at: int, name: str, now: Session | None) -> tuple[str, int, str]:
            try:
                words = (now or Session()).reference(shelf.get(name), written)
            except UserError as error:
                return asked, at, line(str(error), bad=True)
            return *insert(words, asked, at), ""

        def asked(text: str, name: str, now: Session | None) -> Iterator[tuple[Any, ...]]:
            now = now or Session()
            yield now, transcript(now.turns), growing(text, ""), "", text
            try:
                for reply in now.aloud(shelf.get(name), text):
                    yield now, gr.skip(), growing(text, reply), "", gr.skip()
            except UserError as error:
                yield now, transcript(now.turns), "", line(str(error), bad=True), text
            except Exception as error:  # whatever a model raises, the page stays up and says that it failed
                log.exception("no reply from %s", name)
                failed = f"no reply ({type(error).__name__}: {error!s:.200}); the server's log says more"
                yield now, transcript(now.turns), "", line(failed, bad=True), text
            else:
                yield now, transcript(now.turns), "", "", ""

        def begun(name: str) -> tuple[Any, ...]:
            chosen = example(name)
            return Session(list(chosen.images)), strip(chosen.images), transcript([]), "", "", chosen.question

        def emptied() -> tuple[Any, ...]:
            return Session(), strip([]), transcript([]), "", "", ""

        on: Callable[..., dict[str, Any]] = partial(dict, api_name=False, show_progress="hidden")
        add.upload(added, [add, session], [session, shots, told, add], **on())
        refer.click(
            referred, [region, question, cursor, model, session], [question, cursor, told], js=CURSOR, **on()
        ).success(None, cursor, None, js=MOVE_CURSOR)
        whole = [session, shots, talk, told, region, question]
        # One at a time, whoever asks: there is one model, and it fills the machine.
        one = on(concurrency_limit=1, concurrency_id="model")
        asking = gr.on(
            [send.click, question.submit], asked, [question, model, session], [session, talk, live, told, question],
            **one,
        )  # fmt: skip
        stop.click(lambda: ("", line("Stopped.")), None, [live, told], cancels=[asking], **on())
        for start, name in zip(starts, EXAMPLES, strict=True):
            start.click(partial(begun, name), None, whole, **on())
        new.click(emptied, None, whole, **on())
    return page
