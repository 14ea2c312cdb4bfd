"""Training steps for scripts/benchmark_gpu.py: padded or packed, three ways to update, memory by the estimate."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmark_gpu_profile import profiler, top_kernels
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from migician.chat.migician import Migician
from migician.models.engines.shared_prefix import mrope_positions
from migician.models.protocol import Request
from migician.training.check.settings.cost import operations_of, peak_of
from migician.training.check.settings.learning import ModelShape, learning_of
from migician.training.check.settings.memory import GB, Load, Need, Numbers, memory_need
from migician.training.check.settings.training_yaml import DEFAULTS, TrainingSettings, Zero

IGNORED = -100
PAIR, ADDED_UP = 2, 3
"""Samples at once and batches a step, of train/stage-1_finetune_full.yaml."""
PACKED = {"tiny": 512, "large": 8192}
"""Tokens of a filled sequence; the large one is that of train/stage-1_finetune_fast.yaml."""
WARM = 2
"""Batches before the clock starts."""
VARLEN = "varlen_of_torch"
TARGETS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"


@dataclass(frozen=True)
class Kind:
    """How samples become batches and what computes them."""

    name: str
    packs: bool = False
    """Into filled sequences, else pairs padded to the longer."""
    attention: str = "sdpa"
    convolution: bool = False
    """Patches by Conv3d, as transformers has it, else by the matrix product."""
    liger: bool = False


@dataclass(frozen=True)
class Item:
    """One sample, ready for the model."""

    tokens: list[int]
    labels: list[int]
    grids: list[tuple[int, int, int]]
    pixels: list[torch.Tensor]
    positions: torch.Tensor

    @property
    def in_images(self) -> int:
        return sum(time * height * width // 4 for time, height, width in self.grids)


@dataclass
class Row:
    """What was measured of one kind."""

    name: str
    steps: int
    seconds: float
    samples: int
    tokens: int
    padding: float
    loss: float
    tflops: float
    mfu: float | None
    allocated_gb: float
    reserved_gb: float
    in_use_gb: float
    """On the whole GPU, CUDA's context included."""
    estimate_gb: float
    """Of `migician check` for the same load."""
    estimate_parts_gb: dict[str, float]

    def line(self) -> str:
        mfu = "none" if self.mfu is None else f"{self.mfu:.1%}"
        return (
            f"| {self.name} | {self.steps} | {self.tokens / self.seconds:,.0f} | {self.samples / self.seconds:.2f} | "
            f"{self.padding:.0%} | {self.tflops:.0f} | {mfu} | {self.allocated_gb:.1f} / {self.reserved_gb:.1f} GB |"
        )

    def estimate_line(self) -> str:
        parts = ", ".join(f"{name} {value:.1f}" for name, value in self.estimate_parts_gb.items())
        ratio = self.in_use_gb / self.estimate_gb
        return (
            f"| - loss {self.loss:.2f}; on the whole GPU {self.in_use_gb:.1f} GB, estimated {self.estimate_gb:.1f} "
            f"({parts}): measured is {ratio:.2f} of it | | | | | | | |"
        )


