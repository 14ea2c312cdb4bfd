"""A region drawn on one image and put into a question about another, in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="page extra not installed: bash scripts/setup.sh")
from test_chat_page import pictures

from migician.chat.page import serve
from migician.chat.session import OfferedModels
from migician.models.stand_ins.scripted import Scripted

BOX = "<|box_start|>(250,100),(700,900)<|box_end|>"


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, list[str]]]:
    """The address of a chat, and what its model was asked."""
    prompts: list[str] = []
    model = Scripted(lambda request: prompts.append(request.prompt) or BOX, "boxed")  # type: ignore[func-returns-value]
    server = serve(OfferedModels([model.name], lambda _: model), port=0)
    try:
        yield server.address, prompts
    finally:
        server.stop()


@pytest.fixture
def opened(chromium: Any, served: tuple[str, list[str]]) -> Iterator[tuple[Any, list[str]]]:
    """A page in the browser, of a visitor of its own, and what its model was asked."""
    address, prompts = served
    prompts.clear()
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    yield page, prompts
    page.close()


def drawn_in(page: Any) -> list[str]:
    """The captions of the images with boxes in the newest turn."""
    page.locator("#mg-transcript .mg-boxes").last.wait_for()
    strips = page.locator("#mg-transcript .mg-strip")
    found: list[str] = strips.last.locator("figcaption").all_inner_texts() if strips.count() else []
    return found


@pytest.mark.parametrize(
    ("typed", "at", "asked", "drawn"),
    [
        ("Find it in Image-2, please", 7, f"Find it the region {BOX} of Image-1 in Image-2, please", ["Image-2"]),
        ("Find it in Image-2:", None, f"Find it in Image-2: the region {BOX} of Image-1", ["Image-2"]),
        # a letter of two units in JavaScript
        ("\N{DOG FACE}! in Image-2?", 3, f"\N{DOG FACE}! the region {BOX} of Image-1 in Image-2?", ["Image-2"]),
        ("What is like", None, f"What is like the region {BOX} of Image-1", ["Image-1", "Image-2"]),
    ],
)
def test_a_region_goes_to_the_cursor_and_asks_for_no_other_image(
    opened: tuple[Any, list[str]], tmp_path: Path, typed: str, at: int | None, asked: str, drawn: list[str]
) -> None:
    page, prompts = opened
    page.locator("input[type=file]").first.set_input_files(pictures(tmp_path))
    page.wait_for_selector(".mg-shot[data-number='2'] img")
    shown = page.locator(".mg-shot[data-number='1'] .mg-frame")
    shown.hover()  # which waits until it stands still
    frame = shown.bounding_box()
    page.mouse.move(frame["x"] + frame["width"] * 0.25, frame["y"] + frame["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * 0.7, frame["y"] + frame["height"] * 0.9)
    page.mouse.up()
    field = page.locator("#mg-region textarea, #mg-region input").first
    page.wait_for_function("document.querySelector('#mg-region textarea, #mg-region input').value.startsWith('1: ')")
    field.fill("1: 250, 100, 700, 900")
    question = page.locator("#mg-question textarea")
    question.fill(typed)
    if at is not None:
        question.evaluate("(one, at) => one.setSelectionRange(at, at)", at)
    page.locator("#mg-refer").click()
    # The cursor is behind the region: one types on from there.
    end = "of Image-1"
    page.wait_for_function(
        """end => { const one = document.querySelector('#mg-question textarea');
        return document.activeElement === one && one.value.slice(0, one.selectionStart).endsWith(end); }""",
        arg=end,
    )
    assert question.input_value() == asked
    page.keyboard.type("!")
    assert question.input_value() == asked.replace(end, f"{end}!")
    question.press("Enter")
    assert drawn_in(page) == drawn
    assert prompts == ["<image><image>" + asked.replace(end, f"{end}!")]
    told = page.locator("#mg-transcript .mg-boxes").inner_text()
    assert ("no image is named for it, so it is drawn on all" in told) == (len(drawn) > 1)
