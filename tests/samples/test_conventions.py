"""Conventions of boxes: one sample through each and back, by tables, by chance and by other people's readers."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from converted_records import CAT, DOG, SIZES, THREE, answers, box, convert, one, record
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from migician.boxes import Box
from migician.boxtext import QWEN, STYLES, parse_boxes, reference
from migician.build.converters.records import INEXACT, Conversion, converted, seen_size
from migician.errors import UserError
from migician.samples.conventions import CONVENTIONS, RECORD_STYLES
from migician.samples.dialogue import Dialogue, Exchange, placed
from migician.samples.lengths import Resize
from migician.samples.segments import Boxed, Form, Phrase, Segment, read_tokens, write_tokens


@pytest.fixture
def media(tmp_path: Path) -> Path:
    for number, size in enumerate(SIZES):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("style", RECORD_STYLES)
def test_three_images_and_four_boxes_come_back(style: str, media: Path) -> None:
    there = one(THREE, "qwen2_vl", style, media)
    back = one(there, style, "qwen2_vl", media)
    if style != "qwen2_5_vl":
        assert back == THREE
        return
    # Of pixels, within half a pixel and half a thousandth: 3 wide in 1000 is 3 of 1932 pixels.
    shapes = [[part for part in read_tokens(text) if not isinstance(part, Boxed)] for text in answers(back)]
    assert shapes == [[part for part in read_tokens(text) if not isinstance(part, Boxed)] for text in answers(THREE)]
    for before, after in zip(_boxes(THREE), _boxes(back), strict=True):
        assert before.as_tuple() == pytest.approx(after.as_tuple(), abs=0.5 / 336 + 0.0005)
    assert one(back, "qwen2_vl", style, media) == there  # nothing more is lost on the second way


def swift(boxes: list[list[float]], images: list[int], kind: str = "norm1") -> bytes:
    """A record of ms-swift over two images whose text does not say which one a box is in."""
    texts = {"user": "<image><image>Where?", "assistant": "<bbox>" * len(boxes)}
    said = [{"role": role, "content": text} for role, text in texts.items()]
    objects = {"bbox": boxes, "bbox_type": kind, "image_id": images}
    return msgspec.json.encode({"messages": said, "images": ["0.png", "1.png"], "objects": objects, "id": "a"})


def test_image_ids_stay_and_tell_the_pixels(media: Path) -> None:
    content = swift([[64, 48, 640, 480], [33.3, 50, 333, 500]], [0, 1], "real")
    objects = json.loads(one(content, "ms-swift", "ms-swift", media))["objects"]
    assert objects["bbox"] == [[0.1, 0.1, 1, 1]] * 2 and objects["image_id"] == [0, 1]
    (answer,) = answers(one(content, "ms-swift", "qwen2_5_vl", media))
    assert re.findall(r"\[([0-9, ]+)\]", answer) == ["64, 48, 644, 476", "34, 50, 336, 504"]


@pytest.mark.parametrize(
    ("answer", "images"),
    [
        # What is read as no mention of a box, or as one too many, moves no other box to its image.
        (f"<think>Image-2: {box(0, 0, 9, 9)}</think><answer>Image-3: {box(0, 0, 9, 9)}</answer>", [None, 2]),
        (f"Image-2: no (1,1),(2,2). Image-3: {box(0, 0, 9, 9)}", [2]),
        (f"Image-1: {reference('(1,1),(2,2)')}{box(0, 0, 9, 9)}\nImage-2: {box(0, 0, 9, 9)}", [0, 1]),
        (f"Image-2: {box(0, 0, 9, 9)}{box(1, 1, 9, 9)}", [1]),
    ],
)
def test_each_box_is_in_the_image_that_is_named_for_it(answer: str, images: list[int | None]) -> None:
    turn = Exchange(read_tokens("<image><image><image>Where?"), read_tokens(answer))
    dialogue = placed(Dialogue("a", ["0.png", "1.png", "2.png"], "", [], [turn]))
    assert [boxed.image for boxed in dialogue.boxed()] == images


def _boxes(content: bytes) -> list[Box]:
    texts = [turn["value"] for turn in json.loads(content)["conversations"]]
    parts = [part for text in texts for part in read_tokens(text) if isinstance(part, Boxed)]
    return [box for part in parts for box in part.boxes]


def test_what_is_written(media: Path) -> None:
    made = json.loads(one(THREE, "qwen2_vl", "qwen3_vl", media))["conversations"]
    assert [turn["value"] for turn in made] == [
        '<image><image><image>Find "the dog" of Image-1 {"bbox_2d": [100, 200, 300, 400]} in the others.',
        '```json\n[\n\t{"image": 2, "bbox_2d": [0, 0, 500, 1000], "label": "the dog"},\n'
        '\t{"image": 3, "bbox_2d": [250, 250, 750, 999], "label": "the dog"}\n]\n```',
        'And "a cat"?',
        'It is in the third image. [{"bbox_2d": [1, 2, 3, 1000], "label": "a cat"}]',
    ]
    first = answers(one(THREE, "qwen2_vl", "fractions", media))[0]
    assert json.loads(first) == [
        {"image": 2, "bbox": [0.0, 0.0, 0.5, 1.0], "label": "the dog"},
        {"image": 3, "bbox": [0.25, 0.25, 0.75, 0.999], "label": "the dog"},
    ]
    swift = json.loads(one(THREE, "qwen2_vl", "ms-swift", media))
    assert swift["objects"] == {
        "ref": ["the dog", "a cat"],
        "bbox": [[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.5, 1.0], [0.25, 0.25, 0.75, 0.999], [0.001, 0.002, 0.003, 1.0]],
        "bbox_type": "norm1",
        "image_id": [0, 1, 2, 2],
    }
    contents = [message["content"] for message in swift["messages"]]
    assert contents[0] == "<image><image><image>Find <ref-object> of Image-1 <bbox> in the others."
    assert contents[1] == "Image-2: <bbox>\nImage-3: <bbox>"


@pytest.mark.parametrize(("style", "read_as"), [("qwen3_vl", "qwen3-vl"), ("fractions", "list-fraction")])
def test_evaluation_reads_the_image_of_each_box(style: str, read_as: str, media: Path) -> None:
    for before, after in zip(answers(THREE), answers(one(THREE, "qwen2_vl", style, media)), strict=True):
        said, found = parse_boxes(before).mentions, parse_boxes(after, STYLES[read_as]).mentions
        assert [(mention.image, mention.box) for mention in found] == [(mention.image, mention.box) for mention in said]


def test_pixels_are_those_of_the_resized_image(media: Path) -> None:
    made = answers(one(THREE, "qwen2_vl", "qwen2_5_vl", media))
    second, third = json.loads(made[0].removeprefix("```json").removesuffix("```"))
    assert seen_size(SIZES[1], Resize()) == (336, 504) and seen_size(SIZES[2], Resize()) == (1036, 588)
    assert second["bbox_2d"] == [0, 0, 168, 504] and third["bbox_2d"] == [259, 147, 777, 587]


@pytest.mark.parametrize("answer", [box(1, 2, 3, 4), f"{DOG}{box(1, 2, 3, 4)}{box(5, 6, 7, 8)}", "None of them.", "{}"])
@pytest.mark.parametrize("style", ["qwen3_vl", "fractions", "ms-swift"])
def test_answers_of_one_image_come_back(style: str, answer: str, media: Path) -> None:
    content = record(("<image>Where?", answer), images=1)
    assert one(one(content, "qwen2_vl", style, media), style, "qwen2_vl", media) == content


TEXTS = st.text(
    st.sampled_from("ab Image-12:.\n\"'{}[]`\\é<|>") | st.characters(codec="utf-8"), min_size=1, max_size=20
)
PERMILLE = st.integers(0, 1000)
BOXES = st.builds(Box.from_permille, PERMILLE, PERMILLE, PERMILLE, PERMILLE)
SEGMENTS = st.lists(
    TEXTS
    | st.builds(Phrase, TEXTS)
    | st.just(Form())
    | st.builds(Boxed, st.lists(BOXES, min_size=1, max_size=3).map(tuple), st.none() | TEXTS),
    max_size=6,
)


@given(SEGMENTS)
def test_tokens_are_read_as_they_are_written(segments: list[Segment]) -> None:
    text = write_tokens(segments)
    assert write_tokens(read_tokens(text)) == text


@given(TEXTS)
def test_any_text_is_read_as_tokens(text: str) -> None:
    assert write_tokens(read_tokens(text)) == text


@given(SEGMENTS, SEGMENTS, st.sampled_from(["qwen3_vl", "fractions"]))
def test_no_box_is_lost_in_json(question: list[Segment], answer: list[Segment], style: str) -> None:
    convention = CONVENTIONS[style]
    asked, answered = convention.read(*convention.write(question, answer, lambda _: (1, 1)))
    for before, after in ((question, asked), (answer, answered)):
        assert _permille(after) == _permille(before)


def _permille(segments: list[Segment]) -> list[tuple[int, ...]]:
    return [box.to_permille() for one in segments if isinstance(one, Boxed) for box in one.boxes]


@pytest.mark.parametrize("unit", ['{"\\"', '{\\"', '"a": {"\\"', '[{"', '{"bbox_2d": [', "```json\n[", '", {"'])
def test_a_megabyte_of_brackets_and_quotes_is_read(unit: str) -> None:
    text = '"bbox_2d"' + unit * (1_000_000 // len(unit))  # read quadratically, it would take hours
    assert CONVENTIONS["qwen3_vl"].read("", text) == ([], [text])


@pytest.mark.parametrize(("label", "read"), [("5", "5"), ('["a"]', '["a"]'), ("true", "true"), ("null", None)])
def test_a_label_that_is_no_text_becomes_text(label: str, read: str | None) -> None:
    _, (found,) = CONVENTIONS["qwen3_vl"].read("", f'[{{"bbox_2d": [1, 2, 3, 4], "label": {label}}}]')
    assert isinstance(found, Boxed) and found.label == read


UNKNOWN = record((f"<image><image>Find {DOG}.", box(0, 0, 500, 500)), images=2)


@pytest.mark.parametrize("style", ["qwen2_5_vl", "ms-swift"])
def test_a_box_of_no_known_image_is_left_out_where_it_matters(style: str, media: Path) -> None:
    with pytest.raises(UserError, match=r"not one of its 1 records .* 1 left out: the text does not say which image"):
        convert([UNKNOWN], "qwen2_vl", style, media)
    made, counts = convert([UNKNOWN, THREE], "qwen2_vl", style, media)
    assert len(made) == counts["converted"] == 1 and sum(counts.values()) == 2
    same = media / "same"  # another folder: sizes are remembered by name
    same.mkdir()
    for number in range(2):
        Image.new("RGB", SIZES[0]).save(same / f"{number}.png")
    made, counts = convert([UNKNOWN], "qwen2_vl", style, same)
    assert len(made) == 1 and counts["boxes whose image the text does not say"] == 1


def test_fields_without_a_place_are_counted(media: Path) -> None:
    fields = json.loads(THREE)
    fields["conversations"][0]["weight"] = 0
    more = [fields | {"tools": "[]", "seed": 3}, fields | {"tools": "", "seed": None}]
    for source, target in (("qwen2_vl", "qwen3_vl"), ("qwen2_vl", "ms-swift")):
        made, counts = convert([THREE, *map(msgspec.json.encode, more)], source, target, media)
        told = {what.split("'")[1]: number for what, number in counts.items() if "has no place" in what}
        assert told == {"conversations[].weight": 2, "seed": 1, "tools": 1} and len(set(made)) == 1
    swift = json.loads(one(THREE, "qwen2_vl", "ms-swift", media)) | {"tools": "[]"}
    _, counts = convert([msgspec.json.encode(swift)], "ms-swift", "qwen2_vl", media)
    assert counts == {"converted": 1, "records without their field 'tools', which has no place in the convention": 1}


def test_what_does_not_come_back_is_counted(media: Path) -> None:
    two = record((f"<image>Find {DOG} beside {CAT}.", box(0, 0, 500, 500)), images=1)
    like_a_box = reference('{"bbox_2d": [1, 2, 3, 4]}')
    phrase = record((f"<image>Find {like_a_box}.", "None."), images=1)
    brackets = record((f"<image>What is [{box(0, 0, 500, 500)}]?", "None."), images=1)
    nowhere = record((f"<image>Find {DOG}.", "None."), images=1)
    for content in (two, phrase, brackets, nowhere):
        made, counts = convert([content, THREE], "qwen2_vl", "qwen3_vl", media)
        assert sorted(counts.values()) == [1, 2] and len(made) == 2


@given(SEGMENTS, SEGMENTS)
def test_what_is_not_counted_comes_back(question: list[Segment], answer: list[Segment]) -> None:
    content = record((write_tokens(question), write_tokens(answer)), images=1)
    (made,), counts = convert([content], "qwen2_vl", "qwen3_vl", Path())
    assert INEXACT in counts or one(made, "qwen3_vl", "qwen2_vl", Path()) == content


@pytest.mark.parametrize(
    ("content", "source", "said"),
    [
        (b'{"messages": [{"role": "user", "content": "<bbox>"}]}', "ms-swift", "record 0"),
        (b'{"messages": 3}', "ms-swift", "record 0"),
        (record(("<image>Where?", '[{"bbox_2d": [1, 2, 3]}]')), "qwen3_vl", "four numbers"),
        (record(("<image>Where?", f'[{{"bbox_2d": [1, 2, 3, {"9" * 400}]}}]')), "qwen3_vl", "four numbers"),
        (record(("<image>Where?", '[{"bbox_2d": [1, 2, 3, 4]}]')), "qwen2_5_vl", "0.png"),
        (swift([[1e308, 0, 1, 1]], [0]), "ms-swift", "infinity"),
        (swift([[0, 0, 1, 1]], [-1]), "ms-swift", "image_id"),
        (swift([[0, 0, 1, 1]], [2]), "ms-swift", "image_id"),
    ],
)
def test_bad_input_is_named(content: bytes, source: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="file.json: record 0|0.png") as error:
        convert([content], source, "qwen2_vl", tmp_path)
    assert said in str(error.value)


@pytest.mark.parametrize("within", ["", "In the first image: "])
def test_supervision_reads_the_same_boxes(within: str, media: Path) -> None:
    supervision = pytest.importorskip("supervision")
    answer = f"{within}{DOG}{box(100, 200, 300, 400)}{box(0, 0, 500, 1000)}"
    content = record(("<image>Where?", answer), images=1)
    wanted = [(64, 96, 192, 192), (0, 0, 320, 480)]
    kinds = {"qwen3_vl": ((1000, 1000), 1e-6), "qwen2_5_vl": (seen_size(SIZES[0], Resize()), 1)}
    for style, (scale, tolerance) in kinds.items():
        (answer,) = answers(one(content, "qwen2_vl", style, media))
        kind = supervision.VLM.QWEN_2_5_VL  # for Qwen3-VL it is the same reader with a scale of 1000
        found = supervision.Detections.from_vlm(kind, answer, input_wh=scale, resolution_wh=SIZES[0])
        assert found.xyxy.tolist() == [pytest.approx(four, abs=tolerance) for four in wanted]
        assert found.data["class_name"].tolist() == ["the dog", "the dog"]


def test_the_makers_wording_is_for_one_reference_in_one_image(media: Path) -> None:
    asks = record((f"<image>Find {DOG}, quickly.", box(1, 2, 3, 4)), (f"And {CAT}?", "None."), images=1)
    others = [THREE, record(("<image>Where?", box(1, 2, 3, 4)), images=1)]
    given = [(f"<image>{box(1, 2, 3, 4)} is {DOG}.", box(1, 2, 3, 4)), (f"<image>{DOG}?", CAT + box(1, 2, 3, 4))]
    others += [record(one, images=1) for one in given]
    counts: Counter[str] = Counter()
    wording = Conversion("qwen2_vl", "qwen3_vl", media, wording="qwen3_vl")
    made, *rest = converted(iter([asks, *others]), 5, wording, "file.json", counts)
    assert [turn["value"] for turn in json.loads(made)["conversations"]][::2] == [
        '<image>Locate every object that matches the description "the dog" in the image. '
        "Report bbox coordinates in JSON format.",
        'And "a cat"?',
    ]
    assert rest == convert(others, "qwen2_vl", "qwen3_vl", media)[0]
    assert counts["questions in the wording asked for"] == 1
    none: Counter[str] = Counter()
    assert list(converted(iter(others[:1]), 1, wording, "file.json", none)) == rest[:1]
    assert none["questions in the wording asked for"] == 0 and "questions in the wording asked for" in none


@pytest.mark.parametrize("source", ["qwen3_vl", "fractions"])
def test_records_without_a_box_of_the_stated_convention_are_reported(source: str, media: Path) -> None:
    elsewhere = one(THREE, "qwen2_vl", source, media)
    _, counts = convert([elsewhere], "qwen2_vl", "qwen3_vl", media)
    assert [number for what, number in counts.items() if "not one box that is written as qwen2_vl" in what] == [1]
    assert convert([elsewhere], source, "qwen3_vl", media)[1] == {"converted": 1}


@pytest.mark.parametrize("style", [name for name in RECORD_STYLES if name != "qwen2_vl"])
@pytest.mark.parametrize(
    ("question", "lost"),
    [
        (f"<image><image><image>Where is {DOG}?", 0),
        ("<image><image><image>What do these images share? Box it in the second.", 0),
        (f"<image><image><image>Find {DOG} as {box(1, 2, 3, 4)} of Image-1 shows it.", 0),
        (f"<image><image><image>Is {DOG} beside {CAT}, or {DOG} alone?", 1),  # which marks come back is not known
        ('<image><image><image>Where is the sign "stop"?', 1),
    ],
)
def test_nothing_there_comes_back(style: str, question: str, lost: int, media: Path) -> None:
    content = record((question, QWEN.absent), (f"And {CAT}?", f"Image-3: {box(0, 0, 500, 1000)}"))
    (there,), counts = convert([content], "qwen2_vl", style, media)
    (back,), _ = convert([there], style, "qwen2_vl", media)
    assert answers(back)[0] == QWEN.absent and counts[INEXACT] == (lost if style != "ms-swift" else 0)
    if not counts[INEXACT] and style != "qwen2_5_vl":
        assert back == content


@pytest.mark.parametrize("style", ["qwen3_vl", "fractions"])
@pytest.mark.parametrize("answer", ["[]", " [ ]\n", "```json\n[]\n```", "```\n[\n]\n```"])
def test_an_empty_list_says_that_nothing_is_there(style: str, answer: str, media: Path) -> None:
    assert answers(one(record(('Find "the dog".', answer)), style, "qwen2_vl", media)) == [QWEN.absent]
    said = one(record(('Find "the dog".', f"Image-1: {answer}")), style, "qwen2_vl", media)
    assert answers(said) == [f"Image-1: {answer}"]  # within a sentence it stays text
