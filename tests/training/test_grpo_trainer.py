"""Stage 3 by TRL's own trainer, on the CPU with a tiny Qwen2-VL; skipped where TRL cannot do it: beside LLaMA-Factory.

.venv-rl/bin/python -m pytest tests/training/test_grpo_trainer.py
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from migician.errors import UserError
from migician.samples.dataset_info import write_dataset_info

pytest.importorskip("trl", reason="TRL is not installed: scripts/rl_environment.sh")
try:
    from trl import GRPOTrainer
except (ImportError, RuntimeError) as error:
    pytest.skip(f"TRL without its GRPO trainer: {error!s:.80}", allow_module_level=True)

import torch

from migician.training import grpo
from migician.training.grpo_trainer import GroundingTrainer, merged

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "num_generations=4", "per_device_train_batch_size=12", "max_completion_length=6", "logging_steps=1", "save_steps=2",
    "learning_rate=1e-3", "temperature=1.0", "scale_rewards=none", "with_answers=false", "only_better=false",
]  # fmt: skip


SIZES = [(28 * width, 28 * height) for width in range(1, 17) for height in range(1, 17) if 4 <= width * height <= 16]
"""Of images that the processor leaves as they are: 16 cells of 28 x 28 pixels at most, and 4 at least."""
PAIRS = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of images, no two of the same size or colour, and a question about each pair."""
    place = tmp_path_factory.mktemp("stage3")
    records = []
    for pair in range(PAIRS):
        names = [f"{pair}-{image}.png" for image in range(2)]
        for image, name in enumerate(names):
            Image.new("RGB", SIZES[2 * pair + image], (20 * pair, 120 * image, 99)).save(place / name)
        said = [f"<image><image>Question {pair}?", "<|box_start|>(0,0),(500,500)<|box_end|>"]
        turns = [{"from": ("human", "gpt")[number], "value": text} for number, text in enumerate(said)]
        records.append({"id": pair, "images": names, "conversations": turns, "type": "diff_train"})
    (place / "mine.json").write_text(json.dumps(records))
    write_dataset_info(place, {"mine": "mine.json"})
    return place


def settings(place: Path, model: Path, out: Path, *more: str) -> grpo.Stage3:
    given = [f"model_name_or_path={model}", f"output_dir={out}", f"dataset_dir={place}", f"media_dir={place}"]
    return grpo.read_stage3(ROOT / "configs/quickstart/stage-3.yaml", [*given, "dataset=mine", *SMALL, *more])


@pytest.fixture
def rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reply earns something else, as untrained ones would earn nothing: whatever is trained depends on it."""

    def for_any(preset: str, *, style: str) -> Any:
        def length(*, completions: Any, **columns: Any) -> list[float]:
            return [sum(map(ord, one[0]["content"])) % 97 / 97 for one in completions]

        return length

    monkeypatch.setattr(grpo, "for_trl", for_any)


def log_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "trainer_log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "elapsed_time"} for line in lines]


@pytest.mark.usefixtures("rewarded")
def test_same_seed_same_log_and_frozen_vision(place: Path, tiny_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for name in ("one", "two"):
        grpo.train(settings(place, tiny_folder, tmp_path / name, "max_steps=2", "save_strategy='no'"))
    first, second = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    assert len(first) == 2 and first == [pytest.approx(line, abs=1e-6) for line in second]
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_folder, tmp_path / "one"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any("visual." in name for name in changed)
    for name in (
        "config.json",
        "processor_config.json",
        "tokenizer_config.json",
    ):  # so it can be averaged with the start
        assert (tiny_folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert {"loss", "lr", "reward", "current_steps", "total_steps"} <= first[0].keys()


@pytest.mark.usefixtures("rewarded")
def test_resumed_it_is_as_if_never_stopped(place: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Weights, optimizer, order of prompts and chance: the log of the steps after a checkpoint is the same."""
    more = ["max_steps=4", "with_answers=true"]
    grpo.train(settings(place, tiny_folder, tmp_path / "whole", *more))
    shutil.copytree(tmp_path / "whole/checkpoint-2", tmp_path / "again/checkpoint-2")
    grpo.train(settings(place, tiny_folder, tmp_path / "again", *more))
    whole, again = log_of(tmp_path / "whole"), log_of(tmp_path / "again")
    assert [line["current_steps"] for line in again] == [3, 4]
    assert again == [pytest.approx(line, abs=1e-6) for line in whole[2:]]


