"""Replies of a model to the turns of a file of records, several to a turn allowed.

- Rows that name the turn: {"index": 7, "turn": 0, "response": "..."}, where `index` is the record's place in its file
  from 0, and `turn` the exchange in it, from 0; without `turn` the record's first that gives boxes. The reply is text
  or a list of texts, under any name that `migician.evaluation.answer_files` reads; rows of one turn add up. JSON lines,
  a JSON list, a table or a sheet.
- Only replies: a JSON list, or JSON lines where the name ends in .jsonl, of a text or a list of texts for each turn
  that gives boxes, in order.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from migician.errors import NOT_JSON, UserError
from migician.evaluation.answer_files import QUESTION_FIELDS, REPLY_FIELDS
from migician.evaluation.answer_rows import AnswerRow, place_in_file, rows_of

Key = tuple[int, int | None]
"""The record and the turn; None for its first that gives boxes."""


class Replies:
    """The replies of one file, asked for in the order of the records."""

    def __init__(self, file: Path, listed: list[list[str]] | None, named: dict[Key, list[str]]) -> None:
        self._file, self._listed, self._named = file, listed, named
        self._asked = 0
        self._last: int | None = None
        self._unused = set(named)

    @classmethod
    def read(cls, file: Path) -> Replies:
        """The replies of `file`; raises `UserError` naming the row that is of none of the forms above."""
        listed = _listed(file)
        if listed is not None:
            return cls(file, listed, {})
        named: dict[Key, list[str]] = {}
        for place, row in rows_of(file):
            named.setdefault(_key(row, place), []).extend(_replies(row, place))
        if not named:
            raise UserError(f'{file}: holds no reply; expected lines like {{"index": 0, "response": ["...", "..."]}}')
        return cls(file, None, named)

    def of(self, record: int, turn: int) -> list[str]:
        """The replies to a turn that gives boxes; turns are asked for in order, each once."""
        is_first = record != self._last
        self._last = record
        self._asked += 1
        if self._listed is not None:
            return self._listed[self._asked - 1] if self._asked <= len(self._listed) else []
        keys: list[Key] = [(record, turn), *([(record, None)] if is_first else [])]
        self._unused.difference_update(keys)
        return [reply for key in keys for reply in self._named.get(key, [])]

    def check_used(self) -> None:
        """Raise `UserError` where, after all turns, replies are left over or missing: they belong to another file."""
        if self._listed is not None and len(self._listed) != self._asked:
            raise UserError(
                f"{self._file}: holds replies to {len(self._listed)} turns, and {self._asked} give boxes. "
                'Name each: {"index": RECORD, "turn": TURN, "response": ...}'
            )
        if self._unused:
            record, turn = min(self._unused, key=lambda key: (key[0], key[1] or 0))
            which = "no turn of it gives" if turn is None else f"its turn {turn} does not give"
            raise UserError(
                f"{self._file}: a reply to record {record}, and {which} boxes. Is this the file the replies are to?"
            )


def _listed(file: Path) -> list[list[str]] | None:
    """The replies of a file that holds nothing else; None for another form."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        found = (_LINES.decode_lines if file.suffix == ".jsonl" else _LIST.decode)(content)
    except NOT_JSON:
        return None
    return [[one] if isinstance(one, str) else one for one in found] or None


_LINES = msgspec.json.Decoder(str | list[str])
_LIST = msgspec.json.Decoder(list[str | list[str]])


def _key(row: AnswerRow, place: str) -> Key:
    index = next((row[name] for name in QUESTION_FIELDS if name in row), None)
    if isinstance(index, str):
        index = place_in_file(index, index)
    turn = row.get("turn")
    for name, value in (("index", index), ("turn", 0 if turn is None else turn)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UserError(f"{place}: `{name}` must be a whole number from 0, not {value!r:.60}")
    assert isinstance(index, int)  # noqa: S101 - for the type checker
    return index, turn


def _replies(row: AnswerRow, place: str) -> list[str]:
    found = next((row[name] for name in REPLY_FIELDS if row.get(name) is not None), None)
    if found is None and row.get("error") is not None:
        return []
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise UserError(
            f"{place}: `response` must be a reply as text, or a list of such, not {found!r:.60} "
            f"(also read: {', '.join(REPLY_FIELDS[1:])})"
        )
    return listed
