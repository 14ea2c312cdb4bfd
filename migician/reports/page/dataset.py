"""The page over a dataset: its figures, and a draw of its samples with the boxes of questions and answers."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from migician.build.card.album import ANSWER, GIVEN, BoxNumbers
from migician.build.card.readme import read_card
from migician.build.image_roots import dataset_roots
from migician.errors import NOT_JSON, UserError
from migician.files import is_file, is_folder
from migician.progress import progress_bar
from migician.reports.page.files import AssetStore, page_in, write_index
from migician.reports.tables import Table
from migician.reports.writers import for_page
from migician.samples.dataset_info import INFO, inputs_of, layout_beside
from migician.samples.layouts import LayoutReader
from migician.samples.record_file import records
from migician.samples.sample import NAME, Sample
from migician.samples.survey import AREA_EDGES, areas_of
from migician.sampling import stream

COUNT = 1000
"""Samples on a page by default."""
_CARD = "card.json"
_AT_ONCE = 1000
"""Records between two reports of progress and counts of boxes."""
_LETTERS = 240
"""Of a broken record that is shown."""


def write_dataset_page(
    path: Path,
    out: Path,
    *,
    images: Path | None = None,
    roots: Sequence[Path] = (),
    count: int = COUNT,
    seed: int = 0,
    processes: int = 1,
) -> Path:
    """Write `out/index.html` and `out/images/` over `path`: a folder of samples, or one of its files; gives the page.

    Shown are `count` samples, evenly over their types, drawn by the seed; the figures above them are
    of all. `images` is the folder the paths of images begin in, by default the one that holds the
    file. Images that lie neither in it nor in the roots of sources that the card names nor in `roots`, once links are
    resolved, are not shown. Records that are no samples are counted. Raises `UserError` where there is no sample, where
    none of the images drawn is there, and for a file of samples that lies elsewhere.
    """
    files = dataset_files(path)
    root = images or (path if is_folder(path) else path.parent)
    # The released file says ./MGrounding-630k/... and may stand in that folder or beside it.
    allowed = dataset_roots(path, [root, root.parent], roots)
    allowed.check((file for file in files if file != path), path)
    drawn = _Draw(count)
    sizes = [file.stat().st_size for file in files]
    with progress_bar("samples", in_bytes=True) as progress:
        for place, file in enumerate(files):
            before = sum(sizes[:place])
            for done in drawn.read(file, seed):
                progress(before + done, sum(sizes))
    chosen = drawn.chosen()
    if not chosen:
        raise UserError(f"{path}: holds no sample. A sample has conversations, and images if it shows some")
    store = AssetStore(allowed.find, as_trained=True)
    types = sorted(drawn.kinds)
    samples = [
        _sample(number, msgspec.json.decode(raw, type=Sample), types, store) for number, raw in enumerate(chosen, 1)
    ]
    with page_in(out):
        shown, faults = store.fill(out / "images", processes)
        if shown and not any(image[0] for image in shown):
            raise UserError(f"{faults[0]}: none of the images is below {root}: say where they are with --images")
        card = read_card(path if is_folder(path) else path.parent) or {}
        content = {
            "kind": "dataset",
            "title": path.resolve().name,
            "facts": _facts(drawn, len(samples), seed, card),
            "looks": [
                {"name": "box in a question", "look": "given", "colour": GIVEN, "letter": ""},
                {"name": "box in an answer", "look": "answer", "colour": ANSWER, "letter": ""},
            ],
            "tasks": [[one, one] for one in types],
            "outcomes": [],
            "histograms": _histograms(drawn.kinds),
            "tables": _parts(card),
            "notes": [card["mig_bench"]["sentence"]] if "sentence" in card.get("mig_bench", {}) else [],
            "faults": [*drawn.broken, *faults],
            "images": shown,
            "samples": samples,
        }
        return write_index(out, content)


def dataset_files(path: Path) -> list[Path]:
    """The files of samples that a path names, without those that have samples of the others again."""
    if is_folder(path) and (listed := (read_card(path) or {}).get("files")):  # of a build; mixes may lie beside them
        files = [path / name for name in listed if name.endswith(".json")]
    elif is_folder(path) and not is_file(path / INFO):
        found = sorted([*path.glob("*.json"), *path.glob("*.jsonl"), *path.glob("*/*.json")])
        files = [file for file in found if file.name != _CARD]
    else:
        files = [one.file for one in inputs_of(path, None).files]
    return [file for file in files if file.stem != NAME] or files


@dataclass(slots=True)
class _Kind:
    """What is known of all samples of one type."""

    samples: int = 0
    images: Counter[int] = field(default_factory=Counter)
    turns: Counter[int] = field(default_factory=Counter)
    areas: np.ndarray[tuple[int], np.dtype[np.int64]] = field(default_factory=lambda: areas_of(b""))
    """Boxes by the class of `AREA_EDGES` that their share of the image is in."""
    waiting: list[bytes] = field(default_factory=list)
    """Records whose boxes are not counted yet."""
    drawn: list[tuple[float, int, bytes]] = field(default_factory=list)
    """A heap of the records with the lowest keys, as (-key, place, record)."""

    def count_boxes(self, at_least: int = 1) -> None:
        """Count the boxes of what waits, if there is that much of it: all at once is many times as fast."""
        if len(self.waiting) >= at_least:
            self.areas = self.areas + areas_of(b"\n".join(self.waiting))
            self.waiting.clear()


class _Draw:
    """One pass over files: figures by type, and a fair draw from each."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.kinds: dict[str, _Kind] = {}
        self.broken: list[str] = []
        """Where records are no samples, and what stands there."""
        self._place = 0

    def read(self, file: Path, seed: int) -> Iterator[int]:
        """Take in the records of one file; gives, now and then, how many of its bytes were read."""
        rng = stream(seed, "page", file.name)
        reader = LayoutReader(layout_beside(file), file.stem)
        for number, (offset, raw) in enumerate(records(file)):
            if number % _AT_ONCE == 0:
                yield offset
            try:
                sample = reader.sample(raw, number)
            except NOT_JSON:
                self.broken.append(f"{file.name}, byte {offset}: {raw[:_LETTERS].decode('utf-8', 'replace')}")
                continue
            raw = reader.content
            kind = self.kinds.setdefault(sample.type, _Kind())
            kind.samples += 1
            kind.images[len(sample.images)] += 1
            kind.turns[sum(turn.from_ == "gpt" for turn in sample.conversations)] += 1
            kind.waiting.append(raw)
            kind.count_boxes(_AT_ONCE)
            self._place += 1
            entry = (-float(rng.random()), self._place, raw)
            if len(kind.drawn) < self._count:
                heapq.heappush(kind.drawn, entry)
            elif entry > kind.drawn[0]:
                heapq.heapreplace(kind.drawn, entry)
        for kind in self.kinds.values():
            kind.count_boxes()

    def chosen(self) -> list[bytes]:
        """The records drawn, as many of each type as there is room for, in the order of the files."""
        shares = even_shares({name: kind.samples for name, kind in self.kinds.items()}, self._count)
        taken = [one for name, share in shares.items() for one in heapq.nlargest(share, self.kinds[name].drawn)]
        return [raw for _, _, raw in sorted(taken, key=lambda one: one[1])]


