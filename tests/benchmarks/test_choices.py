"""Multiple choice: which option a reply chooses, by hand; and where the published substring match says otherwise."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from migician.benchmarks.scoring.choices import ChoiceQuestion, is_published_match
from migician.benchmarks.scoring.option_text import read_option
from migician.benchmarks.scoring.scoring import Answer, Reading
from migician.boxtext import QWEN
from migician.cli import app
from migician.evaluation.records import score

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

ANIMALS = ("a cat", "a dog", "a horse", "a bird")
SIDES = ("left", "right")
DEPTH = ("A is closer", "B is closer")

# The same of replies that reason, reject, correct themselves, go through the options or break off; here "open"
# is undecided, whether none is named or several.
REASONED = [
    (ANIMALS, True, "Option (B)", 1),
    (ANIMALS, True, "**B**", 1),
    (ANIMALS, True, "B)", 1),
    (ANIMALS, True, "b", 1),
    (ANIMALS, True, "$\\boxed{B}$", 1),
    (ANIMALS, True, "So the answer is \\boxed{\\text{B}}.", 1),
    (ANIMALS, True, '{"answer": "B"}', 1),
    (ANIMALS, True, '{"answer": "B", "reason": "A is a cat"}', 1),
    (ANIMALS, True, '```json\n{"answer": "b"}\n```', 1),
    (ANIMALS, True, "The answer is not A but C.", 2),
    (ANIMALS, True, "Neither A nor B", "open"),
    (ANIMALS, True, "A or B", "open"),
    (ANIMALS, True, "Both.", "open"),
    (ANIMALS, True, "Both B and C are correct.", "open"),
    (ORDER, True, "I would choose the second image.", 1),
    (ANIMALS, True, "I would not choose B.", "open"),
    (ANIMALS, True, "I'd go with option C.", 2),
    (ANIMALS, True, "My pick: D", 3),
    (ANIMALS, True, "答案：b。", 1),
    (ANIMALS, True, "我选择 C，因为 A 不对。", 2),
    (ANIMALS, True, "答案不是A，而是B。", 1),
    (ANIMALS, True, "排除A和B，选C", 2),
    (ANIMALS, True, "B是正确的", 1),
    (ANIMALS, True, "A错误，B正确", 1),
    (ANIMALS, True, "正确选项是（D）", 3),
    (ANIMALS, True, "因此，答案为：**A**", 0),
    (ANIMALS, True, "不选A", "open"),
    (ANIMALS, True, "选项B", 1),
    (ANIMALS, True, "Final answer: B. Wait, actually C.", 2),
    (ANIMALS, True, "B. No, C.", 2),
    (ANIMALS, True, "Answer: A. On second thought, the answer is D.", 3),
    (ANIMALS, True, "answer: b.", 1),
    (ANIMALS, True, "answer is d", 3),
    (ANIMALS, True, "The answer is a dog.", 1),
    (ANIMALS, True, "option c is correct", 2),
    (ANIMALS, True, "The correct choice is (c) a horse.", 2),
    (ANIMALS, True, "B is wrong.", "open"),
    (ANIMALS, True, "A dog is not shown.", "open"),
    (ANIMALS, True, "We can rule out B and C, leaving D.", 3),
    (ANIMALS, True, "Rule out A, B and D.", "open"),
    (ANIMALS, True, "It cannot be C.", "open"),
    (ANIMALS, True, "B, not A.", 1),
    (ANIMALS, True, "C rather than D", 2),
    (ANIMALS, True, "A is ruled out, and so is B. C does not fit. That leaves D.", 3),
    (ANIMALS, True, "It is B because it does not show what A shows.", 1),
    (ANIMALS, True, "Let us go through the options.\nA: the cat is in the first image.\nB: the dog is in the", "open"),
    (ANIMALS, True, "Let us go through the options. A shows a small animal that is", "open"),
    (ANIMALS, True, "(A) A small one. Incorrect.\n(B) Correct.\n(C) Black. Incorrect.\n\nTherefore, it is (B).", 1),
    (ANIMALS, True, "The correct answer is:\n(A) a cat\n(B) a dog\n(C) a horse\n(D) a bird", "open"),
    (ANIMALS, True, "Which one do you choose?\nA, B, C or D?", "open"),
    (ANIMALS, True, "If it barks, the answer is B. If it purrs, the answer is A.", "open"),
    (ANIMALS, True, "I cannot tell whether it is A or B.", "open"),
    (ANIMALS, True, "None of the options is right; A and B are close.", "open"),
    (ORDER, True, "The second image is different from the first image.", "open"),
    (
        ORDER,
        True,
        "Based on the style, the third image is most similar to the first. The second image is dark.",
        2,
    ),
    (ORDER, True, "The first image is larger. The third image is most similar.", "open"),
    (YES_NO, False, "No. Yes, they look alike, but they are not the same.", 1),
    (YES_NO, True, "B. No", 1),
    (YES_NO, True, "(A) No", "open"),
    (ANIMALS, True, "A\nB\nC", "open"),
    (ANIMALS, True, "The answer is B.\n\nThe answer is not A.", 1),
    (ANIMALS, True, "Some would say A, but the answer is C.", 2),
    (ANIMALS, True, "The answer might be A, but it is wrong. The answer is B.", 1),
    (ANIMALS, True, "Is it A? No. Is it B? Yes.", 1),
    (ANIMALS, True, "Is it A? No.", "open"),
    (ANIMALS, True, "A? No, B.", 1),
    (ANIMALS, True, "A? No. B? No. C.", 2),
    (ANIMALS, True, "A? It has no fur. So it is D.", 3),
    (ANIMALS, True, "A dog? Not that I can see.", "open"),
    (ANIMALS, True, "C?", 2),
    (ANIMALS, True, "Looking at the answer choices:\n(A) It has two legs.\n(B) It has four legs.", "open"),
    (ANIMALS, True, "The right answer is on the left: B", 1),
    (ANIMALS, True, "It is a horse (C).", 2),
    (ANIMALS, True, "It is a horse (B).", "open"),
    (ANIMALS, True, "A is right about the colour. B is right.", 1),
    (ANIMALS, True, "C.\n\nA would be right if the light were on.", 2),
    (SIDES, False, "The right answer is left.", 0),
    (SIDES, False, "It moves to the left, not to the right.", 0),
    (DEPTH, True, "Point B, on the car, is closer to the camera than point A.", 1),
    (DEPTH, True, "Point A is on the car and point B is on the house.", "open"),
    (ANIMALS, True, "I choose a dog", 1),
    (ANIMALS, True, "e.g. A", "open"),
    (ANIMALS, True, "The answer is e.g. a fish", "open"),
    (ANIMALS, True, "Answer: E", "open"),
    (ANIMALS, True, "Answer: None of the above (not A)", "open"),
    (ANIMALS, True, "I think A is not as good as B.", 1),
    (ANIMALS, True, "The answer is A, B", "open"),
    (ANIMALS, True, "The answer is B (a dog), not A (a cat).", 1),
    (ANIMALS, True, "**Answer:** (B)\n**Explanation:** A is too small, C is too tall and D can fly.", 1),
    (ANIMALS, True, "B is the only option that matches", 1),
    (ANIMALS, True, "Only D matches.", 3),
    (ANIMALS, True, "All of them match except C.", "open"),
    (ANIMALS, True, "My first guess was A, but the correct answer is C", 2),
    (ANIMALS, True, "I am sure that it's not B, so it must be C.", 2),
    (ANIMALS, True, "Select B.", 1),
    (ANIMALS, True, "Do not select B.", "open"),
    (ANIMALS, True, "The answer isn't B.", "open"),
    (ANIMALS, True, "B is likely but C is the answer", 2),
    (ANIMALS, True, "The answer is C because the answer A has no tail", 2),
]

# Of REPLIES, those that the published substring match scores otherwise, with its verdict, where
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


@pytest.mark.parametrize(("options", "lettered", "reply", "chosen"), REASONED)
def test_the_option_a_reasoned_reply_chooses(options, lettered, reply, chosen):
    found = verdict(options, reply, lettered)
    assert chosen == ("open" if found in ("none", "several") else found)


CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not here")


@needs_cases
def test_the_collected_replies_choose_as_a_reader_says():
    cases = [json.loads(line) for line in (CASES / "options.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(cases) == 73
    for case in cases:
        settled = read_option(case["reply"], case["options"], case["lettered"])
        assert list(settled) == case["chosen"] or len(settled) != 1 == len(case["chosen"]) + 1, case


@needs_cases
def test_real_replies_choose_as_a_reader_says(tmp_path):
    """By the public command, in MMIU's form; none may be read as a wrong choice, and one is undecided.

    That one says of each of four points in turn "so the answer is (A)", "(B)", "(C)", "(D)" and is cut off before it
    concludes: whoever reads A in it takes the first statement for the last.
    """
    folder = CASES / "replies"
    args = ["score", "mmiu", "--data", str(folder / "mmiu.json"), "--answers", str(folder / "answers.jsonl")]
    assert CliRunner().invoke(app, [*args, "--out", str(tmp_path / "run")], catch_exceptions=False).exit_code == 0
    records = [json.loads(line) for line in (tmp_path / "run/records.jsonl").read_text(encoding="utf-8").splitlines()]
    expected = dict(line.split("\t")[:2] for line in (folder / "expected.tsv").read_text(encoding="utf-8").splitlines())
    chosen = {str(one["index"]): "ABCDEFGH"[one["settled"][0]] for one in records if len(one["settled"]) == 1}
    assert len(expected) == 54
    assert {index: letter for index, letter in expected.items() if chosen.get(index) != letter} == {"21": "A"}
    assert "21" not in chosen


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


# Of the words that the rules know, so that they meet in ways that nobody would write.
WORDS = """A B C D a b I (A) (B) A: B: A. option answer choice is not no never wrong correct best so therefore wait
actually but because if than leaving choose I think the first second image , . ? : ; and or nor none of the options
答案 是 不 选"""
words = st.sampled_from(["\n", *WORDS.split()])
letters = st.text(alphabet=st.sampled_from("ABCDab ().:,|\n*\\\"'-19thefirstimagesecond答"), max_size=80)
texts = st.one_of(letters, st.text(max_size=60), st.lists(words, max_size=30).map(" ".join))


@settings(deadline=None, max_examples=400)
@given(texts, st.lists(st.one_of(letters, st.sampled_from(ORDER)), max_size=5), st.booleans())
def test_reading_never_raises_and_names_only_what_is_there(reply, options, lettered):
    settled = read_option(reply, options, lettered)
    assert list(settled) == sorted(set(settled))
    assert all(0 <= option < len(options) for option in settled)


@settings(deadline=None)
@given(st.integers(0, 3), st.sampled_from(["{}", "({})", "{}.", "The answer is {}.", "Answer: ({})", "**{}**"]))
def test_every_letter_in_every_usual_form(place, form):
    assert read_option(form.format("ABCD"[place]), ORDER, True) == (place,)


def test_a_quarter_of_a_megabyte_of_anything_is_read_at_once():
    for noise in ("(A", "answer is ", "A, ", "the first ", "A is correct "):
        read_option(noise * (250_000 // len(noise)), ORDER, True)


LONG = ("A\n", "A: b\n", "not A ", "so it is A. ", "A (", "answer ", "(a) ", "no, ", "I think ", "cannot ")


@pytest.mark.parametrize(
    "noise", [*LONG, "the first image\n", "a.", "答案", "  ", "\\boxed{", "<|", "A is not ", "A, B or C "]
)
def test_a_long_reply_of_anything_is_read_at_once(noise):
    read_option(noise * (50_000 // len(noise)), ORDER, True)


class Bench:
    """As much of a benchmark as scoring needs."""

    def __init__(self, questions):
        from migician.benchmarks.scoring.choices import CHOICES

        self.questions, self.scoring = questions, CHOICES


def test_outcomes_are_counted_apart():
    question = ChoiceQuestion(0, "t", ("a.png",), "Which?", ORDER, "B", 1)
    malformed = ChoiceQuestion(1, "t", ("a.png",), "Which?", ORDER, None, None)
    for reply, outcome in (("B", "correct"), ("C", "wrong_choice"), ("B or C", "undecided"), ("?", "undecided")):
        (record,) = score(Bench([question]), {0: Answer(0, reply)}, Reading("strict", QWEN))
        assert (record.outcome, record.reply) == (outcome, reply)
    (record,) = score(Bench([question]), {0: Answer(0, "B", reasoning="It barks, so C?")}, Reading("strict", QWEN))
    assert (record.outcome, record.reasoning) == ("correct", "It barks, so C?")
    records = score(Bench([question, malformed]), {1: Answer(1, "B")}, Reading("strict", QWEN))
    assert [record.outcome for record in records] == ["failed", "wrong_choice"]
    (record,) = score(Bench([question]), {0: Answer(0, "Both")}, Reading("published", QWEN))
    assert record.outcome == "correct" and record.settled == []
