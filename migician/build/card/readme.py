"""The README of a dataset: what the Hub and `datasets` read of it, and what a person does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from migician.boxes import Size
from migician.build.balance import MIN_ANSWERS, area_words
from migician.files import conform, read_json
from migician.provenance import citation
from migician.sources import SOURCES

_REASONS = 3
"""How many reasons of a shortfall are named: the most frequent ones."""
HISTOGRAMS, SAMPLES = "histograms.png", "samples.jpg"
Stored = Literal["files", "embedded", "named"]
"""How a dataset has its images: as files beside the records, inside the records, or by name only."""

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


class BuiltPart(msgspec.Struct, frozen=True):
    """The samples of one task from one source."""

    task: str = ""
    source: str = ""
    asked: int | None = None
    """None where all that the source gives was asked for."""
    made: int = 0
    left_out: dict[str, int] = {}
    """Rows of the source that were dropped or corrected, by reason."""
    refused: dict[str, int] = {}
    """Scenes and samples that the task did not take, by reason."""
    drawn_from: str = ""
    """What the source has, and how often it is used: "1,120 sequences, passes: 2"."""
    frame_sizes: dict[str, Size] = {}
    """What boxes were divided by where the frames of a sample differ in size: (width, height) by path."""

    @property
    def shortfall(self) -> str:
        """Why there are fewer samples than were asked for; empty where there are enough."""
        if self.made and (self.asked is None or self.made >= self.asked):
            return ""
        asked = f" of {self.asked:,}" if self.asked is not None else ""
        reasons = sorted((self.left_out | self.refused).items(), key=lambda one: -one[1])[:_REASONS]
        words = [f"all that the source gives ({self.drawn_from})" if self.drawn_from else "all that the source gives"]
        words += [f"{reason}: {count:,}" for reason, count in reasons]
        return f"{self.task} from {self.source}: {self.made:,}{asked} samples, {'; '.join(words)}"


class _Card(msgspec.Struct):
    name: str = ""
    samples: int = 0
    images: int = 0
    image_bytes: int = 0
    seed: int = 0
    stored: Stored | None = None
    links: dict[str, str] = {}
    mig_bench: dict[str, Any] = {}
    files: dict[str, Any] = {}
    parts: list[BuiltPart] = []


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card.json that a build left in a folder; None where there is none.

    Builds of earlier versions may lack fields; `UserError` for one of another type.
    """
    file = folder / "card.json"
    if not file.exists():
        return None
    what = "a card of this version (build it again)"
    card = read_json(file, dict[str, Any], what)
    known = conform(card, _Card, file, what)
    parts = card.get("parts", [])
    return card | {"parts": [msgspec.to_builtins(one) | part for one, part in zip(known.parts, parts, strict=True)]}


def readme(card: Mapping[str, Any], configs: Mapping[str, str]) -> str:
    """The text of README.md about a dataset, of the content of its card.json.

    `configs` gives the files of samples (a path or a pattern below the folder) by the name that
    `datasets.load_dataset(folder, name)` takes; "default" is what it loads without a name.
    """
    parts = card["parts"]
    opening = (
        f"# {card['name']}, built by migician\n\n"
        f"{card['samples']:,} samples, seed {card['seed']}: multi-image grounding in the record format of "
        "MGrounding-630k (`id`, `images`, `conversations`, `type`). Boxes run from 0 to 1000 over their image's width "
        f"and height. {_IMAGES[card['stored']]} `card.json` has the recipe, the versions, and the sha256 of each "
        "JSON file as built."
    )
    short = "\n".join(f"- {line}" for line in card.get("short", []))
    sections = [opening, _loading(configs), _parts(parts), short and f"Fewer than were asked for:\n\n{short}"]
    sections += [_look(card), _balance(card), _copying(card), card["mig_bench"]["sentence"], _refusals(parts)]
    sections += [_made(card), _terms(parts), citation("The dataset follows")]
    return _front_matter(card["samples"], configs) + _joined(sections)


