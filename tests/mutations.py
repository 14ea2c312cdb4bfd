"""Every way to spoil a file of JSON: each field missing or of another kind; the file cut, empty or otherwise marked.

Nothing here knows what the files are for. `mutations` is systematic; who has no time for all of them takes a sample.
"""

from __future__ import annotations

import codecs
import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Place = tuple[str | int, ...]
"""The keys and positions that lead to a value."""

_MARK = "\x00raw\x00"
_RAW = {
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "1e999": b"1e999",
    "5,000 digits": b"9" * 5_000,
    "a deep list": b"[" * 500 + b"]" * 500,
    "an endless list": b"[" * 100_000,
    "half a character": rb'"\ud800"',
    "no UTF-8": b'"\xff"',
}
"""What Python's own writer does not write."""

VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "0": 0,
    "-1": -1,
    "1.5": 1.5,
    "10^30": 10**30,
    "2^63": 2**63,
    "1e308": 1e308,
    "a text": "text",
    "an empty text": "",
    "a text of two lines": "one\ntwo",
    "a name of 300 letters": "x" * 300,
    "a null byte": "\x00",
    "[]": [],
    "[null]": [None],
    "{}": {},
    '{"a": {"a": null}}': {"a": {"a": None}},
}
"""What may stand where another value is meant, by name."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A file's content, spoiled."""

    what: str
    content: bytes


def mutations(content: bytes, *, lines: bool = False) -> Iterator[Mutation]:
    """Every way to spoil a file of JSON, or of JSON lines, one after the other."""
    yield from _of_the_file(content)
    rows = content.splitlines() if lines else [content]
    for number, row in enumerate(rows):
        for one in _of_a_value(json.loads(row)):
            where = f"line {number + 1}, " if lines else ""
            changed = [*rows[:number], one.content, *rows[number + 1 :]]
            yield Mutation(where + one.what, b"\n".join(changed) + b"\n")
        if lines:
            yield Mutation(
                f"line {number + 1} missing", b"".join(one + b"\n" for one in rows[:number] + rows[number + 1 :])
            )
            yield Mutation(f"line {number + 1} twice", b"".join(one + b"\n" for one in [*rows, row]))


def _of_the_file(content: bytes) -> Iterator[Mutation]:
    yield Mutation("empty", b"")
    yield Mutation("a blank", b" \n")
    yield Mutation("a byte order mark", codecs.BOM_UTF8 + content)
    yield Mutation("UTF-16", content.decode().encode("utf-16"))
    yield Mutation("bytes that are no text", b"\xff" * 64)
    for name, raw in _RAW.items():
        yield Mutation(name, raw)
    for name, value in VALUES.items():
        yield Mutation(f"only {name}", json.dumps(value).encode())
    # Cut at any byte, of a long file at some.
    for end in range(1, len(content), max(1, len(content) // 200)):
        yield Mutation(f"cut at byte {end}", content[:end])


def _of_a_value(whole: Any) -> Iterator[Mutation]:
    for place in places(whole):
        named = "".join(f"[{key!r}]" for key in place)
        without = copy.deepcopy(whole)
        del _parent(without, place)[place[-1]]
        yield Mutation(f"{named} missing", json.dumps(without).encode())
        before = _parent(whole, place)[place[-1]]
        for name, value in VALUES.items():
            if type(value) is not type(before) or value != before:
                yield Mutation(f"{named} is {name}", _with(whole, place, value))
        for name, raw in _RAW.items():
            marked = _with(whole, place, _MARK)
            yield Mutation(f"{named} is {name}", marked.replace(json.dumps(_MARK).encode(), raw))


def places(whole: Any) -> Iterator[Place]:
    """Where the values of a decoded JSON document stand, containers before what is in them; the whole is none."""
    inside = whole.items() if isinstance(whole, dict) else enumerate(whole) if isinstance(whole, list) else ()
    for key, value in inside:
        yield (key,)
        yield from ((key, *rest) for rest in places(value))


def _with(whole: Any, place: Place, value: Any) -> bytes:
    changed = copy.deepcopy(whole)
    _parent(changed, place)[place[-1]] = value
    return json.dumps(changed).encode()


def _parent(whole: Any, place: Place) -> Any:
    for key in place[:-1]:
        whole = whole[key]
    return whole