class Trainer:
    """A model with its tower frozen, samples, and one way to update: "none", "adam" or "lora"."""

    def __init__(self, model: Migician, method: str, mixture: Path, *, sizes: Any, device: str) -> None:
        self._model, self._method, self._device = model.model, method, device
        self._full = PACKED["tiny" if sizes is None else "large"]
        config = sizes or model.model.config.to_dict()
        self._shape = ModelShape.of(dict(config) | {"tie_word_embeddings": model.model.config.tie_word_embeddings})
        kind = {"finetuning_type": "lora" if method == "lora" else "full"}
        self._learning = learning_of(TrainingSettings(mixture, DEFAULTS | kind, kind), self._shape)
        self._items = [read_item(model, mixture, record) for record in json.loads((mixture / "drawn.json").read_text())]
        self._passes = {part: self._learning.passes(part) for part in ("language", "projector", "vision")}
        self._model.train()
        self._model.gradient_checkpointing_enable({"use_reentrant": False})
        self._model.model.visual.requires_grad_(False)
        if method == "lora":
            add_lora(self._model)
        learning = [weight for weight in self._model.parameters() if weight.requires_grad]
        self._update = sgd(learning) if method == "none" else adam(learning)
        tokens = [len(item.tokens) for item in self._items]
        self.about = (
            f"{sum(map(torch.numel, self._model.parameters())) / 1e9:.2f}B parameters, "
            f"{sum(map(torch.numel, learning)) / 1e9:.3f}B learn; {len(tokens)} samples of "
            f"{sum(tokens) / len(tokens):,.0f} tokens on average, {max(tokens):,} at most; plain loop, no LLaMA-Factory"
        )

    def measure(self, kind: Kind, seconds: float) -> Row:
        """Steps for about that long, after some to warm up."""
        if self._device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        batches = self._batches(kind)
        added_up = 1 if kind.packs else ADDED_UP
        with self._set_up(kind):
            for batch in batches[:WARM]:
                loss = self._backward(batch, kind)
            self._update()
            self._wait()
            first, began = float(loss), time.perf_counter()
            done: list[list[Item]] = []
            for batch in itertools.cycle(batches):
                self._backward(batch, kind)
                done.append(batch)
                if len(done) % added_up == 0:
                    self._update()
                    self._wait()
                    if time.perf_counter() - began > seconds:
                        break
            took = time.perf_counter() - began
        items = [item for batch in done for item in batch]
        flop = sum(operations_of(self._shape, self._passes, len(item.tokens), item.in_images) for item in items)
        peak = peak_of(torch.cuda.get_device_name()) if self._device == "cuda" else None
        slots = sum(self._slots(batch, kind) for batch in done)
        tokens = sum(len(item.tokens) for item in items)
        need = self._need(batches, kind)
        parts = {name: getattr(need, name) / GB for name in need.__slots__}
        return Row(
            kind.name, len(done), took, len(items), tokens, 1 - tokens / slots, first, flop / took / 1e12,
            flop / took / peak if peak else None, *self._memory(), need.total / GB, parts,
        )  # fmt: skip

    def losses_by_kind(self, kinds: list[Kind]) -> str:
        """The mean loss of the answers' tokens of one filled sequence, by kind: packed or not, it is the same."""

        def learned(batch: list[Item]) -> int:
            return sum(label != IGNORED for item in batch for label in item.labels)

        items, found = self._packs()[0], []
        for kind in kinds:
            batches = [items] if kind.packs else [items[at : at + PAIR] for at in range(0, len(items), PAIR)]
            with torch.no_grad(), self._set_up(kind):
                sums = [float(self._loss(batch, kind)) * learned(batch) for batch in batches]
            found.append(f"{kind.name} {sum(sums) / learned(items):.4f}")
        return ", ".join(found)

    def profiled(self, kind: Kind) -> tuple[Any, float, float]:
        """(averages by kernel, seconds of a step without the profiler, seconds that the GPU works) of one step."""
        batch = self._batches(kind)[0]
        with self._set_up(kind):
            self._step(batch, kind)
            began = time.perf_counter()
            self._step(batch, kind)
            took = time.perf_counter() - began
            with profiler(self._device) as seen:
                self._step(batch, kind)
        averages = seen.key_averages()
        return averages, took, sum(seconds for _, seconds, _ in top_kernels(averages, 10_000))

    def _step(self, batch: list[Item], kind: Kind) -> None:
        self._backward(batch, kind)
        self._update()
        self._wait()

    def _backward(self, batch: list[Item], kind: Kind) -> torch.Tensor:
        loss = self._loss(batch, kind)
        loss.backward()
        return loss.detach()

    def _loss(self, batch: list[Item], kind: Kind) -> torch.Tensor:
        inputs = packed(batch) if kind.packs else padded(batch)
        inputs = {name: value.to(self._device) for name, value in inputs.items()}
        if kind.attention == "varlen":
            Ends.take([len(item.tokens) for item in batch], self._device)
        loss: torch.Tensor = self._model(**inputs, use_cache=False).loss
        return loss

    def _batches(self, kind: Kind) -> list[list[Item]]:
        if kind.packs:
            return self._packs()
        return [self._items[at : at + PAIR] for at in range(0, len(self._items) - PAIR + 1, PAIR)]

    def _packs(self) -> list[list[Item]]:
        """Filled sequences: the longest samples first, each where it fits."""
        packs: list[list[Item]] = []
        left: list[int] = []
        for item in sorted(self._items, key=lambda one: -len(one.tokens)):
            at = next((at for at, room in enumerate(left) if room >= len(item.tokens)), len(packs))
            if at == len(packs):
                packs.append([])
                left.append(self._full)
            packs[at].append(item)
            left[at] -= len(item.tokens)
        return packs[:-1] or packs  # the last is not full

    def _slots(self, batch: list[Item], kind: Kind) -> int:
        lengths = [len(item.tokens) for item in batch]
        return sum(lengths) if kind.packs else len(lengths) * max(lengths)

    def _need(self, batches: list[list[Item]], kind: Kind) -> Need:
        """What `migician check` says of the largest of these batches; without Adam as where that is offloaded."""
        each = self._model.dtype.itemsize
        tokens = max(self._slots(batch, kind) for batch in batches)
        patches = max(4 * sum(item.in_images for item in batch) for batch in batches)
        load = Load(tokens, patches, compute=each, checkpointing=True, fused_loss=kind.liger)
        states = Numbers(each, each, each, each, 12)
        return memory_need(self._learning, load, states, Zero(0, self._method == "none", False), 1)

    def _memory(self) -> tuple[float, float, float]:
        if self._device == "cpu":
            return 0.0, 0.0, 0.0
        free, whole = torch.cuda.mem_get_info()
        most = torch.cuda.max_memory_reserved()
        outside = whole - free - torch.cuda.memory_reserved()  # CUDA's context
        return torch.cuda.max_memory_allocated() / GB, most / GB, (most + outside) / GB

    @contextlib.contextmanager
    def _set_up(self, kind: Kind) -> Iterator[None]:
        if kind.liger:
            from liger_kernel.transformers import apply_liger_kernel_to_qwen2_vl

            apply_liger_kernel_to_qwen2_vl(model=self._model)  # for good
        text = self._model.config.text_config
        text._attn_implementation = VARLEN if kind.attention == "varlen" else kind.attention
        try:
            with with_convolution(self._model) if kind.convolution else contextlib.nullcontext():
                yield
        finally:
            for weight in self._model.parameters():
                weight.grad = None

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


