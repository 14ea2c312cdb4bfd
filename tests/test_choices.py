"""Multiple choice: which option a reply chooses, by hand; and where the published substring match says otherwise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migician.boxtext import QWEN
from migician.choices import ChoiceQuestion, is_published_match
from migician.optiontext import read_option
from migician.scoring import Answer, Reading, score

ORDER = ("the first image", "the second image", "the third image", "the fourth image")
YES_NO = ("Yes", "No")
COUNTS = ("3", "13", "5")
PETS = ("cat", "black cat", "dog")
ACTIONS = ("CLICK: (603, 801)", "SCROLL: UP", "SCROLL: DOWN")

# (options, lettered, reply, the option a reader would say it chooses: a place from 0, "none" or "several").
# Read by hand, one by one; do not change an expectation to what the code says.
REPLIES = [
    (ORDER, True, "B", 1),
    (ORDER, True, "b", 1),
    (ORDER, True, "B.", 1),
    (ORDER, True, "(B)", 1),
    (ORDER, True, "(b)", 1),
    (ORDER, True, "**B**", 1),
    (ORDER, True, "Option B", 1),
    (ORDER, True, "B: the second image", 1),
    (ORDER, True, "(B) the second image.", 1),
    (ORDER, True, "B. The second image", 1),
    (ORDER, True, "The second image.", 1),
    (ORDER, True, "the SECOND image", 1),
    (ORDER, True, "It is the second image", 1),
    (ORDER, True, "The answer is (B)", 1),
    (ORDER, True, "The answer is B.", 1),
    (ORDER, True, "Answer: B", 1),
    (ORDER, True, "answer:\nB", 1),
    (ORDER, True, 'The answer is "B".', 1),
    (ORDER, True, "The answer is option B: the second image", 1),
    (ORDER, True, "Final answer: the third image", 2),
    (ORDER, True, "The correct option is B because the first image is blurred.", 1),
    (ORDER, True, "The first image is blurred, so the answer is B.", 1),
    (ORDER, True, "I would choose C", 2),
    (ORDER, True, "Option C is correct.", 2),
    (ORDER, True, "C is the answer.", 2),
    (ORDER, True, "\\boxed{D}", 3),
    (ORDER, True, "D (the fourth image)", 3),
    (ORDER, True, "答案是B", 1),
    (ORDER, True, "B\n\nExplanation: A is blurred.", 1),
    (ORDER, True, "B. Because A: it is blurred", 1),
    (ORDER, True, "<think>A or B? A.</think>B", 1),
    (ORDER, True, "<think>B</think><answer>C</answer>", 2),
    (ORDER, True, "A, B and C are wrong; the answer is D", 3),
    (ORDER, True, "It is not (B), it is (C)", 2),
    (ORDER, True, "I think it's the second image, not the first image.", 1),
    (ORDER, True, "<think>maybe A", "none"),
    (ORDER, True, "A dog is in the picture", "none"),
    (ORDER, True, "Answer", "none"),
    (ORDER, True, "Both are fine", "none"),
    (ORDER, True, "None of the above", "none"),
    (ORDER, True, "I am not able to see Images", "none"),
    (ORDER, True, "E", "none"),
    (ORDER, True, "", "none"),
    (ORDER, True, "not B", "none"),
    (ORDER, True, "The answer cannot be A", "none"),
    (ORDER, True, "Image B shows a dog", "none"),
    (ORDER, True, "A or B", "several"),
    (ORDER, True, "Both A and B", "several"),
    (ORDER, True, "The answer is A. Wait, the answer is B.", 1),
    (ORDER, True, "A: the first image\nB: the second image\nC: the third image\nD: the fourth image", "several"),
    (ORDER, True, "A: the second image", "several"),
    (ACTIONS, True, "A", 0),
    (ACTIONS, True, "SCROLL: UP", 1),
    (ACTIONS, True, "CLICK: (603, 801)", 0),
    (ACTIONS, True, "SCROLL", "none"),
    (YES_NO, False, "Yes", 0),
    (YES_NO, False, "no.", 1),
    (YES_NO, False, "No, there is no difference", 1),
    (YES_NO, False, "Yes, there is no difference", 0),
    (YES_NO, False, "There is no dog in it, so the answer is yes", 0),
    (YES_NO, False, "nothing", "none"),
    (YES_NO, False, "Yesterday", "none"),
    (YES_NO, False, "B", "none"),
    (YES_NO, False, "Yes | No", "several"),
    (COUNTS, False, "3", 0),
    (COUNTS, False, "There are 13", 1),
    (COUNTS, False, "3.5", "none"),
    (COUNTS, False, "-3", "none"),
    (COUNTS, False, "3 or 13", "several"),
    (PETS, False, "a black cat", 1),
    (PETS, False, "a cat", 0),
    (PETS, False, "cats", "none"),
    (PETS, False, "a cat and a dog", "several"),
]

# Of the replies above, those that the published substring match scores otherwise, with its verdict, where
# the right answer is: the second of ORDER, the first of ACTIONS, YES_NO and COUNTS, "cat" of PETS.
RIGHT = {ORDER: (1, "B"), ACTIONS: (0, "A"), YES_NO: (0, "Yes"), COUNTS: (0, "3"), PETS: (0, "cat")}
DIFFER = {
    "b": False,
    "(b)": False,
    "The second image.": False,
    "the SECOND image": False,
    "It is the second image": False,
    "I think it's the second image, not the first image.": False,
    "<think>B</think><answer>C</answer>": True,
    "A, B and C are wrong; the answer is D": True,
    "It is not (B), it is (C)": True,
    "Both are fine": True,
    "not B": True,
    "Image B shows a dog": True,
    "A or B": True,
    "Both A and B": True,
    "A: the first image\nB: the second image\nC: the third image\nD: the fourth image": True,
    "CLICK: (603, 801)": False,
    "There is no dog in it, so the answer is yes": False,
    "Yesterday": True,
    "Yes | No": True,
    "There are 13": True,
    "3.5": True,
    "-3": True,
    "3 or 13": True,
    "a black cat": True,
    "cats": True,
    "a cat and a dog": True,
}


def verdict(options, reply, lettered):
    settled = read_option(reply, options, lettered)
    return settled[0] if len(settled) == 1 else "several" if settled else "none"


@pytest.mark.parametrize(("options", "lettered", "reply", "chosen"), REPLIES)
def test_the_option_a_reply_chooses(options, lettered, reply, chosen):
    assert verdict(options, reply, lettered) == chosen


def test_published_and_ours_differ_on_the_listed_replies_and_on_no_other():
    differ = {}
    for options, _, reply, chosen in REPLIES:
        right, gold = RIGHT[options]
        published = is_published_match(reply, gold)
        if published != (chosen == right):
            differ[reply] = published
    assert differ == DIFFER


def test_a_word_that_holds_the_letter_is_no_answer():
    assert is_published_match("Answer: B", "A") and verdict(ORDER, "Answer: B", True) == 1
    assert is_published_match("  the red one. ", " the red one. ")  # blanks and points at gold's ends only
    assert not is_published_match("anything", None) and not is_published_match("anything", " . ")


texts = st.text(alphabet=st.sampled_from("ABCDab ().:,|\n*\\\"'-19thefirstimagesecond答"), max_size=80)


@settings(deadline=None, max_examples=300)
@given(texts, st.lists(texts, max_size=5), st.booleans())
def test_reading_never_raises_and_names_only_what_is_there(reply, options, lettered):
    settled = read_option(reply, options, lettered)
    assert list(settled) == sorted(set(settled))
    assert all(0 <= option < len(options) for option in settled)


@settings(deadline=None)
@given(st.integers(0, 3), st.sampled_from(["{}", "({})", "{}.", "The answer is {}.", "Answer: ({})", "**{}**"]))
def test_every_letter_in_every_usual_form(place, form):
    assert read_option(form.format("ABCD"[place]), ORDER, True) == (place,)


def test_a_megabyte_of_anything_is_read_at_once():
    for noise in ("(A", "answer is ", "A, ", "the first ", "A is correct "):
        read_option(noise * (1_000_000 // len(noise)), ORDER, True)


class Bench:
    """As much of a benchmark as scoring needs."""

    def __init__(self, questions):
        from migician.choices import CHOICES

        self.questions, self.scoring = questions, CHOICES


def test_outcomes_are_counted_apart():
    question = ChoiceQuestion(0, "t", ("a.png",), "Which?", ORDER, "B", 1)
    malformed = ChoiceQuestion(1, "t", ("a.png",), "Which?", ORDER, None, None)
    for reply, outcome in (("B", "correct"), ("C", "wrong_choice"), ("B or C", "undecided"), ("?", "undecided")):
        (record,) = score(Bench([question]), {0: Answer(0, reply)}, Reading("strict", QWEN))
        assert (record.outcome, record.reply) == (outcome, reply)
    records = score(Bench([question, malformed]), {1: Answer(1, "B")}, Reading("strict", QWEN))
    assert [record.outcome for record in records] == ["failed", "wrong_choice"]
    (record,) = score(Bench([question]), {0: Answer(0, "Both")}, Reading("published", QWEN))
    assert record.outcome == "correct" and record.settled == []
