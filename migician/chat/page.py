"""The chat page's server: Gradio's application behind a `PageGuard`, in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from migician.chat.hosts import Hosts
from migician.chat.session import OfferedModels
from migician.chat.uploads import LIMITS, ChatLimits
from migician.chat.visitors import Visitors
from migician.errors import UserError

_SWEEP_S = 20
_CONNECTIONS = 1000
"""At a time; later ones get the answer that the server is busy."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running chat page."""

    address: str
    visitors: Visitors
    stop: Callable[[], None]


def serve(
    models: OfferedModels,
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    allow_hosts: Iterable[str] = (),
    limits: ChatLimits = LIMITS,
) -> Server:
    """Start the page in threads of its own; port 0 takes a free one.

    It answers under the names of `Hosts`, whose `others` are `allow_hosts`. Raises `UserError` if Gradio is not
    installed, the port is taken or a name is invalid.
    """
    bound = _bound(host, port)
    try:
        return _serve(models, bound, Hosts(host, bound.getsockname()[1], frozenset(allow_hosts)), Visitors(limits))
    except BaseException:
        bound.close()
        raise


def _serve(models: OfferedModels, bound: socket.socket, hosts: Hosts, visitors: Visitors) -> Server:
    _prepare_gradio()
    import uvicorn
    from gradio.routes import App

    from migician.chat.guard import PageGuard
    from migician.chat.widgets import widgets

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        page.run_startup_events()
        await page.run_extra_startup_events()
        sweeping = asyncio.create_task(_sweep(visitors, page._queue))
        yield
        sweeping.cancel()

    _name_no_other_host()
    with _folder():
        page = widgets(models, visitors)
        page.app = page.server_app = App.create_app(page, app_kwargs={"lifespan": lifespan, "docs_url": None})
    queue = page._queue
    queue.set_server_app(page.app)
    guard = PageGuard(page.app, hosts, visitors, lambda name: len(queue.pending_event_ids_session.get(name, ())))
    server = uvicorn.Server(
        uvicorn.Config(
            guard, log_level="warning", server_header=False, limit_concurrency=_CONNECTIONS, timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise UserError(f"{hosts.address}: the page did not start; the lines above say why")
        time.sleep(0.01)

    def stop() -> None:
        queue.close()
        page.app.stop_event.set()  # each open page holds a connection
        server.should_exit = True
        thread.join(timeout=5)
        bound.close()

    return Server(hosts.address, visitors, stop)


def _prepare_gradio() -> None:
    """Import Gradio with its analytics, sharing and telemetry off."""
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        HF_HUB_DISABLE_TELEMETRY="1",
        GRADIO_SHARE="False",
        GRADIO_ANALYTICS_CACHE_FREQUENCY=str(10**9),
    )
    try:
        import gradio  # noqa: F401 - whether it is there
    except ModuleNotFoundError as error:
        raise UserError(f"the chat page needs the package {error.name!r}: pip install 'migician[page]'") from None


@cache
def _name_no_other_host() -> None:
    """Drop from Gradio's page the script that it loads from another host, and the connections to two more."""
    from gradio.routes import templates
    from jinja2 import ChoiceLoader, DictLoader

    name, loader = "frontend/index.html", templates.env.loader
    source = loader.get_source(templates.env, name)[0]
    elsewhere = r'<link\s+rel="preconnect".*?/>|<script\s+src="https?://[^>]*>\s*</script>'
    own = DictLoader({name: re.sub(elsewhere, "", source, flags=re.DOTALL)})
    templates.env.loader = ChoiceLoader([own, loader])


@contextmanager
def _folder() -> Iterator[None]:
    """Gradio makes a folder whenever it builds an application; nothing is ever written to it."""
    from gradio import routes

    with tempfile.TemporaryDirectory(prefix="migician-chat-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = routes.DEFAULT_TEMP_DIR = folder
        yield


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket; raises `UserError` if the port is taken."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen()  # only now is a port refused that another process listens on
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{host}:{port}: cannot listen there ({reason}); choose another --port") from None
    return bound


async def _sweep(visitors: Visitors, queue: Any) -> None:
    """Forget what is old, repeatedly; also what Gradio keeps of each event for as long as it runs."""
    idle: set[str] = set()
    while True:
        await asyncio.sleep(_SWEEP_S)
        visitors.sweep()
        idle = prune(queue, idle)


def prune(queue: Any, idle: set[str]) -> set[str]:
    """Make a queue of Gradio forget events that were already over at the last call; returns those that are over now.

    By itself it keeps the input of every event, and the answers that a page never read.
    """
    waiting = [event for one in queue.event_queue_per_concurrency_id.values() for event in one.queue]
    running = [event for events in queue.active_jobs if events for event in events]
    over = set(queue.event_ids_to_events) - {event._id for event in waiting + running}
    for event in over & idle:
        queue.event_ids_to_events.pop(event, None)
        queue.event_analytics.pop(event, None)
    for page, unread in list(queue.pending_event_ids_session.items()):
        abandoned = unread & over & idle
        unread -= abandoned
        if abandoned and not unread:
            queue.pending_messages_per_session.pop(page, None)
        if not unread and page not in queue.pending_messages_per_session:
            del queue.pending_event_ids_session[page]
    queue._asyncio_tasks[:] = [task for task in queue._asyncio_tasks if not task.done()]
    return over - idle