@pytest.mark.usefixtures("rewarded")
@pytest.mark.parametrize("steps_per_generation", [1, 3])
def test_pairs_of_images_stay_with_their_prompts(
    place: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps_per_generation: int
) -> None:
    """Every image has its own size and colour: each trained row must have its own pair, in order, to the last pixel."""
    seen = []
    loss = GRPOTrainer._compute_loss

    def spied(self: Any, model: Any, inputs: Any) -> Any:
        seen.append((self, inputs))
        return loss(self, model, inputs)

    monkeypatch.setattr(GRPOTrainer, "_compute_loss", spied)
    more = [
        f"gradient_accumulation_steps={steps_per_generation}",
        f"per_device_train_batch_size={24 // steps_per_generation}",
    ]
    grpo.train(settings(place, tiny_folder, tmp_path, "max_steps=1", "save_strategy='no'", *more))
    assert len(seen) == steps_per_generation
    pairs = set()
    for trainer, inputs in seen:
        processor = trainer.processing_class
        grids, start = inputs["image_grid_thw"], 0
        for row, ids in enumerate(inputs["prompt_ids"]):
            text = processor.tokenizer.decode(ids)
            pair = int(text.split("Question ")[1].split("?")[0])
            pairs.add(pair)
            images = [Image.open(place / f"{pair}-{image}.png").convert("RGB") for image in range(2)]
            own = processor.image_processor(images=images, return_tensors="pt")
            assert grids[2 * row : 2 * row + 2].tolist() == own["image_grid_thw"].tolist()
            end = start + int(own["image_grid_thw"].prod(-1).sum())
            assert torch.equal(inputs["pixel_values"][start:end], own["pixel_values"])
            marks = inputs["mm_token_type_ids"][row][: len(ids)]
            assert (marks == 1).tolist() == (ids == processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")).tolist()
            start = end
        assert start == len(inputs["pixel_values"])
    assert len(pairs) > 2


@pytest.mark.usefixtures("rewarded")
def test_less_is_computed_for_the_same_gradient(
    place: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal replies once, and prompts once, against every reply in a row of its own."""
    replies = [[70, 71, 72], [80, 81], [70, 71, 72], [90]] * 6
    monkeypatch.setattr(GroundingTrainer, "_generate_single_turn", lambda *_: (replies, None))
    found = {}
    for name in ("shared", "merged", "whole"):
        if name == "whole":
            whole = lambda replies, advantages, least=1: (list(range(len(replies))), list(advantages))  # noqa: E731
            monkeypatch.setattr("migician.training.grpo_trainer.merged", whole)
        more = ["max_steps=1", "save_strategy='no'", "per_device_train_batch_size=24"]
        grpo.train(settings(place, tiny_folder, tmp_path / name, *more, f"share_prompts={name == 'shared'}"))
        (found[name],) = log_of(tmp_path / name)
    assert [line["trained_replies"] for line in found.values()] == [18, 18, 24]
    for line in found.values():
        assert line["grad_norm"] == pytest.approx(found["whole"]["grad_norm"], rel=1e-4)
        assert line["loss"] == pytest.approx(found["whole"]["loss"], abs=1e-6)


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from([-1.0, -0.5, 0.0, 0.5])), min_size=6),
    st.integers(1, 6),
)
def test_merging_keeps_the_sum_of_each_reply(rows: list[tuple[str, float]], least: int) -> None:
    replies, advantages = [reply for reply, _ in rows], [advantage for _, advantage in rows]
    kept, sums = merged(replies, advantages, least)
    assert len(kept) == len(set(kept)) >= least
    for reply in set(replies):
        left = sum(value for place, value in zip(kept, sums, strict=True) if replies[place] == reply)
        assert left == sum(value for one, value in rows if one == reply)


@pytest.mark.usefixtures("rewarded")
def test_answers_stand_among_the_replies(
    place: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last reply of each prompt is the record's own, earns all there is, and is not counted as sampled."""
    seen: list[list[str]] = []
    rewards = GRPOTrainer._calculate_rewards

    def spied(self: Any, inputs: Any, prompts: Any, completions: Any, ids: Any) -> Any:
        seen.append([one[0]["content"] for one in completions])
        return rewards(self, inputs, prompts, completions, ids)

    monkeypatch.setattr(GRPOTrainer, "_calculate_rewards", spied)
    monkeypatch.setattr(grpo, "for_trl", lambda preset, style: lambda *, completions, **_: [
        float(one[0]["content"] == "(0,0),(500,500)") for one in completions
    ])  # fmt: skip
    grpo.train(settings(place, tiny_folder, tmp_path, "max_steps=1", "save_strategy='no'", "with_answers=true"))
    (said,) = seen
    assert [place for place, text in enumerate(said) if text == "(0,0),(500,500)"] == [3, 7, 11]
    assert log_of(tmp_path)[0]["reward"] == 0.0


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["learning_rat=1e-5"], "learning_rat: neither a setting of stage 3 nor one of TRL's GRPOConfig. Did you mean"),
        (["num_generations=5"], "TRL cannot take the settings of stage 3"),
        (["use_vllm=true"], "vLLM samples every reply itself"),
        (["top_p=0.9"], "share_prompts samples by temperature alone"),
        (["media_dir=nowhere"], "not there; media_dir is the folder"),
        (["held_out=nowhere.json"], "held_out: nowhere.json: not there"),
    ],
)
def test_what_cannot_be_trained_is_named(
    place: Path, tiny_folder: Path, tmp_path: Path, more: list[str], says: str
) -> None:
    held_out = [f"held_out={place / 'mine.json'}", f"held_out_images={place}"]
    with pytest.raises(UserError, match=says):
        grpo.check(settings(place, tiny_folder, tmp_path, *held_out, *more))
    assert f"{PAIRS} prompts of 1 families" in grpo.check(settings(place, tiny_folder, tmp_path, *held_out))


