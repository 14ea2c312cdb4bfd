"""What all converters need: foreign text made harmless, and images found and named for LLaMA-Factory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from migician.errors import UserError
from migician.files import is_folder
from migician.sources.formats.reading import Listing
from migician.sources.scenes import Tally


class ImageFolder:
    """The images below a folder, by the names that foreign records give them."""

    def __init__(self, root: str | Path, media: str | Path) -> None:
        """`media` is LLaMA-Factory's `media_dir`: images below it are named relative to it, others in full."""
        self.root = Path(root)
        if not is_folder(self.root):
            raise UserError(f"{root} is not a folder; --images names where the images are")
        full = Path(os.path.abspath(root))  # noqa: PTH100 - `resolve` would follow a link out of `media`
        base = Path(os.path.abspath(media))  # noqa: PTH100
        self._prefix = full.relative_to(base) if full.is_relative_to(base) else full
        self._listing = Listing()
        self._found = 0
        self._missing = ""

    def find(self, candidates: Sequence[str], tally: Tally) -> str | None:
        """How the first of `candidates` that is there is named in a sample; None, counted, where none is.

        Names are foreign: one that leads out of the folder is refused and counted.
        """
        for candidate in candidates:
            name = PurePosixPath(candidate)
            if name.is_absolute() or ".." in name.parts or "\0" in candidate or not name.name:
                tally.add("image name that leads out of the folder")
                return None
            if self._listing.holds(self.root / name):
                self._found += 1
                return (self._prefix / name).as_posix()
        self._missing = self._missing or candidates[0]
        tally.add("image missing")
        return None

    def refuse_if_empty(self) -> None:
        """Raises `UserError` if images were looked for and not one was there."""
        if self._missing and not self._found:
            raise UserError(f"{self.root}: none of the images are there, such as {self._missing!r}; check --images")
