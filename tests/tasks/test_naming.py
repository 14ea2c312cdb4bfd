"""Labels of the datasets in English: every phrase was read once and is kept in labels.tsv."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migician.tasks.naming import named_kind, with_article

TABLE = Path(__file__).with_name("labels.tsv")
ROWS = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()[1:]]
SIZES = {"coco": 80, "objects365-v1": 365, "objects365-v2": 365, "imagenet": 998, "lasot": 85, "trackingnet": 22}
"""How many labels each list has that differ; of ImageNet's 1,000 classes two names come twice."""


def test_every_label_of_every_list() -> None:
    assert Counter(name for lists, _, _ in ROWS for name in lists.split()) == SIZES
    wrong = {label: (with_article(label), phrase) for _, label, phrase in ROWS if with_article(label) != phrase}
    assert wrong == {}


def test_the_form_of_every_phrase() -> None:
    """What holds for all of them, seen from the phrase alone."""
    names: set[str] = set()
    small: set[str] = set()
    for _, _, phrase in ROWS:
        assert not re.search(r"[_/()]|\s\s|^\s|\s$", phrase), phrase
        assert not re.match(r"an? (?:.*[^s]s$)", phrase) or phrase.endswith(SINGULARS), phrase
        names |= set(re.findall(r"\b[A-Z][\w'-]*", phrase))
        small |= set(re.findall(r"\b[a-z][\w'-]*", phrase))
    # Only as parts of longer names: Great Dane, Kerry Blue, Old English, a Greater Swiss Mountain dog.
    assert {name for name in names if name.lower() in small} <= {"Great", "Blue", "Old", "Mountain", "Walker", "Model"}


SINGULARS = (
    *("bus", "lens", "canvas", "gas", "fungus", "abacus", "hippopotamus", "platypus", "nautilus", "colobus", "mantis"),
    *("malinois", "patas", "triceratops", "Flandres", "Pyrenees", "trolleybus", "octopus"),
)


def test_the_cases(shared: Path) -> None:
    rows = [line.split("\t") for line in (shared / "cases/text/labels.tsv").read_text().splitlines()]
    assert len(rows) == 8
    assert [(label, with_article(label)) for label, _ in rows] == [tuple(row) for row in rows]


@pytest.mark.parametrize(
    ("label", "phrase"),
    [
        ("hourglass", "an hourglass"),
        ("unicorn", "a unicorn"),
        ("X-ray", "an X-ray"),
        ("x-ray", "an X-ray"),
        ("T-shirt", "a T-shirt"),
        ("t-shirt", "a T-shirt"),
        ("umbrella", "an umbrella"),
        ("urn", "an urn"),
        ("urinal", "a urinal"),
        ("unidentified object", "an unidentified object"),
        ("one-piece swimsuit", "a one-piece swimsuit"),
        ("MP3 player", "an MP3 player"),
        ("8-ball", "an 8-ball"),
        ("tv", "a TV"),
        ("LED lamp", "an LED lamp"),
        ("USB stick", "a USB stick"),
        ("PERSON", "a person"),
        ("TRAFFIC LIGHT", "a traffic light"),
        ("cup_of_tea", "a cup of tea"),
        ("bag of chips", "a bag of chips"),
        ("sandal_(type_of_shoe)", "a sandal"),
        ("car_(automobile)", "a car"),
        ("flip-flop_(sandal)", "a flip-flop"),
        ("glass (drink container)", "a glass"),
        ("glasses", "glasses"),
        ("short_pants", "short pants"),
        ("potted_plant", "a potted plant"),
        ("sheep", "a sheep"),
        ("people", "people"),
        ("skis", "skis"),
        ("ski", "a ski"),
        ("Shampoo/shower gel", "shampoo or shower gel"),
        ("German Shepherd", "a German shepherd"),
        ("sky", "the sky"),
        ("a dog", "a dog"),
        ("An Old_SUV", "an old SUV"),
        ("the left glove", "the left glove"),
        ("A TV/monitor", "a TV or monitor"),
        ("T", "a T"),
        ("theatre", "a theatre"),
    ],
)
def test_what_is_difficult(label: str, phrase: str) -> None:
    assert with_article(label) == phrase
    assert named_kind(label) == f"<|object_ref_start|>{phrase}<|object_ref_end|>"


@given(st.text(min_size=1))
@example("/0")
def test_any_label_has_a_name(label: str) -> None:
    phrase = with_article(label)
    assert phrase
    assert re.sub(r"^(?:an?|the) ", "", phrase)
