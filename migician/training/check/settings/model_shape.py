"""The sizes of a base model, and from them the name and shape of each of its parameters.

tests/training/test_memory.py compares these with transformers' own classes, and their sums with the released
checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migician.samples.bases import BASES, QWEN2_VL

ModelPart = str
"""Of a model: language, projector or vision."""
Parameters = dict[str, tuple[int, ...]]
"""Shapes by name."""


@dataclass(frozen=True, slots=True)
class LinearAttention:
    """The layers of Qwen3.5 that have no attention over the whole text; each number but `every` is a width."""

    every: int
    """Every layer of this number has attention instead."""
    keys: int
    values: int
    heads: int
    """Of the values."""
    kernel: int


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a model that determine memory and work."""

    hidden: int
    layers: int
    feed_forward: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool
    vision_width: int
    vision_layers: int
    vision_feed_forward: int
    base: str = "qwen2_vl"
    """One of `BASES`."""
    head_width: int = 0
    """0 where it is hidden / heads."""
    deepstack: int = 0
    """Layers of the tower whose features enter the language model on their own."""
    positions: int = 0
    """Of the tower, where they are learned."""
    linear: LinearAttention | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ModelShape:
        """From a checkpoint's config.json; raises KeyError for a missing size, or a model that is none of `BASES`."""
        base = BASES[str(config.get("model_type", QWEN2_VL.name))].name
        text: Mapping[str, Any] = config.get("text_config") or config
        vision: Mapping[str, Any] = config["vision_config"]
        if base == QWEN2_VL.name:
            width = int(vision.get("embed_dim", 1280))
            tower = width, int(vision.get("depth", 32)), int(vision.get("mlp_ratio", 4)) * width
        else:
            tower = int(vision["hidden_size"]), int(vision["depth"]), int(vision["intermediate_size"])
        return cls(
            int(text["hidden_size"]),
            int(text["num_hidden_layers"]),
            int(text["intermediate_size"]),
            int(text["num_attention_heads"]),
            int(text["num_key_value_heads"]),
            int(text["vocab_size"]),
            bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            *tower,
            base,
            int(text.get("head_dim") or 0),
            len(vision.get("deepstack_visual_indexes", ())) if base == "qwen3_vl" else 0,
            int(vision.get("num_position_embeddings", 0)),
            _linear_attention(text) if base == "qwen3_5" else None,
        )

    @property
    def queries(self) -> int:
        """The width of all queries together."""
        return self.heads * (self.head_width or self.hidden // self.heads)

    @property
    def attending(self) -> int:
        """Layers with attention over the whole text."""
        return sum(self.attends(number) for number in range(self.layers))

    def attends(self, number: int) -> bool:
        """Whether a layer has attention over the whole text."""
        return self.linear is None or (number + 1) % self.linear.every == 0

    def parameters(self) -> Parameters:
        """The shape of each parameter by its name, in the order in which a forward pass meets them.

        A tied head is the embedding, and has no name.
        """
        found = self._tower()
        found["model.language_model.embed_tokens.weight"] = (self.vocabulary, self.hidden)
        for number in range(self.layers):
            layer = f"model.language_model.layers.{number}"
            found[f"{layer}.input_layernorm.weight"] = (self.hidden,)
            if self.linear and not self.attends(number):
                found |= _linear_layer(f"{layer}.linear_attn", self.hidden, self.linear)
            else:
                found |= self._attention(f"{layer}.self_attn")
            found[f"{layer}.post_attention_layernorm.weight"] = (self.hidden,)
            found[f"{layer}.mlp.gate_proj.weight"] = (self.feed_forward, self.hidden)
            found[f"{layer}.mlp.up_proj.weight"] = (self.feed_forward, self.hidden)
            found[f"{layer}.mlp.down_proj.weight"] = (self.hidden, self.feed_forward)
        found["model.language_model.norm.weight"] = (self.hidden,)
        if not self.tied:
            found["lm_head.weight"] = (self.vocabulary, self.hidden)
        return found

    def count(self, part: ModelPart = "") -> int:
        """Parameters of a part; of all by default."""
        return sum(math.prod(shape) for name, shape in self.parameters().items() if part in ("", part_of(name)))

    def _attention(self, name: str) -> Parameters:
        width = self.queries // self.heads
        keys, gates = self.key_value_heads * width, 2 if self.base == "qwen3_5" else 1
        outs = (("q_proj", gates * self.queries), ("k_proj", keys), ("v_proj", keys))
        found: Parameters = {}
        if self.base in ("qwen2_vl", "qwen2_5_vl"):
            for one, out in outs:
                found |= _linear(f"{name}.{one}", out, self.hidden)
        else:
            found = {f"{name}.{one}.weight": (out, self.hidden) for one, out in outs}
            found |= {f"{name}.{one}.weight": (width,) for one in ("q_norm", "k_norm")}
        found[f"{name}.o_proj.weight"] = (self.hidden, self.queries)
        return found

    def _tower(self) -> Parameters:
        width, inner, four = self.vision_width, self.vision_feed_forward, 4 * self.vision_width
        side = BASES[self.base].side // 2
        found: Parameters = {"model.visual.patch_embed.proj.weight": (width, 3, 2, side, side)}
        later = self.base in ("qwen3_vl", "qwen3_5")
        if later:
            found["model.visual.patch_embed.proj.bias"] = (width,)
            found["model.visual.pos_embed.weight"] = (self.positions, width)
        for number in range(self.vision_layers):
            block = f"model.visual.blocks.{number}"
            for norm in ("norm1", "norm2"):
                found |= self._norm(f"{block}.{norm}", width)
            found |= _linear(f"{block}.attn.qkv", 3 * width, width)
            found |= _linear(f"{block}.attn.proj", width, width)
            if self.base == "qwen2_5_vl":
                found |= _linear(f"{block}.mlp.gate_proj", inner, width)
                found |= _linear(f"{block}.mlp.up_proj", inner, width)
                found |= _linear(f"{block}.mlp.down_proj", width, inner)
            else:
                first, second = ("linear_fc1", "linear_fc2") if later else ("fc1", "fc2")
                found |= _linear(f"{block}.mlp.{first}", inner, width)
                found |= _linear(f"{block}.mlp.{second}", width, inner)
        names = ("norm", "linear_fc1", "linear_fc2") if later else ("ln_q", "mlp.0", "mlp.2")
        mergers = [(f"model.visual.deepstack_merger_list.{number}", four) for number in range(self.deepstack)]
        for merger, normed in (*mergers, ("model.visual.merger", width)):
            found |= self._norm(f"{merger}.{names[0]}", normed)
            found |= _linear(f"{merger}.{names[1]}", four, four)
            found |= _linear(f"{merger}.{names[2]}", self.hidden, four)
        return found

    def _norm(self, name: str, width: int) -> Parameters:
        """A norm of the tower."""
        weight: Parameters = {f"{name}.weight": (width,)}
        return weight if self.base == "qwen2_5_vl" else weight | {f"{name}.bias": (width,)}


def _linear(name: str, out: int, into: int) -> Parameters:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _linear_layer(name: str, hidden: int, one: LinearAttention) -> Parameters:
    mixed = 2 * one.keys + one.values
    return {
        f"{name}.dt_bias": (one.heads,),
        f"{name}.A_log": (one.heads,),
        f"{name}.conv1d.weight": (mixed, 1, one.kernel),
        f"{name}.norm.weight": (one.values // one.heads,),
        f"{name}.in_proj_qkv.weight": (mixed, hidden),
        f"{name}.in_proj_z.weight": (one.values, hidden),
        f"{name}.in_proj_b.weight": (one.heads, hidden),
        f"{name}.in_proj_a.weight": (one.heads, hidden),
        f"{name}.out_proj.weight": (hidden, one.values),
    }


def _linear_attention(text: Mapping[str, Any]) -> LinearAttention:
    kinds = text.get("layer_types")
    every = kinds.index("full_attention") + 1 if kinds else int(text.get("full_attention_interval", 4))
    heads = int(text["linear_num_value_heads"])
    return LinearAttention(
        every,
        int(text["linear_key_head_dim"]) * int(text["linear_num_key_heads"]),
        int(text["linear_value_head_dim"]) * heads,
        heads,
        int(text.get("linear_conv_kernel_dim", 4)),
    )


def part_of(name: str) -> ModelPart:
    """The part of the model that a parameter belongs to."""
    if "visual" not in name:
        return "language"
    return "projector" if "visual.merger" in name else "vision"


_TOWER = (1280, 32, 5120)
_TOWER_2_5 = (1280, 32, 3420, "qwen2_5_vl")
RELEASED = {
    "qwen2-vl-2b": ModelShape(1536, 28, 8960, 12, 2, 151936, True, *_TOWER),
    "qwen2-vl-7b": ModelShape(3584, 28, 18944, 28, 4, 152064, False, *_TOWER),
    "qwen2.5-vl-3b": ModelShape(2048, 36, 11008, 16, 2, 151936, True, *_TOWER_2_5),
    "qwen2.5-vl-7b": ModelShape(3584, 28, 18944, 28, 4, 152064, False, *_TOWER_2_5),
    "qwen3-vl-2b": ModelShape(2048, 28, 6144, 16, 8, 151936, True, 1024, 24, 4096, "qwen3_vl", 128, 3, 2304),
    "qwen3-vl-4b": ModelShape(2560, 36, 9728, 32, 8, 151936, True, 1024, 24, 4096, "qwen3_vl", 128, 3, 2304),
    "qwen3-vl-8b": ModelShape(4096, 36, 12288, 32, 8, 151936, False, 1152, 27, 4304, "qwen3_vl", 128, 3, 2304),
    "qwen3.5-0.8b": ModelShape(
        *(1024, 24, 3584, 8, 2, 248320, True, 768, 12, 3072, "qwen3_5", 256, 0, 2304),
        LinearAttention(4, 2048, 2048, 16, 4),
    ),
    "qwen3.5-9b": ModelShape(
        *(4096, 32, 12288, 16, 4, 248320, False, 1152, 27, 4304, "qwen3_5", 256, 0, 2304),
        LinearAttention(4, 2048, 4096, 32, 4),
    ),
}
"""By what their names on the Hub begin with, in lower case; for checkpoints that are not here. Of a base the last
stands for sizes whose names say nothing."""
