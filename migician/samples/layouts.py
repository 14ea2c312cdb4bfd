"""How the records of a dataset are laid out, as LLaMA-Factory's columns and tags say it, and the reader of them all.

LLaMA-Factory takes turns under any names, instructions with an answer, and images as a list, as one string, or none.
Whatever reads records reads them here, in the one form that the rest of the package knows: `Record`. What stops
LLaMA-Factory 0.9.5 (data/converter.py) raises here too; tests/samples/test_layouts.py holds both against each other.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from migician.errors import NOT_JSON
from migician.samples import sample as samples
from migician.samples.sample import Sample

ROLES = ("human", "gpt", "system", "observation", "function_call")
"""Who may speak: a tool's results stand where a human's turn does, a call of it where an answer does."""
ASKING, ANSWERING = ("human", "observation"), ("gpt", "function_call")


class LooseTurn(msgspec.Struct, gc=False):
    """One utterance; a role that its layout does not know is in quotes."""

    from_: str = msgspec.field(name="from")
    value: str


class Record(msgspec.Struct, gc=False):
    """A sample as it may come from anywhere."""

    conversations: list[LooseTurn]
    images: list[str] = []
    id: Any = None
    type: Any = ""
    tools: str = ""
    """What the tools are, for samples that call some."""

    @property
    def roles_fit(self) -> bool:
        """Whether questions and answers take turns after at most one system text; LLaMA-Factory skips others."""
        turns = self.conversations
        spoken = turns[1:] if turns and turns[0].from_ == "system" else turns
        in_turn = all(turn.from_ in (ASKING, ANSWERING)[number % 2] for number, turn in enumerate(spoken))
        return bool(spoken) and len(spoken) % 2 == 0 and in_turn


@dataclass(frozen=True, slots=True)
class Layout:
    """Which fields of a record hold what; the defaults are this project's own."""

    formatting: str = "sharegpt"
    """sharegpt or openai, for turns; alpaca, for an instruction and its answer."""
    messages: str | None = "conversations"
    images: str | None = "images"
    system: str | None = None
    tools: str | None = None
    prompt: str | None = None
    query: str | None = None
    response: str | None = None
    history: str | None = None
    role_tag: str | None = "from"
    content_tag: str | None = "value"
    roles: Mapping[str, str] = field(default_factory=lambda: {role: role for role in ROLES})
    """What a dataset calls each of `ROLES`."""

    @property
    def is_own(self) -> bool:
        """Whether fields are named as in this project's own files; images may have none."""
        same = all(named == role for named, role in self.roles.items()) and self.images in ("images", None)
        return same and self == Layout(images=self.images, roles=self.roles)

    @property
    def columns(self) -> list[str]:
        """The fields that some record must have: LLaMA-Factory stops where one is in none of them."""
        alpaca = self.formatting == "alpaca"
        own = (self.prompt, self.query, self.response, self.history) if alpaca else (self.messages,)
        # Of openai's, two are asked for in a way that does not stop.
        more = () if self.formatting == "openai" else (self.system, self.tools)
        return [name for name in (*own, *more, self.images) if name]


class _Given(msgspec.Struct, gc=False):
    """A record of this project's own layout."""

    conversations: list[LooseTurn]
    images: list[str] | str | msgspec.UnsetType | None = msgspec.UNSET
    id: Any = None
    type: Any = ""


class _Plain(msgspec.Struct, gc=False):
    """A record of the project's own layout, with nothing unusual."""

    conversations: list[samples.Turn]
    images: list[str]
    id: str | int | float | None = None


_PLAIN, _SAMPLE = msgspec.json.Decoder(_Plain), msgspec.json.Decoder(Sample)


