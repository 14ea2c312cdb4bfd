"""vLLM as an engine, against a stand-in module that honours the documented `LLM.chat`.

`scripts/real_vllm.sh` runs vLLM itself; the stand-in refuses and chooses as it was seen to there.
"""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from migician.cli import app
from migician.errors import UserError
from migician.models import load_model
from migician.models.faults import RunStopped
from migician.models.protocol import Model, Request

IMAGES = (Image.new("RGB", (60, 40), "red"), Image.new("RGB", (90, 60), "blue"))


@dataclass
class SamplingParams:
    temperature: float = 1.0
    max_tokens: int | None = 16
    skip_special_tokens: bool = True


class LLM:
    made: dict[str, Any]

    def __init__(self, model: str, dtype: str, **options: Any) -> None:
        LLM.made = {"model": model, "dtype": dtype, **options}
        chosen = "bfloat16" if dtype == "auto" else dtype
        self.llm_engine = SimpleNamespace(
            vllm_config=SimpleNamespace(
                model_config=SimpleNamespace(
                    dtype=f"torch.{chosen}", max_model_len=4096, quantization=None, get_head_size=lambda: 32
                ),
                device_config=SimpleNamespace(device_type="cpu"),
                cache_config=SimpleNamespace(cache_dtype="auto"),
            )
        )

    def chat(self, messages: list[Any], sampling_params: list[SamplingParams], use_tqdm: bool = True) -> list[Any]:
        assert len(messages) == len(sampling_params) and not use_tqdm
        told = []
        for conversation, params in zip(messages, sampling_params, strict=True):
            if refused := next((error for word, error in REFUSED.items() if word in str(conversation)), None):
                raise refused
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


class VLLMClientError(Exception):
    """As in vLLM 0.32: no ValueError."""


# As read from vLLM 0.32 itself, shortened.
TOO_MANY = VLLMClientError("At most 32 image(s) may be provided in one prompt. (parameter=image)")
TOO_THIN = ValueError("Failed to apply Qwen2VLProcessor on data={'images': [<PIL.Image.Image at 0x7FE23061AE50>]}")
TOO_THIN.__cause__ = ValueError("absolute aspect ratio must be smaller than 200, got 300.0")
REFUSED = {"too many": TOO_MANY, "too thin": TOO_THIN}


def attn_backend(head_size: int, dtype: str, kv_cache_dtype: str) -> Any:
    return SimpleNamespace(get_name=lambda: f"FOR_{head_size}_{dtype}_{kv_cache_dtype}")


def put(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, "vllm", LLM=LLM, SamplingParams=SamplingParams, __version__="stand-in")
    put(monkeypatch, "vllm.exceptions", VLLMClientError=VLLMClientError)
    put(monkeypatch, "vllm.config", set_current_vllm_config=lambda config: nullcontext())
    put(monkeypatch, "vllm.v1.attention.selector", get_attn_backend=attn_backend)


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


def as_bfloat16(source: Path, target: Path) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    file = target / "model.safetensors"
    save_file({name: weight.bfloat16() for name, weight in load_file(file).items()}, file)
    return target