def read_item(model: Migician, folder: Path, record: dict[str, Any]) -> Item:
    """A record as training sees it: only the reply and its end are learned."""
    asked, reply = (turn["value"] for turn in record["conversations"])
    prepared = model.prepare([Request(tuple(folder / name for name in record["images"]), asked)])
    group = prepared.groups[0]
    prompt = group.prefix + group.own[0]
    answer = model.processor.tokenizer(f"{reply}<|im_end|>\n")["input_ids"]
    seen = [prepared.pictures[key] for key in group.images]
    grids, tokens = [picture.grid for picture in seen], prompt + answer
    positions = mrope_positions(tokens, grids, model.model.config.image_token_id)
    pixels = [picture.pixels for picture in seen if picture.pixels is not None]
    return Item(tokens, [IGNORED] * len(prompt) + answer, grids, pixels, positions)


def padded(batch: list[Item]) -> dict[str, torch.Tensor]:
    """A row a sample, padded on the right."""
    longest = max(len(item.tokens) for item in batch)
    ids, mask = torch.zeros(2, len(batch), longest, dtype=torch.long)
    labels, positions = torch.full_like(ids, IGNORED), torch.ones(3, len(batch), longest, dtype=torch.long)
    for row, item in enumerate(batch):
        length = len(item.tokens)
        ids[row, :length], labels[row, :length] = torch.tensor(item.tokens), torch.tensor(item.labels)
        mask[row, :length], positions[:, row, :length] = 1, item.positions
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "position_ids": positions, **pictures(batch)}


