"""The chat page as its user and as its enemy meets it: real clicks in Chromium, and hostile requests over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops
from test_chat import HOSTILE, IN_SECOND, png

from migician.boxes import Box
from migician.draw import Mark, draw_boxes

pytest.importorskip("gradio", reason="page extra not installed: bash scripts/setup.sh")
import httpx
from chat_client import Running, running, told

from migician.chat.page import serve
from migician.chat.session import OfferedModels
from migician.models.protocol import Request
from migician.models.stand_ins.scripted import Scripted

QUESTION, REGION = "Where is it?", "What is the region <|box_start|>(250,100),(700,900)<|box_end|> of Image-2"
ATTACK = "<script>window.attacked=1</script><img src=x onerror='window.attacked=1'>"
ROUND_MB = 60
"""How much larger than after one round the server may be after more of them; one picture of the most pixels is 120."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("chat")
    script = folder / "script.jsonl"
    replies = {f"<image><image>{QUESTION}": IN_SECOND, REGION: ATTACK, f"<image>{QUESTION}": "nothing"}
    script.write_text("".join(json.dumps({"prompt": one, "reply": reply}) + "\n" for one, reply in replies.items()))
    (folder / "temporary").mkdir()
    with running(folder / "temporary", "--model", f"scripted:{script}", "--model", str(tiny_folder)) as up:
        yield up
    assert up.process.returncode == 143 and list(up.folder.iterdir()) == []


def pictures(folder: Path) -> list[Path]:
    files = [folder / "one.png", folder / "two.png"]
    for file, colour in zip(files, ("#406080", "#a0b0c0"), strict=True):
        file.write_bytes(png(colour, (480, 400)))
    return files


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_two_images_a_question_a_region_and_a_hostile_reply(
    server: Running, chromium: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    elsewhere: list[str] = []
    failed: list[str] = []
    page.on("request", lambda asked: elsewhere.append(asked.url))
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    page.goto(server.address)
    page.locator("input[type=file]").first.set_input_files(pictures(tmp_path))
    page.wait_for_selector(".mg-shot[data-number='2'] img")

    page.locator("#mg-question textarea").fill(QUESTION)
    page.locator("#mg-question textarea").press("Enter")
    drawn = page.locator("#mg-transcript figure")
    drawn.first.wait_for()
    assert drawn.count() == 1 and drawn.locator("figcaption").inner_text() == "Image-2"
    shown = server.image(drawn.locator("img").get_attribute("src"))
    expected = draw_boxes(Image.new("RGB", (480, 400), "#a0b0c0"), [Mark(Box(0.25, 0.1, 0.7, 0.9))])
    assert shown.size == expected.size
    assert np.asarray(ImageChops.difference(shown.convert("RGB"), expected)).mean() < 1.0  # JPEG

    frame = page.locator(".mg-shot[data-number='2'] .mg-frame")
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.9)
    page.mouse.up()
    field = page.locator("#mg-region textarea, #mg-region input").first
    numbers = [int(part.strip(" :,")) for part in field.input_value().split()]
    assert numbers[0] == 2 and np.abs(np.array(numbers[1:]) - [250, 100, 700, 900]).max() <= 4
    field.fill("2: 250, 100, 700, 900")
    page.locator("#mg-question textarea").fill("What is")
    page.locator("#mg-refer").click()
    page.wait_for_function("document.querySelector('#mg-question textarea').value.includes('Image-2')")
    assert page.locator("#mg-question textarea").input_value() == REGION
    page.locator("#mg-send").click()
    page.wait_for_function("document.querySelectorAll('#mg-transcript .mg-model').length == 2")
    assert ATTACK in page.locator("#mg-transcript .mg-model").nth(1).inner_text()
    assert page.evaluate("window.attacked") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in elsewhere if not url.startswith((server.address, "data:", "blob:"))] == []
    assert failed == []
    page.close()


def test_the_tiny_model_answers_over_two_images(server: Running, chromium: Any, tmp_path: Path) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(server.address)
    page.get_by_label("Model").click()
    page.get_by_role("option").nth(1).click()
    page.locator("input[type=file]").first.set_input_files(pictures(tmp_path))
    page.wait_for_selector(".mg-shot[data-number='2'] img")
    page.locator("#mg-question textarea").fill(QUESTION)
    page.locator("#mg-send").click()
    page.locator("#mg-transcript .mg-boxes").wait_for(timeout=90_000)
    assert page.locator("#mg-transcript .mg-model").count() == 1
    page.close()


class Endless(Scripted):
    """Says one word after the other until it is stopped; once `brief`, it has but one to say."""

    def __init__(self) -> None:
        super().__init__(lambda _: "", "endless")
        self.brief, self.ended = threading.Event(), threading.Event()

    def speak(self, request: Request, on_token: Callable[[str], None]) -> str:
        try:
            for word in range(1, 100_000):
                on_token(f"word {word}")
                if self.brief.wait(0.01):  # the pace of a model
                    break
        finally:
            self.ended.set()
        return "that is all"