@pytest.mark.usefixtures("vllm")
def test_a_float32_checkpoint_stays_float32_unless_told_otherwise(tiny_folder: Path, tmp_path: Path) -> None:
    half = as_bfloat16(tiny_folder, tmp_path / "half")
    asked, chosen = {}, {}
    for name, folder, told in (
        ("weights", tiny_folder, {}), ("told", tiny_folder, {"dtype": "bfloat16"}), ("half", half, {}),
        ("up", half, {"dtype": "float32"}),
    ):  # fmt: skip
        model = load_model(f"vllm:{folder}", **told)
        asked[name], chosen[name] = LLM.made["dtype"], model.describe()["dtype"]
    assert asked == {"weights": "float32", "told": "bfloat16", "half": "auto", "up": "float32"}
    assert chosen == {"weights": "float32", "told": "bfloat16", "half": "bfloat16", "up": "float32"}
    with pytest.raises(UserError, match="dtype 'half': expected one of bfloat16, float16, float32"):
        load_model(f"vllm:{tiny_folder}", dtype="half")


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize(("told", "chosen"), [([], "float32"), (["--dtype", "bfloat16"], "bfloat16")])
def test_the_report_of_a_whole_run_has_the_dtype(
    tiny_folder: Path, tmp_path: Path, told: list[str], chosen: str
) -> None:
    for name, image in zip("ab", IMAGES, strict=True):
        image.save(tmp_path / f"{name}.png")
    row = {"task": "region", "images": ["a.png", "b.png"], "question": "Where?", "answer": [0.1, 0.1, 0.5, 0.5]}
    (tmp_path / "data.json").write_text(json.dumps([row]))
    run = [
        "eval",
        "mig-bench",
        "--data",
        f"{tmp_path}/data.json",
        "--images",
        str(tmp_path),
        "--out",
        f"{tmp_path}/out",
    ]
    result = CliRunner().invoke(app, [*run, "--model", f"vllm:{tiny_folder}", *told])
    assert result.exit_code == 0, result.output
    model = json.loads((tmp_path / "out/report.json").read_text())["model"]
    assert (LLM.made["dtype"], model["dtype"], model["engine"]) == (chosen, chosen, "vllm")


@pytest.mark.usefixtures("vllm")
def test_a_report_says_what_the_engine_chose(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(f"vllm:{tiny_folder}")
    described = model.describe()
    assert {name: described[name] for name in ("device", "dtype", "attention", "max_model_len", "quantization")} == {
        "device": "cpu", "dtype": "float32", "attention": "FOR_32_torch.float32_auto", "max_model_len": 4096,
        "quantization": None,
    }  # fmt: skip
    # Another version may have other names for all of it.
    monkeypatch.setitem(sys.modules, "vllm.v1.attention.selector", None)
    monkeypatch.setattr(model.engine, "llm_engine", SimpleNamespace(vllm_config=None))
    other = model.describe()
    assert other.keys() == described.keys()
    assert (other["attention"], other["dtype"], other["weights_fingerprint"]) == (
        None, None, described["weights_fingerprint"],
    )  # fmt: skip


@pytest.mark.usefixtures("vllm")
def test_what_vllm_refuses_is_told_in_its_words_and_without_addresses(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(f"vllm:{tiny_folder}")
    for question, told in (
        ("too many", "vLLM: At most 32 image(s) may be provided in one prompt. (parameter=image)"),
        ("too thin", "vLLM: absolute aspect ratio must be smaller than 200, got 300.0"),
    ):
        with pytest.raises(ValueError, match="^vLLM: ") as caught:
            model.answer([Request(IMAGES, question, 9)])
        assert str(caught.value) == told
    # Before it had errors of its own all were ValueErrors.
    monkeypatch.setitem(sys.modules, "vllm.exceptions", None)
    with pytest.raises(ValueError, match="aspect ratio"):
        model.answer([Request(IMAGES, "too thin", 9)])


def test_without_vllm_it_says_what_to_install(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"pip install 'migician\[vllm\]' .* or run `vllm serve` elsewhere"):
        load_model(f"vllm:{tiny_folder}")


@pytest.mark.usefixtures("vllm")
def test_trust_is_needed_here_too(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "minicpmv"}')
    with pytest.raises(UserError, match="then add --trust-remote-code"):
        load_model(f"vllm:{tmp_path}")


def test_an_engine_that_has_died_stops_the_run_instead_of_failing_every_question(
    vllm: None, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EngineDeadError = type("EngineDeadError", (Exception,), {})  # noqa: N806 - named as vLLM's

    def chat(*_: object, **__: object) -> None:
        raise EngineDeadError("EngineCore encountered an issue")

    model = load_model(f"vllm:{tiny_folder}")
    monkeypatch.setattr(model.engine, "chat", chat)
    with pytest.raises(RunStopped, match="EngineCore encountered an issue: the same command again resumes here"):
        model.answer([Request((), "q")])
