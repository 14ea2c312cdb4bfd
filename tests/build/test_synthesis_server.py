"""The synthesis against transformers' own server: the protocol is spoken, and rubbish is counted, not kept."""

from __future__ import annotations

from pathlib import Path

from test_synthesis import instances

from migician.build.synthesis import SynthesisSettings, synthesise
from migician.build.synthesis.client import ReplyCache
from migician.samples.sample import read_samples


def test_a_random_model_is_heard_and_nothing_of_it_is_kept(
    transformers_server: str, tiny_folder: Path, tmp_path: Path
) -> None:
    name = str(tiny_folder)
    settings = SynthesisSettings(name, name, reply_tokens=12, attempts=2, max_pixels=56 * 56)
    photos = instances(tmp_path / "coco", 3)
    cache = tmp_path / "cache"
    built = synthesise({"coco": photos}, tmp_path / "out", settings, server=transformers_server, cache=cache, count=1)
    assert read_samples(tmp_path / "out" / "Free-Form.json") == []
    refused = built.parts[0].refused
    assert refused["group with an image that could not be described"] == 1
    # Two attempts for the objects of each of three images, one or two for each caption.
    unread = refused.get("reply that is not the JSON asked for", 0) + refused.get("reply cut off at its limit", 0)
    assert unread == 6
    replies = [ReplyCache(cache).get(file.stem) for file in cache.rglob("*.json")]
    assert len(replies) >= 9
    assert all(reply and reply.text and reply.model for reply in replies)
