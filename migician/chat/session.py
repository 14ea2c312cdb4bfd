"""One visitor's conversation: images, regions, questions, and the answers so far."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from migician.boxes import Box
from migician.chat.grounding import Chat, Grounding
from migician.chat.uploads import LIMITS, ChatImage, ChatLimits, UploadedFile, take
from migician.errors import UserError
from migician.models import load_model, seen_sizes
from migician.models.protocol import Model
from migician.printable import counted

REGION = "Image, left, top, right, bottom in 0..1000, such as 1: 250, 100, 700, 900"


def insert(words: str, text: str, at: int) -> tuple[str, int]:
    """`text` with `words` inserted before character `at`, set off by spaces, and the position where they end.

    >>> insert("the region", "Find  in it, please", 5)
    ('Find the region in it, please', 15)
    """
    at = min(max(at, 0), len(text))
    before, behind = text[:at], text[at:]
    if before and not before[-1].isspace():
        before += " "
    if behind and not (behind[0].isspace() or behind[0] in ".,;:?!)"):
        behind = " " + behind
    return before + words + behind, len(before + words)


_AT_WORK = threading.Lock()
"""Held while a model replies: a stopped one may still be at its last token when the next question comes."""


class OfferedModels:
    """The models one can choose from, each loaded on first use and kept.

    `names` are what a visitor sees: of a folder or file of this machine only the last part.
    """

    def __init__(self, names: Sequence[str], load: Callable[[str], Model] = load_model) -> None:
        self._given: dict[str, str] = {}
        for given in dict.fromkeys(names):
            short = _short(given)
            number = sum(_short(other) == short for other in self._given.values()) + 1
            self._given[short if number == 1 else f"{short} ({number})"] = given
        self.names = tuple(self._given)
        self._load, self._loaded, self._lock = load, dict[str, Model](), threading.Lock()

    def get(self, name: str) -> Model:
        """The model of that name; raises `UserError` if it is not offered or cannot be loaded."""
        if name not in self._given:
            raise UserError(f"{name:.80}: not offered here; choose one of {', '.join(self.names)}")
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._load(self._given[name])
            return self._loaded[name]


def _short(given: str) -> str:
    """A model's name without its parent folders.

    >>> _short("scripted:/home/me/replies.jsonl"), _short("Michael4933/Migician"), _short("qwen2-vl-7b")
    ('scripted:replies.jsonl', 'Michael4933/Migician', 'qwen2-vl-7b')
    """
    engine, colon, rest = given.rpartition(":")
    is_place = rest.startswith(("/", "~", ".")) or Path(rest).exists()
    return f"{engine}{colon}{Path(rest).name or 'model'}" if is_place else given


@dataclass
class Session:
    """What one visitor has said and uploaded; nothing is shared with another."""

    pictures: list[ChatImage] = field(default_factory=list)
    """All images of the conversation: "Image-1" is the first."""
    history: list[tuple[str, str]] = field(default_factory=list)
    """(question, reply) pairs; see `Chat.history`."""
    model: Model | None = None
    """The model that replied."""

    @property
    def size(self) -> int:
        """Bytes of the pictures."""
        return sum(len(picture.content) for picture in self.pictures)

    def add(self, sources: Sequence[str | Path | UploadedFile], limits: ChatLimits = LIMITS) -> list[str]:
        """Add images; returns one line per refused image. Too many at once are all refused."""
        if len(self.pictures) + len(sources) > limits.images:
            too_many = f"{counted(len(sources), 'more image')} on top of {len(self.pictures)}: at most {limits.images}"
            return [f"{too_many} in a conversation; send fewer, or start a new conversation"]
        refused = []
        for source in sources:
            try:
                picture = take(source, limits)
                if self.size + len(picture.content) > limits.talk_bytes:
                    raise UserError(
                        f"{picture.name}: more than {limits.talk_bytes / 1e6:.0f} MB in one conversation; "
                        "send smaller files, or start a new conversation"
                    )
                self.pictures.append(picture)
            except UserError as error:
                refused.append(str(error))
        return refused

    def reference(self, model: Model, written: str) -> str:
        """The words for a region written as `REGION` says, its box in the format of the model's family.

        Raises `UserError` for another form, and a region that is not in one of the images.

        >>> from PIL import Image
        >>> from migician.chat.uploads import kept
        >>> from migician.models import load_model
        >>> session = Session([kept(Image.new("RGB", (64, 64)), "grey.png")])
        >>> session.reference(load_model("constant:0,0,9,9"), "1: 250, 100, 700, 900")
        'the region <|box_start|>(250,100),(700,900)<|box_end|> of Image-1'
        """
        numbers = [int(number) for number in re.findall(r"\d{1,6}", written[:200])]
        if len(numbers) != 5:
            raise UserError(f"region {written!r:.60}: expected five whole numbers: {REGION}")
        number, box = numbers[0], Box.from_permille(*numbers[1:])
        if not 1 <= number <= len(self.pictures):
            raise UserError(f"region in Image-{number}: the conversation has {len(self.pictures)}")
        if not (box.is_inside and box.is_ordered):
            raise UserError(f"region {written!r:.60}: expected left < right, top < bottom, all from 0 to 1000")
        counts_pixels = model.box_style.scale == "pixel"
        sizes = seen_sizes(model, [picture.decoded() for picture in self.pictures]) if counts_pixels else None
        written_box = model.box_style.write(box, sizes[number - 1] if sizes else None)
        return f"the region {written_box} of Image-{number}"

    def ask(
        self, model: Model, text: str, on_token: Callable[[str], None] | None = None, limits: ChatLimits = LIMITS
    ) -> Grounding:
        """One turn; `on_token` gets the reply so far. Another model than before starts a new conversation.

        Raises `UserError` for a question that is empty or too long, and where the conversation is full.
        """
        if not text.strip():
            raise UserError("no question: type one")
        if len(text) > limits.letters:
            raise UserError(f"the question is too long: at most {limits.letters:,} characters")
        if self.model is not model:
            self.model, self.history = model, []
        if len(text) + sum(len(said) + len(reply) for said, reply in self.history) > limits.talk_letters:
            raise UserError(f"the conversation is full at {limits.talk_letters:,} characters; start a new one")
        # Decoded only while the model looks at them.
        chat = Chat(model, [picture.decoded() for picture in self.pictures], self.history)
        turn = chat.say(text, max_new_tokens=model.family.new_tokens, on_token=on_token)
        self.history = chat.history
        return turn

    def aloud(self, model: Model, text: str, limits: ChatLimits = LIMITS) -> Iterator[str | Grounding]:
        """`ask`, yielding the reply so far and finally the turn; closing it stops the model."""
        lines: queue.Queue[str | Grounding | Exception] = queue.Queue()
        stopped = threading.Event()

        def on_token(reply: str) -> None:
            if stopped.is_set():
                raise UserError("stopped")
            lines.put(reply)

        def work() -> None:
            try:
                with _AT_WORK:
                    lines.put(self.ask(model, text, on_token, limits))
            except Exception as error:  # noqa: BLE001 - any error is raised in the waiting thread
                lines.put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            while not isinstance(line := lines.get(), Exception):
                yield line
                if not isinstance(line, str):
                    return
        finally:
            stopped.set()
        raise line
