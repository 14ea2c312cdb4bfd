"""Stage 3 without TRL: prompts of records, settings, logs, and what is said of a training that only sharpened."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from migician.cli import app
from migician.errors import UserError
from migician.samples.convention_card import write_convention
from migician.samples.dataset_info import write_dataset_info
from migician.training.gain import NOTHING, ROSE, SHARPENED, gain_of, sampled_reward, verdict
from migician.training.grpo import _processor, check_padding, messages, read_stage3
from migician.training.log import LoggedStep, diverged_at, progress_line, read_log
from migician.training.prompts import Prompt, read_prompts
from migician.training.reward_adapters import for_trl

ROOT = Path(__file__).resolve().parents[2]


def box(x1: int, y1: int, x2: int, y2: int) -> str:
    return f"<|box_start|>({x1},{y1}),({x2},{y2})<|box_end|>"


def record(*turns: str, images: int = 2, type: str = "ff_train") -> dict[str, Any]:
    said = [{"from": ("human", "gpt")[number % 2], "value": turn} for number, turn in enumerate(turns)]
    said[0]["value"] = "<image>" * images + said[0]["value"]
    return {"id": "a", "images": [f"{number}.png" for number in range(images)], "conversations": said, "type": type}


def prompts(folder: Path, *records: dict[str, Any], **given: Any) -> list[Prompt]:
    (folder / "mine.json").write_text(json.dumps(records))
    write_dataset_info(folder, {"mine": "mine.json"})
    return read_prompts(folder, "mine", folder, **given).prompts


def test_every_turn_with_a_box_is_a_prompt_with_the_turns_before_it(tmp_path: Path) -> None:
    turns = [
        "Where is it?", f"It is in the second image. {box(0, 0, 500, 500)}",
        "What is it?", "A dog.",
        "And the first of Image-1?", f"{box(0, 0, 100, 100)}{box(500, 500, 600, 700)}",
    ]  # fmt: skip
    first, last = prompts(tmp_path, record(*turns))
    assert [one.value for one in first.turns] == ["<image><image>Where is it?"]
    assert msgspec.to_builtins(first.truths) == [{"image": 1, "box": (0.0, 0.0, 0.5, 0.5)}]
    assert (last.turn, [one.value for one in last.turns[1:]]) == (2, turns[1:5])
    assert [(one.image, one.box) for one in last.truths] == [(0, (0.0, 0.0, 0.1, 0.1)), (0, (0.5, 0.5, 0.6, 0.7))]


def test_what_is_no_prompt_is_counted(tmp_path: Path) -> None:
    records = [
        record("What?", "A dog."),
        record("Where?", box(0, 0, 9, 9)),
        {**record("Where?", box(0, 0, 9, 9)), "conversations": [{"from": "human", "value": "<image><image>?"}]},
    ]
    (tmp_path / "mine.json").write_text(json.dumps(records))
    write_dataset_info(tmp_path, {"mine": "mine.json"})
    found = read_prompts(tmp_path, "mine", tmp_path)
    assert len(found.prompts) == 1
    assert found.left_out == {"answers without a box": 1, "not a conversation of questions and answers": 1}


def test_pixels_become_fractions_of_what_the_model_sees(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("0.png", "1.png"):
        Image.new("RGB", (280, 560)).save(tmp_path / name)
    answer = 'In Image-2: ```json\n[{"image": 2, "bbox_2d": [28, 56, 140, 280], "label": "dog"}]\n```'
    write_convention(tmp_path / "mine.json", "qwen2_5_vl", source="qwen2_vl", max_pixels=589824, counts={})
    (one,) = prompts(tmp_path, record("Find it in Image-2.", answer))
    assert one.sizes == [(280, 560), (280, 560)]
    assert [(true.image, true.box) for true in one.truths] == [(1, (0.1, 0.1, 0.5, 0.5))]
    with pytest.raises(UserError, match="set image_max_pixels to that instead of 12544"):
        prompts(tmp_path, record("Find it in Image-2.", answer), max_pixels=12544)


@pytest.mark.parametrize(
    ("records", "says"),
    [([record("What?", "A dog.")], "no turn gives a box"), ([{"id": 1}], "record 0"), ([], "no turn gives a box")],
)
def test_data_without_prompts_stops(tmp_path: Path, records: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(UserError, match=says):
        prompts(tmp_path, *records)


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    prompts(tmp_path, record("Where?", box(0, 0, 9, 9)))
    with pytest.raises(UserError, match="unknown dataset 'mime'. Known: mine. Did you mean 'mine'"):
        read_prompts(tmp_path, "mime", tmp_path)


@given(st.lists(st.tuples(*[st.integers(0, 499), st.integers(0, 499), st.integers(1, 500), st.integers(1, 500)]),
                min_size=1, max_size=3))  # fmt: skip
def test_the_own_answer_earns_all_there_is(tmp_path_factory: pytest.TempPathFactory, corners: list[Any]) -> None:
    written = "".join(box(x, y, x + width, y + height) for x, y, width, height in corners)
    (one,) = prompts(tmp_path_factory.mktemp("own"), record("Find all in Image-2.", f"Image-2: {written}"))
    for preset in ("iou", "leap"):
        earned = for_trl(preset)(completions=[one.answer], truths=[msgspec.to_builtins(one.truths)])
        assert earned == [pytest.approx(1.0 if preset == "iou" else 1.1)]


def test_marks_become_images_in_their_places() -> None:
    (one,) = prompts_of_text("Image-1: <image>, Image-2: <image> Where?")
    assert [part.get("text", part["type"]) for part in one["content"]] == [
        "Image-1: ", "image", ", Image-2: ", "image", " Where?",
    ]  # fmt: skip


def prompts_of_text(text: str) -> list[dict[str, Any]]:
    from migician.samples.sample import Turn

    return messages([Turn("human", text)])


@pytest.mark.parametrize("file", ["train/stage-3_grpo.yaml", "configs/quickstart/stage-3.yaml"])
def test_our_files_are_read(file: str) -> None:
    settings = read_stage3(ROOT / file, ["learning_rate=3e-6", "reward=leap", "max_samples=7"])
    assert settings.trainer["learning_rate"] == 3e-6 and settings.reward == "leap" and settings.max_samples == 7
    assert settings.held_out and settings.freeze_vision_tower
    assert 8 <= settings.trainer["num_generations"] <= 16
    assert (settings.trainer["epsilon"], settings.trainer["epsilon_high"]) == (0.2, 0.28)
    assert settings.trainer["loss_type"] == "dapo"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("reward=uo", "reward 'uo' is none of"),
        ("stage=sft", "scripts/stage.sh trains the other stages"),
        ("max_samples=many", "Expected `int"),
        ("output_dir", "expected key=value"),
    ],
)
def test_settings_that_are_wrong_are_named(change: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_stage3(ROOT / "train/stage-3_grpo.yaml", [change])


def test_padding_on_the_right_stops() -> None:
    check_padding("left")
    with pytest.raises(UserError, match="it must be 'left'"):
        check_padding("right")


def logged(*rewards: float, loss: float = 0.0) -> str:
    lines = []
    for step, reward in enumerate(rewards, start=1):
        line = {"current_steps": step, "total_steps": 50, "elapsed_time": f"0:00:{step:02}", "loss": loss, "lr": 1e-6}
        lines.append(json.dumps(line | {"reward": reward}) + "\n")
    return "".join(lines)


def test_a_loss_of_zero_with_a_reward_is_no_divergence(tmp_path: Path) -> None:
    (tmp_path / "trainer_log.jsonl").write_text(logged(0.25, 0.5))
    lines = read_log(tmp_path)
    assert diverged_at(lines) is None and "step 2 of 50, reward 0.500" in progress_line(lines)
    (tmp_path / "trainer_log.jsonl").write_text(logged(0.25, 0.5, loss=float("nan")))
    assert diverged_at(read_log(tmp_path)) == 1


def interval(**spans: tuple[float, float]) -> dict[str, Any]:
    return {**{name: sum(span) / 2 for name, span in spans.items()}, "interval": {n: list(s) for n, s in spans.items()}}


@pytest.mark.parametrize(
    ("sampled", "average", "said"),
    [
        ((0.45, 0.52), {"acc@0.5": (-2.4, 1.3), "acc@0.7": (-5.3, -1.3), "mean_iou": (-2, 1)}, SHARPENED),
        ((0.45, 0.52), {"acc@0.5": (-2.4, 1.3), "acc@0.7": (-1, 1), "mean_iou": (0.2, 1)}, ROSE),
        ((0.52, 0.45), {"acc@0.5": (0.4, 1.3), "acc@0.7": (-1, 1), "mean_iou": (-0.2, 1)}, ROSE),
        ((0.52, 0.45), {"acc@0.5": (0.0, 1.3), "acc@0.7": (-1, 1), "mean_iou": (-0.2, 1)}, NOTHING),
    ],
)
def test_the_verdict(sampled: tuple[float, float], average: Any, said: str) -> None:
    assert verdict(sampled, interval(**average)) == said


def test_sampled_reward_is_of_the_first_and_last_tenth() -> None:
    lines = [LoggedStep(step, 20, "0:00:01", 0.0, reward=step / 10) for step in range(1, 21)]
    assert sampled_reward(lines) == (pytest.approx(0.15), pytest.approx(1.95))
    assert sampled_reward([LoggedStep(1, 2, "0:00:01", 3.0)]) is None


def test_gain_shows_greedy_accuracy_before_and_after(tmp_path: Path) -> None:
    """Right answers to one of two held-out questions before and after: the reward rose alone."""
    questions = [
        {"task": "diff", "images": ["a.png", f"{n}.png"], "question": f"{n}?", "answer": [0.0, 0.0, 0.5, 0.5]}
        for n in range(2)
    ]
    bench = make_bench(tmp_path, questions)
    runner = CliRunner()
    for name in ("before", "after"):
        answers = tmp_path / f"{name}.jsonl"
        replies = [box(0, 0, 500, 500), box(600, 600, 900, 900)]
        answers.write_text("".join(json.dumps({"index": n, "response": one}) + "\n" for n, one in enumerate(replies)))
        words = ["score", "mig-bench", "--data", str(bench), "--answers", str(answers)]
        done = runner.invoke(app, [*words, "--out", str(tmp_path / "scores" / name)])
        assert done.exit_code == 0, done.output
    (tmp_path / "trainer_log.jsonl").write_text(logged(*(0.4 + step / 100 for step in range(20))))
    done = runner.invoke(app, ["train", "gain", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "sharpening only: sampled reward 0.405 to 0.585" in done.output
    assert "acc@0.5 50.00 to 50.00 (+0.00, 95% interval +0.00 to +0.00)" in done.output
    kept = json.loads((tmp_path / "gain.json").read_text())
    assert kept["verdict"] == SHARPENED and kept["before"]["mean_iou"] == kept["after"]["mean_iou"] == 50.0


def test_gain_of_what_is_no_stage_3_or_not_asked_yet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no reward is logged there: expected the output_dir of scripts/stage3\.sh"):
        gain_of(tmp_path)
    (tmp_path / "trainer_log.jsonl").write_text(logged(0.4, 0.5))
    with pytest.raises(UserError, match=r"before: no report there: run scripts/stage3\.sh again"):
        gain_of(tmp_path)


def make_bench(folder: Path, questions: list[dict[str, Any]]) -> Path:
    file = folder / "bench.json"
    file.write_text(json.dumps(questions))
    return file


@pytest.mark.parametrize("given", ["max_samples=0", "max_samples=-1", "image_max_pixels=0", "max_minutes=nan"])
def test_a_limit_that_leaves_nothing_is_refused(given: str) -> None:
    with pytest.raises(UserError, match=rf"stage-3_grpo\.yaml: {given.partition('=')[0]} is .*more than 0"):
        read_stage3(ROOT / "train/stage-3_grpo.yaml", [given])


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **_: Any) -> None:
        raise OSError(f"Can't load {name}.\nIf you were trying to load it from the Hub, ...")

    stand_in = SimpleNamespace(AutoProcessor=SimpleNamespace(from_pretrained=refuse))
    monkeypatch.setitem(sys.modules, "transformers", stand_in)  # loading the real one takes seconds
    settings = read_stage3(ROOT / "train/stage-3_grpo.yaml", [f"model_name_or_path={tmp_path}"])
    with pytest.raises(UserError, match=r"model_name_or_path: .*: cannot be loaded: Can't load [^\n]+\Z"):
        _processor(settings)
