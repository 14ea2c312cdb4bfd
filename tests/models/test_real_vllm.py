"""The comparison of scripts/real_vllm.sh: what it calls a tie is one by the logits, and nothing else passes.

The script itself needs vLLM, and is run by hand.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from migician.models import load_model
from migician.models.protocol import Request

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
pytest.importorskip("transformers", reason="models extra not installed: bash scripts/setup.sh")

REQUEST = Request((Image.new("RGB", (60, 40), "red"), Image.new("RGB", (90, 60), "blue")), "Where?", 12)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts/real_vllm.py"
    spec = importlib.util.spec_from_file_location("real_vllm", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_vllm"] = module  # where its dataclasses look for their module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from migician.models.stand_ins.tiny import TinyShape, make_tiny

    # As wide as the script's, so that replies differ; and never a piece of a character.
    made = load_model(make_tiny(tmp_path_factory.mktemp("wide") / "model", seed=0, shape=TinyShape(spread=0.36)))
    pieces = [token for token in range(len(made.processor.tokenizer)) if "\ufffd" in made._decoded([token])]
    with torch.no_grad():
        made.model.lm_head.weight[pieces] = 0
    return made


def other_reply(script: ModuleType, model: Any, at: int) -> tuple[str, float]:
    """A reply that takes the second best token at one place and the best ones after it; and how far back that was."""
    from migician.models.pictures import load_pictures

    inputs = model.processor(
        text=[model.prompt_text(REQUEST)], images=load_pictures(REQUEST.images), return_tensors="pt"
    )
    tokens, logits = script.continued(model, inputs, [], REQUEST.max_new_tokens)
    best, second = logits[at].topk(2).indices.tolist()
    taken = [*tokens[:at], second]
    rest, _ = script.continued(model, inputs, taken, REQUEST.max_new_tokens - len(taken))
    assert tokens[at] == best and second not in model._stops
    return model._decoded([*taken, *rest]), float(logits[at][best] - logits[at][second])


def test_its_own_reply_leaves_the_best_token_nowhere(script: ModuleType, model: Any) -> None:
    (reply,) = model.answer([REQUEST])
    assert len(reply) > 12 and script.walk(model, REQUEST, reply) == []


@pytest.mark.parametrize("at", [0, 3, 7])
def test_another_token_is_found_with_its_margin(
    script: ModuleType, model: Any, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    reply, margin = other_reply(script, model, at)
    (step,) = script.walk(model, REQUEST, reply)
    assert step.margin >= script.TIE  # no tie, so the reply is not explained
    monkeypatch.setattr(script, "TIE", margin * 1.001)  # were that near enough
    (step,) = script.walk(model, REQUEST, reply)
    assert (step.at, step.margin) == (at, pytest.approx(margin, abs=1e-4))


def test_what_the_model_cannot_say_is_never_a_tie(script: ModuleType, model: Any) -> None:
    (reply,) = model.answer([REQUEST])
    for other in (reply + "x", reply[:-1], "x" + reply, "", "\u00e9" + reply):
        assert script.walk(model, REQUEST, other)[-1].margin >= script.TIE
    assert script.readable("a\ufffd") == script.readable("a") != script.readable("a\ufffdb")
