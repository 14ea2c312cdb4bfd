"""TRL's GRPO trainer, with less work for the same gradient, and true answers among the replies where asked for.

Imported only where TRL is installed: see `migician.training.grpo`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Hashable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import TrainerCallback
from trl import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from migician.training.log import LOG
from migician.training.shared_prompts import Batch, log_probabilities, sample


def merged(replies: Sequence[Hashable], advantages: Sequence[float], least: int = 1) -> tuple[list[int], list[float]]:
    """Which replies to train on for the gradient of all of them: their places, and their advantages.

    Equal ones are trained once, with the sum of their advantages; those without any are left out, but for as many as
    make up the `least` number of places.

    >>> merged(["a", "b", "a", "c", "d"], [1.0, 0.0, 1.0, -2.0, 0.0], 3)
    ([0, 3, 1], [2.0, -2.0, 0.0])
    """
    first: dict[Hashable, int] = {}
    sums = [0.0] * len(replies)
    for place, (reply, advantage) in enumerate(zip(replies, advantages, strict=True)):
        sums[first.setdefault(reply, place)] += advantage
    kept = [place for place in first.values() if sums[place]]
    idle = [place for place in range(len(replies)) if not sums[place]]
    kept += idle[: max(0, least - len(kept))]
    return kept, [sums[place] for place in kept]


class GroundingTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPO on rows of `prompt`, `images`, `truths` and `answer`."""

    def __init__(self, *given: Any, with_answers: bool, only_better: bool, share_prompts: bool, **named: Any) -> None:
        """With `with_answers` the last reply of each prompt is the record's own answer, and not sampled.

        With `only_better` replies that earn less than the mean of their prompt teach nothing. With `share_prompts` a
        prompt is computed once for all its replies: see `migician.training.shared_prompts`.
        """
        super().__init__(*given, **named)
        self._with_answers = with_answers
        self._only_better = only_better
        self._share_prompts = share_prompts
        self._answers: list[str] = []
        self._groups: list[int] | None = None
        """Of the rows that are trained on: which of them have their prompt in common."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights as `from_pretrained` does; without DeepSpeed only, which loads its own.

        transformers 5.24 looks for the modules' names, finds the released ones that Qwen2-VL is saved with, warns of
        missing keys, and trains the weights of the start.
        """
        own = self.model if model is None else model
        own.load_state_dict(type(own).from_pretrained(resume_from_checkpoint, dtype=own.dtype).state_dict())

    def _group(self, place: int, count: int) -> int:
        """The prompt that the reply at `place` of this process's `count` belongs to."""
        first: int = self.accelerator.process_index * count
        return (first + place) // int(self.num_generations)

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, fields: dict[str, Any], count: int, *given: Any
    ) -> tuple[Any, Any]:
        if self._share_prompts and len(prompt_ids) % count == 0:
            completion_ids, logprobs = self._sample_shared(prompt_ids, images, fields, count), None
        else:
            completion_ids, logprobs = super()._generate_single_turn(prompt_ids, images, fields, count, *given)
        if self._with_answers and self.model.training:
            rows = len(completion_ids)
            for place, answer in enumerate(self._answers):
                if self._group(place, rows) != self._group(place + 1, rows):
                    written = self._tokenizer(answer, add_special_tokens=False)["input_ids"]
                    completion_ids[place] = [*written, self._tokenizer.eos_token_id]
        return completion_ids, logprobs

    def _sample_shared(self, prompt_ids: Any, images: Any, fields: dict[str, Any], count: int) -> list[list[int]]:
        device, model = self.accelerator.device, self.accelerator.unwrap_model(self.model)
        ids, mask = _left(prompt_ids[::count], self._tokenizer.pad_token_id, device)
        pictures = {}
        if images is not None:
            shown = {
                "pixel_values": fields["pixel_values"],
                "image_grid_thw": fields["image_grid_thw"],
                "num_images": [len(some or ()) for some in images],
            }
            first = range(0, len(prompt_ids), count)
            parts = {
                name: _rows(value, first, len(prompt_ids)) for name, value in split_pixel_values_by_grid(shown).items()
            }
            whole = unsplit_pixel_values_by_grid(parts)
            pictures = {name: whole[name].to(device) for name in ("pixel_values", "image_grid_thw")}
            pictures["mm_token_type_ids"], _ = _left(fields["mm_token_type_ids"][::count], 0, device)
        was_training = model.training
        model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            sampled = sample(
                model,
                Batch(ids, mask, pictures),
                count,
                longest=self.max_completion_length,
                temperature=self.temperature,
                stops=self.eos_token_ids,
                never=[model.config.image_token_id],
            )
        model.train(was_training)
        return sampled

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        self._groups = inputs["group"].tolist() if self._share_prompts else None
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self._groups = None

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *given: Any, **named: Any
    ) -> tuple[Any, Any, Any]:
        if self._groups is None:
            return super()._get_per_token_logps_and_entropies(  # type: ignore[no-any-return]
                model, input_ids, attention_mask, logits_to_keep, *given, **named
            )
        order = {group: place for place, group in enumerate(dict.fromkeys(self._groups))}
        first = [self._groups.index(group) for group in order]
        prompts, masks = input_ids[:, :-logits_to_keep], attention_mask[:, :-logits_to_keep]
        pictures = {}
        if named.get("pixel_values") is not None:
            shown = {name: named[name] for name in ("pixel_values", "image_grid_thw", "num_images")}
            parts = {
                name: _rows(value, first, len(input_ids)) for name, value in split_pixel_values_by_grid(shown).items()
            }
            whole = unsplit_pixel_values_by_grid(parts)
            pictures = {name: whole[name] for name in ("pixel_values", "image_grid_thw")}
            pictures["mm_token_type_ids"] = named["mm_token_type_ids"][first][:, :-logits_to_keep]
        lengths = attention_mask[:, -logits_to_keep:].sum(1).tolist()
        written = input_ids[:, -logits_to_keep:].tolist()
        replies = [row[:length] for row, length in zip(written, lengths, strict=True)]
        with self.accelerator.autocast():
            found = log_probabilities(
                model,
                self.accelerator.unwrap_model(model),
                Batch(prompts[first], masks[first], pictures),
                [order[group] for group in self._groups],
                replies,
                temperature=self.temperature,
            )
        logps, entropies = (
            torch.stack([functional.pad(row, (0, logits_to_keep - len(row))) for row in rows]) for rows in found
        )
        return logps, entropies, None

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        by_prompt = rewards.sum(dim=1).view(-1, self.num_generations)
        own = by_prompt[:, :-1] if self._with_answers else by_prompt
        self._metrics["train" if self.model.training else "eval"]["sampled_reward"].append(own.nanmean().item())
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._answers = [row["answer"] for row in inputs]
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        count = len(inputs)
        if self._only_better:
            batch["advantages"] = batch["advantages"].clamp(min=0)
        batch["group"] = torch.tensor([self._group(place, count) for place in range(count)])
        if self.beta or not self.model.training:  # the distance to the start counts every reply
            return batch
        written = (batch["completion_ids"] * batch["completion_mask"] - (1 - batch["completion_mask"])).tolist()
        replies = [(self._group(place, count), *reply) for place, reply in enumerate(written)]
        # As many in each process, whose metrics are gathered row by row, and in each of the steps that share a batch.
        own = torch.tensor(len(merged(replies, batch["advantages"].tolist())[0]), device=batch["advantages"].device)
        most, steps = int(self.accelerator.gather(own).max()), self.args.steps_per_generation
        kept, advantages = merged(replies, batch["advantages"].tolist(), -(-most // steps) * steps)
        parts = {name: _rows(value, kept, count) for name, value in split_pixel_values_by_grid(batch).items()}
        parts["advantages"] = batch["advantages"].new_tensor(advantages)
        self._metrics["train"]["trained_replies"].append(float(len(kept)))
        whole: dict[str, Any] = unsplit_pixel_values_by_grid(parts)
        return whole


def _rows(value: Any, kept: Sequence[int], count: int) -> Any:
    """The rows of a batch's tensor or list; what is not of `count` rows as it is."""
    if isinstance(value, list):
        return [value[place] for place in kept]
    return value[list(kept)] if value.ndim and len(value) == count else value


def _left(rows: Sequence[Sequence[int]], filling: int, device: Any) -> tuple[Any, Any]:
    """Rows padded on the left, and the mask of what is no padding."""
    width = max(map(len, rows))
    ids = torch.tensor([[filling] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


class Log(TrainerCallback):  # type: ignore[misc]
    """Writes trainer_log.jsonl as LLaMA-Factory does, which `migician train progress`, `curves` and `watch` read."""

    def __init__(self, output_dir: Path) -> None:
        self._file = output_dir / LOG
        self._began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Add a line for a logged step."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        passed = str(timedelta(seconds=int(time.monotonic() - self._began)))
        line = {"current_steps": state.global_step, "total_steps": state.max_steps, "elapsed_time": passed}
        own = {"loss": logs["loss"], "lr": logs["learning_rate"], "reward": logs["sampled_reward"]}
        more = ("reward_std", "entropy", "kl", "grad_norm", "completions/mean_length", "trained_replies")
        line |= own | {name: logs[name] for name in more if logs.get(name) is not None}
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


class Limit(TrainerCallback):  # type: ignore[misc]
    """Ends a training after some minutes."""

    def __init__(self, minutes: float | None) -> None:
        self._minutes = minutes
        self._began = time.monotonic()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End where the time is up."""
        if self._minutes is not None and time.monotonic() - self._began >= 60 * self._minutes:
            control.should_training_stop = True
