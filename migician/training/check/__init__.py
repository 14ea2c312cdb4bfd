"""`migician check`: everything wrong with a dataset or a training YAML, before it costs a GPU-hour.

    data/      one pass over the records and images of a dataset
    settings/  the keys of a training YAML, and what the training will take
    findings   every kind of fault with its fix, counted and placed
    report     what a check found, as JSON, tables and sentences

A new kind of fault is one line in `findings.KINDS` and the place that finds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migician.training.check.options import CheckOptions
    from migician.training.check.report import CheckReport


def check(path: str | Path, options: CheckOptions | None = None) -> CheckReport:
    """Everything wrong with a dataset (its folder, its dataset_info.json, or one file) or a training YAML.

    For a YAML the report also says what the training will take; its own pixel limits, `cutoff_len`, media folder and
    tokenizer replace those of `options`. Raises `UserError` only where there is nothing to check, or an option names
    a file that does not exist.
    """
    # Late: the log of a training reads a report without checking anything.
    from migician.training.check.options import CheckOptions

    options = options or CheckOptions()
    if Path(path).suffix in (".yaml", ".yml"):
        from migician.training.check.settings import check_training

        return check_training(Path(path), options)
    from migician.training.check.data import check_data

    return check_data(Path(path), options)
