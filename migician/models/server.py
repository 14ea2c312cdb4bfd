"""Any model behind a server that speaks the OpenAI chat protocol: vLLM, SGLang, LMDeploy, or a hosted one.

Named "server:ADDRESS#MODEL". A batch is asked all at once, at most `concurrency` requests at a
time; a passing failure is tried again (see `completions`). The key is read from MIGICIAN_API_KEY
alone. The server's own chat template places the images, and its tokenizer may drop box tokens from
replies, which are read without them too.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec

from migician.boxes import Size
from migician.boxtext import BoxStyle
from migician.completions import Completions, Refused, api_key
from migician.errors import UserError
from migician.families import Family
from migician.models import Request
from migician.models.conversation import chat_messages, conversation
from migician.models.pictures import ImageInput
from migician.models.sending import data_url, given_sizes, sent_limits, sent_size


class ServedModel:
    """A model that is asked over HTTP; made by `load`."""

    def __init__(
        self,
        address: str,
        model: str,
        family: Family,
        *,
        max_pixels: int | None = None,
        concurrency: int = 8,
        prices: tuple[float, float] | None = None,
        timeout_s: float = 300.0,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name, self.address, self.family, self.max_pixels = model, address, family, max_pixels
        self._scaling = partial(sent_size, family=family, max_pixels=max_pixels)
        self.prices = prices
        """Of a million tokens in, and out."""
        self.requests = self.prompt_tokens = self.completion_tokens = 0
        self._server = Completions(
            address, api_key=api_key(), concurrency=concurrency, timeout_s=timeout_s, pause=pause
        )
        self._kept: dict[str, str] = {}

    @property
    def box_style(self) -> BoxStyle:
        """The family's."""
        return self.family.style

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One reply for each request; see `Model.answer`.

        Raises `UserError` where the server cannot be used, and RuntimeError where it refuses a
        request: what was answered beside it is kept, and given when that is asked again.
        """
        # In a thread of its own, so that it also works where a loop is running already, as in a notebook.
        with ThreadPoolExecutor(1) as thread:
            replies = thread.submit(asyncio.run, self._all(requests)).result()
        failures = [reply for _, reply in replies if isinstance(reply, BaseException)]
        whole = [reply for _, reply in replies if isinstance(reply, str)]
        if not failures:
            return whole
        self._kept |= {key: reply for key, reply in replies if key and isinstance(reply, str)}
        worst = next((failure for failure in failures if not isinstance(failure, Refused)), None)
        if worst is not None:
            raise worst
        raise RuntimeError(str(failures[0]))

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
            "decoding": {"method": "greedy", "temperature": 0, "seed": 0},
            "box_style": self.box_style.name,
        }

    def spent(self) -> str:
        """One line: requests, tokens as the server counts them, and what they cost where prices were given."""
        line = f"{self.requests} requests, {self.prompt_tokens} tokens in, {self.completion_tokens} out"
        if self.prices is None:
            return line
        cost = (self.prompt_tokens * self.prices[0] + self.completion_tokens * self.prices[1]) / 1e6
        return f"{line}: {cost:.4f} at {self.prices[0]:g} and {self.prices[1]:g} a million"

    async def _all(self, requests: Sequence[Request]) -> list[tuple[str, str | BaseException]]:
        async with self._server:
            return await asyncio.gather(*(self._one(request) for request in requests))

    async def _one(self, request: Request) -> tuple[str, str | BaseException]:
        """(what the request is known by, its reply or what went wrong)."""
        key = ""
        try:
            body = await asyncio.to_thread(self._body, request)
            key = hashlib.sha256(msgspec.json.encode(body)).hexdigest()
            if key in self._kept:
                return key, self._kept.pop(key)
            completion = await self._server.complete(key, self.name, lambda: body)
        except (Refused, UserError) as error:
            return key, error
        self.requests += 1
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens
        return key, completion.text

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
        }


def load(
    argument: str,
    family: Family,
    *,
    max_pixels: int | None = None,
    concurrency: int = 8,
    prices: tuple[float, float] | None = None,
) -> ServedModel:
    """The model for "ADDRESS#MODEL", such as "http://localhost:8000/v1#Qwen/Qwen2-VL-7B-Instruct"."""
    address, _, model = argument.partition("#")
    if not address or not model:
        raise UserError(
            f"server:{argument}: expected server:ADDRESS#MODEL, such as server:http://localhost:8000/v1#NAME"
        )
    return ServedModel(address, model, family, max_pixels=max_pixels, concurrency=concurrency, prices=prices)
