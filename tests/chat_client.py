"""The chat page over HTTP, as its own script in the browser talks to it; and what its server uses meanwhile."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import httpx
from PIL import Image


@dataclass(frozen=True)
class Running:
    """A chat server in a process of its own, whose temporary files lie in `folder`."""

    address: str
    process: subprocess.Popen[str]
    folder: Path
    http: httpx.Client = field(default_factory=partial(httpx.Client, timeout=300))

    @cached_property
    def config(self) -> dict[str, Any]:
        """What the page is made of."""
        found: dict[str, Any] = self.http.get(f"{self.address}/config").json()
        return found

    def memory_mb(self, line: str = "VmRSS") -> float:
        """What the process has in memory now; "VmHWM" is the most it ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(one.split()[1]) / 1000 for one in status.splitlines() if one.startswith(line))

    def disk(self) -> tuple[int, int, int]:
        """Bytes, files and folders among its temporary files."""
        there = list(self.folder.rglob("*"))
        files = [one for one in there if one.is_file()]
        return sum(one.stat().st_size for one in files), len(files), len(there) - len(files)

    def dependency(self, element: str) -> dict[str, Any]:
        """What happens on the element with that id."""
        [number] = [part["id"] for part in self.config["components"] if part["props"].get("elem_id") == element]
        found: dict[str, Any] = next(
            one for one in self.config["dependencies"] if any(target[0] == number for target in one["targets"])
        )
        return found

    def call(self, element: str, data: list[Any], session: str) -> dict[str, Any]:
        """What the page answers when it is told, as the browser tells it, that something was done to `element`."""
        body = {
            "fn_index": self.dependency(element)["id"],
            "data": data,
            "session_hash": session,
            "event_data": None,
        }
        joined = self.http.post(f"{self.address}/gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            return {"success": False, "refused": joined.text}
        with self.http.stream("GET", f"{self.address}/gradio_api/queue/data?session_hash={session}") as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    found: dict[str, Any] = message
                    return found
        raise AssertionError("the stream ended early")

    def upload(self, files: list[tuple[str, bytes]]) -> list[str]:
        """What the page calls the files that were sent to it."""
        sent = [("files", file) for file in files]
        answer = self.http.post(f"{self.address}/gradio_api/upload", files=sent)
        assert answer.status_code == 200, answer.text
        named: list[str] = answer.json()
        return named

    def image(self, address: str) -> Image.Image:
        """What the page shows at that address, which is from its own."""
        return Image.open(io.BytesIO(self.http.get(f"{self.address}/{address}").raise_for_status().content))

    def images(self, answer: dict[str, Any]) -> list[Image.Image]:
        """All images that the page has after that answer."""
        return [self.image(address) for address in re.findall(r'src="([^"]*)"', answer["output"]["data"][0])]

    def bring(self, paths: list[str], session: str) -> dict[str, Any]:
        """Tell the page that these were uploaded."""
        files = [{"path": path, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}} for path in paths]
        return self.call("mg-add", [files, None], session)

    def cut_upload(self, declared: int, sent: int) -> None:
        """Begin to send a file of so many bytes, and close the connection after fewer."""
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=60)
        connection.putrequest("POST", "/gradio_api/upload")
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Content-Length", str(declared))
        connection.endheaders()
        connection.send(b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + b"0" * sent)
        connection.close()

    def model(self) -> str:
        """The first model on offer."""
        parts = self.config["components"]
        return next(part["props"]["value"] for part in parts if part["type"] == "dropdown")


def told(answer: dict[str, Any]) -> str:
    """The line that the page shows after an answer."""
    return str(answer["output"]["data"][3])


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Running]:
    """`migician chat` with those options on a free port, ended by SIGTERM."""
    places = {"TMPDIR": str(folder), "TORCHINDUCTOR_CACHE_DIR": f"{folder}-torch"}
    process = subprocess.Popen(
        [sys.executable, "-m", "migician.cli", "chat", "--port", "0", *options],
        stderr=subprocess.PIPE, text=True, env={**os.environ, **places},
    )  # fmt: skip
    assert process.stderr is not None
    told_before = []
    for line in process.stderr:  # a model may tell of its weights first
        told_before.append(line)
        if "Ctrl+C" in line:
            break
    # Its log must not fill the pipe and block it.
    threading.Thread(target=process.stderr.read, daemon=True).start()
    try:
        assert told_before and "Ctrl+C" in told_before[-1], told_before
        yield Running(told_before[-1].split(": ", 1)[1].split()[0], process, folder)
    finally:
        process.terminate()
        process.wait()
