"""Rows for other frameworks' reinforcement learning: a record's turns that give boxes, each with its true boxes.

One line of `FORMS` per framework. Rows follow what the framework's own loader reads: TRL 1.16 (`GRPOTrainer`), verl 0.9
(`RLHFDataset`), EasyR1 at b44b311 (`RLHFDataset`), ms-swift 4.6 (`RowPreprocessor`). True boxes are JSON text in each,
which every column type holds; `migician.training.reward_adapters` reads them.
"""

from __future__ import annotations

import importlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from migician.boxes import TRAINED_PIXELS
from migician.errors import Done, UserError, writing
from migician.files import write_json
from migician.progress import OnProgress
from migician.samples.record_file import lines_of
from migician.samples.sample import IMAGE_MARK, Turn
from migician.training.grpo import ROLES, messages
from migician.training.prompts import Prompt, PromptReader
from migician.training.reward_adapters import RowTruths
from migician.training.reward_replies import Replies
from migician.training.rewards import match, read_case

RIGHT_IOU = 0.5
_ROWS_AT_ONCE = 1000


class RowCard(msgspec.Struct, frozen=True):
    """What stands beside a file of rows, as NAME.rows.json."""

    form: str
    """One of `FORMS`."""
    source: str
    """The name of the file of records."""
    style: str
    """How boxes are written: what `style` of an adapter must be."""
    max_pixels: int | None
    """Of an image as training must resize it, where boxes are in pixels."""
    rows: int
    unplaced: int
    """Rows with a true box whose image the record does not tell: a reply's may be in any."""
    left_out: dict[str, int]
    """How many turns, or records, are no rows, by the reason."""
    kept: str = ""
    """LOW..HIGH, where rows were kept by how often the replies of `replies` are right."""
    replies: str = ""


class LeftOut(Exception):
    """A prompt that a framework's rows cannot hold; the text says why."""


