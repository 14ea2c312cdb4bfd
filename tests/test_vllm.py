"""vLLM as an engine, against a stand-in module that honours the documented `LLM.chat`; vLLM itself is not run here."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from migician.errors import UserError
from migician.models import Model, Request, load_model

IMAGES = (Image.new("RGB", (60, 40), "red"), Image.new("RGB", (90, 60), "blue"))


@dataclass
class SamplingParams:
    temperature: float = 1.0
    max_tokens: int | None = 16
    skip_special_tokens: bool = True


class LLM:
    made: dict[str, Any]

    def __init__(self, model: str, **options: Any) -> None:
        LLM.made = {"model": model, **options}

    def chat(self, messages: list[Any], sampling_params: list[SamplingParams], use_tqdm: bool = True) -> list[Any]:
        assert len(messages) == len(sampling_params) and not use_tqdm
        told = []
        for conversation, params in zip(messages, sampling_params, strict=True):
            said = []
            for message in conversation:
                parts = message["content"]
                if isinstance(parts, str):
                    said.append([message["role"], parts])
                    continue
                images = [list(part["image_pil"].size) for part in parts if part["type"] == "image_pil"]
                said.append([message["role"], "|".join(part.get("text", "#") for part in parts), images])
            text = json.dumps({"said": said, **vars(params)})
            told.append(SimpleNamespace(outputs=[SimpleNamespace(text=text)]))
        return told


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams, module.__version__ = LLM, SamplingParams, "stand-in"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)


@pytest.mark.usefixtures("vllm")
def test_conversations_go_to_vllm_as_documented(tiny_folder: Path) -> None:
    model = load_model(f"vllm:{tiny_folder}", max_pixels=600)
    assert isinstance(model, Model)
    first, second = model.answer([Request(IMAGES, "Q", 9), Request(IMAGES[:1], "b", 3, (("a", "r"),))])
    assert json.loads(first) == {
        "said": [["user", "#|#|Q", [[30, 20], [30, 20]]]],
        "temperature": 0, "max_tokens": 9, "skip_special_tokens": False,
    }  # fmt: skip
    assert json.loads(second)["said"] == [["user", "#|a", [[30, 20]]], ["assistant", "r"], ["user", "b", []]]
    assert LLM.made["model"] == str(tiny_folder)
    assert (LLM.made["trust_remote_code"], LLM.made["generation_config"]) == (False, "vllm")
    described = model.describe()
    assert json.loads(json.dumps(described)) == described
    assert (described["engine"], described["vllm"], described["family"]) == ("vllm", "stand-in", "qwen2_vl")
    assert model.answer([]) == []


def test_without_vllm_it_says_what_to_install(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"pip install 'migician\[vllm\]' .* or run `vllm serve` elsewhere"):
        load_model(f"vllm:{tiny_folder}")


@pytest.mark.usefixtures("vllm")
def test_trust_is_needed_here_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "minicpmv"}')
    with pytest.raises(UserError, match="then add --trust-remote-code"):
        load_model(f"vllm:{tmp_path}")
