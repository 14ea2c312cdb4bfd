"""What reaches a terminal: the words of others as they stand, never as markup or as commands to the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

# All control characters but tab and line feed, what turns the direction of writing, and halves of characters.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ENDS = re.compile("[\t\n]")
_LONGEST = 2000
"""Letters of a line: the names that others give may be of any length."""


def printable(text: str) -> str:
    r"""`text` with what would command a terminal written out, in JSON's way, so that JSON stays JSON.

    >>> print(printable("a\x1b[31mb"))
    a\u001b[31mb
    """
    return _COMMANDS.sub(_written, text)


def one_line(text: str) -> str:
    r"""As `printable`, with the ends of lines written out too; what is too long to be read loses its middle.

    >>> print(one_line("a\nb"))
    a\u000ab
    """
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    return _ENDS.sub(_written, printable(shown))


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural but for 1.

    >>> counted(1, "box"), counted(0, "image"), counted(1200, "parquet file")
    ('1 box', '0 images', '1,200 parquet files')
    """
    plural = f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def _written(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


class LiteralConsole(Console):
    """A console for which no text is markup: square brackets and `:names:` stand as they are. Styles are `Text`'s."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed of anything. A `Text` is no markup, but may command the terminal; a cell may then cut it.

        Tables measure a `Text` before it comes here, so names of others are better given to them as strings.
        """
        if isinstance(renderable, Text) and _COMMANDS.search(renderable.plain):
            text = Text(printable(renderable.plain), renderable.style, justify=renderable.justify, end=renderable.end)
            return super().render(text, options)
        return super().render(renderable, options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text of a cell, a title or a line."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})