def packed(batch: list[Item]) -> dict[str, torch.Tensor]:
    """All samples in one row; the first of the four positions counts from the start of each, so that they part."""
    text = torch.cat([torch.arange(len(item.tokens)) for item in batch])
    space = torch.cat([item.positions for item in batch], dim=1)
    labels = [label for item in batch for label in (IGNORED, *item.labels[1:])]
    return {
        "input_ids": torch.tensor([[token for item in batch for token in item.tokens]]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.cat([text[None], space])[:, None],
        **pictures(batch),
    }


def pictures(batch: list[Item]) -> dict[str, torch.Tensor]:
    return {
        "pixel_values": torch.cat([pixels for item in batch for pixels in item.pixels]),
        "image_grid_thw": torch.tensor([grid for item in batch for grid in item.grids]),
    }


class Ends:
    """Where the samples of the packed sequence end that is being computed."""

    ends: torch.Tensor
    lengths: list[int]

    @classmethod
    def take(cls, lengths: list[int], device: str) -> None:
        cls.lengths = lengths
        cls.ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)


def varlen_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any,
    scaling: float | None = None, **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Causal attention within each sample of a packed sequence; (1, heads, N, width) in, (1, N, heads, width) out."""
    sharers = query.shape[1] // key.shape[1]
    key, value = (one.repeat_interleave(sharers, dim=1) for one in (key, value))
    if not query.is_cuda:  # to see that it works
        pieces = zip(*(one.split(Ends.lengths, dim=2) for one in (query, key, value)), strict=True)
        found = [scaled_dot_product_attention(*three, is_causal=True, scale=scaling) for three in pieces]
        return torch.cat(found, dim=2).transpose(1, 2), None
    from torch.nn.attention.varlen import varlen_attn

    rows = [one[0].transpose(0, 1).contiguous() for one in (query, key, value)]
    longest = max(Ends.lengths)
    found = varlen_attn(*rows, Ends.ends, Ends.ends, longest, longest, scale=scaling, window_size=(-1, 0))
    return found[None], None


AttentionInterface.register(VARLEN, varlen_attention)
AttentionMaskInterface.register(VARLEN, lambda *_, **__: None)


@contextlib.contextmanager
def with_convolution(model: Any) -> Iterator[None]:
    """The patch embedding as transformers has it, over the same weights; then the matrix product again."""
    embedding = model.model.visual.patch_embed
    product, size = embedding.proj, tuple(embedding.proj.weight.shape)
    convolution = torch.nn.Conv3d(size[1], size[0], size[2:], size[2:], bias=False, device="meta")
    convolution.weight = product.weight
    embedding.proj = convolution
    try:
        yield
    finally:
        embedding.proj = product


def sgd(weights: list[torch.nn.Parameter]) -> Any:
    """An update without state, in place."""

    def update() -> None:
        with torch.no_grad():
            torch._foreach_add_(weights, [weight.grad for weight in weights], alpha=-1e-6)
        for weight in weights:
            weight.grad = None

    return update


def adam(weights: list[torch.nn.Parameter]) -> Any:
    """Adam over float32 copies, a weight after the other: 12 bytes a parameter beside the weight and its gradient."""
    copies = [torch.nn.Parameter(weight.detach().float().clone()) for weight in weights]
    each = [torch.optim.AdamW([copy], lr=1e-6) for copy in copies]

    def update() -> None:
        for weight, copy, optimizer in zip(weights, copies, each, strict=True):
            assert weight.grad is not None
            copy.grad = weight.grad.float()
            optimizer.step()
            copy.grad = weight.grad = None
            with torch.no_grad():
                weight.copy_(copy)

    return update


def add_lora(model: Any) -> None:
    """Rank 8 beside every matrix of the language model, as LLaMA-Factory does; all else is frozen."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS)
    get_peft_model(model, settings, autocast_adapter_dtype=False)
