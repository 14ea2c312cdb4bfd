"""Questions -> batches, before anything is asked: tuples of images whole, lengths alike, images near each other.

The batches depend on the questions alone, not on how many processes answer them or where an
earlier start was stopped, so a resumed run gives what an uninterrupted one gives.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from migician.benchmarks import Question

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a batch may become."""

    questions: int
    tokens: int | None = None
    """Questions times tokens of the longest, which is what a padded batch takes; None for no such bound."""


def form_batches(questions: Sequence[Question], tokens: Mapping[int, int], limits: Limits) -> list[list[Question]]:
    """All questions in batches, the longest first, so that a batch too large for the memory shows at the start.

    `tokens` gives each question's length by its index. Questions over the same images stay in one
    batch, and so do tuples that have an image in common, unless they do not fit into one.
    """

    def length(asked: Sequence[Question]) -> int:
        return max(tokens[question.index] for question in asked)

    def fits(asked: Sequence[Question]) -> bool:
        most = len(asked) if limits.tokens is None else limits.tokens // length(asked)
        return len(asked) <= min(limits.questions, most)

    batches: list[list[Question]] = [[]]
    for tuples in sorted(_connected(questions), key=lambda tuples: max(map(length, tuples)), reverse=True):
        for piece in _cut(tuples, fits):
            if batches[-1] and not fits([*batches[-1], *piece]):
                batches.append([])
            batches[-1] += piece
    return [batch for batch in batches if batch]


def _cut(tuples: list[list[Question]], fits: Callable[[list[Question]], bool]) -> Iterator[list[Question]]:
    """Tuples in as few pieces as their size allows: all of them, else each, else each question."""
    together = [question for one in tuples for question in one]
    if fits(together):
        yield together
    else:
        for one in tuples:
            yield from [one] if fits(one) else ([question] for question in one)


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


def partition(items: Sequence[_Item], costs: Sequence[int], processes: int) -> list[list[_Item]]:
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
