"""Batches that fail: halves, counted faults, and what is made ready meanwhile."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from migician.boxtext import QWEN
from migician.errors import UserError
from migician.evaluation.batch_runner import BatchRunner
from migician.models.family import QWEN2_VL
from migician.models.protocol import Request, Staged


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class AcceleratorError(RuntimeError):
    """Named as torch's."""


class Stages:
    """Answers a prompt with itself; what goes wrong is decided by `reply_hook`."""

    name, family, box_style, token_budget = "stages", QWEN2_VL, QWEN, 10**9

    def __init__(self, reply_hook=lambda prompts: None, prepare_hook=lambda prompts: None):
        self.work = Counter()
        self.sizes, self.prepared = [], []
        self._reply_hook, self._prepare_hook = reply_hook, prepare_hook

    def prepare(self, requests):
        prompts = [request.prompt for request in requests]
        self._prepare_hook(prompts)
        self.prepared.append(prompts)
        return prompts

    def reply(self, prepared):
        self.sizes.append(len(prepared))
        self._reply_hook(prepared)
        self.work["answered"] += len(prepared)
        return [f"re {prompt}" for prompt in prepared]

    def answer(self, requests):
        return self.reply(self.prepare(requests))

    def image_tokens(self, size):
        return 1

    def describe(self):
        return {"name": self.name}


def batches(*sizes):
    names = iter("abcdefghijklmnopqrstuvwxyz")
    return [[Request((), next(names)) for _ in range(size)] for size in sizes]


def asked(model, *sizes):
    return list(BatchRunner(model).ask(batches(*sizes)))


def too_many(most):
    def hook(prompts):
        if len(prompts) > most:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")

    return hook


def test_a_batch_too_large_is_halved_and_later_ones_are_cut_from_the_start():
    model = Stages(too_many(2))
    assert isinstance(model, Staged)
    results = asked(model, 8, 8, 4)
    assert [reply.text for one in results for reply in one.replies] == [
        f"re {letter}" for letter in "abcdefghijklmnopqrst"
    ]
    assert model.sizes == [8, 4, 2, 2, 4, 2, 2] + [2] * 4 + [1] * 4
    assert [one.work["answered"] for one in results] == [8, 8, 4]


def test_one_request_too_large_does_not_cut_later_batches_to_single_ones():
    def hook(prompts):
        if "c" in prompts:
            raise OutOfMemoryError("no")

    model = Stages(hook)
    results = asked(model, 8, 8)
    replies = [reply for one in results for reply in one.replies]
    assert [at for at, reply in enumerate(replies) if reply.text is None] == [2]
    assert replies[2].fault == "OutOfMemoryError: no"
    assert model.sizes[-2:] == [4, 4]


def test_a_fault_that_is_not_memory_changes_nothing_for_later_batches():
    def hook(prompts):
        if "b" in prompts:
            raise RuntimeError("shape mismatch")

    model = Stages(hook)
    first, second = asked(model, 4, 4)
    assert [reply.fault for reply in first.replies] == [None, "RuntimeError: shape mismatch", None, None]
    assert model.sizes[-1] == 4 and all(reply.text for reply in second.replies)


def test_what_cannot_be_made_ready_is_the_fault_of_one_request():
    def hook(prompts):
        if "b" in prompts:
            raise UserError("image 1 of 2, gone.png: no such file")

    results = asked(Stages(prepare_hook=hook), 3, 2)
    assert [reply.fault for one in results for reply in one.replies] == [
        None, "image 1 of 2, gone.png: no such file", None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (AcceleratorError("CUDA error: device-side assert triggered"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (AssertionError(), AssertionError),
    ],
)
def test_a_dead_gpu_and_what_is_no_fault_of_a_request_end_the_run(error, ends):
    def hook(prompts):
        raise error

    with pytest.raises(ends):
        asked(Stages(hook), 2)


def test_the_next_batch_is_made_ready_while_the_model_is_at_work():
    ready = threading.Event()

    def prepare_hook(prompts):
        if "c" in prompts:
            ready.set()

    def reply_hook(prompts):
        if "a" in prompts:
            assert ready.wait(60), "the second batch was not prepared during the first"

    results = asked(Stages(reply_hook, prepare_hook), 2, 2)
    assert [reply.text for one in results for reply in one.replies] == ["re a", "re b", "re c", "re d"]


def test_models_without_stages_are_asked_through_answer():
    from migician.models.stand_ins.scripted import Scripted

    (result,) = BatchRunner(Scripted(lambda request: request.prompt)).ask(batches(3))
    assert [reply.text for reply in result.replies] == ["a", "b", "c"] and result.work == {}
