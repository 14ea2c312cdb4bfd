"""The chat page and requests that its own page would not send: other names, other sites, odd paths and bodies."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_chat import png

pytest.importorskip("gradio", reason="page extra not installed: bash scripts/setup.sh")
import httpx
from chat_client import Running

from migician.chat.hosts import Hosts
from migician.chat.page import Server, serve
from migician.chat.session import OfferedModels
from migician.errors import UserError
from migician.models.stand_ins.scripted import Scripted

HTTP = httpx.Client(timeout=300)
REPOSITORY = Path(__file__).resolve().parents[2]


def broken(request: Any) -> str:
    raise FileNotFoundError(2, "No such file", "/srv/models/secret/weights.bin")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    models = {"well": Scripted(lambda _: "none"), "/srv/models/broken": Scripted(broken)}

    def load(name: str) -> Scripted:
        if name not in models:
            raise UserError(f"{name}: no config.json")
        return models[name]

    up = serve(OfferedModels([*models, "/srv/models/gone"], load), port=0)
    yield up
    up.stop()


@pytest.fixture(scope="module")
def client(server: Server) -> Running:
    return Running(server.address, None, None)  # type: ignore[arg-type]


def routes() -> list[tuple[str, str]]:
    """(method, path) of all that Gradio answers, and of what is answered in front of it."""
    from gradio import Blocks
    from gradio.routes import App

    with Blocks() as page:
        pass
    found = [("GET", "/shown/x/0"), ("POST", "/gradio_api/upload?upload_id=x"), ("GET", "/assets/index.js")]
    for route in App.create_app(page).routes:
        # Newer versions of FastAPI keep an included router as a whole.
        for one in route.original_router.routes if hasattr(route, "original_router") else [route]:
            path = re.sub(r"\{[^}]*\}", "x", one.path)
            found += [(method, path) for method in [*(getattr(one, "methods", None) or ["GET"]), "OPTIONS"]]
    return sorted(set(found))


FOREIGN = {
    "another name": {"host": "evil.example"},
    "a name that begins alike": {"host": "127.0.0.1.evil.example:PORT"},
    "another port": {"host": "127.0.0.1:1"},
    "no port": {"host": "localhost"},
    "this machine's name": {"host": f"{socket.gethostname()}:PORT"},
    "an address of a network": {"host": "192.168.0.7:PORT"},
    "a name with a sign in it": {"host": "127.0.0.1:PORT@evil.example"},
    "no name": {"host": ""},
    "a proxy's other name": {"x-forwarded-host": "evil.example"},
    "another site": {"origin": "http://evil.example"},
    "another port's site": {"origin": "http://127.0.0.1:1"},
    "no site": {"origin": "null"},
    "an empty site": {"origin": ""},
    "a site across": {"sec-fetch-site": "cross-site"},
    "a site beside": {"sec-fetch-site": "same-site"},
    "both": {"origin": "http://PLACE", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    "a preflight": {"origin": "https://evil.example", "access-control-request-method": "POST"},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_stranger_is_refused_on_every_route(server: Server, kind: str) -> None:
    place = server.address.removeprefix("http://")
    port = place.rpartition(":")[2]
    headers = {name: value.replace("PORT", port).replace("PLACE", place) for name, value in FOREIGN[kind].items()}
    with httpx.Client(base_url=server.address, timeout=300) as client:
        for method, path in routes():
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 403, (method, path, answer.text[:200])
            assert answer.text.count("\n") == (method != "HEAD") and len(answer.text) < 300
            assert "access-control-allow-origin" not in answer.headers
            assert scan(answer.text) == []


def test_no_stranger_s_upload_is_kept(server: Server) -> None:
    before = server.visitors.size
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = HTTP.post(f"{server.address}/gradio_api/upload", files=[("files", b"0" * 99)], headers=headers)
        assert answer.status_code == 403
    assert server.visitors.size == before


@pytest.mark.parametrize("path", ["/", "/gradio_api/stream/x", "/gradio_api/queue/data"])
@pytest.mark.parametrize("is_own", [True, False])
def test_no_websocket_opens(server: Server, path: str, is_own: bool) -> None:
    place = server.address.removeprefix("http://")
    host, _, port = place.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as stream:
        lines = [
            f"GET {path} HTTP/1.1", f"Host: {place if is_own else 'evil.example'}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", "",
        ]  # fmt: skip
        stream.sendall("\r\n".join(lines).encode())
        assert b" 101 " not in stream.recv(200).split(b"\r\n")[0]


def test_it_is_answered_under_its_own_names(server: Server) -> None:
    port = server.address.rpartition(":")[2]
    for name in ("127.0.0.1", "localhost", "[::1]", "LOCALHOST"):
        host = f"{name}:{port}"
        for more in ({}, {"origin": f"http://{host}", "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
            answer = HTTP.get(f"{server.address}/config", headers={"host": host, **more})
            assert answer.status_code == 200, (host, more, answer.text)
            assert answer.json()["root"] == f"http://{host.lower()}"


HOSTS = {
    # (listens on, its port, the other names): who is answered, who is not
    ("127.0.0.1", 7860, ()): (
        ["127.0.0.1:7860", "localhost:7860", "[::1]:7860"],
        ["localhost:8000", "localhost", "192.168.0.7:7860", "a.example:7860", "a.example", "0.0.0.0:7860"],
    ),
    ("127.0.0.2", 80, ()): (["127.0.0.2", "127.0.0.2:80", "localhost"], ["localhost:8000", "127.0.0.3"]),
    ("::1", 7860, ()): (["[::1]:7860", "localhost:7860"], ["[::2]:7860"]),
    ("localhost", 7860, ("localhost:8000", "chat.example")): (
        ["localhost:8000", "chat.example", "localhost:7860"],
        ["chat.example:7860", "localhost:8001", "a.chat.example"],
    ),
    ("0.0.0.0", 7860, ()): (
        ["192.168.0.7:7860", "[fe80::1]:7860", "localhost:7860", "127.0.0.1:7860", "0.0.0.0:7860",
         f"{socket.gethostname()}:7860"],
        ["a.example:7860", "192.168.0.7:8000", "192.168.0.7", "192.168.0.7.a.example:7860", "999.1.1.1:7860"],
    ),
    ("chat.example", 7860, ()): (["chat.example:7860", "10.0.0.1:7860"], ["b.example:7860"]),
}  # fmt: skip


@pytest.mark.parametrize("listening", HOSTS, ids=str)
def test_who_is_answered(listening: tuple[str, int, tuple[str, ...]]) -> None:
    host, port, others = listening
    hosts = Hosts(host, port, frozenset(others))
    answered, refused = HOSTS[listening]
    for name in answered:
        assert hosts.refusal([(b"Host", name.encode())]) == ""
        for scheme in ("http", "https"):  # a proxy may speak the second
            assert hosts.refusal([(b"host", name.encode()), (b"origin", f"{scheme}://{name}".encode())]) == ""
    for name in refused:
        line = hosts.refusal([(b"host", name.encode())])
        assert line.endswith(f"start it with --allow-host {name}")
        assert Hosts(host, port, frozenset([name])).refusal([(b"host", name.encode())]) == ""
    for one, two in itertools.product(answered, refused):  # each of several names counts
        assert hosts.refusal([(b"host", one.encode()), (b"host", two.encode())]) != ""
        assert hosts.refusal([(b"host", one.encode()), (b"x-forwarded-host", two.encode())]) != ""
        assert hosts.refusal([(b"host", one.encode()), (b"origin", f"http://{two}".encode())]) != ""
    assert "--allow-host" not in hosts.refusal([(b"host", b"<b>")]) and hosts.refusal([]) != ""


@pytest.mark.parametrize("name", ["http://a.example", "a.example/", "", "a b", "A.example", "a:b", "a:123456"])
def test_a_name_that_no_browser_sends_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="--allow-host"):
        Hosts("127.0.0.1", 7860, frozenset([name]))


def scan(text: str) -> list[str]:
    """What of this machine stands in it."""
    secret = [REPOSITORY, Path.home(), sys.prefix, tempfile.gettempdir(), "/srv/models", "site-packages", "Traceback"]
    return [str(one) for one in secret if str(one) in text]


ODD_PATHS = [
    "/static/img", "/static/fonts", "/static/", "/assets/svelte", "/assets/..", "/static/../img/logo.svg", "/assets/.",
    "/static/img/logo.svg/", "/static//etc/passwd", "/static/%2e%2e/%2e%2e/routes.py", "/assets/x%00y.js",
    "/static/a%ff.js", "/static/" + "a" * 5000 + ".js", "/static/" + "a/" * 2000 + "a.js", "/shown/x/0", "/shown//0",
    "/shown/x/-1", "/shown/x/" + "9" * 50, "/svelte/x", "/?deep_link=../../..", "/config?deep_link=%2Ftmp",
    "/config?deep_link=%00", "/gradio_api/file=/tmp", "/gradio_api/file=.", "/file=/", "/gradio_api/queue/data",
    "/gradio_api/queue/data?session_hash=x", "/gradio_api/queue/data?session_hash=" + "x" * 9000, "/docs", "//", "/%00",
    "/gradio_api/heartbeat/", "/gradio_api/info", "/openapi.json", "/monitoring", "/gradio_api/upload",
    "/gradio_api/deep_link?session_hash=x", "/gradio_api/dev/reload",
]  # fmt: skip


@pytest.mark.parametrize("path", ODD_PATHS, ids=lambda path: path[:40])
def test_odd_paths_show_nothing_of_this_machine(server: Server, path: str) -> None:
    with HTTP.stream("GET", httpx.URL(server.address).copy_with(raw_path=path.encode())) as answer:
        text = next(answer.iter_text(), "")
    assert scan(text) == [] and (answer.status_code < 400 or len(text) < 300)
    assert answer.status_code in (200, 400, 403, 404, 422, 500), text
    if answer.status_code == 500:
        assert text == "failed; the server's log says more\n"


def test_a_query_opens_no_file_of_this_machine(server: Server, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('[{"id": 1, "type": "html", "props": {"value": "not to be read"}}]')
    # Where Gradio looks for the state that a link names; were it there, it could be left again.
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    (folder / "deep_links").mkdir(parents=True)
    outside = os.path.relpath(tmp_path, folder / "deep_links")
    try:
        for path in ("/", "/config"):
            answer = HTTP.get(server.address + path, params={"deep_link": outside})
            assert answer.status_code == 200 and "not to be read" not in answer.text
    finally:
        shutil.rmtree(folder)


FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
ODD_BODIES = {
    "no JSON": b"{",
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "empty": b"",
    "no page": b'{"fn_index": 0, "data": [[]]}',
    "a page that is none": b'{"fn_index": 0, "data": [[]], "session_hash": "../.."}',
    "an event that is none": b'{"fn_index": 999, "data": [], "session_hash": "odd"}',
    "an event of a wrong type": b'{"fn_index": "/etc", "data": [], "session_hash": "odd"}',
    "data of a wrong type": b'{"fn_index": 0, "data": 7, "session_hash": "odd"}',
    "no data": b'{"fn_index": 0, "session_hash": "odd"}',
    "not UTF-8": b'{"fn_index": 0, "data": ["\xff"], "session_hash": "odd"}',
    "a file elsewhere": json.dumps({"fn_index": 0, "data": [[FILE]], "session_hash": "odd"}).encode(),
    "a file deep inside": json.dumps({"fn_index": 0, "data": [[[{"x": FILE}]]], "session_hash": "odd"}).encode(),
    "a file beside the data": json.dumps({"fn_index": 0, "data": [], "x": FILE, "session_hash": "odd"}).encode(),
}


@pytest.mark.parametrize("name", ODD_BODIES)
@pytest.mark.parametrize("path", ["queue/join", "cancel", "reset", "upload"])
def test_odd_bodies_show_nothing_of_this_machine(server: Server, path: str, name: str) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x" if path == "upload" else "application/json"}
    answer = HTTP.post(f"{server.address}/gradio_api/{path}", content=ODD_BODIES[name], headers=headers)
    assert scan(answer.text) == []
    assert answer.status_code < 500 or answer.text == "failed; the server's log says more\n"


def test_a_folder_is_never_taken_as_a_file(client: Running, tmp_path: Path) -> None:
    for path in (str(tmp_path), tempfile.gettempdir(), ".", "", "/", str(Path.home())):
        answer = client.bring([path], "folders")
        assert "was not uploaded here" in answer["refused"] and scan(answer["refused"]) == []


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("broken", "no reply (FileNotFoundError)"),
        ("gone", "log says why"),
        ("/etc", "not offered here"),
    ],
)
def test_what_a_model_fails_with_stays_in_the_log(client: Running, model: str, says: str) -> None:
    session = f"fails{model.strip('/')}"
    client.bring(client.upload([("a.png", png("red"))]), session)
    asked = json.dumps(client.call("mg-send", ["Where?", model], session))
    assert says in asked or "not in the list of choices" in asked
    referred = client.call("mg-refer", ["1: 1, 2, 3, 4", "", 0, model], session)
    assert scan(asked) == [] and scan(json.dumps(referred)) == []


def test_nothing_of_this_machine_is_in_the_page(server: Server) -> None:
    for path in ("/", "/config", "/theme.css", "/gradio_api/app_id", "/favicon.ico"):
        answer = HTTP.get(server.address + path)
        assert answer.status_code == 200 and scan(answer.text) == []