def even_shares(available: Mapping[str, int], count: int) -> dict[str, int]:
    """`count` divided evenly, what one does not have going to the others.

    >>> even_shares({"a": 1, "b": 50, "c": 50}, 12)
    {'a': 1, 'b': 5, 'c': 6}
    """
    shares: dict[str, int] = {}
    # The smallest first: what it lacks is divided among the rest.
    for place, (name, there) in enumerate(sorted(available.items(), key=lambda one: one[1])):
        shares[name] = min(there, (count - sum(shares.values())) // (len(available) - place))
    return shares


def _sample(number: int, sample: Sample, types: Sequence[str], store: AssetStore) -> dict[str, Any]:
    """A sample as the page has it; its boxes have numbers, which stand in brackets in its texts."""
    numbers = BoxNumbers(sample)
    texts, question = [], ""
    for turn in sample.conversations:
        asked = turn.from_ == "human"
        question = turn.value if asked else question
        texts.append([_SPEAKERS[turn.from_], numbers.numbered(turn.value, question, given=asked)])
    marks = [
        [
            int(mark.colour == ANSWER),
            image if mark.line == "solid" else None,
            *(round(side, 4) for side in mark.box.as_tuple()),
            mark.label,
        ]
        for image, own in enumerate(numbers.marks)
        for mark in own
        if mark.line == "solid" or image == 0  # the page draws on all what has no image
    ]
    # What a question says comes first on its card, not the system prompt.
    texts.sort(key=lambda one: one[0] == "system")
    return {
        "id": number,
        "name": str(sample.id),
        "task": types.index(sample.type),
        "images": [store.number(name) for name in sample.images],
        "marks": marks,
        "texts": texts or [["question", ""]],
        "outcomes": [],
        "ious": [],
        "raw": "\n\n".join(f"{turn.from_}: {turn.value}" for turn in sample.conversations),
    }


_SPEAKERS = {"human": "question", "gpt": "answer", "system": "system", "observation": "result"} | {
    "function_call": "call of a tool"
}


def _facts(drawn: _Draw, shown: int, seed: int, card: Mapping[str, Any]) -> list[tuple[str, str]]:
    total = sum(kind.samples for kind in drawn.kinds.values())
    facts = [("samples", f"{total:,}")]
    if shown < total:
        facts.append(("shown", f"{shown:,}, evenly over the types, seed {seed}"))
    if card.get("images"):
        facts.append(("images", f"{card['images']:,}"))
    if card.get("image_bytes"):  # others are linked to
        facts.append(("images in its folder", f"{card['image_bytes'] / 1e6:,.1f} MB"))
    if "seed" in card:
        facts.append(("built with seed", str(card["seed"])))
    return facts


def _histograms(kinds: Mapping[str, _Kind]) -> list[dict[str, Any]]:
    """Of all samples, not only of those shown."""
    images: Counter[int] = sum((kind.images for kind in kinds.values()), Counter())
    turns: Counter[int] = sum((kind.turns for kind in kinds.values()), Counter())
    areas = sum((kind.areas for kind in kinds.values()), areas_of(b""))
    edges = [f"{100 * edge:g}%" for edge in AREA_EDGES]
    return [
        {"title": "Samples by type", "bars": [[name, kinds[name].samples] for name in sorted(kinds)]},
        {"title": "Images per sample", "bars": _few(images)},
        {"title": "Questions per sample", "bars": _few(turns)},
        {
            "title": "Boxes by share of their image",
            "bars": [[f"to {high}", int(count)] for high, count in zip(edges[1:], areas, strict=True)],
        },
    ]


def _few(counts: Counter[int]) -> list[tuple[str, int]]:
    """Bars of whole numbers; what is beyond the tenth shares the last."""
    numbers = sorted(counts)
    bars = [(str(number), counts[number]) for number in numbers[:10]]
    if rest := numbers[10:]:
        bars[-1] = (f"{numbers[9]} or more", bars[-1][1] + sum(counts[number] for number in rest))
    return bars


def _parts(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables of a card: what was made of which source, and what was left out."""
    parts = card.get("parts", [])
    if not parts:
        return []
    made = []
    for part in parts:
        asked = "all" if part["asked"] is None else f"{part['asked']:,}"
        made.append([part["task"].replace("_", " "), part["source"], asked, f"{part['made']:,}"])
    left = [
        [part["task"].replace("_", " "), part["source"], reason, f"{count:,}"]
        for part in parts
        for reasons in (part["left_out"], part["refused"])
        for reason, count in sorted(reasons.items())
    ]
    tables = [Table("What was made of which source", ["task", "source", "asked for", "made"], made, 2)]
    if left:
        tables.append(Table("What was left out", ["task", "source", "reason", "count"], left, 1))
    return list(map(for_page, tables))
