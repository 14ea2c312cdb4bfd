"""Questions about the same images share their work: images encoded once, their prefix computed once.

A batch is a list of groups: requests with the same images whose prompts begin with the same tokens, images included.
The images of a group are encoded one by one, the common prefix is computed in one row, its keys and values are put
before each question's own tokens, and all questions of all groups are then decoded together, greedily. An image or a
prefix gives the same result whatever else is in the batch.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.masking_utils import sdpa_mask

FOLDED = "migician_folded"
_KEPT_TOKENS = 32_768
"""Of encoded images kept for later batches; at the width of a 7B model 235 MB in bfloat16."""


@dataclass(slots=True)
class ImageFeatures:
    """One image: its patches until it is encoded, its tokens afterwards."""

    grid: tuple[int, int, int]
    """Patches in time, height and width."""
    tokens: int
    pixels: torch.Tensor | None
    """(patches, values of a patch)."""
    features: torch.Tensor | None = None
    """(tokens, width of the language model)."""


class FeatureCache:
    """The images seen last, by key; safe to use from several threads."""

    def __init__(self, max_tokens: int = _KEPT_TOKENS) -> None:
        self._kept: OrderedDict[Hashable, ImageFeatures] = OrderedDict()
        self._max_tokens, self._tokens, self._lock = max_tokens, 0, threading.Lock()

    def get(self, key: Hashable) -> ImageFeatures | None:
        """The image with that key, if it is still kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def add(self, key: Hashable, picture: ImageFeatures) -> None:
        """Keep an image, and drop the least recently used ones if there are too many."""
        with self._lock:
            replaced = self._kept.pop(key, None)
            self._kept[key] = picture
            self._tokens += picture.tokens - (replaced.tokens if replaced else 0)
            while self._tokens > self._max_tokens and len(self._kept) > 1:
                self._tokens -= self._kept.popitem(last=False)[1].tokens


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request as tokens."""

    tokens: list[int]
    """Each image as all of its tokens."""
    images: tuple[Hashable, ...]
    new_tokens: int
    """The limit of the reply."""


@dataclass(slots=True)
class Group:
    """Prompts about the same images, split into what they share and what is their own."""

    images: tuple[Hashable, ...]
    prefix: list[int]
    rows: list[int]
    """Which prompts of the batch these are."""
    own: list[list[int]]
    """The tokens after the prefix, at least one, a list per row."""


def share(prompts: Sequence[Prompt], image_token: int) -> list[Group]:
    """The prompts of a batch in groups that share a prefix with all their images in it.

    Prompts about the same images that differ before their last image share no prefix, only the images.
    """
    alike: dict[tuple[Hashable, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        alike.setdefault(prompt.images, []).append(row)
    groups = []
    for images, rows in alike.items():
        common = _common(*(prompts[row].tokens for row in rows))
        whole = prompts[rows[0]].tokens.count(image_token)
        together = prompts[rows[0]].tokens[:common].count(image_token) == whole
        for part in [rows] if together else [[row] for row in rows]:
            tokens = [prompts[row].tokens for row in part]
            length = _common(*tokens)
            groups.append(Group(images, tokens[0][:length], part, [one[length:] for one in tokens]))
    return groups


def _common(*sequences: list[int]) -> int:
    """The length of the longest common beginning that leaves each sequence a token of its own."""
    # All sequences lie between the first and the last of them in lexical order.
    first, last, most = min(sequences), max(sequences), min(map(len, sequences)) - 1
    return next((at for at in range(most) if first[at] != last[at]), most)


def mrope_positions(tokens: Sequence[int], grids: Sequence[tuple[int, int, int]], image_token: int) -> torch.Tensor:
    """Positions in time, height and width, (3, N), of tokens with their images, as Qwen2-VL counts them.

    Text counts up by one in all three. An image of (t, h, w) patches has (t, h/2, w/2) tokens at their place in it, and
    what follows starts after its longer side.
    """
    pieces, at, start = [], 0, 0
    for time, height, width in grids:
        text = tokens.index(image_token, at) - at
        pieces.append(torch.arange(start, start + text).expand(3, -1))
        sides = torch.cartesian_prod(torch.arange(time), torch.arange(height // 2), torch.arange(width // 2))
        pieces.append(sides.view(-1, 3).T + start + text)
        at += text + len(sides)
        start += text + max(height, width) // 2
    pieces.append(torch.arange(start, start + len(tokens) - at).expand(3, -1))
    return torch.cat(pieces, dim=1)


class SharedDecoder:
    """Greedy replies of a Qwen2-VL to groups of prompts."""

    def __init__(self, model: Any, stops: Sequence[int]) -> None:
        """`model` is a `Qwen2VLForConditionalGeneration`; `stops` are the tokens that end a reply."""
        self._model, self._stops = model, list(stops)
        self._image_token = model.config.image_token_id
        self.work: Counter[str] = Counter()
        text = model.config.text_config
        self._explicit_masks = text._attn_implementation == "eager"  # sdpa knows that a prefix is causal
        if not self._explicit_masks:
            text._attn_implementation = FOLDED

    def reply(
        self,
        groups: Sequence[Group],
        pictures: dict[Hashable, ImageFeatures],
        new_tokens: Sequence[int],
        on_token: Callable[[int], None] | None = None,
    ) -> list[list[int]]:
        """The tokens of each row's reply, in order; what follows a stop token means nothing.

        `new_tokens` are the limits of the rows; `on_token` gets each token of the first row as it is chosen.
        Raises `torch.OutOfMemoryError` as torch does.
        """
        with torch.inference_mode():
            self._encode(list(pictures.values()))
            longest = max(len(group.prefix) for group in groups)
            own = max(len(tokens) for group in groups for tokens in group.own)
            cache = PrefixCache(len(new_tokens), longest, own + max(new_tokens))
            starts = []
            for group in groups:
                images = [pictures[key] for key in group.images]
                positions = mrope_positions(group.prefix, [image.grid for image in images], self._image_token)
                cache.place(group.rows, self._prefix(group.prefix, positions, [image.features for image in images]))
                starts.append(int(positions.max()) + 1)
            padded = pad(groups, starts, max(new_tokens), self._model.dtype)
            tokens, positions, mask = (one.to(self._model.device) for one in padded)
            return self._decode(tokens, positions, mask, cache, new_tokens, on_token)

    def _encode(self, pictures: Sequence[ImageFeatures]) -> None:
        """Encode each new image, one by one, so that nothing depends on its neighbours."""
        vision = self._model.model.visual
        for picture in pictures:
            if picture.pixels is None:
                continue
            grid = torch.tensor([picture.grid], device=vision.device)
            encoded = self._model.model.get_image_features(picture.pixels.to(vision.device), grid)
            picture.features = encoded.pooler_output[0]
            picture.pixels = None
            self.work["images_encoded"] += 1

    def _prefix(self, tokens: list[int], positions: torch.Tensor, features: list[Any]) -> DynamicCache:
        """Keys and values of one prefix, (1, heads, N, width of a head) in each layer."""
        device = self._model.device
        ids = torch.tensor([tokens], device=device)
        embedded = self._model.get_input_embeddings()(ids)
        if features:
            embedded[ids == self._image_token] = torch.cat(features).to(device, embedded.dtype)
        mask = None
        if self._explicit_masks:
            shape = (1, 1, len(tokens), len(tokens))
            mask = torch.full(shape, torch.finfo(embedded.dtype).min).triu(1).to(embedded)
        cache = DynamicCache(config=self._model.config.text_config)
        # By place, as the cache is `past_key_values` in transformers 5.5 and `cache` in 5.24.
        self._model.model.language_model(
            None, {"full_attention": mask}, positions[:, None].to(device), cache, embedded, use_cache=True
        )
        self.work["prefixes_computed"] += 1
        self.work["prefix_tokens"] += len(tokens)
        return cache

    def _decode(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        cache: PrefixCache,
        new_tokens: Sequence[int],
        on_token: Callable[[int], None] | None,
    ) -> list[list[int]]:
        device, embed = self._model.device, self._model.get_input_embeddings()
        stops, limits = torch.tensor(self._stops, device=device), torch.tensor(new_tokens, device=device)
        done = torch.zeros(len(new_tokens), dtype=torch.bool, device=device)
        chosen: list[torch.Tensor] = []
        while not bool(done.all()):
            seen = cache.length + tokens.shape[1]
            visible = {"full_attention": mask[:, :, -tokens.shape[1] :, :seen]}
            hidden = self._model.model.language_model(
                None, visible, positions.expand(3, -1, -1), cache, embed(tokens), use_cache=True
            ).last_hidden_state
            cache.length = seen
            best = self._model.lm_head(hidden[:, -1]).float().argmax(-1).to(device)
            chosen.append(best)
            if on_token is not None:
                on_token(int(best[0]))
            done |= torch.isin(best, stops) | (limits <= len(chosen))
            tokens, positions = best[:, None], positions[:, -1:] + 1
        self.work["decoding_steps"] += len(chosen)
        replies: list[list[int]] = torch.stack(chosen, dim=1).tolist()
        return [reply[:most] for reply, most in zip(replies, new_tokens, strict=True)]


def pad(
    groups: Sequence[Group], starts: Sequence[int], new: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tokens, positions, mask) of a batch whose prefixes are in the cache, padded on the left.

    `starts` are the positions where each group's own tokens begin. Tokens and positions are (rows, own); text has one
    position for time, height and width. The mask is (rows, 1, own, prefix + own + new), added to scores: 0 where a
    token sees another; its last row also serves the tokens of the reply, one after the other.
    """
    rows = sum(len(group.rows) for group in groups)
    prefix = max(len(group.prefix) for group in groups)
    own = max(len(tokens) for group in groups for tokens in group.own)
    tokens, positions = torch.zeros(2, rows, own, dtype=torch.long)
    lengths = torch.zeros(rows, 2, 1, 1, dtype=torch.long)
    for group, start in zip(groups, starts, strict=True):
        for row, its in zip(group.rows, group.own, strict=True):
            tokens[row, own - len(its) :] = torch.tensor(its)
            positions[row, own - len(its) :] = torch.arange(start, start + len(its))
            lengths[row, :, 0, 0] = torch.tensor([len(group.prefix), len(its)])
    key, query = torch.arange(prefix + own + new), torch.arange(own)[:, None]
    in_prefix = (key >= prefix - lengths[:, :1]) & (key < prefix)
    in_own = (key >= prefix + own - lengths[:, 1:]) & ((key <= prefix + query) | (query == own - 1))
    # A padding token sees the prefix too, so that no row of scores is empty; no token sees it.
    mask = torch.where(in_prefix | in_own, 0.0, torch.finfo(dtype).min).to(dtype)
    return tokens, positions, mask


