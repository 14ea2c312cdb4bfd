"""An adapter merged into its base, against peft's own merge and by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from migician.cli import app
from migician.errors import UserError
from migician.models.checkpoint import locate
from migician.training.adapters import is_adapter, merge_adapter, read_trained
from migician.training.checkpoint_forms import canonical

pytest.importorskip("peft", reason="train extra not installed: bash scripts/setup.sh")
torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def adapted(base: Path, out: Path, **config: Any) -> Any:
    """peft's model on `base` with an adapter that is not nothing, saved to `out`."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2VLForConditionalGeneration

    settings: dict[str, Any] = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "down_proj", "qkv"]}
    model = get_peft_model(
        Qwen2VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32), LoraConfig(**settings | config)
    )
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = torch.randn(weight.shape, generator=generator) / 8
    model.save_pretrained(out)
    return model


@pytest.mark.parametrize(
    "config",
    [{}, {"use_rslora": True}, {"modules_to_save": ["lm_head"]}, {"r": 1, "lora_alpha": 1}],
    ids=["lora", "rslora", "with a whole head", "rank 1"],
)
def test_the_merged_weights_are_pefts(tiny_folder: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    model = adapted(tiny_folder, tmp_path / "adapter", **config)
    merge_adapter(tmp_path / "adapter", tmp_path / "made")
    model.merge_and_unload().save_pretrained(tmp_path / "theirs")
    ours, theirs, base = weights(tmp_path / "made"), weights(tmp_path / "theirs"), weights(tiny_folder)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-6)
        changed = any(part in name for part in ("q_proj.weight", "down_proj", "qkv.weight"))
        assert torch.equal(tensor, base[name]) is not (changed or ("lm_head" in name and "modules_to_save" in config))
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / "made" / name).read_bytes() == (tiny_folder / name).read_bytes()


def test_pieces_of_any_size_make_the_same(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted(tiny_folder, tmp_path / "adapter")
    merge_adapter(tmp_path / "adapter", tmp_path / "whole")
    monkeypatch.setattr("migician.training.merge.PIECE", 300)  # not a whole number of rows
    merge_adapter(tmp_path / "adapter", tmp_path / "pieces")
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "pieces")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_base_of_16_bits_is_rounded_once(tiny_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    base = shutil.copytree(tiny_folder, tmp_path / "base")
    half = {name: tensor.to(torch.bfloat16) for name, tensor in weights(tiny_folder).items()}
    save_file(half, base / "model.safetensors", {"format": "pt"})
    adapted(tiny_folder, tmp_path / "adapter")
    merge_adapter(tmp_path / "adapter", tmp_path / "made", base)
    low = weights(tmp_path / "adapter")
    name = "model.language_model.layers.1.self_attn.q_proj"
    a, b = (low[f"base_model.model.{name}.lora_{letter}.weight"] for letter in "AB")
    own = f"{canonical(name)}.weight"
    exact = half[f"model.{own}"].to(torch.float32) + 16 / 4 * (b @ a)
    assert torch.equal(weights(tmp_path / "made")[f"model.{own}"], exact.to(torch.bfloat16))


def test_what_cannot_be_merged_is_a_line(tiny_folder: Path, tmp_path: Path) -> None:
    adapted(tiny_folder, tmp_path / "adapter")
    adapter = tmp_path / "adapter"
    assert is_adapter(adapter) and not is_adapter(tiny_folder)
    with pytest.raises(UserError, match=r"it is an adapter: migician merge .*adapter --out DIR"):
        locate(adapter)
    with pytest.raises(UserError, match="not an adapter"):
        merge_adapter(tiny_folder, tmp_path / "out")
    config = json.loads((adapter / "adapter_config.json").read_text())
    for change, says in (
        ({"use_dora": True}, "llamafactory-cli export"),
        ({"peft_type": "OFT"}, "llamafactory-cli export"),
        ({"base_model_name_or_path": None}, "set --base"),
        ({"base_model_name_or_path": str(tmp_path / "gone")}, "no such model folder"),
    ):
        (adapter / "adapter_config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=says):
            merge_adapter(adapter, tmp_path / "out")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    from migician.models.stand_ins.tiny import TinyShape, make_tiny

    other = make_tiny(tmp_path / "other", seed=0, shape=TinyShape(width=64, heads=4, key_value_heads=4))
    with pytest.raises(UserError, match="name the --base it was trained on"):
        merge_adapter(adapter, tmp_path / "out", other)
    assert not (tmp_path / "out").exists()


def test_a_diverged_adapter_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    adapted(tiny_folder, tmp_path / "adapter")
    low = weights(tmp_path / "adapter")
    low[next(name for name in low if "lora_B" in name)][0, 0] = float("nan")
    save_file(low, tmp_path / "adapter/adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="that training diverged"):
        merge_adapter(tmp_path / "adapter", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(tiny_folder: Path, tmp_path: Path) -> None:
    adapted(tiny_folder, tmp_path / "adapter")
    told = CliRunner().invoke(app, ["merge", str(tmp_path / "adapter"), "--out", str(tmp_path / "made")])
    assert told.exit_code == 0, told.output
    made = json.loads((tmp_path / "made/merge.json").read_text())
    assert (made["rank"], made["scale"]) == (4, 4.0)
    assert made["adapter"]["fingerprint"] == read_trained(tmp_path / "adapter").fingerprint()
    both = CliRunner().invoke(app, ["merge", str(tmp_path / "adapter"), str(tiny_folder), "--out", str(tmp_path / "x")])
    assert both.exit_code and "merge it into its base first" in str(both.exception)
    no_base = CliRunner().invoke(app, ["merge", str(tiny_folder), str(tiny_folder), "--base", "b", "--out", "x"])
    assert no_base.exit_code and "only an adapter has a base" in str(no_base.exception)
