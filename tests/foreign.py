"""For the tests of converters: files as other projects have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image


def picture(file: Path, size: tuple[int, int] = (100, 50)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 90, 90)).save(file)
    return file


def dump(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file
