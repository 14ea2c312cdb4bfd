"""The rewards called as frameworks call them: the same number everywhere, by TRL's own code where it is installed."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from migician.errors import UserError
from migician.training.reward_adapters import for_easyr1, for_swift, for_trl, for_verl, text_of, truths_of
from migician.training.rewards import PRESETS, reward

TRUTHS = [{"image": 1, "box": [0.0, 0.0, 0.5, 0.5]}]
GOOD = "<think>so</think><answer>Image-2: <|box_start|>(0,0),(500,450)<|box_end|></answer>"
REPLIES = [GOOD, GOOD.replace("Image-2", "Image-1"), "no idea"]


@pytest.mark.parametrize("preset", PRESETS)
def test_each_framework_gets_the_same_number(preset: str) -> None:
    wanted = [reward(reply, [(1, (0.0, 0.0, 0.5, 0.5))], preset=preset)["total"] for reply in REPLIES]
    rows, written = [TRUTHS] * 3, json.dumps(TRUTHS)
    spoken = [[{"role": "assistant", "content": reply}] for reply in REPLIES]
    assert for_trl(preset)(prompts=["?"] * 3, completions=spoken, completion_ids=[[1]] * 3, truths=rows) == wanted
    assert for_swift(preset)(REPLIES, [written] * 3, images=[[]] * 3) == wanted
    verl = [
        for_verl(preset)(data_source="mg", solution_str=one, ground_truth=written, extra_info={}) for one in REPLIES
    ]
    assert [one["score"] for one in verl] == wanted
    given = [{"response": one, "response_length": 9, "ground_truth": written} for one in REPLIES]
    easy = for_easyr1(preset)(given)
    assert [one["overall"] for one in easy] == wanted
    assert all(one["format"] + one["accuracy"] == pytest.approx(one["overall"]) for one in easy)


def test_trl_itself_calls_it() -> None:
    pytest.importorskip("trl")
    try:
        from trl import GRPOTrainer
    except RuntimeError as error:  # TRL 0.24, beside LLaMA-Factory, wants a package that clashes with it
        pytest.skip(f"TRL without its GRPO trainer: {error!s:.80}")
    import accelerate

    function = for_trl("leap")
    own = SimpleNamespace(
        environments=None,
        _log_completion_extra=None,
        _log_metric=None,
        accelerator=accelerate.Accelerator(cpu=True),
        args=SimpleNamespace(report_to=[]),
        reward_funcs=[function],
        reward_processing_classes=[None],
        reward_func_names=[function.__name__],
        state=SimpleNamespace(global_step=0),
    )
    inputs: list[dict[str, Any]] = [{"prompt": "?", "truths": TRUTHS}] * 3 + [{"prompt": "?", "truths": None}]
    completions = [[{"role": "assistant", "content": reply}] for reply in [*REPLIES, GOOD]]
    made = GRPOTrainer._calculate_rewards(own, inputs, ["?"] * 4, completions, [[1]] * 4)
    assert function.__name__ == "leap" and made.shape == (4, 1) and math.isnan(float(made[3, 0]))
    assert made[:3, 0].tolist() == pytest.approx(
        [reward(reply, [(1, (0.0, 0.0, 0.5, 0.5))], preset="leap")["total"] for reply in REPLIES]
    )


@pytest.mark.parametrize(
    "given",
    [None, "", "{}", "no JSON", [{"box": [0, 0, 1, 1]}], [{"image": 0, "box": [0, 0, 1]}], [{"image": "0", "box": 3}]],
)
def test_a_wrong_column_stops(given: Any) -> None:
    with pytest.raises(UserError, match="expected a list of an image and a box each"):
        truths_of(given)


def test_truths_of_arrow_and_text_of_messages() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    rows = pyarrow.table({"truths": [TRUTHS, [], [{"image": None, "box": [0.0, 0.0, 1.0, 1.0]}]]}).to_pylist()
    assert [truths_of(row["truths"]) for row in rows] == [
        [(1, (0.0, 0.0, 0.5, 0.5))],
        [],
        [(None, (0.0, 0.0, 1.0, 1.0))],
    ]
    assert (
        text_of([{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])
        == "ab"
    )
    assert text_of([]) == text_of([{"role": "assistant", "content": None}]) == ""


def test_sizes_go_to_styles_that_count_pixels() -> None:
    reply, sizes = '[{"bbox_2d": [0, 0, 50, 50]}]', [[100, 100]]
    truths = [{"image": 0, "box": [0.0, 0.0, 0.5, 0.5]}]
    made = for_trl("leap", style="qwen2.5-vl")(completions=[reply], truths=[truths], sizes=[sizes])
    assert made == [1.1]
    assert for_verl("leap", style="qwen2.5-vl")("", reply, truths, {"sizes": sizes})["score"] == 1.1
    row = {"response": reply, "ground_truth": json.dumps({"truths": truths, "sizes": sizes})}
    assert for_easyr1("leap", style="qwen2.5-vl")([row])[0]["overall"] == 1.1


class Letters:
    """A tokenizer of characters, which drops special tokens as a real one does."""

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        text = "".join(map(chr, ids.tolist()))
        return re.sub(r"<\|[a-z_]+\|>", "", text) if skip_special_tokens else text


def _totals(preset: str) -> list[float]:
    return [reward(reply, [(1, (0.0, 0.0, 0.5, 0.5))], preset=preset)["total"] for reply in REPLIES]


@pytest.mark.parametrize("preset", ["mg-thinker", "univg-r1", "leap"])
def test_verl_itself_calls_it(preset: str) -> None:
    torch = pytest.importorskip("torch")
    naive = pytest.importorskip(
        "verl.workers.reward_manager.naive", reason="verl is not installed", exc_type=ImportError
    )
    import numpy as np
    from verl import DataProto

    width = max(map(len, REPLIES))
    ids = torch.tensor([[ord(letter) for letter in reply.ljust(width, "\0")] for reply in REPLIES])
    mask = torch.tensor([[1] + [1] * len(reply) + [0] * (width - len(reply)) for reply in REPLIES])
    row = {"style": "rule", "ground_truth": json.dumps(TRUTHS)}
    data = DataProto.from_dict(
        {"prompts": torch.full((3, 1), 63), "responses": ids, "attention_mask": mask},
        non_tensors={
            "data_source": np.array(["migician"] * 3, dtype=object),
            "reward_model": np.array([row] * 3, dtype=object),
            "extra_info": np.array([{"index": number} for number in range(3)], dtype=object),
        },
    )
    manager = naive.NaiveRewardManager(Letters(), 0, for_verl(preset))
    made = manager(data, return_dict=True)
    assert made["reward_tensor"].sum(-1).tolist() == pytest.approx(_totals(preset))
    assert set(made["reward_extra_info"]) == {"score", *PRESETS[preset].parts}


@pytest.mark.parametrize("preset", ["mg-thinker", "univg-r1", "leap"])
def test_ms_swift_itself_calls_it(preset: str) -> None:
    torch = pytest.importorskip("torch")
    algorithm = pytest.importorskip(
        "swift.rl_core.grpo_algorithm", reason="ms-swift is not installed", exc_type=ImportError
    )
    from swift.rewards import ORM, orms
    from swift.rl_core.data import GRPOSample

    class Grounding(ORM):  # type: ignore[misc]
        def __call__(self, completions: Any, solution: Any, **columns: Any) -> list[float]:
            return for_swift(preset)(completions, solution, **columns)

    orms["grounding"] = Grounding
    samples = [
        GRPOSample(
            messages=[{"role": "user", "content": "<image><image>?"}, {"role": "assistant", "content": reply}],
            extra={"solution": json.dumps(TRUTHS)},
        )
        for reply in REPLIES
    ]
    made = algorithm.compute_rewards_per_func(samples, [orms["grounding"]()], None, torch.device("cpu"))
    assert made[:, 0].tolist() == pytest.approx(_totals(preset))


def test_ms_swift_itself_loads_its_rows(tmp_path: Path) -> None:
    core = pytest.importorskip(
        "swift.dataset.preprocessor.core", reason="ms-swift is not installed", exc_type=ImportError
    )
    import datasets

    row = {"messages": [{"role": "user", "content": "<image>?"}], "images": ["/a.png"], "solution": json.dumps(TRUTHS)}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    given = datasets.load_dataset("json", data_files=str(tmp_path / "rows.jsonl"), split="train")
    (made,) = core.AutoPreprocessor()(given).to_list()
    assert made["solution"] == row["solution"] and made["images"] == [{"bytes": None, "path": "/a.png"}]
    assert [(one["role"], one["content"]) for one in made["messages"]] == [("user", "<image>?")]


@pytest.mark.parametrize("preset", ["mg-thinker", "univg-r1", "leap"])
def test_easyr1_itself_calls_it(preset: str, tmp_path: Path) -> None:
    """EasyR1 is no package: its checkout's own file, where `EASYR1` names one."""
    checkout = os.environ.get("EASYR1")
    if not checkout:
        pytest.skip("EASYR1 names no checkout of hiyouga/EasyR1")
    torch = pytest.importorskip("torch")
    script = tmp_path / "grounding.py"
    script.write_text(
        f"from migician.training.reward_adapters import for_easyr1\ncompute_score = for_easyr1({preset!r})\n"
    )
    sys.path.insert(0, checkout)
    try:
        function = pytest.importorskip("verl.workers.reward.function", exc_type=ImportError)
        config = SimpleNamespace(
            reward_function=str(script), reward_function_name="compute_score", reward_function_kwargs={},
            skip_special_tokens=True,
        )  # fmt: skip
        manager = function.AutoRewardManager(config, Letters())
    finally:
        sys.path.remove(checkout)
    width = max(map(len, REPLIES))
    ids = torch.tensor([[ord(letter) for letter in reply.ljust(width, "\0")] for reply in REPLIES])
    mask = torch.tensor([[1] * len(reply) + [0] * (width - len(reply)) for reply in REPLIES])

    class Batch(SimpleNamespace):
        def __len__(self) -> int:
            return len(REPLIES)

    truths = [json.dumps(TRUTHS)] * 3
    data = Batch(batch={"responses": ids, "response_mask": mask}, non_tensor_batch={"ground_truth": truths})
    tensor, metrics = manager.compute_reward(data)
    assert tensor.sum(-1).tolist() == pytest.approx(_totals(preset))
    assert metrics["overall"] == pytest.approx(_totals(preset))
    assert set(metrics) == {"overall", "format", "accuracy"}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_reply_without_special_tokens_earns_the_same(preset: str) -> None:
    bare = [re.sub(r"<\|[a-z_]+\|>", "", reply) for reply in REPLIES]
    assert for_swift(preset)(bare, [TRUTHS] * 3) == for_swift(preset)(REPLIES, [TRUTHS] * 3)
