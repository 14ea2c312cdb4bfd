"""Questions -> batches, before anything is asked: tuples of images whole, lengths alike, images near each other.

The batches depend on the questions alone, not on how many processes answer them or where an
earlier start was stopped, so a run that went on gives what one that was not stopped gives.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Asked(Protocol):
    """What is known of a question here."""

    @property
    def index(self) -> int: ...  # noqa: D102
    @property
    def images(self) -> tuple[str, ...]: ...  # noqa: D102


Question = TypeVar("Question", bound=Asked)
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a batch may become."""

    questions: int
    tokens: int | None = None
    """Questions times tokens of the longest, for that is what a padded batch takes; None for no such bound."""


def form_batches(questions: Sequence[Question], tokens: Mapping[int, int], limits: Limits) -> list[list[Question]]:
    """All questions in batches, the longest first, so that a batch too large for the memory shows at the start.

    `tokens` gives each question's length by its index. Questions over the same images stay in one
    batch, and so do tuples that have an image in common, unless they do not fit into one.
    """
    batches: list[list[Question]] = []
    current: list[Question] = []
    longest = 0

    def fits(more: Sequence[Question]) -> bool:
        length = max(longest, *(tokens[question.index] for question in more))
        count = len(current) + len(more)
        return count <= limits.questions and (limits.tokens is None or count * length <= limits.tokens)

    def close() -> None:
        nonlocal current, longest
        if current:
            batches.append(current)
        current, longest = [], 0

    def add(pieces: Sequence[Sequence[Question]]) -> None:
        """Put all pieces into the current batch, or else each into this or a new one."""
        nonlocal longest
        together = [question for piece in pieces for question in piece]
        if not fits(together):
            close()
        if fits(together) or len(together) == 1:
            current.extend(together)
            longest = max(longest, *(tokens[question.index] for question in together))
        elif len(pieces) > 1:
            for piece in pieces:
                add([piece])
        else:
            for question in together:
                add([[question]])

    def length(tuples: Sequence[Sequence[Question]]) -> int:
        return max(tokens[question.index] for one in tuples for question in one)

    for tuples in sorted(_connected(questions), key=length, reverse=True):
        add(tuples)
    close()
    return batches


def _connected(questions: Sequence[Question]) -> list[list[list[Question]]]:
    """The questions of each tuple of images, and those tuples together that have images in common; in order."""
    tuples: dict[tuple[str, ...], list[Question]] = {}
    for question in questions:
        tuples.setdefault(question.images, []).append(question)
    return [[tuples[key] for key in group] for group in _joined(tuples)]


def _joined(sets: Iterable[tuple[str, ...]]) -> list[list[tuple[str, ...]]]:
    """Sets that hold a common element, directly or over others, in one list; all in order of first appearance."""
    parent: dict[str, str] = {}

    def root(one: str) -> str:
        while parent.setdefault(one, one) != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    listed = list(sets)
    for elements in listed:
        for element in elements[1:]:
            parent[root(element)] = root(elements[0])
    groups: dict[str, list[tuple[str, ...]]] = {}
    for elements in listed:
        groups.setdefault(root(elements[0]) if elements else "", []).append(elements)
    return list(groups.values())


def share_out(items: Sequence[_Item], costs: Sequence[int], processes: int) -> list[list[_Item]]:
    """The items of each process, so that the dearest share costs little more than the others; in order.

    Each item, the dearest first, goes where least has been given so far.
    """
    given = [(0, process) for process in range(processes)]
    owner: dict[int, int] = {}
    for at in sorted(range(len(items)), key=lambda at: -costs[at]):
        cost, process = heapq.heappop(given)
        owner[at] = process
        heapq.heappush(given, (cost + costs[at], process))
    return [[item for at, item in enumerate(items) if owner[at] == process] for process in range(processes)]
