"""transformers' own OpenAI-compatible server, on this machine and without network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def transformers_serving(folder: Path) -> Iterator[str]:
    """The address of `transformers serve` with the model in `folder`; skips where it is not installed."""
    from transformers.utils.import_utils import is_serve_available

    if not is_serve_available():
        pytest.skip('transformers has no server here: pip install "transformers[serving]"')
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    code = "from transformers.cli.transformers import main; main()"
    arguments = ["serve", str(folder), "--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said = []
    try:
        assert server.stdout
        for line in server.stdout:
            said.append(line)
            found = re.search(r"running on (http://127\.0\.0\.1:\d+)", line)
            if found:
                yield found[1]
                return
        pytest.fail(f"the server ended: {''.join(said)[-2000:]}")
    finally:
        server.kill()
        server.wait()
