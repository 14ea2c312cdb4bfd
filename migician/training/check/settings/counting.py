"""Examples, steps, warm-up and checkpoints of a training, counted as LLaMA-Factory 0.9.5 and transformers count them.

Rows are numbers here, and each setting does to them what it does there: `num_samples`, `max_samples`, mixing, the
split of `val_size`, packing. tests/training/test_real_trainings.py compares the counts with real trainings.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from migician.training.check.report import Counts
from migician.training.check.settings.training_yaml import TrainingSettings

RowNumbers = NDArray[np.int64]
"""Numbers of rows, from 0 over all datasets, in the order in which they are taken."""


_LISTED = 1000
"""At most this many steps of checkpoints are listed."""


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """What is known of one dataset before it is loaded."""

    lengths: Sequence[int] | NDArray[np.int64]
    """Tokens of each row."""
    num_samples: int | None = None
    """Rows to draw, by its entry in dataset_info.json."""


def count(
    settings: TrainingSettings, datasets: Sequence[DatasetRows], evaluated: Sequence[DatasetRows], processes: int
) -> tuple[Counts, float]:
    """(counts of a training on `datasets` in that many processes, samples seen in all its steps)."""
    each, accumulated = settings.batch
    rows, held_out = _split(settings, _mixed(settings, datasets))
    lengths = np.concatenate([np.asarray(one.lengths, np.int64) for one in datasets] or [np.empty(0, np.int64)])
    n_evaluated = len(held_out) + sum(len(_mixed(settings, [one])) for one in evaluated)
    examples = _sequences(settings, lengths[rows]) if settings.packs and not settings.flag("streaming") else len(rows)
    limit = int(settings.number("max_steps"))
    if settings.flag("streaming"):
        steps = an_epoch = max(0, limit)
        examples = steps * each * accumulated * processes
    else:
        an_epoch = _steps_an_epoch(examples, each, accumulated, processes, settings.flag("dataloader_drop_last"))
        steps = limit if limit > 0 else math.ceil(settings.number("num_train_epochs") * an_epoch)
    batch, samples = each * accumulated * processes, len(rows)
    a_step = batch * samples / examples if settings.packs and examples else float(batch)
    checkpoints, saved_at = _saved_at(settings, steps, an_epoch)
    counts = Counts(
        samples=samples,
        gpus=processes,
        batch=batch,
        samples_a_step=a_step,
        steps=steps,
        warmup_steps=_warmup(settings, steps),
        checkpoints=checkpoints,
        saved_at=saved_at,
        examples=examples,
        evaluated=n_evaluated,
    )
    return counts, min(steps * a_step, samples * steps / max(1, an_epoch))


def _mixed(settings: TrainingSettings, datasets: Sequence[DatasetRows]) -> RowNumbers:
    """The rows of all datasets, capped and mixed."""
    chance = np.random.RandomState(int(settings.number("seed")))
    parts, first = [], 0
    for one in datasets:
        rows = np.arange(len(one.lengths))
        if one.num_samples is not None and not settings.flag("streaming"):
            drawn = chance.permutation(len(rows))[: one.num_samples]
            more = one.num_samples - len(drawn)
            rows = np.concatenate([drawn, chance.choice(len(rows), more)]) if more > 0 and len(rows) else drawn
        if settings.values.get("max_samples") is not None:
            rows = rows[: max(0, int(settings.number("max_samples")))]
        parts.append(rows + first)
        first += len(one.lengths)
    strategy = settings.text("mix_strategy")
    if len(parts) > 1 and strategy.startswith("interleave") and all(len(part) for part in parts):
        return _interleaved(settings, parts, strategy)
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _interleaved(settings: TrainingSettings, parts: Sequence[RowNumbers], strategy: str) -> RowNumbers:
    """What `datasets.interleave_datasets` makes of them."""
    sizes = [len(part) for part in parts]
    shares = [float(share) for share in settings.names("interleave_probs")]
    if not shares:
        most = max(sizes) if strategy == "interleave_over" else min(sizes)
        return np.stack([part[np.arange(most) % len(part)] for part in parts], 1).ravel()
    done, taken, found = [False] * len(parts), [0] * len(parts), []
    enough = all if strategy == "interleave_over" else any
    chance = np.random.default_rng(int(settings.number("seed")))
    draws = (chance.choice(len(parts), size=1000, p=shares).tolist() for _ in itertools.count())
    for source in itertools.chain.from_iterable(draws):
        if enough(done):
            break
        found.append(parts[source][taken[source]])
        taken[source] += 1
        if taken[source] >= sizes[source]:
            done[source], taken[source] = True, 0
    return np.array(found, np.int64)


def _split(settings: TrainingSettings, rows: RowNumbers) -> tuple[RowNumbers, RowNumbers]:
    """(trained on, held out): `val_size` is a share if below 1, else a number of rows."""
    size = settings.number("val_size")
    if size <= 1e-6 or not len(rows):
        return rows, rows[:0]
    if settings.flag("streaming"):
        return rows[int(size) :], rows[: int(size)]
    n = int(size) if size >= 1 else math.ceil(size * len(rows))
    order = np.random.default_rng(int(settings.number("seed"))).permutation(len(rows))
    return rows[order[n:]], rows[order[:n]]


def _sequences(settings: TrainingSettings, lengths: NDArray[np.int64]) -> int:
    """How many sequences the samples fill: packed greedily, a batch of the preprocessing at a time."""
    # The parser has subtracted one for what follows the last sample.
    room = int(settings.number("cutoff_len")) - (0 if settings.parsed else 1)
    step = int(settings.number("preprocessing_batch_size"))
    workers = max(1, min(int(settings.number("preprocessing_num_workers")), len(lengths)))
    cut = np.minimum(lengths, room)
    return sum(
        _packed(shard[start : start + step].tolist(), room)
        for shard in np.array_split(cut, workers)
        for start in range(0, len(shard), step)
    )


def _packed(lengths: list[int], room: int) -> int:
    """Sequences of at most `room` tokens: each repeatedly takes the longest sample that still fits.

    >>> _packed([6, 5, 4, 3, 2], 10)
    2
    """
    lengths.sort()
    count = 0
    while lengths:
        left = room
        while at := bisect.bisect(lengths, left):
            left -= lengths.pop(at - 1)
        count += 1
    return count


def _steps_an_epoch(examples: int, each: int, accumulated: int, processes: int, drop_last: bool) -> int:
    """Optimizer steps: batches are distributed over the processes, the last ones filled up or dropped."""
    if examples <= 0 or each <= 0 or accumulated <= 0:
        return 0
    batches = examples // each if drop_last else -(-examples // each)
    own = batches // processes if drop_last else -(-batches // processes)
    return max(1, -(-own // accumulated))


def _warmup(settings: TrainingSettings, steps: int) -> int:
    """Below 1 it is a share of all steps; `warmup_ratio` overrides `warmup_steps`, as in transformers 5.5."""
    given = settings.number("warmup_steps")
    if settings.values.get("warmup_ratio") is not None:
        given = settings.number("warmup_ratio")
    if settings.text("lr_scheduler_type") in ("constant", "reduce_lr_on_plateau", "greedy"):
        return 0
    return int(given) if given >= 1 else math.ceil(steps * given)


def _saved_at(settings: TrainingSettings, steps: int, an_epoch: int) -> tuple[int, list[int]]:
    """(number of checkpoints at the end, their steps).

    They are saved every `save_steps` (a share of all steps below 1) or epoch, and always after the last step.
    """
    strategy, every = settings.text("save_strategy"), settings.number("save_steps")
    if strategy == "no" or steps <= 0:
        return 0, []
    gap = an_epoch  # also for "best", which saves when an evaluation is better
    if strategy == "steps":
        gap = math.ceil(steps * every) if every < 1 else int(every)
    before = range(gap, steps, gap) if gap > 0 else range(0)
    limit = int(settings.number("save_total_limit")) if settings.values.get("save_total_limit") else 0
    # The best one is kept beside the last.
    limit = max(limit, 2) if limit and settings.flag("load_best_model_at_end") else limit
    kept = min(limit or len(before) + 1, len(before) + 1)
    return kept, [*before[max(0, len(before) + 1 - min(kept, _LISTED)) :], steps]