class PrefixCache:
    """Keys and values of a batch, one row per question, in buffers with room for the replies."""

    def __init__(self, rows: int, prefix: int, room: int) -> None:
        """For prefixes of at most `prefix` tokens, and `room` tokens after them."""
        self.length = prefix
        self._rows, self._room = rows, room
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def place(self, rows: Sequence[int], prefix: DynamicCache) -> None:
        """Copy one prefix to the end of the prefixes' part in each of these rows."""
        if not self._layers:
            for layer in prefix.layers:
                _, heads, _, width = layer.keys.shape
                shape = (self._rows, heads, self.length + self._room, width)
                # Zeros, because masked values are still multiplied by zero.
                self._layers.append((layer.keys.new_zeros(shape), layer.values.new_zeros(shape)))
        length = prefix.get_seq_length()
        for (keys, values), layer in zip(self._layers, prefix.layers, strict=True):
            keys[rows, :, self.length - length : self.length] = layer.keys
            values[rows, :, self.length - length : self.length] = layer.values

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by an attention layer: add the new tokens at `length`, and give all up to them."""
        all_keys, all_values = self._layers[layer]
        end = self.length + keys.shape[2]
        all_keys[:, :, self.length : end] = keys
        all_values[:, :, self.length : end] = values
        return all_keys[:, :, :end], all_values[:, :, :end]


def folded_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention whose keys are not repeated for the query heads that share them.

    query (rows, heads, N, width), key and value (rows, fewer heads, M, width); gives (rows, N, heads, width). With a
    mask the usual way copies the keys of Qwen2-VL-7B seven times per step; here the queries of the heads that share
    keys are stacked instead.
    """
    rows, heads, length, width = query.shape
    sharers = heads // key.shape[1]
    if attention_mask is None:
        causal = length > 1 and getattr(module, "is_causal", True)
        found = scaled_dot_product_attention(query, key, value, is_causal=causal, scale=scaling, enable_gqa=sharers > 1)
    else:
        below = query.reshape(rows, key.shape[1], sharers * length, width)
        mask = attention_mask[..., : key.shape[2]].repeat(1, 1, sharers, 1)
        found = scaled_dot_product_attention(below, key, value, attn_mask=mask, scale=scaling)
    return found.reshape(rows, heads, length, width).transpose(1, 2).contiguous(), None


AttentionInterface.register(FOLDED, folded_attention)
AttentionMaskInterface.register(FOLDED, sdpa_mask)  # for the model's own `generate`
