"""The widgets of the chat page, and what happens when they are used."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr

from migician.chat.examples import EXAMPLES, example
from migician.chat.session import REGION, OfferedModels, Session, insert
from migician.chat.style import CSS, CURSOR, HEAD, MOVE_CURSOR
from migician.chat.transcript import answered, growing, line, strip, transcript
from migician.chat.uploads import LIMITS, kept
from migician.chat.visitors import Visitor, Visitors
from migician.errors import UserError

log = logging.getLogger(__name__)

_PATH = re.compile(r"(?:^|[\s'\"(=:,])(?:~|\.{1,2})?/\w|\\")
"""A path of this machine in an error message; not a Hub id, nor an address."""


def widgets(models: OfferedModels, visitors: Visitors) -> Any:
    """A `gradio.Blocks` that stores nothing about visitors; call `page._prepare_gradio` before importing this."""
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
    ) as page:
        gr.HTML("<h1>Migician</h1><p>Ask about several images at once; the answer's boxes are drawn on them.</p>")
        model = gr.Dropdown(
            list(models.names), value=models.names[0], label="Model", visible=len(models.names) > 1, filterable=False
        )
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                shots = gr.HTML(strip([]), elem_id="mg-images")
                add = gr.UploadButton("Add images", file_count="multiple", file_types=["image"], elem_id="mg-add")
                # It receives the names of waiting uploads, see `PageGuard`.
                add.data_model, add.preprocess = None, lambda names: names
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
                status = gr.HTML("", elem_id="mg-status")
                question = gr.Textbox(
                    label="Question", placeholder="Find the dog of Image-1 in Image-2.", lines=1, max_lines=8,
                    max_length=LIMITS.letters, elem_id="mg-question", info="Enter sends, Shift+Enter starts a new line",
                )  # fmt: skip
                cursor = gr.Number(0, precision=0, visible=False)  # its position in the question
                with gr.Row():
                    send = gr.Button("Ask", variant="primary", elem_id="mg-send")
                    stop = gr.Button("Stop", elem_id="mg-stop")
                    new = gr.Button("New conversation", elem_id="mg-new")

        def lost(error: UserError) -> dict[Any, Any]:
            return {**cleared(), status: line(public_line(error), bad=True)}

        def cleared() -> dict[Any, Any]:
            return {shots: strip([]), talk: transcript([]), live: "", status: "", region: "", question: ""}

        def shown(visitor: Visitor) -> dict[Any, Any]:
            for picture in visitor.session.pictures[len(visitor.pictures) :]:
                visitor.pictures.append(visitor.show(picture.shown))
            return {shots: strip(visitor.pictures)}

        def added(names: Any, request: gr.Request) -> dict[Any, Any]:
            try:
                visitor = visitors.of(request.session_hash)
            except UserError as error:
                return {**lost(error), add: None}
            uploads, refused = [], []
            for name in names if isinstance(names, list) else []:
                try:
                    uploads.append(visitors.claim(str(name)))
                except UserError as error:
                    refused.append(str(error))
            refused += visitor.session.add(uploads, visitors.limits)
            images = shown(visitor)
            visitors.grown(request.session_hash)
            return {**images, status: line("\n".join(refused), bad=True) if refused else "", add: None}

        def referred(written: str, text: str, at: int, name: str, request: gr.Request) -> dict[Any, Any]:
            try:
                session = visitors.of(request.session_hash).session
            except UserError as error:
                return {**lost(error), question: text}
            try:
                words = session.reference(models.get(name), written)
            except UserError as error:
                return {status: line(public_line(error), bad=True)}
            new, end = insert(words, text, at)
            return {question: new, cursor: end, status: ""}

        def asked(text: str, name: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
            try:
                visitor = visitors.of(request.session_hash)
            except UserError as error:
                yield {**lost(error), question: text}
                return
            session, turns = visitor.session, visitor.turns
            yield {talk: transcript(turns), live: growing(text, ""), status: "", question: text}
            try:
                if visitor.size > visitors.limits.talk_bytes:
                    raise UserError("this conversation is full; start a new one")
                for step in session.aloud(models.get(name), text, visitors.limits):
                    if isinstance(step, str):
                        yield {live: growing(text, step)}
                    else:
                        del turns[len(session.history) - 1 :]  # another model may have started over
                        turns.append(answered(step, visitor.show))
                visitors.grown(request.session_hash)
            except UserError as error:
                failed = public_line(error)
            except Exception as error:  # whatever a model raises, the page stays up and reports the failure
                log.exception("no reply from %s", name)
                failed = f"no reply ({type(error).__name__}); the server's log says more"
            else:
                yield {talk: transcript(turns), live: "", status: "", question: ""}
                return
            del turns[len(session.history) :]
            yield {talk: transcript(turns), live: "", status: line(failed, bad=True), question: text}

        def starting(name: str) -> Callable[[gr.Request], dict[Any, Any]]:
            def begun(request: gr.Request) -> dict[Any, Any]:
                chosen = example(name)
                visitor = visitors.begin(request.session_hash, Session([kept(one, name) for one in chosen.images]))
                images = shown(visitor)
                visitors.grown(request.session_hash)
                return {**cleared(), **images, question: chosen.question}

            return begun

        def emptied(request: gr.Request) -> dict[Any, Any]:
            visitors.begin(request.session_hash)
            return cleared()

        on: Callable[..., dict[str, Any]] = partial(dict, api_name=False, show_progress="hidden")
        whole = [shots, talk, live, status, region, question]
        add.upload(added, add, [*whole, add], **on())
        refer.click(referred, [region, question, cursor, model], [*whole, cursor], js=CURSOR, **on()).success(
            None, cursor, None, js=MOVE_CURSOR
        )
        # One at a time for all visitors: there is one model, and it fills the machine.
        one = on(concurrency_limit=1, concurrency_id="model")
        asking = gr.on([send.click, question.submit], asked, [question, model], whole, **one)
        stop.click(lambda: ("", line("Stopped.")), None, [live, status], cancels=[asking], **on())
        for start, name in zip(starts, EXAMPLES, strict=True):
            start.click(starting(name), None, whole, **on())
        new.click(emptied, None, whole, **on())
        page.unload(lambda: None)  # so the page holds a connection while it is open; `PageGuard` notices when it ends
    page.queue(max_size=64)
    page.state_session_capacity = 1  # Gradio's own state of a visitor is never needed again
    page.show_api, page.show_error, page.max_file_size = False, False, LIMITS.file_bytes
    return page


def public_line(error: UserError) -> str:
    """What a visitor may read of an error; one that names a path of this machine is only logged.

    >>> public_line(UserError("Michael4933/Migician: out of memory on 9 images"))
    'Michael4933/Migician: out of memory on 9 images'
    >>> public_line(UserError("/home/me/model: no config.json"))
    "no reply; the server's log says why"
    """
    if not _PATH.search(str(error)):
        return str(error)
    log.error("%s", error)
    return "no reply; the server's log says why"