def bare_readme(name: str, samples: int, configs: Mapping[str, str]) -> str:
    """Like `readme`, for a dataset without a card: only how to load it is known."""
    return _front_matter(samples, configs) + _joined([f"# {name}\n\n{samples:,} samples.", _loading(configs)])


def _joined(sections: list[str]) -> str:
    return "\n\n" + "\n\n".join(section for section in sections if section) + "\n"


_IMAGES: dict[Stored, str] = {
    "files": "Paths of images are relative to the dataset's own folder.",
    "embedded": "The images are in the records.",
    "named": "The images are not here: a path names the task, the source, and the file below that source's folder.",
}


def _front_matter(samples: int, configs: Mapping[str, str]) -> str:
    """What the Hub reads: https://huggingface.co/docs/hub/datasets-cards."""
    size = next((name for limit, name in _SIZES if samples < limit), "10M<n<100M")
    fields: dict[str, Any] = {
        "license": "other",
        "license_name": "terms-of-the-source-datasets",
        "language": ["en"],
        "task_categories": ["image-text-to-text", "visual-question-answering"],
        "tags": ["multi-image-grounding", "visual-grounding", "bounding-boxes"],
        "size_categories": [size],
    }
    if configs:
        fields["configs"] = [
            {"config_name": name, "data_files": [{"split": "train", "path": path}]} for name, path in configs.items()
        ]
    return "---\n" + yaml.safe_dump(fields, sort_keys=False) + "---"


def _loading(configs: Mapping[str, str]) -> str:
    if not configs:
        return ""
    named = [name for name in configs if name != "default"]
    lines = ["```python", "from datasets import load_dataset", ""]
    lines += ['everything = load_dataset("PATH-OR-REPOSITORY", split="train")'] if "default" in configs else []
    lines += [f'one_task = load_dataset("PATH-OR-REPOSITORY", "{named[0]}", split="train")'] if named else []
    return "\n".join([*lines, "```"])


def _parts(parts: list[dict[str, Any]]) -> str:
    counts = (("all" if one["asked"] is None else f"{one['asked']:,}", f"{one['made']:,}") for one in parts)
    rows = ((one["task"], one["source"], *count) for one, count in zip(parts, counts, strict=True))
    return markdown_table(["## Samples"], ("task", "source", "asked for", "made"), rows)


