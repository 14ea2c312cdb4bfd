"""Plain turns by their text alone are what reading and writing them gives: by tables, by chance and on real samples."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migician.boxtext import QWEN
from migician.build.converters import records
from migician.build.converters.records import CONVERTED, Conversion, converted
from migician.samples.conventions import CONVENTIONS
from migician.samples.plain_turns import PlainTurns

BOX = "<|box_start|>(1,20),(300,1000)<|box_end|>"
DOG, CAT = (f"<|object_ref_start|>a {name}<|object_ref_end|>" for name in ("dog", "cat"))
FORM = "<|box_start|>(x1,y1),(x2,y2)<|box_end|>"
STYLES = ["qwen3_vl", "fractions"]

PLAIN = [
    ("<image><image>Where?", BOX),
    (f"<image><image>Where is {DOG}?", BOX + BOX),
    (f"Where is {DOG}?", f"Image-1: {BOX}\nImage-2: {BOX}{BOX}"),
    (f"Where is {DOG}?", f"Image-1: {BOX}\nImage-2: {BOX}."),
    (f"Where is {DOG}?", f"Image-1: {BOX}Image-2: {BOX}"),
    ("Where?", f"\nImage-1: {BOX}"),
    ("Where?", f"{BOX}\nImage-2: {BOX}"),
    (f"{BOX}{BOX} {BOX} is {DOG}.", f"So is {CAT}: {BOX}."),
    (f"Find {DOG} by {CAT}, as {FORM}.", f"{CAT} is in the second image. {BOX}"),
    (f"Find {DOG} by {CAT}.", f"It is é\t\u2028\\ {BOX}{DOG}"),
    ("What is it?", "A dog."),
]
OTHER = [
    ("Find the dog.", QWEN.absent),
    (f"Where is {DOG}?", "Nowhere."),
    ("Where?", DOG + BOX),
    ("Where?", "<|box_start|>(01,2),(3,4)<|box_end|>"),
    ("Where?", "<|box_start|>(1,2),(3,1001)<|box_end|>"),
    ("Where?", "<|box_start|>(1.5,2),(3,4)<|box_end|>"),
    ("Where?", f"<|box_start|>{BOX}"),
    ("Where?", f"<|object_ref_start|>a<b<|object_ref_end|> {BOX}"),
    ("Where?", f"<|object_ref_start|><|object_ref_end|> {BOX}"),
    ("Find <|object_ref_start|>object<|object_ref_end|>.", BOX),
    *((f"Find {DOG} {sign}.", BOX) for sign in '"[{`'),
]


def record(turns: list[tuple[str, str]], **fields: object) -> bytes:
    said = [{"from": who, "value": text} for turn in turns for who, text in zip(("human", "gpt"), turn, strict=True)]
    return msgspec.json.encode({"id": "a", "images": ["0.png", "1.png"], "conversations": said, "type": "t", **fields})


FIRST = record([("<image><image>Where?", BOX)])


def convert(contents: list[bytes], style: str) -> tuple[list[bytes], Counter[str]]:
    counts: Counter[str] = Counter()
    conversion = Conversion("qwen2_vl", style, Path())
    return list(converted(iter([FIRST, *contents]), len(contents) + 1, conversion, "file.json", counts)), counts


def the_long_way(contents: list[bytes], style: str) -> tuple[list[bytes], Counter[str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "plain_turns", lambda source, target: None)
        return convert(contents, style)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("turns", "is_plain"), [(PLAIN, True), (OTHER, False)])
def test_which_turns_are_plain(turns: list[tuple[str, str]], is_plain: bool, style: str) -> None:
    plain = PlainTurns(CONVENTIONS[style])
    assert [plain.write(*turn) is not None for turn in turns] == [is_plain] * len(turns)
    contents = [record([turn]) for turn in turns]
    assert convert(contents, style) == the_long_way(contents, style)


PIECES = st.sampled_from(
    [BOX, BOX.replace("300", "2"), DOG, CAT, FORM, "Image-1: ", "\nImage-2: ", "<image>", "object"]
)
TEXTS = st.lists(PIECES | st.text(st.sampled_from('ab .:"[{`<|>\\\n\x00é') | st.characters(codec="utf-8"), max_size=5))
TURNS = st.tuples(TEXTS.map("".join), TEXTS.map("".join))


@given(st.lists(st.lists(TURNS | st.sampled_from(PLAIN), max_size=3), max_size=4), st.sampled_from(STYLES))
def test_any_records_are_the_same_bytes_and_counts(conversations: list[list[tuple[str, str]]], style: str) -> None:
    contents = [record(turns) for turns in conversations]
    assert convert(contents, style) == the_long_way(contents, style)


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4), st.sampled_from(STYLES))
def test_every_number_is_the_same(numbers: list[int], style: str) -> None:
    content = record([("Where?", "<|box_start|>({},{}),({},{})<|box_end|>".format(*numbers))])
    assert convert([content], style) == the_long_way([content], style)


def test_records_of_other_kinds_are_left_to_the_long_way() -> None:
    contents = [record(PLAIN, tools="[]", seed=3), record(PLAIN, id=7), record(PLAIN, images=[])]
    contents += [json.dumps(json.loads(contents[1]), indent=1).encode(), FIRST.replace(b'"gpt"', b'"system"')]
    contents += [record([]), FIRST.replace(b'"type"', b'"kind"')]
    assert convert(contents, "qwen3_vl") == the_long_way(contents, "qwen3_vl")


@pytest.mark.parametrize("style", STYLES)
def test_real_questions_and_answers_are_the_same_bytes_and_counts(shared: Path, style: str) -> None:
    asked = [row["question"] for row in json.loads((shared / "data/mig_bench/MIG_data.json").read_bytes())]
    contents = []
    for name in ("migician", "qwen2_vl"):
        lines = (shared / f"data/model_answers/{name}.jsonl").read_bytes().splitlines()
        answers = [json.loads(line) for line in lines]
        for one in answers:  # the pairs of numbers in them with the tokens of training data
            answer = re.sub(r"(?<!>)\(\d+,\d+\),\(\d+,\d+\)", r"<|box_start|>\g<0><|box_end|>", one["response"])
            contents.append(record([(asked[one["index"]], answer)]))
    made, counts = convert(contents, style)
    assert (made, counts) == the_long_way(contents, style) and len(made) == counts[CONVERTED] == len(contents) + 1
