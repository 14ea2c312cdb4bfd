"""The estimate of memory: by hand, and against what torch allocates for LLaMA-Factory's own models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import Parent

from migician.samples.bases import BASES
from migician.training.check.settings.cost import QWEN2_VL_7B
from migician.training.check.settings.learning import learning_of
from migician.training.check.settings.memory import Load, memory_need, numbers_of, smallest_fit, weight_bytes
from migician.training.check.settings.model_shape import RELEASED, ModelShape
from migician.training.check.settings.training_yaml import DEFAULTS, TrainingSettings, Zero
from migician.training.checkpoint_forms import canonical

torch = pytest.importorskip("torch", reason="train extra not installed: bash scripts/setup.sh")


def settings(**given: Any) -> TrainingSettings:
    return TrainingSettings(Path("x.yaml"), DEFAULTS | given, given)


LOAD = Load(12_000, 40_000, 2, True, False)
FULL = learning_of(settings(finetuning_type="full"), QWEN2_VL_7B)
MIXED = numbers_of(settings(finetuning_type="full", deepspeed="x.json", bf16=True), 2)


def test_the_shape_of_qwen2_vl_7b_has_its_parameters() -> None:
    # 8,291,375,616 in the released index: 7,615,616,512 in the language model, the rest in the tower.
    assert QWEN2_VL_7B.count("language") == 7_615_616_512
    assert QWEN2_VL_7B.count() == 8_291_375_616
    assert FULL.trained == 7_615_616_512


def test_the_released_sizes_are_those_of_their_indexes() -> None:
    """The parameters of their files on the Hub; those of Qwen3.5 hold a part that transformers does not load."""
    counts = {name: shape.count() for name, shape in RELEASED.items() if shape.base != "qwen3_5"}
    assert counts == {
        "qwen2-vl-2b": 2_208_985_600,
        "qwen2-vl-7b": 8_291_375_616,
        "qwen2.5-vl-3b": 3_754_622_976,
        "qwen2.5-vl-7b": 8_292_166_656,
        "qwen3-vl-2b": 2_127_532_032,
        "qwen3-vl-4b": 4_437_815_808,
        "qwen3-vl-8b": 8_767_123_696,
    }


@pytest.mark.parametrize("base", BASES)
def test_the_names_are_those_of_transformers_own_class(base: str, tiny_of: Callable[[str], Path]) -> None:
    from transformers import AutoConfig, AutoModelForImageTextToText

    folder = tiny_of(base)
    own = ModelShape.of(json.loads((folder / "config.json").read_text())).parameters()
    with torch.device("meta"):
        theirs = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    # How the parts are called differs between versions of transformers.
    named = {canonical(name): tuple(weight.shape) for name, weight in theirs.named_parameters()}
    assert {canonical(name): shape for name, shape in own.items()} == named


def test_states_by_stage() -> None:
    learning = FULL.trained
    needs = [memory_need(FULL, LOAD, MIXED, Zero(stage, False, False), 8) for stage in range(4)]
    assert [round(need.optimizer / learning, 6) for need in needs] == [12, 1.5, 1.5, 1.5]
    assert [round(need.gradients / learning, 6) for need in needs] == [2, 2, 0.25, 0.25]
    assert needs[3].parameters < needs[2].parameters


def test_the_smallest_set_up_that_fits() -> None:
    count = smallest_fit(FULL, LOAD, MIXED, Zero(3, False, False), 80e9)
    assert count is not None
    assert memory_need(FULL, LOAD, MIXED, Zero(3, False, False), count).total <= 80e9
    assert memory_need(FULL, LOAD, MIXED, Zero(3, False, False), count // 2).total > 80e9
    assert smallest_fit(FULL, LOAD, MIXED, Zero(0, False, False), 80e9) is None


@pytest.mark.parametrize(
    ("given", "bytes_a_parameter"),
    [
        ({"deepspeed": "x.json", "bf16": True}, 16),
        ({"deepspeed": "x.json"}, 16),
        ({"bf16": True}, 18),  # with autocast's copies
        ({}, 16),
        ({"pure_bf16": True}, 8),
    ],
)
def test_bytes_of_a_parameter_that_learns(given: dict[str, Any], bytes_a_parameter: int) -> None:
    numbers = numbers_of(settings(**given), 2)
    assert numbers.weight + numbers.gradient + numbers.optimizer + numbers.copy == bytes_a_parameter


def test_a_quantised_base_of_7b() -> None:
    """4 bits and a scale of 64 weights; embedding, head, norms and biases as they were."""
    qlora = settings(quantization_bit=4)
    learning = learning_of(qlora, QWEN2_VL_7B)
    linear = sum(
        shape[0] * shape[1]
        for name, shape in QWEN2_VL_7B.parameters().items()
        if len(shape) == 2 and "embed_tokens" not in name and name != "lm_head.weight"
    )
    by_hand = linear * (0.5 + (1 + 4 / 256) / 64) + 2 * (QWEN2_VL_7B.count() - linear) + 4 * learning.adapter
    assert weight_bytes(learning, numbers_of(qlora, 2)) == pytest.approx(by_hand)
    # r (in + out) of q, k, v, o, gate, up, down in 28 layers.
    assert learning.adapter == 28 * 8 * (2 * 7168 + 2 * 4096 + 3 * (3584 + 18944))


MEASURE = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForImageTextToText
from llamafactory.hparams import get_train_args
from llamafactory.model import load_model, load_tokenizer

def measured(folder, given, tokens):
  torch.manual_seed(0)
  AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
  model_args, _, training_args, finetuning_args, _ = get_train_args(
      given | dict(model_name_or_path=folder, stage="sft", do_train=True, dataset="x",
          output_dir=folder + "/out", use_cpu=True, report_to="none"))
  tokenizer = load_tokenizer(model_args)["tokenizer"]
  model = load_model(tokenizer, model_args, finetuning_args, True)
  learn = [weight for weight in model.parameters() if weight.requires_grad]
  optimizer = torch.optim.AdamW(learn, lr=1e-6)
  ids = torch.randint(0, model.config.text_config.vocab_size - 20, (1, tokens))
  loss = lambda: model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
  loss()
  optimizer.step()
  optimizer.zero_grad(set_to_none=False)  # gradients and states are there from here on
  held = sum(weight.nbytes for weight in model.parameters())
  held += sum(weight.grad.nbytes for weight in learn if weight.grad is not None)
  held += sum(one.nbytes for state in optimizer.state.values() for one in state.values() if one.ndim)
  with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
      loss()
  events = [one for one in profile.profiler.kineto_results.events() if one.name() == "[memory]"]
  now = peak = 0
  for event in sorted(events, key=lambda one: one.start_ns()):
      now += event.nbytes()
      peak = max(peak, now)
  return [sum(weight.numel() for weight in learn), held, peak]

print(json.dumps([measured(*one) for one in json.loads(sys.argv[1])]))
"""
CONFIG: dict[str, Any] = {
    "model_type": "qwen2_vl",
    "dtype": "float32",
    "tie_word_embeddings": False,
    "text_config": {
        "vocab_size": 2048, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
    },
    "vision_config": {"depth": 1, "embed_dim": 64, "hidden_size": 256, "num_heads": 4, "mlp_ratio": 2},
}  # fmt: skip
_TOWER = {"depth": 1, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "out_hidden_size": 256}
_LINEAR = {
    "layer_types": [*["linear_attention"] * 3, "full_attention"] * 2, "num_hidden_layers": 8, "head_dim": 64,
    "linear_num_key_heads": 4, "linear_num_value_heads": 4, "linear_key_head_dim": 64, "linear_value_head_dim": 64,
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "qwen2_vl": CONFIG,
    "qwen2_5_vl": CONFIG | {"vision_config": _TOWER | {"fullatt_block_indexes": [0], "window_size": 56}},
    # As in Qwen3-VL-4B, all queries are wider than the model.
    "qwen3_vl": CONFIG
    | {
        "text_config": CONFIG["text_config"] | {"head_dim": 104},
        "vision_config": _TOWER | {"deepstack_visual_indexes": [0], "num_position_embeddings": 64},
    },
    "qwen3_5": CONFIG
    | {"text_config": CONFIG["text_config"] | _LINEAR, "vision_config": _TOWER | {"num_position_embeddings": 64}},
}


