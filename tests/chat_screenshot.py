"""A picture of the chat page for the docs, made by `scripts/screenshots.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from migician.chat.page import serve
from migician.chat.session import Shelf
from migician.models.scripted import Scripted


def take_chat(browser: Any, file: Path, *, width: int = 1280, scheme: str = "light") -> None:
    """An example asked and answered, its box drawn; the reply is scripted, so that the picture stays the same."""
    reply = Scripted(lambda _: "Image-2: <|box_start|>(250,0),(500,500)<|box_end|>", "Migician")
    server = serve(Shelf([reply.name], lambda _: reply), port=0)
    try:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.goto(server.address)
        page.get_by_role("button", name="Spot the difference").click()
        page.wait_for_selector(".mg-shot[data-number='2'] img")
        page.locator("#mg-send").click()
        page.locator("#mg-transcript figure img").wait_for()
        page.screenshot(path=file, full_page=True)
        page.close()
    finally:
        server.stop()
