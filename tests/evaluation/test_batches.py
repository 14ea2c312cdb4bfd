"""Batches: every question once, tuples whole, and the same whatever happens around them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migician.benchmarks import Question
from migician.evaluation.batches import Limits, form_batches, partition


def over(*tuples: tuple[str, ...]) -> list[Question]:
    return [Question(index, "", images, "") for index, images in enumerate(tuples)]


TUPLES = st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=0, max_size=3).map(tuple), min_size=1, max_size=40)


def lengths(questions: list[Question]) -> dict[int, int]:
    return {question.index: 10 * len(question.images) + question.index % 7 + 1 for question in questions}


@given(TUPLES, st.integers(1, 9), st.one_of(st.none(), st.integers(1, 200)))
def test_every_question_is_in_one_batch_within_the_limits(tuples, most, tokens):
    questions = over(*tuples)
    known = lengths(questions)
    batches = form_batches(questions, known, Limits(most, tokens))
    assert sorted(question.index for batch in batches for question in batch) == list(range(len(tuples)))
    for batch in batches:
        size = len(batch) * max(known[question.index] for question in batch)
        assert len(batch) == 1 or (len(batch) <= most and (tokens is None or size <= tokens))


@given(TUPLES)
def test_with_room_tuples_and_those_that_share_an_image_are_in_one_batch(tuples):
    questions = over(*tuples)
    batches = form_batches(questions, lengths(questions), Limits(len(tuples)))
    place = {question.index: at for at, batch in enumerate(batches) for question in batch}
    for one in questions:
        for other in questions:
            if set(one.images) & set(other.images):
                assert place[one.index] == place[other.index]


def test_a_tuple_that_fits_into_a_batch_of_its_own_is_not_cut():
    questions = over(*[("a",)] * 2, *[("b", "c")] * 3)
    batches = form_batches(questions, dict.fromkeys(range(5), 1), Limits(3))
    assert [[question.index for question in batch] for batch in batches] == [[0, 1], [2, 3, 4]]
    assert [len(batch) for batch in form_batches(questions, dict.fromkeys(range(5), 1), Limits(2))] == [2, 2, 1]


def test_the_longest_come_first_and_equals_in_the_order_of_the_file():
    questions = over(*[(str(index),) for index in range(4)])
    batches = form_batches(questions, {0: 5, 1: 50, 2: 5, 3: 50}, Limits(2))
    assert [[question.index for question in batch] for batch in batches] == [[1, 3], [0, 2]]


@given(st.lists(st.integers(1, 1000), max_size=60), st.integers(1, 8))
def test_shares_hold_everything_once_and_cost_about_the_same(costs, processes):
    items = list(range(len(costs)))
    shares = partition(items, costs, processes)
    assert sorted(item for share in shares for item in share) == items
    totals = [sum(costs[item] for item in share) for share in shares]
    assert max(totals) - min(totals) <= max(costs, default=0)
    assert all(share == sorted(share) for share in shares)