def _trl(prompt: Prompt, row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": messages(prompt.turns), **row, "truths": _truths(prompt), **_sizes(prompt)}


def _verl(prompt: Prompt, row: dict[str, Any]) -> dict[str, Any]:
    numbered = {"index": row.pop("record"), "turn": row.pop("turn"), "id": row.pop("id"), "answer": prompt.answer}
    return {
        "data_source": f"migician/{prompt.type}" if prompt.type else "migician",
        "prompt": _spoken(prompt.turns),
        **row,
        "ability": "grounding",
        "reward_model": {"style": "rule", "ground_truth": _truths(prompt)},
        "extra_info": {**numbered, **_sizes(prompt)},
    }


def _easyr1(prompt: Prompt, row: dict[str, Any]) -> dict[str, Any]:
    if len(prompt.turns) > 1:
        raise LeftOut("turns with others before them, and EasyR1 asks one question")
    truths = _truths(prompt)
    if prompt.sizes:
        truths = msgspec.json.encode(RowTruths(prompt.truths, prompt.sizes)).decode()
    return {"prompt": prompt.turns[0].value, **row, "answer": truths}


def _swift(prompt: Prompt, row: dict[str, Any]) -> dict[str, Any]:
    return {"messages": _spoken(prompt.turns), **row, "solution": _truths(prompt), **_sizes(prompt)}


FORMS: dict[str, Callable[[Prompt, dict[str, Any]], dict[str, Any]]] = {
    "trl": _trl,
    "verl": _verl,
    "easyr1": _easyr1,
    "swift-rl": _swift,
}
"""A prompt, and a row that has its images, its record and its turn, to the framework's row; may raise `LeftOut`."""


def _truths(prompt: Prompt) -> str:
    return msgspec.json.encode(prompt.truths).decode()


def _sizes(prompt: Prompt) -> dict[str, Any]:
    return {"sizes": prompt.sizes} if prompt.sizes else {}


def _spoken(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Turns with their image marks in the text, where verl and ms-swift look for them."""
    return [{"role": ROLES[turn.from_], "content": turn.value} for turn in turns]


def write_rows(
    source: Path,
    out: Path,
    form: str,
    *,
    media: Path | None = None,
    max_pixels: int = TRAINED_PIXELS,
    keep: tuple[float, float] | None = None,
    replies: Path | None = None,
    force: bool = False,
    report: OnProgress | None = None,
) -> RowCard:
    """Write a row per turn of `source` that gives boxes to `out`, and the card beside it, NAME.rows.json.

    The name of `out` says the kind of file: .jsonl, .json or .parquet. Images are named by their whole paths. With
    `keep` only turns remain of whose `replies` this share is right, both ends included. Same files, same bytes. Raises
    `Done` where `out` is that already, and `UserError` naming the record or the reply that cannot be read, an image
    that is not there, and where not one row is left; also where `out` or its card would take the place of what is read.
    """
    beside = out.parent / f"{out.stem}.rows.json"
    for read in (source, replies):
        for made in (out, beside):
            if read and made.exists() and read.exists() and made.samefile(read):
                raise UserError(f"--out {out}: {made} would take the place of what is read: choose another name")
    reader = PromptReader(source, media, max_pixels)
    given = Replies.read(replies) if replies else None
    counts: Counter[str] = Counter()

    def rows() -> Iterator[dict[str, Any]]:
        known: set[str] = set()
        root = reader.media.resolve()
        for number, prompt in reader.all(report):
            if (
                given is not None
                and keep is not None
                and (reason := _unkept(given, number, prompt, reader.style, keep))
            ):
                counts[reason] += 1
                continue
            try:
                row = _row(form, prompt, number, root)
            except LeftOut as left_out:
                counts[str(left_out)] += 1
                continue
            for name in prompt.images:
                if name not in known and not (root / name).is_file():
                    raise UserError(f"{root / name}: not there, and record {number} of {source} names it; see --media")
                known.add(name)
            counts["rows"] += 1
            counts["unplaced"] += any(one.image is None for one in prompt.truths)
            yield row
        if given is not None:
            given.check_used()
        if not counts["rows"]:
            reasons = ", ".join(f"{count} {why}" for why, count in (counts + reader.left_out).items()) or "no records"
            raise UserError(f"{source}: not one row for {form}: {reasons}")

    done = None
    try:
        with writing(out, force=force) as stream:
            _write(rows(), stream, out.suffix)
    except Done as there:  # killed before the card, perhaps
        done = there
    count, unplaced = counts.pop("rows"), counts.pop("unplaced")
    left_out = dict(sorted((counts + reader.left_out).items()))
    pixels = reader.max_pixels if reader.convention.counts_pixels else None
    kept, named = (f"{keep[0]:g}..{keep[1]:g}", replies.name) if keep and replies else ("", "")
    card = RowCard(form, source.name, reader.style, pixels, count, unplaced, left_out, kept, named)
    write_json(beside, card)
    if done:
        raise done
    return card


def _row(form: str, prompt: Prompt, number: int, root: Path) -> dict[str, Any]:
    if sum(turn.value.count(IMAGE_MARK) for turn in prompt.turns) != len(prompt.images):
        raise LeftOut(f"turns that are asked with another number of {IMAGE_MARK} marks than of images")
    images = [str(root / name) for name in prompt.images]
    return FORMS[form](prompt, {"images": images, "record": number, "turn": prompt.turn, "id": str(prompt.id)})


def _unkept(given: Replies, number: int, prompt: Prompt, style: str, keep: tuple[float, float]) -> str | None:
    """Why a prompt is not kept; None where it is."""
    replies = given.of(number, prompt.turn)
    if not replies:
        return "turns without a reply in --answers"
    share = sum(is_right(reply, prompt, style) for reply in replies) / len(replies)
    if share < keep[0]:
        return "turns answered right more seldom than --keep says"
    return "turns answered right more often than --keep says" if share > keep[1] else None


def is_right(reply: str, prompt: Prompt, style: str) -> bool:
    """Whether a reply gives each true box, in its image, with IoU 0.5 or more, and no other box."""
    case = read_case(reply, [(one.image, one.box) for one in prompt.truths], style, prompt.sizes or ())
    found = match(case)
    return len(found) == len(case.truths) == len(case.boxes) and min(found, default=0.0) >= RIGHT_IOU


def _write(rows: Iterable[dict[str, Any]], stream: BinaryIO, suffix: str) -> None:
    if suffix != ".parquet":
        stream.writelines(lines_of(map(msgspec.json.encode, rows), as_list=suffix == ".json"))
        return
    try:
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UserError("parquet needs pyarrow: pip install 'migician[data]', or name a .jsonl file") from None
    remaining = iter(rows)
    table = arrow.Table.from_pylist(list(itertools.islice(remaining, _ROWS_AT_ONCE)))
    images = table.schema.get_field_index("images")  # the first rows may all be without any
    table = table.cast(table.schema.set(images, arrow.field("images", arrow.list_(arrow.string()))))
    with parquet.ParquetWriter(stream, table.schema) as writer:
        while table.num_rows:
            writer.write_table(table)
            table = arrow.Table.from_pylist(list(itertools.islice(remaining, _ROWS_AT_ONCE)), schema=table.schema)
