"""The path of every GPU user with flash-attn, on the CPU: transformers' own code, only the kernel stood in for.

transformers 5.6.0 asks an attention sink for its dtype, and Qwen2-VL has no sink, so it crashed every model. Nothing
of that needs a GPU to be noticed: only the kernel behind it does.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402
from transformers import modeling_flash_attention_utils as flash  # noqa: E402

from migician.chat.migician import Migician  # noqa: E402
from migician.models.protocol import Request  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


class Kernel:
    """What flash-attn offers, computed by torch: (batch, length, heads, width), or sequences one behind the other."""

    def __init__(self) -> None:
        self.sequences: list[int] = []
        """The length in queries of each sequence that was asked for."""

    def padded(
        self, q: Any, k: Any, v: Any, dropout_p: float = 0.0, softmax_scale: Any = None, causal: bool = False
    ) -> Any:
        assert dropout_p == 0
        self.sequences += [q.shape[1]] * q.shape[0]
        q, k, v = (one.transpose(1, 2) for one in (q, k, v))
        # flash-attn aligns the causal triangle with the last key.
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2]) if causal else None
        found = scaled_dot_product_attention(q, k, v, mask, scale=softmax_scale, enable_gqa=True)
        return found.transpose(1, 2)

    def varlen(
        self,
        q: Any,
        k: Any,
        v: Any,
        cu_seqlens_q: Any,
        cu_seqlens_k: Any,
        max_seqlen_q: Any,
        max_seqlen_k: Any,
        dropout_p: float = 0.0,
        softmax_scale: Any = None,
        causal: bool = False,
    ) -> Any:
        assert int(max_seqlen_q) == int(cu_seqlens_q.diff().max()) and int(max_seqlen_k) == int(
            cu_seqlens_k.diff().max()
        )
        queries, keys = cu_seqlens_q.diff().tolist(), cu_seqlens_k.diff().tolist()
        parts = zip(q.split(queries), k.split(keys), v.split(keys), strict=True)
        found = [self.padded(*(one[None] for one in part), dropout_p, softmax_scale, causal)[0] for part in parts]
        return torch.cat(found)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """As if flash-attn had been loaded."""
    made = Kernel()
    monkeypatch.setattr(flash, "_loaded_implementation", "flash_attention_2")
    monkeypatch.setattr(flash, "_flash_fn", made.padded)
    monkeypatch.setattr(flash, "_flash_varlen_fn", made.varlen)
    monkeypatch.setattr(flash, "_pad_fn", flash._pad_input)
    monkeypatch.setattr(flash, "_unpad_fn", flash._unpad_input)
    monkeypatch.setattr(flash, "_process_flash_kwargs_fn", flash._lazy_define_process_function(made.varlen))
    return made


def use(attention: str, *configs: Any) -> None:
    for config in configs:
        config._attn_implementation = attention


@pytest.fixture
def migician(tiny_folder: Path) -> Any:
    torch.set_num_threads(1)
    return Migician.from_pretrained(tiny_folder, device="cpu")


def noise(width: int, height: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_qwen2_vl_of_transformers_says_under_flash_attention_what_it_says_without(
    migician: Any, kernel: Kernel
) -> None:
    model, processor = migician.model, migician.processor
    parts = (model.config, model.config.text_config, model.config.vision_config)
    texts = ["one <|vision_start|><|image_pad|><|vision_end|> word", "<|vision_start|><|image_pad|><|vision_end|>"]
    inputs = processor(text=texts, images=[noise(112, 56, 0), noise(56, 56, 1)], padding=True, return_tensors="pt")
    shown = inputs["attention_mask"].bool()
    assert not shown.all(), "one row is padded"
    scores, replies = {}, {}
    with torch.inference_mode():
        for attention in ("sdpa", "flash_attention_2"):
            use(attention, *parts)
            scores[attention] = model(**inputs).logits[shown]
            replies[attention] = model.generate(**inputs, max_new_tokens=4)
    assert torch.allclose(scores["flash_attention_2"], scores["sdpa"], atol=1e-4, rtol=0)
    assert torch.equal(replies["flash_attention_2"], replies["sdpa"])
    patches = [int(count) for count in inputs["image_grid_thw"].prod(-1)]
    assert set(patches) <= set(kernel.sequences), "the vision tower was asked by image"
    assert set(shown.sum(-1).tolist()) <= set(kernel.sequences), "and the text without its padding"


def test_migician_replies_under_flash_attention_as_without(migician: Any, tiny_folder: Path, kernel: Kernel) -> None:
    requests = [
        Request((noise(112, 112, 2), noise(84, 56, 3)), "Where is it?", 8),
        Request((noise(56, 84, 4),), "a much longer question than the other one", 8),
    ]
    expected = migician.answer(requests)
    again = Migician.from_pretrained(tiny_folder, device="cpu")
    # Text has masks and attention of its own here, whichever was chosen; images go through the chosen one.
    use("flash_attention_2", again.model.config.vision_config)
    assert again.answer(requests) == expected
    assert kernel.sequences


def test_a_version_that_crashes_it_is_never_installed() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = [Requirement(one) for extra in extras.values() for one in extra if one.startswith("transformers")]
    assert wanted
    for one in wanted:
        assert not one.specifier.contains("5.6.0"), f"{one} admits transformers 5.6.0"
        assert one.specifier.contains("5.5.4") and one.specifier.contains("5.6.1")
    (pinned,) = re.findall(r"^transformers==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned != "5.6.0" and all(one.specifier.contains(pinned) for one in wanted)
