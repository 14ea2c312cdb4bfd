"""The chat page under many visitors: what it keeps is bounded, nothing is on the disk, and nobody disturbs another."""

from __future__ import annotations

import gc
import http.client
import io
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_chat import IN_SECOND, png

from migician.chat.session import Session
from migician.chat.uploads import LIMITS, ChatImage, ChatLimits, UploadedFile, take
from migician.chat.visitors import Visitors
from migician.errors import UserError
from migician.models.pictures import load_picture

pytest.importorskip("gradio", reason="page extra not installed: bash scripts/setup.sh")
import httpx
from chat_client import Running, running, told

from migician.chat import page
from migician.chat.page import Server, serve
from migician.chat.session import OfferedModels
from migician.models.stand_ins.scripted import Scripted

SMALL = ChatLimits(kept_bytes=1_000_000, sent_bytes=300_000, talk_bytes=500_000, body_bytes=200_000, file_bytes=100_000)
MANY = 200


def noise(seed: int, side: int = 100) -> bytes:
    """A PNG of about 30 kB."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def serving(limits: ChatLimits = LIMITS, **options: Any) -> Iterator[tuple[Server, Running]]:
    server = serve(OfferedModels(["one"], lambda _: Scripted(lambda _: IN_SECOND)), port=0, limits=limits, **options)
    try:
        yield server, Running(server.address, None, None)  # type: ignore[arg-type]
    finally:
        server.stop()


def until(holds: Callable[[], bool], client: Running) -> bool:
    """Whether it comes to hold while the server answers some requests."""
    return any(holds() or client.http.get(f"{client.address}/theme.css") is None for _ in range(2000)) or holds()


def test_many_visitors_stay_under_the_bounds_and_leave_nothing_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    pictures = [noise(number) for number in range(2)]
    limits = replace(SMALL, sent_bytes=2_000_000)
    with serving(limits) as (server, client), ThreadPoolExecutor(8) as several:

        def visit(number: int) -> None:
            sent = [(f"{place}.png", one + str(number).encode()) for place, one in enumerate(pictures)]
            answer = client.bring(client.upload(sent), f"visitor{number}")
            assert told(answer) == "" and answer["output"]["data"][0].count("<img") == 2
            assert server.visitors.size <= limits.kept_bytes + limits.sent_bytes
            assert list(tmp_path.rglob("*")) == []

        visit(0)
        list(several.map(visit, range(1, MANY - 1)))
        visit(MANY - 1)
        assert limits.kept_bytes / 2 < server.visitors.size <= limits.kept_bytes
        first = client.call("mg-send", ["Where?", "one"], "visitor0")
        assert "no longer here" in told(first) and first["output"]["data"][5] == "Where?"
        assert "no image" in told(client.call("mg-send", ["Where?", "one"], "visitor0"))
        last = client.call("mg-send", ["Where?", "one"], f"visitor{MANY - 1}")
        assert told(last) == "" and "Image-2" in last["output"]["data"][1]


def test_what_is_sent_but_never_asked_for_is_bounded_too(tmp_path: Path) -> None:
    now = [0.0]
    visitors = Visitors(SMALL, lambda: now[0])
    for _ in range(5):
        visitors.coming(50_000)
        name = visitors.wait(UploadedFile("a", bytes(50_000)))
        visitors.coming(-50_000)
    visitors.coming(50_000)
    with pytest.raises(UserError, match="too many uploads at once"):
        visitors.coming(1)
    visitors.coming(-50_000)
    now[0] = SMALL.waiting_s + 1
    visitors.sweep()
    assert visitors.size == 0 and not visitors.is_waiting(name)
    with pytest.raises(UserError, match="choose it again"):
        visitors.claim(name)


def test_a_conversation_is_forgotten_after_an_hour(tmp_path: Path) -> None:
    now = [0.0]
    visitors = Visitors(LIMITS, lambda: now[0])
    kept, used = visitors.of("kept"), visitors.of("used")
    now[0] = LIMITS.unused_s - 1
    assert visitors.of("used") is used
    now[0] = LIMITS.unused_s + 1
    visitors.sweep()
    with pytest.raises(UserError, match="no longer here"):
        visitors.of("kept")
    assert visitors.of("kept") is not kept and visitors.of("used") is used


class Frozen:
    """Pictures of a size, without decoding one."""

    def __init__(self, size: int) -> None:
        self.picture = ChatImage("a", bytes(size), b"0" * (size // 10))


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.sampled_from(["add", "ask", "new", "leave", "come"]), st.integers(1, 300_000)),
        max_size=60,
    )
)
def test_whatever_visitors_do_the_bound_holds_and_each_sees_its_own(steps: list[tuple[int, str, int]]) -> None:
    visitors = Visitors(SMALL)
    addresses: dict[str, str] = {}
    for number, action, size in steps:
        name = f"visitor{number}"
        if action == "leave":
            visitors.forget(name)
        elif action == "new":
            visitors.begin(name)
        elif action == "come":
            try:
                visitors.coming(size)
            except UserError:
                continue
            visitors.wait(UploadedFile("a", bytes(size)))
            visitors.coming(-size)
        else:
            try:
                visitor = visitors.of(name)
            except UserError:
                assert visitors.of(name).session.pictures == []
                continue
            if visitor.size + size > SMALL.talk_bytes:
                continue
            if action == "add":
                visitor.session.pictures.append(Frozen(size).picture)
            addresses[name] = visitor.show(name.encode())
            visitors.grown(name)
            assert visitors.of(name) is visitor  # who has just come is not the one who goes
        assert visitors.size <= SMALL.kept_bytes + SMALL.sent_bytes
        for owner, address in addresses.items():
            _, key, place = address.split("/")
            assert visitors.shown(key, int(place)) in (owner.encode(), None)
            assert visitors.shown(key[:-1], int(place)) is None


def test_two_visitors_with_the_same_picture_do_not_disturb_each_other() -> None:
    with serving() as (server, client):
        same = [("same.png", png("#123456"))]
        mine, yours = client.upload(same), client.upload(same)
        assert mine != yours
        first = client.bring(mine, "first")
        [address] = [part.split('"')[0] for part in first["output"]["data"][0].split('src="')[1:]]
        second = client.bring(yours, "second")
        assert len(client.images(second)) == 1 and address not in json.dumps(second)
        client.call("mg-new", [], "first")
        assert client.http.get(f"{server.address}/{address}").status_code == 404
        assert len(client.images(second)) == 1
        again = client.bring(client.upload(same), "second")
        assert len(client.images(again)) == 2


def test_a_closed_page_is_forgotten_at_once() -> None:
    with serving() as (server, client):
        client.bring(client.upload([("a.png", png("red"))]), "closed")
        kept = server.visitors.size
        with httpx.stream("GET", f"{server.address}/gradio_api/heartbeat/closed", timeout=300) as stream:
            next(stream.iter_lines())
            assert server.visitors.size == kept
        assert until(lambda: server.visitors.size == 0, client)


def begun(server: Server, declared: int, sent: int) -> http.client.HTTPConnection:
    """A connection over which some bytes of an upload were sent."""
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(declared))
    connection.endheaders(b"0" * sent)
    return connection


def test_cut_uploads_leave_nothing_and_those_under_way_are_bounded() -> None:
    with serving(SMALL) as (server, client):
        for declared, sent in ((190_000, 150_000), (190_000, 1), (100_000, 99_999)) * 3:
            connection = begun(server, declared, sent)
            assert until(lambda sent=sent: server.visitors.size == sent, client)
            connection.close()
            assert until(lambda: server.visitors.size == 0, client)
        connections = [begun(server, 190_000, 140_000) for _ in range(2)]
        assert until(lambda: server.visitors.size == 280_000, client)
        refused = client.http.post(f"{server.address}/gradio_api/upload", files=[("files", ("a.png", noise(0)))])
        assert (refused.status_code, refused.text) == (503, "too many uploads at once; try again in a minute\n")
        for connection in connections:
            connection.close()
        assert until(lambda: server.visitors.size == 0, client)
        assert len(client.upload([("a.png", noise(0))])) == 1


def test_answers_that_nobody_reads_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradio.queueing import Event

    monkeypatch.setattr(page, "_SWEEP_S", 0.05)
    gc.collect()
    before = sum(type(one) is Event for one in gc.get_objects())
    with serving() as (server, client):
        event = {"fn_index": client.dependency("mg-new")["id"], "data": [], "event_data": None}
        for number in range(100):
            answer = client.http.post(
                f"{server.address}/gradio_api/queue/join", json={**event, "session_hash": f"x{number}"}
            )
            assert answer.status_code == 200
        assert until(lambda: sum(type(one) is Event for one in gc.get_objects()) <= before + 5, client)
        monkeypatch.setattr(page, "_SWEEP_S", 600)
        assert until(lambda: client.call("mg-new", [], "reads")["success"], client)
        codes = [
            client.http.post(
                f"{server.address}/gradio_api/queue/join", json={**event, "session_hash": "hoards"}
            ).status_code
            for _ in range(30)
        ]
        assert codes[:3] == [200] * 3 and codes[-1] == 429


@pytest.mark.parametrize("size", [(2048, 40), (2049, 40), (40, 5000), (300, 200)])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_what_is_kept_has_the_pixels_of_what_came(size: tuple[int, int], form: str) -> None:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(pixels).save(stream, form, exif=exif)
    expected = load_picture(Image.open(io.BytesIO(stream.getvalue())), max_side_px=LIMITS.side_px)
    picture = take(UploadedFile("a", stream.getvalue()))
    assert max(picture.decoded().size) <= 2048 and picture.decoded().tobytes() == expected.tobytes()
    assert max(Image.open(io.BytesIO(picture.shown)).size) <= 640
    session = Session()
    session.add([UploadedFile("a", stream.getvalue())])
    assert session.size == len(picture.content) <= max(len(stream.getvalue()), 2048 * 2048 * 3)


def test_sigterm_ends_it_while_it_replies_and_kill_leaves_nothing(tmp_path: Path, tiny_folder: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        folder = tmp_path / number.name
        folder.mkdir()
        with running(folder, "--model", str(tiny_folder)) as server:
            server.bring(server.upload([("a.png", png("red"))]), "asks")
            server.upload([("b.png", png("blue"))])
            event = {"fn_index": server.dependency("mg-send")["id"], "data": ["Where?", server.model()]}
            body = {**event, "session_hash": "asks", "event_data": None}
            server.http.post(f"{server.address}/gradio_api/queue/join", json=body).raise_for_status()
            with httpx.stream(
                "GET", f"{server.address}/gradio_api/queue/data?session_hash=asks", timeout=300
            ) as stream:
                next(line for line in stream.iter_lines() if "process_generating" in line)
                os.kill(server.process.pid, number)
                assert server.process.wait(300) == (143 if number == signal.SIGTERM else -9)
        assert list(folder.iterdir()) == []


def test_a_dropped_visitor_is_told_so_on_the_page(chromium: Any, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(noise(0))
    with serving(SMALL) as (server, client):
        opened = chromium.new_page()
        opened.goto(server.address)
        opened.locator("input[type=file]").first.set_input_files([tmp_path / "a.png"])
        opened.wait_for_selector(".mg-shot[data-number='1'] img")
        for number in range(12):
            client.bring(client.upload([(f"{place}.png", noise(place)) for place in range(4)]), f"other{number}")
        opened.locator("#mg-question textarea").fill("Where?")
        opened.locator("#mg-send").click()
        opened.locator("#mg-status").get_by_text("This conversation is no longer here").wait_for()
        assert opened.locator(".mg-shot").count() == 0
        opened.locator("input[type=file]").first.set_input_files([tmp_path / "b.png"])
        opened.wait_for_selector(".mg-shot[data-number='1'] img")
        assert opened.locator("#mg-status").inner_text().strip() == ""
        opened.close()


@contextmanager
def forwarded() -> Iterator[tuple[int, list[int]]]:
    """A port whose connections go on to the port that is put into the list, as those of `ssh -L` do."""
    target: list[int] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while part := source.recv(65536):
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                near, _ = listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", target[0]))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1], target
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_it_opens_under_both_names_and_through_a_tunnel_that_was_named(chromium: Any, name: str) -> None:
    with forwarded() as (port, target), serving(allow_hosts=[f"{name}:{port}"]) as (server, _):
        target.append(int(server.address.rpartition(":")[2]))
        for address in (f"http://{name}:{target[0]}", f"http://{name}:{port}"):
            opened = chromium.new_page()
            opened.goto(address)
            opened.get_by_role("button", name="Spot the difference").click()
            shot = opened.locator(".mg-shot[data-number='2'] img")
            shot.wait_for()
            assert shot.evaluate("async one => { await one.decode(); return one.naturalWidth }") == 448
            opened.locator("#mg-send").click()
            opened.locator("#mg-transcript figure").wait_for()
            opened.close()
        strange = f"{'localhost' if name == '127.0.0.1' else '127.0.0.1'}:{port}"
        opened = chromium.new_page()
        opened.goto(f"http://{strange}")
        shown = opened.locator("body").inner_text().strip()
        assert (
            shown
            == f"{strange}: not a name of this page; open {server.address}, or start it with --allow-host {strange}"
        )
        opened.close()
