"""The same command again: what a finished folder says of the command that made it, so that nobody makes it twice.

The record is the file `.made` in the folder: the settings, and for each input its size and time, or those of all
files below it. Contents are not read, so that asking costs little.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from migician.errors import Done, UserError, appearing, check_place
from migician.files import is_file, is_folder, read_json, write_json

MADE = ".made"


def stamp(path: str | Path, but: Path | None = None) -> dict[str, Any]:
    """Which file or folder this is, by names, sizes and times.

    In a folder what is hidden, and what is below `but`, does not count, and links are not followed. What does not exist
    here, such as a name on the Hub, is only its name.
    """
    place = Path(path)
    if is_file(place):
        about = place.stat()
        return {"path": str(place.resolve()), "bytes": about.st_size, "changed": about.st_mtime_ns}
    if not is_folder(place):
        return {"path": str(path)}
    root, left_out = str(place.resolve()), but and str(but.resolve())
    digest, count = hashlib.sha256(), 0
    start = len(os.path.join(root, ""))  # noqa: PTH118 - as texts throughout: as paths a million files cost 17 s, not 6
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(one for one in folders if one[0] != "." and os.path.join(folder, one) != left_out)  # noqa: PTH118
        for file in (os.path.join(folder, name) for name in sorted(files) if name[0] != "."):  # noqa: PTH118
            about = os.lstat(file)
            line = f"{file[start:]}\0{about.st_size}\0{about.st_mtime_ns}\n"
            digest.update(os.fsencode(line))
            count += 1
    return {"path": root, "files": count, "sha256": digest.hexdigest()}


def check_new(target: Path, settings: Mapping[str, Any], *, force: bool, mark: str = "") -> None:
    """Check that `target` can be made: it is not there or empty, or with `force` is what such a command made.

    Such a command's record has the same keys as `settings`; `mark` is a file in what older versions made, without one.
    Raises `Done` where these very settings made it and there is no `force`; `UserError` that says what differs, or
    what else is there, where it is not replaced.
    """
    check_place(target)
    if not target.exists() or not any(target.iterdir()):
        return
    record = target / MADE
    if record.is_file():
        before = read_json(record, dict[str, Any], "what says how this folder was made", "Choose another folder")
    elif mark and (target / mark).is_file():
        before = dict.fromkeys(settings, "not said by an older version")
    else:
        before = {}
    now = msgspec.json.decode(msgspec.json.encode(settings))
    if before.keys() != now.keys():
        raise UserError(f"{target}: is not empty and not what this command makes; choose another folder")
    if force:
        return
    if before == now:
        raise Done(f"{target}: done already, by the same command; --force makes it again")
    name = next(name for name in now if before[name] != now[name])
    raise UserError(
        f"{target}: made with other settings: {name}{first_difference(before[name], now[name])}. "
        "--force makes it again in its place, or choose another folder"
    )


@contextlib.contextmanager
def making(target: Path, settings: Mapping[str, Any], *, force: bool, mark: str = "") -> Iterator[Path]:
    """A new folder that becomes `target` when the block ends well, and says how it was made; see `appearing`.

    Raises what `check_new` does; what is replaced stays until the new one is whole.
    """
    check_new(target, settings, force=force, mark=mark)
    with appearing(target, replace=force) as partial:
        check_new(target, settings, force=force, mark=mark)  # another process may have made it meanwhile
        yield partial
        note_made(partial, settings)


def note_made(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write into a folder how it was made."""
    write_json(folder / MADE, settings)


def first_difference(before: Any, now: Any) -> str:
    """Where two values differ first, to append to their name: `.seed was 0 and is now 1`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in (*now, *before):
            if before.get(key) != now.get(key):
                return f".{key}{first_difference(before.get(key), now.get(key))}"
    return f" was {before!r} and is now {now!r}"
