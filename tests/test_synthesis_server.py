"""The synthesis against transformers' own server: the protocol is spoken, and rubbish is counted, not kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_synthesis import instances

from migician.samples import read_samples
from migician.synthesis import Settings, synthesise
from migician.synthesis.cache import Cache


@pytest.fixture(scope="module")
def address(tiny_folder: Path) -> Iterator[str]:
    """`transformers serve` with a tiny random Qwen2-VL, on this machine and without network."""
    from transformers.utils.import_utils import is_serve_available

    if not is_serve_available():
        pytest.skip('transformers has no server here: pip install "transformers[serving]"')
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    code = "from transformers.cli.transformers import main; main()"
    arguments = ["serve", str(tiny_folder), "--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said = []
    try:
        assert server.stdout
        for line in server.stdout:
            said.append(line)
            found = re.search(r"running on (http://127\.0\.0\.1:\d+)", line)
            if found:
                yield found[1]
                return
        pytest.fail(f"the server ended: {''.join(said)[-2000:]}")
    finally:
        server.kill()
        server.wait()


def test_a_random_model_is_heard_and_nothing_of_it_is_kept(address: str, tiny_folder: Path, tmp_path: Path) -> None:
    name = str(tiny_folder)
    settings = Settings(name, name, reply_tokens=12, attempts=2, max_pixels=56 * 56)
    photos = instances(tmp_path / "coco", 3)
    cache = tmp_path / "cache"
    built = synthesise({"coco": photos}, tmp_path / "out", settings, server=address, cache=cache, count=1)
    assert read_samples(tmp_path / "out" / "Free-Form.json") == []
    refused = built.parts[0].refused
    assert refused["group with an image that could not be described"] == 1
    # Two attempts for the objects of each of three images, one or two for each caption.
    unread = refused.get("reply that is not the JSON asked for", 0) + refused.get("reply cut off at its limit", 0)
    assert unread == 6
    replies = [Cache(cache).get(file.stem) for file in cache.rglob("*.json")]
    assert len(replies) >= 9
    assert all(reply and reply.text and reply.model for reply in replies)