def markdown_table(paragraphs: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Paragraphs of text, and the table that follows them."""
    head, *lines = (f"| {' | '.join(line)} |" for line in (columns, *rows))
    return "\n\n".join([*paragraphs, "\n".join([head, "|---" * len(columns) + "|", *lines])])


def _balance(card: Mapping[str, Any]) -> str:
    """What the answers point to, by task."""
    balances: Mapping[str, Any] = card.get("balance", {})
    if not balances:
        return ""
    rows = []
    for task, one in balances.items():
        boxes = max(1, sum(one["areas"]))
        asked = "; ".join(f"of {images}: {_shares(counts)}" for images, counts in one["asked"].items())
        area = one["areas"].index(max(one["areas"]))
        size = f"{one['areas'][area] / boxes:.0%} {area_words(area)}"
        label = next(
            (f"{count / boxes:.0%} {label}, {one['kinds']:,} in all" for label, count in one["labels"].items()), ""
        )
        reasoned = f"{one['reasoned'] / max(1, one['answers']):.0%}"
        middle = f"{one['ninths'][4] / boxes:.0%}"
        rows.append((task, f"{one['answers']:,}", reasoned, asked, middle, size, label))
    text = (
        "Which image the boxes are in, by the number of images in a sample; how many have their centre in the middle "
        "ninth of their image; the most frequent size and label."
    )
    text += _absent(balances)
    columns = ("task", "answers", "reasoning", "boxes in Image-1, Image-2, ...", "in the middle", "size", "label")
    nothing = f"Nothing leans to one side, in any task with {MIN_ANSWERS} boxes or more."
    warnings = "\n".join(f"- **{warning}**" for warning in card["warnings"]) or nothing
    return f"{markdown_table(['## Balance of the answers', text], columns, rows)}\n\n{warnings}"


def _absent(balances: Mapping[str, Any]) -> str:
    """How many answers say that nothing is there; nothing where none does."""
    found = {task: one["absent"] for task, one in balances.items() if one.get("absent")}
    told = ", ".join(f"{task} {count:,} of {balances[task]['answers']:,}" for task, count in found.items())
    return f" Answers to questions for what is in none of the images: {told}." if told else ""


def _shares(counts: list[int]) -> str:
    return ", ".join(f"{count / max(1, sum(counts)):.0%}" for count in counts)


def _copying(card: Mapping[str, Any]) -> str:
    """How many answers would be right if the box of their question were copied, by source; old cards lack it."""
    found = {
        source: one
        for figures in card.get("figures", {}).values()
        for source, one in figures.get("copying", {}).items()
    }
    if not found:
        return ""
    text = (
        "Where a question gives a box in one image and asks for one in another: answers whose IoU with the given box "
        "is 0.5 or more, so that copying it would be right. In MIG-Bench's tracking these are 12.9%."
    )
    rows = (
        (source, f"{one['answers']:,}", f"{one['copyable'] / one['answers']:.1%}", f"{one['shuffled']:,}")
        for source, one in found.items()
    )
    columns = ("source", "answers", "copyable", "shuffled samples")
    table = markdown_table(["## Answers that could be copied", text], columns, rows)
    if any(one["shuffled"] for one in found.values()):
        table += '\n\nIn shuffled samples "the first image" is the first in time, wherever it stands in the list.'
    return table


def _look(card: Mapping[str, Any]) -> str:
    text = (
        f"![Samples by task, images and questions per sample, and sizes of boxes]({HISTOGRAMS})\n\n"
        "Boxes of questions and answers are counted by the share of the image that they cover."
    )
    shown = card["look"]
    if card["stored"] == "named":
        return text
    if shown["samples"]:
        text += (
            f"\n\n![{shown['samples']} samples with their boxes]({SAMPLES})\n\n"
            "A number in brackets stands for the coordinates of the box drawn with it: blue where the question gives "
            "it, orange where it is the answer. Coordinates stay as text where nothing says which image they are in."
        )
    if shown["unreadable"]:
        text += f"\n\n{shown['unreadable']:,} samples are not shown because one of their images could not be opened."
    return text


def _refusals(parts: list[dict[str, Any]]) -> str:
    rows = [
        (part["task"], part["source"], step, reason, f"{count:,}")
        for part in parts
        for step, counts in (("reading", part["left_out"]), ("choosing", part["refused"]))
        for reason, count in sorted(counts.items())
    ]
    if not rows:
        return ""
    head = ["## What was left out", "While the source was read, and while scenes and samples were chosen from it."]
    return markdown_table(head, ("task", "source", "at", "reason", "count"), rows)


def _made(card: Mapping[str, Any]) -> str:
    made = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    if any(part["task"] == "synthesis" for part in card["parts"]):
        how = "`card.json` names the models and their settings, `provenance.jsonl` the replies behind each sample."
    else:
        how = (
            "`card.json` has the recipe, with every setting that differs from its default. Saved as a file (JSON is "
            "YAML), it makes the same samples from the same sources again, byte for byte, with these versions:\n\n"
            "```bash\nmigician build all --config RECIPE --source NAME=ROOT ... --out FOLDER\n```"
        )
    return f"## How it was made\n\nWith {made}. {how}"


def _terms(parts: list[dict[str, Any]]) -> str:
    lines = ["## Terms", "", "Images and annotations keep the terms of their sources:", ""]
    sources = dict.fromkeys(part["source"] for part in parts)
    lines += [f"- {SOURCES[source].folder}: {SOURCES[source].terms}" for source in sources if source in SOURCES]
    if any(part["task"] == "synthesis" for part in parts):
        lines.append("- Questions and answers were written by the models that `card.json` names, and keep their terms.")
    return "\n".join(lines)
