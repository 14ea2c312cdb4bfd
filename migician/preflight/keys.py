"""The keys that a training YAML may have, read from the source of the LLaMA-Factory that is installed.

Its classes are parsed, not imported: that takes a tenth of a second instead of ten, and no torch.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

GONE = {
    "evaluation_strategy": "eval_strategy",
    "image_resolution": "image_max_pixels",
    "train_mm_proj_only": "freeze_vision_tower and freeze_language_model",
    "new_special_tokens": "add_special_tokens",
    "save_safetensors": None,
    "no_cuda": "use_cpu",
    "group_by_length": "train_sampling_strategy",
}
"""Keys that older versions took, and what does the same today (None: nothing is needed)."""

# The classes whose fields `llamafactory-cli train` takes, by the file they are in; their bases are in the same files.
_FILES = ("model_args.py", "data_args.py", "training_args.py", "finetuning_args.py", "generating_args.py")
_BASES = ("training_args.py", "training_args_seq2seq.py")


@functools.cache
def known_keys() -> frozenset[str]:
    """All keys that the installed LLaMA-Factory and transformers take; empty where they are not installed."""
    own, base = _folder("llamafactory"), _folder("transformers")
    if own is None or base is None:
        return frozenset()
    files = [*(own / "hparams" / name for name in _FILES), *(base / name for name in _BASES)]
    return frozenset(key for file in files if file.is_file() for key in _fields(file))


def _folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _fields(file: Path) -> Iterator[str]:
    """The fields of the dataclasses in a file, those that cannot be given left out."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ClassDef):
            continue
        for line in node.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and not _is_fixed(line.value):
                yield line.target.id


def _is_fixed(value: ast.expr | None) -> bool:
    """Whether a field is `field(init=False)`."""
    return isinstance(value, ast.Call) and any(
        word.arg == "init" and isinstance(word.value, ast.Constant) and word.value.value is False
        for word in value.keywords
    )