class LayoutReader:
    """Reads the records of one file, and remembers of what kinds its fields are."""

    def __init__(self, layout: Layout | None = None, name: str = "") -> None:
        """Without a `layout`, the fields of the first record show it; `name` is the file's."""
        self._layout = layout
        self._name = name
        self._decoder = msgspec.json.Decoder(_Given)
        self._own = False
        self._read = self._from_fields
        self.content = b""
        """The last record, as JSON proper."""
        self.kinds: dict[tuple[str, str], int] = {}
        """The first record in which a field holds text, a number, a list, nothing ..., in order."""
        if layout:
            self._follow(layout)

    @property
    def layout(self) -> Layout:
        """How the records are laid out."""
        return self._layout or Layout()

    def read(self, content: bytes, number: int = 0) -> Record:
        """A record from its bytes, the `number`th of its file; raises one of `NOT_JSON` where LLaMA-Factory stops."""
        if self._layout is None:
            self._layout = recognised(content)
            self._follow(self._layout)
        self.content = content
        try:
            return self._read(content, number)
        except msgspec.DecodeError:
            return self._from_fields(content, number)  # which takes more, and says more

    def is_plain(self, content: bytes) -> bool:
        """Whether a record is of the own layout in every detail, so that nothing in it has to be read differently."""
        if not self._own:
            return False
        try:
            _PLAIN.decode(content)
        except NOT_JSON:
            return False
        return True

    def sample(self, content: bytes, number: int) -> Sample:
        """The sample of a record, as `read` takes it; its place and its file's name stand for an id and a type.

        The reader's `content` is this sample's. Raises one of `NOT_JSON` also for a role that the layout does not know.
        """
        if self._own:
            self.content = content
            with contextlib.suppress(msgspec.ValidationError):
                return _SAMPLE.decode(content)
        record = self.read(content, number)
        self.refuse_strangers(record)
        given = record.id
        id = f"{self._name}-{number}" if given is None else given if isinstance(given, int) else str(given)
        kind = record.type if isinstance(record.type, str) and record.type else self._name
        turns = [{"from": turn.from_, "value": turn.value} for turn in record.conversations]
        made = msgspec.convert({"id": id, "images": record.images, "conversations": turns, "type": kind}, Sample)
        self.content = msgspec.json.encode(made)
        return made

    def refuse_strangers(self, record: Record) -> None:
        """Raise `msgspec.ValidationError` for a role that the layout does not know."""
        for turn in record.conversations:
            if turn.from_ not in ROLES:
                raise msgspec.ValidationError(f"a turn is from {turn.from_}, expected {', '.join(self.layout.roles)}")

    def _follow(self, layout: Layout) -> None:
        self._own = layout.is_own
        self._read = self._from_own if self._own else self._from_fields

    def mixed(self) -> list[tuple[str, list[str], int]]:
        """(field, its kinds, the first record of another kind) of fields that `datasets` cannot hold in one column."""
        found: dict[str, dict[str, int]] = {}
        for (name, kind), number in self.kinds.items():
            if kind not in ("null", "nothing"):
                found.setdefault(name, {})[kind] = number
        return [(name, list(kinds), list(kinds.values())[1]) for name, kinds in found.items() if len(kinds) > 1]

    def missing(self) -> list[str]:
        """Columns of the layout that no record has."""
        seen = {name for (name, kind) in self.kinds if kind != "nothing"}
        return [name for name in self.layout.columns if name not in seen]

    def _from_own(self, content: bytes, number: int) -> Record:
        given = self._decoder.decode(content)
        roles = self.layout.roles
        for turn in given.conversations:
            if turn.from_ not in roles:
                turn.from_ = repr(turn.from_)
        images = given.images
        kinds = self.kinds
        kinds.setdefault(("conversations", "list"), number)
        kinds.setdefault(("images", _KINDS[type(images)]), number)
        kinds.setdefault(("id", _KINDS[type(given.id)]), number)
        named = images if isinstance(images, list) else [images] if isinstance(images, str) else []
        return Record(given.conversations, named, given.id, given.type)

    def _from_fields(self, content: bytes, number: int) -> Record:
        self.content, fields = _fields(content)
        layout = self.layout
        for name in {*layout.columns, "id"}:
            self.kinds.setdefault((name, _KINDS[type(fields.get(name, msgspec.UNSET))]), number)
        alpaca = layout.formatting == "alpaca"
        turns = _instructed(fields, layout) if alpaca else _spoken(fields, layout)
        system = fields.get(layout.system) if layout.system else None
        if system and not (turns and turns[0].from_ == "system"):
            turns.insert(0, LooseTurn("system", _text(system, layout.system)))
        images = _image_names(fields.get(layout.images or "images"))
        tools = fields.get(layout.tools) if layout.tools else None
        listed = tools if isinstance(tools, str) else msgspec.json.encode(tools).decode() if tools else ""
        return Record(turns, images, fields.get("id"), fields.get("type", ""), listed)


_KINDS: dict[type, str] = {
    str: "text",
    int: "number",
    float: "number",
    bool: "true or false",
    list: "list",
    dict: "object",
    type(None): "null",
    msgspec.UnsetType: "nothing",
}


def _plain_json(content: bytes) -> bytes:
    """What JSON proper does not have and `datasets` reads all the same taken out: NaN, halves of characters."""
    try:
        found = json.loads(content, parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError):
        return content
    return json.dumps(found, ensure_ascii=False).encode("utf-8", "ignore")


def _finite(number: str) -> float | None:
    return float(number) if math.isfinite(float(number)) else None


def unread(content: bytes, layout: Layout) -> set[str]:
    """The fields of a record and of its turns that hold something, and that a `Sample` has no place for."""
    _, fields = _fields(content)
    read = {*layout.columns, layout.system, "images", "id", "type"} - {layout.tools}
    found = {name for name, value in fields.items() if name not in read and value not in _EMPTY}
    said = {layout.role_tag, layout.content_tag, "tool_calls" if layout.formatting == "openai" else ""}
    turns = fields.get(layout.messages or "")
    for turn in turns if isinstance(turns, list) else []:
        found |= {
            f"{layout.messages}[].{name}" for name, value in turn.items() if name not in said and value not in _EMPTY
        }
    return found


