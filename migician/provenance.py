"""Where a number comes from: versions, commit, machine, time."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGES = ("migician", "numpy", "pillow", "torch", "transformers", "vllm")


def provenance() -> dict[str, Any]:
    """Versions, the commit where there is one, hardware and the date (UTC), for a report or a card."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "hardware": _hardware(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The commit of the checkout this package runs from, with "+" where files differ from it."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        shown = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return shown.stdout.strip() or None


def _hardware() -> dict[str, Any]:
    found: dict[str, Any] = {"machine": platform.machine(), "system": platform.system(), "cpus": os.cpu_count()}
    torch = sys.modules.get("torch")  # asked only where a model has loaded it
    if torch is None:
        return found
    found["threads"] = torch.get_num_threads()
    if torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found


_CITATION = """
```bibtex
@article{li2025migician,
  title = {Migician: Revealing the Magic of Free-Form Multi-Image Grounding in Multimodal Large Language Models},
  author = {Li, You and others},
  year = {2025},
  journal = {arXiv preprint arXiv:2501.05767}
}
```"""


def citation(what: str) -> str:
    """The section that names the paper; `what` begins the sentence."""
    return f"## Cite\n\n{what} the paper of Migician, MGrounding-630k and MIG-Bench (ACL 2025):\n{_CITATION}"