RUNS: dict[str, tuple[dict[str, Any], int, str]] = {
    "full": ({"finetuning_type": "full"}, 2048, "qwen2_vl"),
    "full, whole": ({"finetuning_type": "full", "disable_gradient_checkpointing": True}, 2048, "qwen2_vl"),
    "full, logits": ({"finetuning_type": "full"}, 30_000, "qwen2_vl"),
    "freeze": ({"finetuning_type": "freeze", "freeze_trainable_layers": 2}, 2048, "qwen2_vl"),
    "freeze, first layers": ({"finetuning_type": "freeze", "freeze_trainable_layers": -2}, 2048, "qwen2_vl"),
    "lora": ({"finetuning_type": "lora", "lora_rank": 8}, 2048, "qwen2_vl"),
    "lora, whole": (
        {"finetuning_type": "lora", "lora_rank": 32, "disable_gradient_checkpointing": True}, 2048, "qwen2_vl"
    ),
    "Qwen2.5-VL": ({"finetuning_type": "full"}, 2048, "qwen2_5_vl"),
    "Qwen3-VL": ({"finetuning_type": "full"}, 2048, "qwen3_vl"),
    "Qwen3-VL, whole": ({"finetuning_type": "full", "disable_gradient_checkpointing": True}, 2048, "qwen3_vl"),
    "Qwen3-VL, lora": ({"finetuning_type": "lora", "lora_rank": 8}, 2048, "qwen3_vl"),
    "Qwen3-VL, lora, tower too": (
        {"finetuning_type": "lora", "lora_rank": 8, "freeze_vision_tower": False}, 2048, "qwen3_vl"
    ),
}  # fmt: skip
"""By name: settings, the words of the vocabulary, and the base."""
TOKENS = 512


