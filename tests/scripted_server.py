"""An OpenAI-compatible server for the tests of the synthesis: replies by rules, faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Fault = Callable[[Body], str | None]
"""Says what goes wrong with a request: a status, "close", "cut", "garbage", or None for nothing."""


class Script:
    """An OpenAI-compatible server on this machine whose replies follow rules and whose faults are chosen."""

    def __init__(self) -> None:
        self.fault: Fault = lambda body: None
        self.reply: Callable[[Body], str] = answer
        self.told = "no"
        self.whole: Callable[[Body], dict[str, Any] | None] = lambda body: None
        """The whole JSON of an answer with status 200, or None for one with the reply."""
        self.headers: dict[str, str] = {}
        self.bodies: list[Body] = []
        self.authorizations: set[str | None] = set()
        self.hold = 0
        """While above 0: requests wait until so many are here at once."""
        self.highest = 0
        self._here = 0
        self._meeting = threading.Condition()

    @property
    def asked(self) -> Counter[str]:
        """How often each step was asked for, faults included."""
        return Counter(step(body) for body in self.bodies)

    def meet(self) -> None:
        with self._meeting:
            self._here += 1
            self.highest = max(self.highest, self._here)
            self._meeting.notify_all()
            if self._meeting.wait_for(lambda: not self.hold or self._here >= self.hold, timeout=20) and self.hold:
                # One too many would come now.
                self._meeting.wait_for(lambda: self._here > self.hold, timeout=0.3)
                self.hold = 0
                self._meeting.notify_all()
            self._here -= 1


def step(body: Body) -> str:
    form = body.get("response_format")
    if form:
        return str(form["json_schema"]["name"])
    text = text_of(body)
    return "pairs" if "Images:\n" in text else "refinement" if "Objects:\n" in text else "caption"


def text_of(body: Body) -> str:
    content = body["messages"][1]["content"]
    return content if isinstance(content, str) else str(content[1]["text"])


def listed(body: Body) -> list[dict[str, Any]]:
    """The JSON list at the end of a prompt."""
    return json.loads(text_of(body).rsplit("\n", 1)[1])


def answer(body: Body) -> str:
    """What a good model would say, by rules; differs with the seed and the image, as a model's words do."""
    if step(body) == "caption":
        mark = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:6]
        return f"A street with code {mark}.<|im_end|><image> It rains."
    if step(body) == "refinement":
        objects = []
        for one in listed(body):
            x1, y1, x2, y2 = one["box"]
            moved = [x1, y1, max(x1 + 1, x2 - (x2 - x1) // 20), y2] if one["object"] % 2 else []
            phrase = f"the {one['label']} in place {chr(96 + one['object'])}"
            objects.append({"object": one["object"], "keep": one["object"] != 3, "phrase": phrase, "box": moved})
        return json.dumps({"objects": objects})
    (image, number), *others = [(i["image"], o["object"]) for i in listed(body) for o in i["objects"]]
    pairs = [
        {
            "question": "Which object of these pictures comes first to the eye?",
            "target": "object of these pictures",
            "answer": f"That is [image {image}, object {number}].",
        }
    ]
    if others:
        image, number = others[-1]
        pairs.append({"question": "What comes last?", "target": "", "answer": f"[image {image}, object {number}]."})
    return json.dumps({"pairs": pairs})


@contextmanager
def served(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/chat/completions"
            script.authorizations.add(self.headers["Authorization"])
            script.bodies.append(body)
            script.meet()
            fault = script.fault(body)
            if fault == "close":
                self.close_connection = True
                return
            status = int(fault) if fault and fault.isdigit() else 200
            choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
            if status == 200:
                choice["message"]["content"] = script.reply(body)
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            content = json.dumps(
                {"id": "1", "object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
            )
            if status == 200 and (whole := script.whole(body)) is not None:
                content = json.dumps(whole)
            if status != 200:
                content = json.dumps({"error": {"message": f"{script.told}: {self.headers['Authorization']}"}})
            sent = {"cut": content[: len(content) // 2], "garbage": "<html>busy</html>"}.get(fault or "", content)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content.encode() if fault == "cut" else sent.encode())))
            for name, value in script.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent.encode())
            self.close_connection = fault == "cut"

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:  # a client that was killed
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        script.hold = 0
        server.shutdown()
        server.server_close()
        thread.join()
