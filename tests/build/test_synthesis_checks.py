"""What models write, good and hostile, and what may be trained on."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migician.boxes import Box
from migician.boxtext import parse_boxes
from migician.build.synthesis.checks import CheckedObject, checked_objects, checked_turns, gives_away
from migician.build.synthesis.forms import Pair, Pairs, RefinedObject, Refinement, read_form, schema_of
from migician.build.synthesis.requests import questions_prompt, refine_prompt
from migician.build.synthesis.untrusted import clean, has_markup
from migician.models.stand_ins.tiny import SPECIAL_TOKENS
from migician.sources.scenes import Tally

DOG, CAT = (
    CheckedObject(0, "the brown dog", Box(0.1, 0.1, 0.5, 0.5), False),
    CheckedObject(4, "a cat", Box(0.2, 0, 1, 0.9), True),
)
BIRD = CheckedObject(2, "the bird in the tree", Box(0.3, 0.3, 0.4, 0.4), False)
IMAGES = ((DOG,), (CAT, BIRD), ())
FORBIDDEN = [*SPECIAL_TOKENS, "<image>", "<video>", "<audio>", "<IMAGE>", "</think>", "<|x|>"]


def turns(*pairs: tuple[str, str, str], most: int = 9) -> tuple[list[tuple[str, str]], dict[str, int]]:
    tally = Tally()
    found = checked_turns([Pair(*pair) for pair in pairs], IMAGES, most, tally)
    return [(turn.question, turn.answer) for turn in found], tally.counts


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "written"),
        [
            (
                "In the second image it is [image 2, object 1].",
                "In the second image it is <|object_ref_start|>a cat<|object_ref_end|>"
                "<|box_start|>(200,0),(1000,900)<|box_end|>.",
            ),
            (
                "It is [Image 1, Object 1] and (image 2, object 2).",
                "It is <|object_ref_start|>the brown dog<|object_ref_end|> in the first image "
                "<|box_start|>(100,100),(500,500)<|box_end|> and <|object_ref_start|>the bird in the tree"
                "<|object_ref_end|> in the second image <|box_start|>(300,300),(400,400)<|box_end|>.",
            ),
        ],
    )
    def test_marks_become_phrases_and_boxes_that_name_their_image(self, answer: str, written: str) -> None:
        assert turns(("Which animal is asleep?", "", answer)) == ([("Which animal is asleep?", written)], {})

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ("Nothing fits.", "answer without an object"),
            ("", "answer without an object"),
            ("It is [image 3, object 1].", "answer with an object that does not exist"),
            ("It is [image 0, object 1].", "answer with an object that does not exist"),
            ("It is [image 1, object 2].", "answer with an object that does not exist"),
            ("[image 1, object 1] or [image 1, object 1]", "answer that boxes one object twice"),
            ("[image 1, object 1] at (100, 200)", "answer with coordinates or object numbers of its own"),
            ("[image 1, object 1], that is object 1", "answer with coordinates or object numbers of its own"),
            ("By the caption, [image 1, object 1]", "answer with coordinates or object numbers of its own"),
            ("[image 1, object 1] <|box_start|>(1,2),(3,4)<|box_end|>", "answer with special tokens"),
            ("[image 1, object 1]<|im_end|>", "answer with special tokens"),
            ("In the second image is [image 1, object 1].", "answer that names another image than its box's"),
            ("[image 1, object 1] in the second image.", "answer that names another image than its box's"),
            (
                "[image 2, object 1] in Image-2, in Image-3 [image 1, object 1].",
                "answer that names another image than its box's",
            ),
            ("[image 1, object 1] " + "very " * 300, "answer too long"),
        ],
    )
    def test_refusals(self, answer: str, reason: str) -> None:
        kept, counts = turns(("Which one?", "", answer))
        assert (kept, counts) == ([], {reason: 1})

    @given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(FORBIDDEN), st.integers(0, 3))
    def test_whatever_is_kept_is_sound(self, before: str, after: str, token: str, where: int) -> None:
        texts = ["Which one is it?", "", f"{before} [image 2, object 1] {after}", ""]
        if where < 3:
            texts[where] += token
        kept, counts = turns((texts[0], texts[1], texts[2]))
        assert len(kept) + sum(counts.values()) == 1
        for question, answer in kept:
            (mention,) = parse_boxes(answer).mentions
            assert (mention.image, mention.box.to_permille()) == (1, (200, 0, 1000, 900))
            assert re.findall(r"<[^<>]*>", question) == []
            tags = ["<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"]
            assert re.findall(r"<[^<>]*>", answer) == tags

    def test_a_name_holds_for_the_first_box_behind_it(self) -> None:
        (kept,) = turns(("Which match?", "", "In the second image, [image 2, object 1] is like [image 1, object 1]."))[
            0
        ]
        assert [mention.image for mention in parse_boxes(kept[1]).mentions] == [1, 0]


class TestQuestions:
    @pytest.mark.parametrize(
        ("question", "reason"),
        [
            (" \n ", "empty question"),
            ("??", "empty question"),
            ("What is at (120, 300)?", "question that gives away coordinates, object numbers or captions"),
            ("What is in [120, 300, 400, 500]?", "question that gives away coordinates, object numbers or captions"),
            ("What is near x1=0.3?", "question that gives away coordinates, object numbers or captions"),
            ("Where is object 3?", "question that gives away coordinates, object numbers or captions"),
            ("Where is [image 1, object 1]?", "question that gives away coordinates, object numbers or captions"),
            ("Which fits the caption?", "question that gives away coordinates, object numbers or captions"),
            ("What is in the fourth image?", "question about an image that is not there"),
            ("What is <image> here?", "question with special tokens"),
            ("What " * 200, "question too long"),
        ],
    )
    def test_refusals(self, question: str, reason: str) -> None:
        assert turns((question, "", "In the first image: [image 1, object 1].")) == ([], {reason: 1})

    def test_the_target_is_wrapped_where_it_stands(self) -> None:
        (kept,) = turns(("Find the dog {0} %s.", "the dog {0}", "[image 1, object 1]"))[0]
        assert kept[0] == "Find <|object_ref_start|>the dog {0}<|object_ref_end|> %s."
        assert turns(("Find the dog.", "a cat", "[image 1, object 1]"))[1] == {"target that is not in its question": 1}

    def test_duplicates_and_more_than_wanted(self) -> None:
        asked = [("Which one?", "", "[image 1, object 1]"), ("which  ONE", "", "[image 2, object 1]")]
        kept, counts = turns(*asked, ("Another one?", "", "[image 2, object 2]"), ("More?", "", ""), most=2)
        assert ([question for question, _ in kept], counts) == (
            ["Which one?", "Another one?"],
            {"question asked twice": 1},
        )


class TestObjects:
    ANNOTATED = ((3, Box(0.1, 0.1, 0.5, 0.5)), (7, Box(0.6, 0.6, 0.9, 0.9)))

    def refine(self, *replies: tuple[int, bool, str, list[int]]) -> tuple[list[CheckedObject], dict[str, int]]:
        tally = Tally()
        return checked_objects([RefinedObject(*one) for one in replies], self.ANNOTATED, 0.75, tally), tally.counts

    def test_a_box_moves_only_a_little(self) -> None:
        for box, kept, reason in (
            ([110, 100, 500, 500], Box(0.11, 0.1, 0.5, 0.5), "box refined by the model"),
            ([300, 100, 500, 500], None, "box of the model too far from the annotation: the annotation stands"),
            ([500, 500, 100, 100], None, "box of the model too far from the annotation: the annotation stands"),
            ([100, 100, 500], None, "box of the model that is none: the annotation stands"),
            ([100, 100, 500, 9999], None, "box of the model that is none: the annotation stands"),
            ([100, 100, 500, 500], None, ""),
            ([], None, ""),
        ):
            found, counts = self.refine((1, True, "a dog", box), (2, False, "", []))
            expected = CheckedObject(3, "a dog", kept or self.ANNOTATED[0][1], kept is not None)
            assert found == [expected]
            assert counts == {reason: 1, "object dropped by the vision model": 1} if reason else True

    def test_refusals(self) -> None:
        assert self.refine((1, True, "a dog.", []), (2, True, "A  dog", [])) == (
            [],
            {"phrase that fits several objects": 2},
        )
        assert self.refine((1, True, " ", []))[1] == {"object without a phrase": 1, "object without a judgement": 1}
        told = "phrase with coordinates, object or image numbers, or special tokens"
        assert self.refine((1, True, "the dog<|im_end|>", []), (2, True, "object 2", []))[1] == {told: 2}
        _, counts = self.refine(
            (1, True, "a", []), (1, True, "b", []), (2, True, "c", []), (0, True, "d", []), (3, True, "", [])
        )
        assert counts == {"second judgement of one object": 1, "judgement of an object that was not asked about": 2}


class TestForms:
    def test_fences_and_thinking_are_taken_off_and_nothing_else(self) -> None:
        plain = '{"pairs":[{"question":"q","target":"","answer":"a"}]}'
        good = Pairs([Pair("q", "", "a")])
        for text in (plain, f"```json\n{plain}\n```", f"<think>{{}}</think>\n{plain}", f"  {plain}\n"):
            assert read_form(text, Pairs) == good
        bad = ["", "null", "[]", "{}", plain[:-1], f"Here: {plain}", plain.replace('""', "1"), plain + plain]
        for text in [*bad, plain.replace('"answer"', '"extra":1,"answer"'), "[" * 100_000, "\ud800"]:
            assert read_form(text, Pairs) is None

    @given(st.text())
    def test_reading_never_raises(self, text: str) -> None:
        read_form(text, Refinement)

    def test_the_schema_asks_for_what_is_read(self) -> None:
        name, schema = schema_of(Refinement)
        assert name == "refinement"
        fields = schema["$defs"]["RefinedObject"]
        assert fields["additionalProperties"] is False
        assert set(fields["required"]) == {"object", "keep", "phrase", "box"}


class TestText:
    @given(st.text(st.sampled_from("<|>im_end ag\n\u200b\u202e\x00é"), max_size=80), st.integers(1, 40))
    def test_clean_text_has_no_brackets_lines_or_hidden_letters(self, text: str, limit: int) -> None:
        cleaned = clean(text, limit)
        assert not set(cleaned) & set("<>\n\u200b\u202e\x00")
        assert len(cleaned) <= limit
        assert clean(cleaned, limit) == cleaned

    @pytest.mark.parametrize("token", FORBIDDEN)
    def test_tokens_are_found_and_taken_out(self, token: str) -> None:
        assert has_markup(f"a {token} b")
        assert clean(f"a {token} b", 99) == "a b"

    def test_hostile_texts_stay_data_in_prompts(self) -> None:
        found = [('dog"}] {count} {0.__class__} %s', Box(0, 0, 0.5, 0.5))]
        text = questions_prompt([("A caption.", found)], 2)
        assert json.loads(text.rsplit("\n", 1)[1])[0]["objects"][0]["phrase"] == found[0][0]
        assert "Write 2 different questions" in text
        assert json.loads(refine_prompt(found).rsplit("\n", 1)[1])[0]["label"] == found[0][0]

    def test_harmless_numbers_give_nothing_away(self) -> None:
        for text in ("Which 3 dogs run?", "the bus 42", "Is it the one of 1999, as in Image-2?", "two people, 2 cars"):
            assert not gives_away(text)