def _fields(content: bytes) -> tuple[bytes, dict[str, Any]]:
    """A record as JSON proper, and its fields."""
    try:
        return content, msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        content = _plain_json(content)
        return content, msgspec.json.decode(content, type=dict[str, Any])


_EMPTY: tuple[object, ...] = (None, "", [], {})


def recognised(content: bytes) -> Layout:
    """The layout of a record that no dataset_info.json describes, by the names of its fields; else this project's."""
    try:
        fields = msgspec.json.decode(_plain_json(content), type=dict[str, Any])
    except NOT_JSON:
        return Layout()
    images = "image" if "image" in fields and "images" not in fields else "images"
    messages = "messages" if "messages" in fields and "conversations" not in fields else "conversations"
    if messages not in fields and "instruction" in fields:
        prompt, query, response, history, system = (name if name in fields else None for name in _ALPACA)
        return Layout(
            "alpaca",
            images=images,
            prompt=prompt,
            query=query,
            response=response,
            history=history,
            system=system,
        )
    given = fields.get(messages)
    turns = [turn for turn in given if isinstance(turn, dict)] if isinstance(given, list) else []
    by_role = bool(turns) and "from" not in turns[0] and "role" in turns[0]
    role_tag, content_tag = ("role", "content") if by_role else ("from", "value")
    said = {turn.get(role_tag) for turn in turns if isinstance(turn.get(role_tag), str)}
    asks = "user" if "user" in said or (by_role and "human" not in said) else "human"
    answers = "assistant" if "assistant" in said or (by_role and "gpt" not in said) else "gpt"
    roles = {asks: "human", answers: "gpt"} | {role: role for role in ROLES[2:]}
    return Layout(messages=messages, images=images, role_tag=role_tag, content_tag=content_tag, roles=roles)


_ALPACA = ("instruction", "input", "output", "history", "system")


def _text(value: Any, name: str | None) -> str:
    if not isinstance(value, str):
        raise msgspec.ValidationError(f"Expected `str`, got `{_named(value)}` - at `$.{name}`")
    return value


def _named(value: Any) -> str:
    return _KINDS[type(value)]


def _image_names(given: Any) -> list[str]:
    images = [] if given is None else given if isinstance(given, list) else [given]
    return [_text(one.get("path") if isinstance(one, dict) else one, "images[...]") for one in images]


def _spoken(fields: dict[str, Any], layout: Layout) -> list[LooseTurn]:
    """The turns of a record that holds some."""
    given = fields.get(layout.messages or "")
    if not isinstance(given, list):
        raise msgspec.ValidationError(f"Expected a list of turns, got `{_named(given)}` - at `$.{layout.messages}`")
    turns: list[LooseTurn] = []
    for place, turn in enumerate(given):
        if not isinstance(turn, dict):
            raise msgspec.ValidationError(f"Expected a turn, got `{_named(turn)}` - at `$.{layout.messages}[{place}]`")
        role, said = turn.get(layout.role_tag or ""), turn.get(layout.content_tag or "")
        by = layout.roles.get(role, repr(role)) if isinstance(role, str) else repr(role)
        if layout.formatting == "openai":
            calls = turn.get("tool_calls")
            if calls and by in ANSWERING:
                by, said = "function_call", json.dumps([call["function"] for call in calls], ensure_ascii=False)
            if by not in ROLES:
                raise msgspec.ValidationError(f"Unknown role {by} - at `$.{layout.messages}[{place}]`")
        turns.append(LooseTurn(by, _text(said, f"{layout.messages}[{place}].{layout.content_tag}")))
    return turns


def _instructed(fields: dict[str, Any], layout: Layout) -> list[LooseTurn]:
    """The turns of a record of an instruction, what it is about, and the answer; none of it without an answer."""
    turns: list[LooseTurn] = []
    history = fields.get(layout.history) if layout.history else None
    for pair in history if isinstance(history, list) else []:
        if not isinstance(pair, list) or len(pair) != 2:
            raise msgspec.ValidationError(f"Expected pairs of question and answer - at `$.{layout.history}`")
        turns += [LooseTurn(by, _text(said, layout.history)) for by, said in zip(("human", "gpt"), pair, strict=True)]
    asked = [_text(fields[name], name) for name in (layout.prompt, layout.query) if name and fields.get(name)]
    turns.append(LooseTurn("human", "\n".join(asked)))
    answer = fields.get(layout.response) if layout.response else None
    return [*turns, LooseTurn("gpt", answer)] if isinstance(answer, str) else turns
