"""Reading and writing boxes in text: every spelling, every way to go wrong."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from migician import STYLES, Box, parse_boxes
from migician.boxtext import final_answer
from migician.imagenames import _COPULA, _LEAD, _NAME, _REACH, _is_clear, _matches, _read, asked_image, ordinal

permille = st.integers(0, 1000)


@st.composite
def ordered(draw):
    x1, x2 = sorted((draw(permille), draw(permille)))
    y1, y2 = sorted((draw(permille), draw(permille)))
    return Box.from_permille(x1, y1, x2, y2)


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda style: style.name)
@given(box=ordered())
def test_what_is_written_is_read_back(style, box):
    size = (1000, 1000)
    parsed = parse_boxes(f"Here: {style.write(box, size)} and so on", style, size)
    assert parsed.status == "read"
    precision = 0.5 / 999 if style.scale == "bins" else 0
    assert parsed.boxes[0].as_tuple() == pytest.approx(box.as_tuple(), abs=precision + 1e-9)


@given(st.text())
def test_reading_never_raises(text):
    for style in STYLES.values():
        parse_boxes(text, style, (640, 480))


@given(st.text(alphabet="()[]<>,.0123456789- \n|/boxthinkanswerimage第二张图"))
def test_reading_never_raises_on_almost_boxes(text):
    for style in STYLES.values():
        parsed = parse_boxes(text, style, (640, 480))
        assert (parsed.status == "no_box") <= (not parsed.mentions)


# (reply, status, first box in permille or None, image the box is tied to)
REPLIES = [
    ("(20,93),(998,684)", "read", (20, 93, 998, 684), None),
    ("<|box_start|>(20,93),(998,684)<|box_end|>", "read", (20, 93, 998, 684), None),
    ("<|box_start|>( 20 , 93 ) , ( 998 , 684 )<|box_start|>", "read", (20, 93, 998, 684), None),
    ("flamingo(369,94),(483,321)", "read", (369, 94, 483, 321), None),
    ("(0,0),(1000,1000)", "read", (0, 0, 1000, 1000), None),
    ("(5,5),(5,5)", "read", (5, 5, 5, 5), None),
    # several, the last one cut off
    ("(231,299),(301,360)(325,319),(451,419)(24,", "read", (231, 299, 301, 360), None),
    # no box
    ("", "no_box", None, None),
    ("There are no differences between these two images.", "no_box", None, None),
    ("The 2 images show 3 dogs, 4 cats and 5 birds.", "no_box", None, None),
    # garbled: cut off, foreign spelling, decimals, reversed corners, half a box
    ("(546,0", "garbled", None, None),
    ("(59,307),(259,691", "garbled", None, None),
    ("[0.32, 0.19, 0.57, 0.56]", "garbled", None, None),
    ("[321, 190, 570, 560]", "garbled", None, None),
    ("<|box_start|>(none)<|box_end|>", "garbled", None, None),
    ("(0.32,0.19),(0.57,0.56)", "garbled", (0.32, 0.19, 0.57, 0.56), None),
    ("(714,640),(526,835)", "garbled", (714, 640, 526, 835), None),
    ("(100,835),(526,640)", "garbled", (100, 835, 526, 640), None),
    # off the scale, never clipped
    ("(100,100),(1001,500)", "off_scale", (100, 100, 1001, 500), None),
    ("(1200,100),(300,400)", "off_scale", (1200, 100, 300, 400), None),
    ("(-3,10),(300,400)", "off_scale", (-3, 10, 300, 400), None),
    # only the final answer counts
    ("<think>maybe (1,2),(3,4)</think><answer>(10,20),(30,40)</answer>", "read", (10, 20, 30, 40), None),
    ("<think>maybe (1,2),(3,4)</think>(10,20),(30,40)", "read", (10, 20, 30, 40), None),
    ("(1,2),(3,4) <answer>(10,20),(30,40)", "read", (10, 20, 30, 40), None),
    ("<answer>(1,2),(3,4)</answer> no: <answer>(10,20),(30,40)</answer>(5,6),(7,8)", "read", (10, 20, 30, 40), None),
    ("<think>it may be at (1,2),(3,4) but then", "no_box", None, None),
    ("<think>(1,2),(3,4)</think> I cannot tell.", "no_box", None, None),
    ("<think>Image-3: x</think> Image-2: (10,20),(30,40)", "read", (10, 20, 30, 40), 1),
    # the image a box is tied to
    ("It's in the third image. <|box_start|>(316,58),(764,999)<|box_end|>", "read", (316, 58, 764, 999), 2),
    ("It’s in the third image. (316,58),(764,999)", "read", (316, 58, 764, 999), 2),
    ("Image-2: (316,58),(764,999)", "read", (316, 58, 764, 999), 1),
    ("**Image 2**: (316,58),(764,999)", "read", (316, 58, 764, 999), 1),
    ("2th (316,58),(764,999)", "read", (316, 58, 764, 999), 1),
    ("3th image(3,2),(999,989)", "read", (3, 2, 999, 989), 2),
    ("The dog is in the 2nd picture: (3,2),(999,989)", "read", (3, 2, 999, 989), 1),
    ("(316,58),(764,999) in the second image", "read", (316, 58, 764, 999), 1),
    ("The bird in image 3 is at (316,58),(764,999)", "read", (316, 58, 764, 999), 2),
    ("目标在第二张图中：(316,58),(764,999)", "read", (316, 58, 764, 999), 1),
    ("第3张图片：(316,58),(764,999)", "read", (316, 58, 764, 999), 2),
    # the question's own words are not an answer
    ("the object marked with red bounding box in the first image(1,2),(3,4)", "read", (1, 2, 3, 4), None),
    ("the object in image-1(1,2),(3,4)", "read", (1, 2, 3, 4), None),
    ("the second region(1,2),(3,4)", "read", (1, 2, 3, 4), None),
    ("2th region(1,2),(3,4)", "read", (1, 2, 3, 4), None),
    ("In the first image it is full, in the second image empty. It is at (1,2),(3,4)", "read", (1, 2, 3, 4), None),
    ("The calculator at(151,538),(431,715) suits the scene presented in Image-1.", "read", (151, 538, 431, 715), None),
]


@pytest.mark.parametrize(("reply", "status", "corners", "image"), REPLIES)
def test_real_and_difficult_replies(reply, status, corners, image):
    parsed = parse_boxes(reply)
    assert parsed.status == status
    if corners is None:
        assert parsed.mentions == ()
        return
    first = parsed.mentions[0]
    assert first.box == Box.from_permille(*corners)
    assert first.image == image
    assert (first.box in parsed.boxes) == (status == "read")


@pytest.mark.parametrize(
    ("reply", "tied"),
    [
        ("First image: (1,2),(3,4). Second image: (5,6),(7,8)", [0, 1]),
        ("(1,2),(3,4) in the first image, (5,6),(7,8) in the second image", [0, 1]),
        ("Image-2: (1,2),(3,4) and (5,6),(7,8). Image-3: (9,9),(10,10)", [1, 1, 2]),
        ("the boat(1,2),(3,4) in the first image is located at (5,6),(7,8) in the 2th image.", [0, 1]),
        ("(1,2),(3,4)(5,6),(7,8)", [None, None]),
    ],
)
def test_each_box_has_its_image(reply, tied):
    assert [mention.image for mention in parse_boxes(reply).mentions] == tied


@pytest.mark.parametrize(
    ("reply", "tied"),
    [
        ('[{"image": 2, "bbox_2d": [1, 2, 3, 4], "label": "a"}, {"image": 3, "bbox_2d": [5, 6, 7, 8]}]', [1, 2]),
        (
            '```json\n[\n\t{"image": 1, "bbox_2d": [1, 2, 3, 4]},\n\t{"image": 1, "bbox_2d": [5, 6, 7, 8]}\n]\n```',
            [0, 0],
        ),
        ('{"bbox_2d": [1, 2, 3, 4], "image": 3}', [2]),
        ('[{"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [5, 6, 7, 8]}]', [None, None]),
        ('{"image": "a.png", "bbox_2d": [1, 2, 3, 4]}', [None]),
        ('{"image_id": 2, "bbox_2d": [1, 2, 3, 4]}', [None]),  # nobody says what such a number counts from
    ],
)
def test_an_object_that_names_its_image_is_of_that_image(reply, tied):
    """As records converted to such a form name it, counted from 1 (`migician.samples.conventions`)."""
    assert [mention.image for mention in parse_boxes(reply, STYLES["qwen3-vl"]).mentions] == tied


def test_the_box_of_the_asked_image_is_picked():
    parsed = parse_boxes("First image: (1,2),(3,4). Second image: (5,6),(7,8)")
    assert parsed.pick(1).box == Box.from_permille(5, 6, 7, 8)
    assert parsed.pick(2).box == Box.from_permille(1, 2, 3, 4)  # none is tied to it: the first
    assert parsed.pick(None).box == Box.from_permille(1, 2, 3, 4)
    assert parse_boxes("nothing").pick(0) is None


@pytest.mark.parametrize(
    ("style", "reply", "status"),
    [
        ("internvl", "<box>[[316, 58, 764, 999]]</box>", "read"),
        ("internvl", "[[316,58,764,999]]", "read"),
        ("internvl", "[[0.3, 0.1, 0.7, 0.9]]", "garbled"),
        ("minicpm", "<box>316 58 764 999</box>", "read"),
        ("minicpm", "316 58 764 999", "garbled"),
        ("llava-onevision", "[0.3, 0.1, 0.7, 0.9]", "read"),
        ("llava-onevision", "[0, .1, 0.7, 1]", "read"),
        ("llava-onevision", "[300, 100, 700, 900]", "off_scale"),  # never taken for permille by its size
        ("tuple-fraction", "(0.3, 0.1, 0.7, 0.9)", "read"),
        ("pairs-fraction", "(0.3,0.1),(0.7,0.9)", "read"),
        ("qwen2.5-vl", '```json\n[{"bbox_2d": [10, 20, 630, 470], "label": "cat"}]\n```', "read"),
        ("qwen2.5-vl", '{"bbox_2d": [10, 20, 700, 470]}', "off_scale"),  # the picture is 640 wide
        ("qwen3-vl", '{"bbox_2d": [10, 20, 700, 470]}', "read"),
        ("cogvlm", "[[058,123,400,999]]", "read"),
        (
            "glm-v",
            "<think>at [1,2,3,4]?</think><answer><|begin_of_box|>[[58,123,400,999]]<|end_of_box|></answer>",
            "read",
        ),
        ("glm-v", "<|begin_of_box|>[58, 123, 400, 999]<|end_of_box|>", "read"),
        ("glm-v", "<|begin_of_box|>58 123<|end_of_box|>", "garbled"),
        ("rex-omni", "<|box_start|><35><123><980><999>, <646><0><999><940><|box_end|>", "read"),
        ("rex-omni", "<|box_start|><35><123><980><1000><|box_end|>", "off_scale"),
        ("rex-omni", "<|box_start|><980><123><35><999><|box_end|>", "garbled"),
        ("rex-omni", "<|box_start|><35><123><|box_end|>", "garbled"),  # a point
        ("rex-omni", "<|object_ref_start|>cat<|object_ref_end|><|box_start|>None<|box_end|>", "no_box"),
        ("rex-omni", "(35,123),(980,999)", "garbled"),
        (
            "onethinker",
            '<think>near {"boxes": [1, 2, 3, 4]}</think><answer>{"boxes": [35, 227, 437, 932]}</answer>',
            "read",
        ),
        ("onethinker", '<think>near {"boxes": [1, 2, 3, 4]}, but', "no_box"),
        ("onethinker", '<answer>{"boxes": [35, 227, 437]}</answer>', "garbled"),
        ("onethinker", '<answer>{"boxes": {"9": [317, 422, 582, 997], "10": [332, 175, 442, 369]}}</answer>', "read"),
        ("gemini", '```json\n[{"box_2d": [100, 20, 900, 70], "label": "cat"}]\n```', "read"),
        ("gemini", '{"box_2d": [900, 20, 100, 70]}', "garbled"),  # y_min below y_max
        ("gemini", '{"box_2d": null}', "garbled"),
        ("generic", '{"bbox_2d": [10, 20, 700, 470]}', "read"),
    ],
)
def test_the_families_own_spellings(style, reply, status):
    assert parse_boxes(reply, STYLES[style], (640, 480)).status == status


def test_what_is_read_from_forms_with_their_own_order_or_scale():
    (box,) = parse_boxes('[{"box_2d": [100, 20, 900, 70], "label": "cat"}]', STYLES["gemini"]).boxes
    assert box == Box(0.02, 0.1, 0.07, 0.9)  # y_min, x_min, y_max, x_max
    assert STYLES["gemini"].write(box) == '{"box_2d": [100, 20, 900, 70]}'
    boxes = parse_boxes("<|box_start|><0><35><980><999>,<646><0><999><940><|box_end|>", STYLES["rex-omni"]).boxes
    assert boxes == (Box(0, 35 / 999, 980 / 999, 1), Box(646 / 999, 0, 1, 940 / 999))
    (box,) = parse_boxes('<answer>{"boxes": [35, 227, 437, 932]}</answer>', STYLES["onethinker"]).boxes
    assert box.to_permille() == (35, 227, 437, 932)


def test_leading_zeros_are_not_decimals():
    parsed = parse_boxes("[[058,123,400,999]]", STYLES["cogvlm"])
    assert parsed.boxes == (Box(0.058, 0.123, 0.4, 0.999),)


def test_pixels_need_a_size():
    with pytest.raises(ValueError, match="size"):
        parse_boxes("[1, 2, 3, 4]", STYLES["list-pixel"])
    with pytest.raises(ValueError, match="size"):
        STYLES["list-pixel"].write(Box(0, 0, 1, 1))


_MILLION = 1_000_000
HOSTILE = {
    "brackets": "(" * _MILLION,
    "half pairs": "(1," * (_MILLION // 3),
    "blanks in a box": "(1,1)" + " " * _MILLION + ",",
    "digits": "(" + "9" * _MILLION + ",1),(2,2)",
    "many boxes": "(1,1),(2,2) in the third image " * (_MILLION // 31),
    "many names": "image " * (_MILLION // 6),
    "tags": "<box> " * (_MILLION // 6),
    "thoughts": "<think>" * (_MILLION // 7) + "</think>",
}


@pytest.mark.parametrize("reply", HOSTILE.values(), ids=HOSTILE)
def test_time_grows_with_the_length_only(reply):
    """The work on four times the text is at most about four times as much, counted, not timed."""
    for style in ("qwen", "internvl", "minicpm"):
        parse_boxes(reply, STYLES[style])  # a quadratic reading of a megabyte would take hours


@pytest.mark.parametrize("word", ["ſecond", "fİrst", "thırd"])
def test_letters_like_those_of_an_ordinal_name_no_image(word):
    assert parse_boxes(f"In the {word} image: (1,1),(2,2)").mentions[0].image is None


def test_a_number_beyond_any_float_is_off_the_scale():
    assert parse_boxes("(1,1),(" + "9" * 5000 + ",2)").status == "off_scale"


def test_final_answer_of_plain_text_is_the_text():
    assert final_answer("plain") == "plain"


@given(st.integers(0, 98))
def test_ordinals_are_read_back(position):
    assert asked_image(f"the {ordinal(position)} image") == position


NAMES = st.lists(
    st.sampled_from([
        "image", "Image-", "IMG", "picture ", "photo", "Photograph", "frame", "first", "Second ", "third one", "tenth",
        "eighth ", "ninth", "1", "23", "4567", "st", "nd", "RD", "th", " ", " one", '"image": ', '"', ":", ".", ",",
        "\n", "(", ")", "第", "二", "张图", "图3", "ſecond", "ımage", "_", "x", "is ", "in the ",
    ])
).map("".join)  # fmt: skip


@given(NAMES, st.integers(0, 9), st.integers(0, 9))
@example('2"image": 3', 0, 0)
@example("12345th image 2nd", 0, 0)
def test_names_are_found_as_by_one_expression(text, begin, cut):
    limit = max(begin, len(text) - cut)
    found = [match.span() for match in _matches(text, begin, limit)]
    assert found == [match.span() for match in _NAME.finditer(text, begin, limit)]


@given(NAMES)
def test_signs_before_a_name_say_what_the_expression_says(text):
    for name in map(_read, _NAME.finditer(text)):
        start = name.span[0]
        before = text[max(0, start - _REACH) : start]
        led = _LEAD.search(before if start <= _REACH else "~" + before)
        assert _is_clear(text, name, 0) == bool(text[start] == '"' or led or _COPULA.match(text, name.span[1]))