def config_of(vocabulary: int, base: str) -> dict[str, Any]:
    config = OTHERS[base]
    return config | {"model_type": base, "text_config": config["text_config"] | {"vocab_size": vocabulary}}


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory, tiny_of: Callable[[str], Path], llamafactory: Parent
) -> dict[str, tuple[int, int, int]]:
    """(parameters that learn, bytes of weights, gradients and states, peak of the rest) of each run."""
    asked = []
    for given, vocabulary, base in RUNS.values():
        tiny_folder = tiny_of(base)
        own = json.loads((tiny_folder / "config.json").read_text())
        ids = {key: value for key, value in own.items() if key.endswith("_token_id")}
        folder = tmp_path_factory.mktemp("model")
        for file in tiny_folder.iterdir():
            if file.suffix != ".safetensors":
                (folder / file.name).write_bytes(file.read_bytes())
        (folder / "config.json").write_text(json.dumps(config_of(vocabulary, base) | ids))
        asked.append([str(folder), given | {"template": BASES[base].template.name}, TOKENS])
    done = llamafactory.run(MEASURE, json.dumps(asked))
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(RUNS, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("name", RUNS)
def test_the_estimate_holds_against_what_torch_allocates(name: str, measured: dict[str, tuple[int, int, int]]) -> None:
    """States, and forward and backward, of a true model as LLaMA-Factory loads it in float32: within 15%."""
    given, vocabulary, base = RUNS[name]
    trained, held, peak = measured[name]
    learning = learning_of(settings(**given), ModelShape.of(config_of(vocabulary, base)))
    load = Load(TOKENS, 0, 4, not given.get("disable_gradient_checkpointing", False), False)
    need = memory_need(learning, load, numbers_of(settings(**given), 4), Zero(0, False, False), 1, runtime=0)
    assert learning.trained == trained
    assert need.parameters + need.gradients + need.optimizer == pytest.approx(held, rel=0.01)
    assert need.activations + need.transient == pytest.approx(peak, rel=0.15)
