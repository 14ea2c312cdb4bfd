"""Values that stand at the border: names, numbers and depths that no file system and no machine word takes.

`spoilt` puts one of them in the place of one value of a sound file, whatever its format. `test_border` tries some with
fixed seeds; whoever wants more draws with others.
"""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Iterator
from typing import Any

import yaml

NAMES: dict[str, str] = {
    "a name of 256 letters": "a" * 256,
    "a name of 100,000 letters": "a" * 100_000,
    "a path of 5,000 letters": "a/" * 2_500 + "a.png",
    "256 bytes in 128 letters": "é" * 128,
    "a zero byte": "a\0b.png",
    "an end of a line": "a\nb.png",
    "half a character": "a\ud800.png",
    "nothing": "",
    "a dot": ".",
    "another's file": "/etc/passwd",
    "a way out": "../" * 20 + "etc/passwd",
    "a device": "/dev/zero",
    "a terminal's command": "\x1b[2J",
}
"""Texts, for the place of any text."""

NUMBERS: dict[str, str] = {
    "2 to the 63": str(2**63),
    "2 to the 64": str(2**64),
    "30 digits": "9" * 30,
    "30 digits below zero": "-" + "9" * 30,
    "400 digits": "9" * 400,
    "5,000 digits": "9" * 5_000,
    "below zero": "-1",
    "zero": "0",
    "1e308": "1e308",
    "1e400": "1e400",
    "-1e400": "-1e400",
    "1e-400": "1e-400",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "true": "true",
    "a half": "0.5",
}
"""As JSON, or Python's, writes them; for the place of any number."""

DEPTHS: dict[str, str] = {
    "lists in 1,500 lists": "[" * 1_500 + "]" * 1_500,
    "objects in 1,500 objects": '{"a":' * 1_500 + "1" + "}" * 1_500,
    "lists in 900 lists": "[" * 900 + "]" * 900,
    "lists in 200 lists": "[" * 200 + "]" * 200,
}
"""As JSON; for the place of anything."""

OTHERS: dict[str, str] = {
    "null": "null",
    "a text": '"x"',
    "a number": "7",
    "an empty list": "[]",
    "an empty object": "{}",
    "a list of null": "[null]",
}
"""As JSON; for the place of anything."""

YAMLS: dict[str, str] = {
    "it holds itself": "&a [*a]",
    "it holds itself by name": "&a {b: *a}",
    "no truth": "!!bool x",
    "no time": "!!timestamp x",
    "no number": "!!int x",
    "a hexadecimal number": "0x" + "f" * 5_000,
    "a number of sixties": "1" + ":59" * 3_000,
    "infinity": ".inf",
    "not a number": ".nan",
    "nobody's object": "!!python/object/apply:os.getcwd []",
    "a billion words": "[&a [x,x,x,x,x,x,x,x,x,x], "
    + ", ".join(f"&{chr(98 + at)} [{', '.join([f'*{chr(97 + at)}'] * 10)}]" for at in range(8))
    + "]",
    "a set": "!!set {a}",
    "pairs": "!!pairs [a: 1]",
    "bytes": "!!binary aGVsbG8=",
    "a date": "2020-01-01",
    "a key that is a list": "{? [a] : 1}",
}
"""For the place of anything in YAML."""

_DIGITS = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")
_HOLE = "\ue000hole\ue000"


def spoilt(content: bytes, rng: random.Random) -> tuple[str, bytes] | None:
    """A sound file with one value replaced, and what was done; None for a file of a format that is not known here."""
    if len(content) > 8 and struct.unpack("<Q", content[:8])[0] < len(content) and content[8:9] == b"{":
        return _safetensors(content, rng)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    lines = text.splitlines()
    for reads, yaml_too in ((json.loads, False), (_yaml, True)):
        try:
            whole = reads(text)
        except (ValueError, yaml.YAMLError):
            continue
        if isinstance(whole, dict | list) and whole:
            return _in_place(whole, rng, yaml_too=yaml_too)
    if lines and lines[0].startswith("{"):
        at = rng.randrange(len(lines))
        what, line = _in_place(json.loads(lines[at]), rng, yaml_too=False)
        return f"line {at}: {what}", "\n".join([*lines[:at], line.decode(), *lines[at + 1 :], ""]).encode()
    return _in_text(text, rng)


def _yaml(text: str) -> Any:
    found = yaml.safe_load(text)
    return found if ": " in text and "<" not in text and isinstance(found, dict) else None


def _safetensors(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    what, header = _in_place(json.loads(content[8 : 8 + length]), rng, yaml_too=False)
    return f"header: {what}", struct.pack("<Q", len(header)) + header + content[8 + length :]


def _in_place(whole: Any, rng: random.Random, *, yaml_too: bool) -> tuple[str, bytes]:
    ways = list(_ways(whole))
    way = rng.choice(ways)
    place, key = whole, None
    for key in way[:-1]:
        place = place[key]
    old = place[way[-1]]
    kind, what, value = _value(old, rng, yaml_too=yaml_too)
    # What is short for YAML in flow is JSON, too.
    place[way[-1]] = _HOLE
    text = json.dumps(whole).replace(json.dumps(_HOLE), value)
    return f"{'.'.join(map(str, way))}: {kind}, {what}", text.encode()


def _value(old: Any, rng: random.Random, *, yaml_too: bool) -> tuple[str, str, str]:
    tables: dict[str, dict[str, str]] = {"depth": DEPTHS, "other": OTHERS}
    if isinstance(old, str):
        tables["name"] = tables["a name"] = {what: json.dumps(name) for what, name in NAMES.items()}
    elif isinstance(old, int | float):
        tables["number"] = tables["a number"] = NUMBERS
    if yaml_too:
        tables["yaml"] = tables["a yaml"] = YAMLS
    kind = rng.choice(list(tables))
    what = rng.choice(list(tables[kind]))
    return kind, what, tables[kind][what]


def _ways(whole: Any) -> Iterator[list[Any]]:
    """To every value in lists and objects."""
    inside = whole.items() if isinstance(whole, dict) else enumerate(whole) if isinstance(whole, list) else ()
    for key, value in inside:
        yield [key]
        yield from ([key, *way] for way in _ways(value))


def _in_text(text: str, rng: random.Random) -> tuple[str, bytes] | None:
    """A number, or else a word, of a file of lines."""
    found = list(_DIGITS.finditer(text))
    tables = [NUMBERS, NAMES] if found else [NAMES]
    table = rng.choice(tables)
    found = found if table is NUMBERS or rng.random() < 0.5 else list(re.finditer(r"[^\s,;=<>]+", text))
    if not found:
        return None
    one, what = rng.choice(found), rng.choice(list(table))
    spoilt_text = text[: one.start()] + table[what] + text[one.end() :]
    return f"at {one.start()}: {what}", spoilt_text.encode("utf-8", "surrogatepass")
