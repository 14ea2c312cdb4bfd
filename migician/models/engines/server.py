"""Any model behind a server that speaks the OpenAI chat protocol: vLLM, SGLang, LMDeploy, or a hosted one.

Named "server:ADDRESS#MODEL". At most `concurrency` requests are in flight, and replies are given as they arrive; a
temporary failure is retried (see `chat_completions`). The key is read from MIGICIAN_API_KEY only. The server's own chat
template places the images. A server may drop box tokens from replies, which are read without them too; vLLM, SGLang and
LMDeploy are asked to keep them.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import msgspec

from migician.boxes import Size
from migician.errors import UserError
from migician.models import refuse_unknown
from migician.models.conversation import chat_messages, conversation, template_arguments
from migician.models.engines.chat_completions import Completion, Completions, Refused, api_key
from migician.models.engines.sent_images import data_url, given_sizes, sent_limits, sent_size
from migician.models.family import Family
from migician.models.faults import RunStopped, fault_of
from migician.models.pictures import ImageInput
from migician.models.protocol import Model, Reply, Request

_GRACE_S = 5.0
"""How long requests in flight may take once the run has stopped."""
_PLAINLY = {"repetition_penalty": 1.0, "skip_special_tokens": False}
"""Not part of the protocol: without these vLLM applies the penalty of the checkpoint's generation_config.json, even
when greedy (Qwen2.5-VL's penalises every digit already written), and drops box tokens. Other servers refuse them by
name."""


@dataclass
class ServedModel(Model):
    """A model that is asked over HTTP; made by `load`."""

    address: str
    name: str
    family: Family
    _: KW_ONLY
    max_pixels: int | None = None
    concurrency: int = 8
    prices: tuple[float, float] | None = None
    """Of a million tokens in, and out."""
    timeout_s: float | None = None
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._scaling = partial(sent_size, family=self.family, max_pixels=self.max_pixels)
        self.requests = self.prompt_tokens = self.completion_tokens = 0
        self._server = Completions(
            self.address,
            api_key=api_key(),
            concurrency=self.concurrency,
            timeout_s=self.timeout_s,
            pause=self.pause,
            clock=self.clock,
        )

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One reply per request; see `Model.answer`.

        Raises `RunStopped` if the server cannot be used, and `UserError` if it gives no reply to one of them.
        """
        texts: dict[int, str] = {}
        for at, reply in self.replies(requests):
            if reply.text is None:
                raise UserError(reply.fault or "no reply")
            texts[at] = reply.text
        return [texts[at] for at in range(len(requests))]

    def replies(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(position, reply) as they arrive; see `Independent.replies`."""
        # The loop runs in its own thread, so that this also works where one is running already, as in a notebook.
        come: queue.SimpleQueue[tuple[int, Reply] | Exception | None] = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        asking = loop.create_task(self._all(requests, come.put))
        thread = threading.Thread(target=_run, args=(loop, asking, come.put), name="asking")
        thread.start()
        try:
            while (one := come.get()) is not None:
                if isinstance(one, Exception):
                    raise one
                yield one
        finally:
            loop.call_soon_threadsafe(asking.cancel)
            thread.join()
            loop.close()

    def seen_sizes(self, images: Sequence[ImageInput], max_side_px: int | None = None) -> list[Size]:
        """(width, height) of each image as it is sent; for families that count pixels."""
        return given_sizes(images, max_side_px, self._scaling)

    def describe(self) -> dict[str, Any]:
        """Server, model, decoding and image limits, for a report; None for what a server does not say."""
        return {
            "name": self.name,
            "family": self.family.name,
            "engine": "server",
            "address": self.address,
            "revision": None,
            "weights_fingerprint": None,
            "dtype": None,
            "attention": None,
            **sent_limits(self.family, self.max_pixels),
            "image_processor": None,
            "decoding": {"method": "greedy", "temperature": 0, "seed": 0, **_PLAINLY},
            **self.family.template_facts,
            "box_style": self.box_style.name,
        }

    def spent(self) -> str:
        """One line: requests, tokens as the server counts them, and their cost if prices are known."""
        line = f"{self.requests} requests, {self.prompt_tokens} tokens in, {self.completion_tokens} out"
        if self.prices is None:
            return line
        cost = (self.prompt_tokens * self.prices[0] + self.completion_tokens * self.prices[1]) / 1e6
        return f"{line}: {cost:.4f} at {self.prices[0]:g} and {self.prices[1]:g} per million"

    async def _all(self, requests: Sequence[Request], put: Callable[[tuple[int, Reply]], None]) -> None:
        """Give every reply to `put`; raises `RunStopped` once requests in flight are answered or took too long."""
        ahead = iter(enumerate(requests))

        async def work() -> None:
            for at, request in ahead:
                put((at, await self._one(request)))

        async with self._server:
            workers = [asyncio.create_task(work()) for _ in range(min(self.concurrency, len(requests)))]
            try:
                if workers:
                    _, under_way = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                    if under_way:  # the next request of a worker is refused now
                        await asyncio.wait(under_way, timeout=_GRACE_S)
            finally:
                for worker in workers:
                    worker.cancel()
                ended = await asyncio.gather(*workers, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _one(self, request: Request) -> Reply:
        try:
            body = await asyncio.to_thread(self._body, request)
        except RunStopped:
            raise
        except (UserError, OSError, ValueError) as error:  # an image that cannot be read
            return Reply(None, fault_of(error))
        key = hashlib.sha256(msgspec.json.encode(body)).hexdigest()
        try:
            completion = await self._server.complete(key, self.name, lambda: body)
        except Refused as refusal:
            return Reply(None, str(refusal))
        self.requests += 1
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens
        return _reply(completion, request.max_new_tokens)

    def _body(self, request: Request) -> dict[str, Any]:
        turns = conversation(request, self.family)
        shown, side = request.images, request.max_side_px
        urls = [
            data_url(image, f"image {position} of {len(shown)}", side, self._scaling)
            for position, image in enumerate(shown, 1)
        ]
        return {
            "model": self.name,
            "messages": chat_messages(turns, [{"type": "image_url", "image_url": {"url": url}} for url in urls]),
            "max_tokens": request.max_new_tokens,
            "temperature": 0,
            "seed": 0,
            "stream": False,
            **_PLAINLY,
            **template_arguments(self.family),
        }


def _run(loop: asyncio.AbstractEventLoop, asking: asyncio.Task[None], put: Callable[[Exception | None], None]) -> None:
    """Run the loop until everything is asked; puts the error that ended it last, or None."""
    ended: Exception | None = None
    try:
        loop.run_until_complete(asking)
    except asyncio.CancelledError:
        pass
    except Exception as error:  # noqa: BLE001 - raised again in `replies`
        ended = error
    loop.run_until_complete(loop.shutdown_default_executor())
    put(ended)


def _reply(completion: Completion, max_new_tokens: int) -> Reply:
    """The reply in a server's answer; a message without content is none, and has a fault."""
    text, fault, finished = completion.text, None, completion.finish_reason
    if completion.refusal and not text:
        fault = f"declined by the model: {completion.refusal}"
    elif finished == "content_filter":
        fault = "withheld by the server's content filter (finish_reason content_filter)"
    elif not text and finished == "length":
        spent = " of thinking" if completion.reasoning else ""
        fault = f"no content within {max_new_tokens} tokens{spent} (finish_reason length): raise --max-new-tokens"
    elif text is None:
        fault = f"a message without content (finish_reason {finished or 'not given'})"
    return Reply(None if fault else text, fault, completion.reasoning, completion.dropped)


def load(argument: str, family: Family, **options: Any) -> ServedModel:
    """The model for "ADDRESS#MODEL", such as "http://localhost:8000/v1#Qwen/Qwen2-VL-7B-Instruct".

    Options are those of `ServedModel`; `timeout_s` is the longest wait for one reply; see `Completions`. Raises
    `UserError` for another form, and for an unknown option.
    """
    refuse_unknown(f"server:{argument}", ServedModel, options)
    address, _, model = argument.partition("#")
    if not address or not model:
        raise UserError(
            f"server:{argument}: expected server:ADDRESS#MODEL, such as server:http://localhost:8000/v1#NAME"
        )
    return ServedModel(address, model, family, **options)
