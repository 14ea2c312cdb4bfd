"""Replies to one prompt computed on one copy of it: sampled together, and trained in one row behind it.

A prompt here is some pictures and a question, and a reply a few numbers: with 8 replies per prompt, nearly all that a
trainer computes is the prompt again. In a shared row each reply sees the prompt and itself, at the positions it would
have alone, so its log probabilities are those of a row of its own. For models of Qwen2-VL's kind, under SDPA or eager
attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts, padded on the left."""

    ids: Tensor
    """N x P."""
    mask: Tensor
    """N x P: 1 for what is no padding."""
    pictures: dict[str, Tensor]
    """`pixel_values`, `image_grid_thw` and `mm_token_type_ids` (N x P), as the processor gives them."""


def positions_of(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """The positions of the prompts' tokens (3 x N x P), and the one that comes next in each (N)."""
    if "image_grid_thw" in batch.pictures:
        found, _ = model.model.get_rope_index(
            batch.ids,
            mm_token_type_ids=batch.pictures["mm_token_type_ids"],
            image_grid_thw=batch.pictures["image_grid_thw"],
            attention_mask=batch.mask,
        )
    else:
        found = (batch.mask.cumsum(-1) - 1).clamp(min=0).expand(3, -1, -1)
    return found, found.masked_fill(batch.mask == 0, 0).amax(dim=(0, 2)) + 1


def sample(
    model: Any,
    batch: Batch,
    replies: int,
    *,
    longest: int,
    temperature: float,
    stops: Sequence[int],
    never: Sequence[int],
) -> list[list[int]]:
    """Sampled replies (token ids, the stop included), `replies` of each prompt in turn, without tokens in `never`."""
    from transformers import DynamicCache

    count, device = len(batch.ids), batch.ids.device
    positions, following = positions_of(model, batch)
    cache = DynamicCache(config=model.config.get_text_config())
    given = {"input_ids": batch.ids, "attention_mask": batch.mask, "position_ids": positions, **batch.pictures}
    logits = model(**given, cache=cache, use_cache=True, logits_to_keep=1).logits.expand(-1, replies, -1)
    prompt = batch.mask.bool()[:, None, None, :].expand(-1, 1, replies, -1)
    own = torch.eye(replies, dtype=torch.bool, device=device).expand(count, 1, -1, -1)
    ends = torch.tensor(list(stops), device=device)
    done = torch.zeros(count, replies, dtype=torch.bool, device=device)
    drawn: list[Tensor] = []
    for step in range(longest):
        scores = logits.float() / temperature
        scores[..., list(never)] = -torch.inf
        token = torch.multinomial(scores.softmax(-1).flatten(0, 1), 1).view(count, replies)
        drawn.append(token.masked_fill(done, -1))
        done = done | torch.isin(token, ends)
        if bool(done.all()) or step + 1 == longest:
            break
        seen = torch.cat([prompt, own.repeat(1, 1, 1, step + 1)], dim=-1)
        here = (following + step)[None, :, None].expand(3, -1, replies)
        logits = model(
            input_ids=token,
            attention_mask=_additive(seen, logits.dtype),
            position_ids=here,
            cache=cache,
            use_cache=True,
        ).logits
    rows = torch.stack(drawn, dim=-1).flatten(0, 1).tolist()
    return [[token for token in row if token >= 0] for row in rows]


def log_probabilities(
    model: Any, inner: Any, batch: Batch, groups: Sequence[int], replies: Sequence[Sequence[int]], *, temperature: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Of each reply's tokens the log probability, and the entropy where it was drawn.

    `groups` says which prompt each reply belongs to. `model` is called as a whole, as what wraps it for several
    processes has to be; `inner` is the model in it.
    """
    device = batch.ids.device
    filled = [0] * len(batch.ids)
    starts = []
    for group, reply in zip(groups, replies, strict=True):
        starts.append(filled[group])
        filled[group] += len(reply)
    room = max(filled)
    tokens = torch.zeros(len(batch.ids), room, dtype=torch.long)
    segment = torch.full((len(batch.ids), room), -1)
    offset = torch.zeros(len(batch.ids), room, dtype=torch.long)
    for number, (group, reply, start) in enumerate(zip(groups, replies, starts, strict=True)):
        span = slice(start, start + len(reply))
        tokens[group, span] = torch.tensor(reply)
        segment[group, span] = number
        offset[group, span] = torch.arange(len(reply))
    tokens, segment, offset = tokens.to(device), segment.to(device), offset.to(device)
    positions, following = positions_of(inner, batch)
    positions = torch.cat([positions, (following[:, None] + offset).expand(3, -1, -1)], dim=-1)
    whole = torch.cat([torch.where(batch.mask.bool(), -2, -1), segment], dim=1)  # -2: the prompt, -1: padding
    same = (whole[:, None, :] == whole[:, :, None]) | (whole[:, None, :] == -2)
    causal = torch.ones(whole.shape[1], whole.shape[1], dtype=torch.bool, device=device).tril()
    pictures = {
        name: torch.cat([value, value.new_zeros(len(value), room)], dim=1) if name == "mm_token_type_ids" else value
        for name, value in batch.pictures.items()
    }
    logits = model(
        input_ids=torch.cat([batch.ids, tokens], dim=1),
        attention_mask=_additive((same & causal)[:, None], next(inner.parameters()).dtype),
        position_ids=positions,
        use_cache=False,
        logits_to_keep=room + 1,
        **pictures,
    ).logits
    # A reply's first token follows the prompt, whose end comes first in what was kept.
    before = torch.where(offset == 0, 0, torch.arange(room, device=device))
    spread = torch.log_softmax(
        logits.gather(1, before[..., None].expand(-1, -1, logits.shape[-1])) / temperature, dim=-1
    )
    chosen = spread.gather(-1, tokens[..., None]).squeeze(-1)
    entropy = -(spread.exp() * spread).sum(-1)
    spans = [
        (group, slice(start, start + len(reply))) for group, reply, start in zip(groups, replies, starts, strict=True)
    ]
    return [chosen[group, span] for group, span in spans], [entropy[group, span] for group, span in spans]


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
