"""The chat client against a real server that fails on purpose, and the cache it keeps."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scripted_server import Script, served

from migician.build.synthesis.client import ChatClient, ChatReply, ChatRequest, ReplyCache, ShownImage, data_url
from migician.errors import UserError
from migician.models.engines.chat_completions import Refused, _retry_after_s, api_key
from migician.models.faults import RunStopped


@pytest.fixture
def script() -> Script:
    made = Script()
    made.reply = lambda body: f"reply to {body['messages'][1]['content']}"
    return made


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with served(script) as address:
        yield address


def request(text: str = "hello", **changed: Any) -> ChatRequest:
    given: dict[str, Any] = {"model": "m", "system": "s", "image": None, "max_pixels": 0, "max_tokens": 9}
    return ChatRequest(**{**given, "temperature": 0.5, "seed": 1, "text": text, **changed})


def ask(url: str, folder: Path, *requests: ChatRequest, waits: list[float] | None = None, **options: Any) -> list[Any]:
    """The replies, or what was raised instead, and the waits between tries."""

    async def pause(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    async def all_of_them() -> list[Any]:
        async with ChatClient(url, ReplyCache(folder), pause=pause, **options) as client:
            return await asyncio.gather(*(client.ask(one) for one in requests), return_exceptions=True)

    return asyncio.run(all_of_them())


class TestRetries:
    @pytest.mark.parametrize("fault", ["500", "503", "429", "close", "cut", "garbage"])
    def test_passing_faults_cost_a_try_each(self, tmp_path: Path, script: Script, url: str, fault: str) -> None:
        script.fault = lambda body: fault if len(script.bodies) < 4 else None
        waits: list[float] = []
        (reply,) = ask(url, tmp_path, request(), waits=waits)
        assert reply.text == "reply to hello"
        assert len(script.bodies) == 4
        assert all(low <= wait <= 2 * low for low, wait in zip((0.5, 1, 2), waits, strict=True))

    def test_waits_differ_by_request_and_repeat_by_seed(self, tmp_path: Path, script: Script, url: str) -> None:
        script.fault = lambda body: "500"
        found = []
        for text, seed in (("a", 1), ("a", 1), ("b", 1), ("a", 2)):
            waits: list[float] = []
            ask(url, tmp_path, request(text), waits=waits, seed=seed, tries=3)
            found.append(waits)
        assert found[0] == found[1]
        assert len({tuple(waits) for waits in found}) == 3

    def test_it_gives_up_and_says_that_nothing_is_lost(self, tmp_path: Path, script: Script, url: str) -> None:
        script.fault = lambda body: "502"
        (error,) = ask(url, tmp_path, request(), tries=4)
        assert isinstance(error, UserError)
        assert "after 4 tries in" in str(error) and "status 502" in str(error)
        assert len(script.bodies) == 5, "four tries, and one word to see whether the server answers at all"
        assert not list(tmp_path.rglob("*.json"))

    def test_nobody_there(self, tmp_path: Path) -> None:
        with served(Script()) as address:
            pass
        (error,) = ask(address, tmp_path, request(), tries=2)
        assert isinstance(error, UserError)
        assert "ConnectError" in str(error)

    def test_a_server_that_does_not_answer_in_time(self, tmp_path: Path, script: Script, url: str) -> None:
        script.hold = 2  # one request alone waits for a second one that never comes
        (error,) = ask(url, tmp_path, request(), tries=1, timeout_s=0.3)
        assert "no answer within 0.3 s" in str(error)

    def test_retry_after_is_honoured(self, tmp_path: Path, script: Script, url: str) -> None:
        script.headers["Retry-After"] = "7"
        script.fault = lambda body: "429" if len(script.bodies) == 1 else None
        waits: list[float] = []
        ask(url, tmp_path, request(), waits=waits)
        assert waits == [7.0]

    def test_a_server_that_wants_a_longer_wait_than_our_patience_stops_the_run(
        self, tmp_path: Path, script: Script, url: str
    ) -> None:
        script.headers["Retry-After"] = "100000"
        script.fault = lambda body: "429"
        waits: list[float] = []
        (error,) = ask(url, tmp_path, request(), waits=waits)
        assert isinstance(error, RunStopped) and "asks to wait 100000 s" in str(error)
        assert waits == [] and len(script.bodies) == 1

    def test_retry_after_as_a_date_or_as_nonsense(self) -> None:
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=50)
        assert 40 < _retry_after_s(email.utils.format_datetime(soon, usegmt=True)) <= 50
        for nonsense in ("", "soon", "-3", "nan", "inf", "Mon, 99 Foo", "Wed, 21 Oct 2015 07:28:00 GMT"):
            assert _retry_after_s(nonsense) == 0

    def test_a_refused_request_is_not_tried_again_and_others_go_on(
        self, tmp_path: Path, script: Script, url: str
    ) -> None:
        script.fault = lambda body: "413" if body["messages"][1]["content"] == "b" else None
        replies = ask(url, tmp_path, request("c"), request("b"), concurrency=1)
        assert (replies[0].text, type(replies[1])) == ("reply to c", Refused)
        assert len(script.bodies) == 2
        assert isinstance(ask(url, tmp_path, request("b"))[0], Refused)
        assert len(script.bodies) == 2

    def test_hosted_models_with_other_names_for_fields(self, tmp_path: Path, script: Script, url: str) -> None:
        def fault(body: dict[str, Any]) -> str | None:
            script.told = (
                "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
                if "max_tokens" in body
                else "Unsupported value: 'temperature' does not support 0.5. Only the default (1) is supported."
            )
            return "400" if {"max_tokens", "temperature"} & body.keys() else None

        script.fault = fault
        replies = ask(url, tmp_path, request("a"), concurrency=1)
        assert replies[0].text == "reply to a"
        assert len(script.bodies) == 3
        assert script.bodies[-1]["max_completion_tokens"] == 9
        assert "temperature" not in script.bodies[-1]

    def test_an_endless_body_is_not_read_to_its_end(self, tmp_path: Path, script: Script, url: str) -> None:
        script.reply = lambda body: "x" * (9 << 20)
        (error,) = ask(url, tmp_path, request(), tries=1)
        assert "not a chat completion" in str(error)

    def test_a_long_text_is_cut_and_not_whole(self, tmp_path: Path, script: Script, url: str) -> None:
        script.reply = lambda body: "x" * 100_000
        (reply,) = ask(url, tmp_path, request())
        assert (len(reply.text), reply.is_whole) == (64_000, False)


class TestConcurrency:
    @pytest.mark.parametrize("limit", [1, 3, 7])
    def test_the_limit_is_reached_and_not_passed(self, tmp_path: Path, script: Script, url: str, limit: int) -> None:
        script.hold = limit
        replies = ask(url, tmp_path, *(request(str(number)) for number in range(20)), concurrency=limit)
        assert [reply.text for reply in replies] == [f"reply to {number}" for number in range(20)]
        assert script.highest == limit

    def test_equal_requests_are_sent_once(self, tmp_path: Path, script: Script, url: str) -> None:
        replies = ask(url, tmp_path, *[request()] * 5, request("other"))
        assert len({reply.text for reply in replies}) == 2
        assert len(script.bodies) == 2


class TestCache:
    def test_an_answered_request_is_never_sent_again(self, tmp_path: Path, script: Script, url: str) -> None:
        first = ask(url, tmp_path, request())
        assert ask(url, tmp_path, request()) == first
        assert len(script.bodies) == 1
        for changed in ({"seed": 2}, {"model": "n"}, {"temperature": 0.6}, {"system": "t"}, {"schema": ("a", {})}):
            ask(url, tmp_path, request(**changed))
        assert len(script.bodies) == 6

    def test_images_count_by_their_bytes_not_their_path(self, tmp_path: Path) -> None:
        one, two = (ShownImage(tmp_path / name, "aa") for name in ("a.jpg", "b.jpg"))
        assert request(image=one).key() == request(image=two).key() != request(image=ShownImage(one.path, "bb")).key()

    @pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"request":{},"reply":{}}', b"\xff\xfe"])
    def test_a_damaged_file_is_asked_for_again(self, tmp_path: Path, script: Script, url: str, damage: bytes) -> None:
        ask(url, tmp_path, request())
        (file,) = tmp_path.rglob("*.json")
        whole = file.read_bytes()
        file.write_bytes(damage)
        (reply,) = ask(url, tmp_path, request())
        assert (reply.text, len(script.bodies), file.read_bytes()) == ("reply to hello", 2, whole)

    def test_put_then_get(self, tmp_path: Path) -> None:
        reply = ChatReply("über <|im_end|> \x00 {0}", False, "m")
        ReplyCache(tmp_path).put("ab12", request(), reply)
        assert ReplyCache(tmp_path).get("ab12") == reply
        assert ReplyCache(tmp_path).get("ab13") is None


def test_the_key_comes_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIGICIAN_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "meant for somebody else")
    assert api_key() is None
    monkeypatch.setenv("MIGICIAN_API_KEY", " k \n")
    assert api_key() == "k"


def test_images_keep_the_orientation_their_boxes_are_annotated_in(tmp_path: Path) -> None:
    import base64
    import io

    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (80, 40)).save(tmp_path / "a.jpg", exif=turned)
    sent = Image.open(io.BytesIO(base64.b64decode(data_url(tmp_path / "a.jpg", 10**6).split(",")[1])))
    assert (sent.size, dict(sent.getexif())) == ((80, 40), {})
    (tmp_path / "b.jpg").write_bytes(b"no image")
    with pytest.raises(Refused, match=r"b\.jpg"):
        data_url(tmp_path / "b.jpg", 100)
