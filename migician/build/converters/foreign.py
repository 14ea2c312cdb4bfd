"""What all converters need: foreign records read one by one, and their images found and named for LLaMA-Factory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from migician.errors import NOT_JSON, UserError
from migician.files import is_folder
from migician.samples.dataset_info import INFO
from migician.samples.record_file import JsonRecords
from migician.samples.sample import Sample
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
        """The name in a sample of the first of `candidates` that exists; None, counted, where none does.

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


class RecordRefused(Exception):
    """A record that is left out; the text is the reason."""


def converted(
    source: Path,
    images: ImageFolder,
    tally: Tally,
    form: str,
    reader: Callable[[Path], Callable[[bytes, str], Sample | None]],
) -> Iterator[Sample]:
    """The samples of one file, or of all .json and .jsonl files below a folder in the order of their names.

    `reader` gives for a file what makes a sample of a record and an id. That may raise `msgspec.ValidationError` for a
    record without the `form` and `RecordRefused`, both counted; None is a record whose refusal is counted already.
    Raises `UserError` naming the file and the record that is not JSON, and a file without one record of the form.
    """
    for file, name in _record_files(source):
        sample_of = reader(file)
        with JsonRecords(file) as records:
            formed = 0
            for position, content in enumerate(records):
                made = None
                try:
                    made = sample_of(content, f"{name}-{position}")
                except msgspec.ValidationError:
                    tally.add("record of another form")
                    continue
                except NOT_JSON as error:
                    raise UserError(f"{file}: record {position} is not JSON: {error}") from None
                except RecordRefused as refusal:
                    tally.add(str(refusal))
                formed += 1
                if made:
                    yield made
            if len(records) and not formed:
                raise UserError(f"{file}: none of its {len(records)} records has {form}")
    images.refuse_if_empty()


def _record_files(source: Path) -> list[tuple[Path, str]]:
    """The files of records that `source` is or holds, each with a name for the ids of its samples."""
    if not is_folder(source):
        return [(source, source.stem)]
    found = (file for file in source.rglob("*") if file.suffix in (".json", ".jsonl") and file.is_file())
    files = sorted(file for file in found if file.name != INFO)
    if not files:
        raise UserError(f"{source}: holds no .json or .jsonl files")
    return [(file, file.relative_to(source).with_suffix("").as_posix()) for file in files]
