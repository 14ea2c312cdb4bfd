"""Why there is no reply: a temporary fault, a fault of the setup, or a fault of the question.

Only the last counts as a failed answer. A temporary fault is tried again for a while; a fault of the setup would hit
every question. Both stop a run, so that they never become a score.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from migician.errors import UserError


class RunStopped(UserError):
    """The server, the network, the machine or the settings are at fault, so no question can be answered.

    Earlier answers are kept, and the same command asks the rest.
    """


def fault_of(error: Exception) -> str:
    """An error as the fault of a question: its first line, with its class unless it is a `UserError`."""
    first_line = (str(error).splitlines() or [""])[0][:300]
    return first_line if isinstance(error, UserError) else f"{type(error).__name__}: {first_line}"


# Statuses of HTTP: the server is busy, restarting, or behind a gateway.
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
# This request does not suit the server, though another may.
UNSUITABLE = frozenset({400, 413, 415, 422})

NO_MONEY = re.compile(
    r"insufficient[_ ](?:quota|funds|credits?|balance)|exceeded your current quota|billing|credit balance|payment",
    re.IGNORECASE,
)
"""In a server's words: a quota or a balance is used up, which waiting does not change."""
BEYOND_THE_ENGINE = re.compile(r"at most \d+ \S+ may be provided", re.IGNORECASE)
"""How vLLM refuses more images than its own option allows (`limit_mm_per_prompt`)."""
_OF_THE_SETUP = re.compile(
    r"(?:at most|up to|maximum of|more than|max(?:imum)?) \d+ images?\b|too many images"
    r"|(?:not|n't) (?:a )?(?:multi-?modal|vision)|(?:not|n't) support (?:image|vision|multi-?modal)"
    r"|no endpoints found that support image"
    r"|model[_ ]not[_ ]found|(?:no such|unknown|invalid) model|model .{0,120}(?:does not exist|not found)"
    r"|invalid[_ ]api[_ ]key|incorrect api key|unauthori[sz]ed",
    re.IGNORECASE,
)
WITHHELD = re.compile(r"\bflagged\b|moderation|content[_ ](?:policy|filter|management)", re.IGNORECASE)
"""A server refuses this content; other refusals with status 403 are about the key."""
_TOO_LONG = re.compile(
    r"context[_ ]length|context window|maximum (?:model|context|input) length|too many tokens|too long|too large to"
    r"|longer than the (?:max|model)|exceeds? the (?:max|model|context|limit)|reduce the length|request too large",
    re.IGNORECASE,
)
_NOT_TAKEN = re.compile(
    r"unsupported|not supported|not support|unrecogni[sz]ed|unknown|unexpected|extra (?:inputs|fields)|extra_forbidden"
    r"|not permitted|not allowed|forbidden|invalid (?:parameter|argument|field)|not available|deprecated|instead",
    re.IGNORECASE,
)
_PARAMETERS = (
    *("max_completion_tokens", "max_tokens", "temperature", "seed", "response_format"),
    *("repetition_penalty", "skip_special_tokens"),  # vLLM's, SGLang's and LMDeploy's own
)
_SETTINGS = {name: re.compile(rf"\b{name}\b") for name in _PARAMETERS}


def of_the_setup(text: str) -> bool:
    """Whether a refusal, in the words of a server or an engine, would hit every question.

    >>> of_the_setup("At most 1 image(s) may be provided in one prompt."), of_the_setup("cannot identify image file")
    (True, False)
    """
    if BEYOND_THE_ENGINE.search(text) or _OF_THE_SETUP.search(text) or NO_MONEY.search(text):
        return True
    return not _TOO_LONG.search(text) and any(named.search(text) for named in _SETTINGS.values())


def setting_not_taken(text: str, given: set[str]) -> str:
    """The parameter of `given` that a server does not accept at all, by its message; empty if there is none.

    >>> setting_not_taken("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", {"max_tokens"})
    'max_tokens'
    >>> setting_not_taken("max_tokens must be at most 64", {"max_tokens", "seed"})
    ''
    """
    if _TOO_LONG.search(text) or not _NOT_TAKEN.search(text):
        return ""
    if "max_completion_tokens" in text and "max_tokens" in given:  # its newer name
        return "max_tokens"
    return next((name for name, named in _SETTINGS.items() if name in given and named.search(text)), "")


_PLACE = re.compile(r"\S*[/\\]\S*")
_COUNT = re.compile(r"\d+")


def likeness(reason: str) -> str:
    """A reason without its paths and numbers, so that similar ones are counted together.

    >>> likeness("image 2 of 3, photos/a.jpg: no such file") == likeness("image 1 of 3, photos/b.jpg: no such file")
    True
    """
    return _COUNT.sub("0", _PLACE.sub("/", reason))


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many questions of a run may fail, and whether they are asked again."""

    share: float = 0.05
    """Share of the questions, 0..1; if more fail, the run stops without a report."""
    retry: bool = False
    """Ask again what failed before."""

    def retries(self, fault: str | None) -> bool:
        """Whether a question that failed with `fault` (None: was answered) is asked again."""
        return self.retry and fault is not None


BEARING = Tolerance()
"""The default."""
_ENOUGH = 20
"""After this many questions without any answer the setup is at fault."""


def commonest(reasons: Iterable[str], max_kinds: int = 3) -> list[tuple[str, int]]:
    """(example, count) of the most common kinds of reasons, most common first."""
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for reason in reasons:
        kind = likeness(reason)
        examples.setdefault(kind, reason)
        counts[kind] += 1
    return [(examples[kind], count) for kind, count in counts.most_common(max_kinds)]


class FailureGuard:
    """Counts the failures of a run, and stops it when too many fail.

    No failure is recorded before the first answer, because the setup may be at fault.
    """

    def __init__(self, tolerance: Tolerance, questions: int, failed: Iterable[str], *, is_proven: bool) -> None:
        self._tolerance, self._questions = tolerance, questions
        self._failed = list(failed)
        self._is_proven = is_proven

    def admit(self, faults: Sequence[str | None]) -> bool:
        """Whether pending failures may be recorded, given the faults of the next questions (None: answered).

        Raises `RunStopped` if many were asked and none was answered.
        """
        self._failed += [fault for fault in faults if fault is not None]
        self._is_proven = self._is_proven or any(fault is None for fault in faults)
        if not self._is_proven and len(self._failed) >= _ENOUGH:
            raise self.none_answered()
        return self._is_proven

    def none_answered(self) -> RunStopped:
        """What to raise if nothing was answered at all."""
        return RunStopped(f"none of the {len(self._failed)} questions asked was answered: {self._reasons()}")

    def check(self) -> None:
        """Raise `RunStopped` if more have failed than the tolerance allows."""
        if len(self._failed) > self._tolerance.share * self._questions:
            raise RunStopped(
                f"{len(self._failed)} of {self._questions} questions failed, more than --fail-on-error "
                f"{self._tolerance.share:g} allows: {self._reasons()}. Fix the cause and ask them again with "
                "--retry-failed, or accept them with --fail-on-error 1"
            )

    def _reasons(self) -> str:
        return "; ".join(f"{reason} ({count})" for reason, count in commonest(self._failed))