def test_a_click_on_stop_ends_the_model_and_the_turn_never_was(chromium: Any) -> None:
    model = Endless()
    server = serve(OfferedModels([model.name], lambda _: model), port=0)
    try:
        page = chromium.new_page()
        page.goto(server.address)
        page.get_by_role("button", name="Spot the difference").click()
        page.wait_for_selector(".mg-shot[data-number='2'] img")
        page.locator("#mg-send").click()
        page.locator("#mg-live").get_by_text("word").wait_for()
        page.locator("#mg-stop").click()
        page.locator("#mg-status").get_by_text("Stopped.").wait_for()
        assert model.ended.wait(60)
        model.brief.set()
        page.locator("#mg-question textarea").fill("Again?")
        page.locator("#mg-send").click()
        said = page.locator("#mg-transcript")
        said.get_by_text("that is all").wait_for()
        assert "Again?" in said.inner_text() and "What differs" not in said.inner_text()
        page.close()
    finally:
        server.stop()


def test_an_example_by_keyboard_alone(server: Running, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(server.address)
    page.locator("#mg-send").wait_for()
    reached = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.closest('[id^=mg-]')?.id || document.activeElement.innerText")
        reached.add(name.strip())
        if name.strip() == "Spot the difference":
            page.keyboard.press("Enter")
    assert {"mg-add", "mg-region", "mg-refer", "mg-question", "mg-send", "mg-stop", "mg-new"} <= reached
    page.wait_for_selector(".mg-shot[data-number='2'] img")
    assert "Image-2" in page.locator("#mg-question textarea").input_value()
    page.close()


def hostile_round(server: Running, session: str) -> None:
    """Every hostile thing once, each refused in a line."""
    for name, (content, says) in HOSTILE.items():
        line = told(server.bring(server.upload([(name, content)]), session))
        assert says in line and "\n" not in line, (name, line)
    many = told(server.bring(server.upload([(f"{n}.png", png("red", (40, 40 + n))) for n in range(200)]), session))
    assert "at most 24 in a conversation" in many
    for path in ("../../etc/passwd", "/etc/passwd", "/etc/hostname"):
        answer = server.bring([path], session)
        assert answer["refused"] == f"'{Path(path).name}': was not uploaded here; choose the file again\n"
    assert too_large(server) == 413


def too_large(server: Running) -> int:
    """The status of an upload of 200 MB."""
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=300)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(200_000_000))
    connection.endheaders()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(200):
            connection.send(b"0" * 1_000_000)
    try:
        return connection.getresponse().status
    except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
        return 413  # it was cut off before the answer could be read
    finally:
        connection.close()


def test_hostile_input_is_refused_and_the_server_lives_on(server: Running) -> None:
    hostile_round(server, "hostile0")
    before = server.memory_mb()
    for number in range(1, 4):
        hostile_round(server, f"hostile{number}")
    assert server.memory_mb() < before + ROUND_MB
    answer = server.bring(server.upload([("a.png", png("red"))]), "hostile9")
    assert len(server.images(answer)) == 1 and told(answer) == ""
    asked = server.call("mg-send", [QUESTION, server.model(), None], "hostile9")
    assert asked["success"] and "nothing" in json.dumps(asked)


def test_one_file_above_the_limit_is_refused(server: Running) -> None:
    answer = httpx.post(
        f"{server.address}/gradio_api/upload", files=[("files", ("a.png", b"0" * 21_000_000))], timeout=60
    )
    assert answer.status_code == 413 and "\n" not in answer.text.strip()


def test_no_address_is_fetched(server: Running) -> None:
    fetched: list[str] = []

    class Spy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)
            self.send_error(404)

    spy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Spy)
    threading.Thread(target=spy.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{spy.server_address[1]}/a.png"
        assert "is an address" in server.bring([address], "address")["refused"]
        for path in (f"/gradio_api/file={address}", f"/gradio_api/proxy={address}", f"/proxy={address}"):
            assert httpx.get(server.address + path, follow_redirects=True, timeout=300).status_code == 404
        assert fetched == []
    finally:
        spy.shutdown()
        spy.server_close()


def test_one_visitors_image_is_not_another_s(server: Running) -> None:
    mine = server.upload([("mine.png", png("#123456"))])
    [shown] = server.images(server.bring(mine, "first"))
    assert np.abs(np.asarray(shown)[0, 0].astype(int) - [0x12, 0x34, 0x56]).max() < 4
    for path in (f"/gradio_api/file={mine[0]}", f"/file={mine[0]}", "/gradio_api/file=/etc/passwd"):
        assert httpx.get(server.address + path, timeout=300).status_code == 404
    assert "was not uploaded here" in server.bring(mine, "second")["refused"]
    asked = server.call("mg-send", [QUESTION, server.model(), None], "third")
    assert "no image to look at" in json.dumps(asked)


def test_the_page_names_no_other_host_to_load_from(server: Running) -> None:
    answer = httpx.get(server.address, timeout=300)
    assert 'src="http' not in answer.text.replace(server.address, "") and "preconnect" not in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_a_taken_port_is_said_in_one_line(server: Running) -> None:
    port = server.address.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "migician.cli", "chat", "--model", "constant:1,2,3,4", "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "choose another --port" in ended.stderr and ended.stderr.count("\n") == 1