@pytest.fixture
def script(place: Path, tiny_folder: Path, tmp_path: Path) -> Iterator[Any]:
    """scripts/stage3.sh in the environment of this test, on held-out questions about the same images."""
    asked = [
        {"task": "diff", "images": ["0-0.png", "0-1.png"], "question": "Question 0?", "answer": [0.0, 0.0, 0.5, 0.5]}
    ]
    (place / "held-out.json").write_text(json.dumps(asked))
    environment = os.environ | {
        "RL_VENV": str(Path(sys.executable).parents[1]), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    started = []

    def start(out: Path, *more: str) -> subprocess.Popen[str]:
        given = [f"model_name_or_path={tiny_folder}", f"output_dir={out}", f"dataset_dir={place}", f"media_dir={place}"]
        given += [f"held_out={place / 'held-out.json'}", f"held_out_images={place}", "dataset=mine", *SMALL, *more]
        words = ["bash", str(ROOT / "scripts/stage3.sh"), "configs/quickstart/stage-3.yaml", *given]
        started.append(
            subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
        return started[-1]

    yield start
    for one in started:
        one.terminate()


@pytest.mark.slow
def test_killed_and_started_again_it_is_as_if_never_killed(script: Any, tmp_path: Path) -> None:
    more = ["max_steps=6", "save_total_limit=9", "with_answers=true"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    said = script(whole, *more).communicate()[0]
    assert (whole / "gain.json").exists(), said
    running = script(cut, *more)
    while not (cut / "checkpoint-2/trainer_state.json").exists():
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.05)
    holders = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit() and held(one, cut / ".lock-0")]
    for one in holders:
        os.kill(one, signal.SIGKILL)
    running.wait()
    for late in cut.glob("checkpoint-[3-9]"):
        shutil.rmtree(late)
    again = script(cut, *more)
    said = again.communicate()[0]
    assert again.returncode == 0, said
    assert "greedy, held out" in said
    last = {line["current_steps"]: line for line in log_of(cut)}
    assert list(last.values()) == [pytest.approx(line, abs=1e-6) for line in log_of(whole)]


def held(process: Path, lock: Path) -> bool:
    try:
        return (process / "fd/0").samefile(lock)
    except OSError:
        return False


def test_shared_prompts_give_the_log_probabilities_of_single_rows(place: Path, tiny_folder: Path) -> None:
    """Against transformers' own forward over each prompt and reply alone, for prompts of different lengths."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from migician.training.shared_prompts import Batch, log_probabilities, sample

    model = AutoModelForImageTextToText.from_pretrained(tiny_folder).eval()
    processor = AutoProcessor.from_pretrained(tiny_folder, padding_side="left")
    said, shown = [], []
    for pair, words in enumerate(["Where?", "Where is it, if it is anywhere at all?", "It?"]):
        content = [{"type": "image"}] * 2 + [{"type": "text", "text": words}]
        said.append(processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True))
        shown.append([Image.open(place / f"{pair}-{image}.png").convert("RGB") for image in range(2)])
    both = processor(images=shown, text=said, padding=True, return_tensors="pt")
    pictures = {name: both[name] for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids")}
    batch = Batch(both["input_ids"], both["attention_mask"], pictures)
    with torch.no_grad():
        torch.manual_seed(0)
        drawn = sample(model, batch, 4, longest=5, temperature=1.3, stops=[], never=[model.config.image_token_id])
        groups = [number // 4 for number in range(12)]
        order = [5, 0, 11, 4, 3, 8, 1]
        replies = [drawn[number][: 1 + number % 5] for number in order]
        logps, entropies = log_probabilities(
            model, model, batch, [groups[number] for number in order], replies, temperature=1.3
        )
        for number, reply, logp, entropy in zip(order, replies, logps, entropies, strict=True):
            group = groups[number]
            alone = processor(images=shown[group], text=said[group], return_tensors="pt")
            ids = torch.cat([alone["input_ids"], torch.tensor([reply])], dim=1)
            types = torch.cat([alone["mm_token_type_ids"], torch.zeros(1, len(reply), dtype=torch.long)], dim=1)
            given = {"input_ids": ids, "mm_token_type_ids": types, "attention_mask": torch.ones_like(ids)}
            given |= {name: alone[name] for name in ("pixel_values", "image_grid_thw")}
            spread = (model(**given).logits[0, -len(reply) - 1 : -1] / 1.3).log_softmax(-1)
            assert torch.allclose(logp, spread[range(len(reply)), reply], atol=1e-5)
            assert torch.allclose(entropy, -(spread.exp() * spread).sum(-1), atol=1e-5)
        # At no temperature it is greedy decoding: transformers' own, up to the first stop.
        stops, never = model.generation_config.eos_token_id, [model.config.image_token_id]
        greedy = sample(model, batch, 1, longest=5, temperature=1e-6, stops=stops, never=never)
        theirs = model.generate(**both, max_new_tokens=5, do_sample=False, suppress_tokens=never)
    for reply, row in zip(greedy, theirs[:, both["input_ids"].shape[1] :].tolist(), strict=True):
        end = next((place + 1 for place, token in enumerate(row) if token in stops), len(row))
        assert reply == row[:end]
    assert len(drawn) == 12 and {len(reply) for reply in drawn} == {5}
