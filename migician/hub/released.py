"""The released datasets: what lies where on the Hub, and how it becomes a folder that is ready to use."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from migician.errors import UserError, alone, check_place, unknown
from migician.files import is_file, read_json, sha256_of, write_json
from migician.hub.archives import check_room, gigabytes, missing_bytes, unpack
from migician.hub.named_images import ImageCheck, check_images
from migician.hub.transfer import HubFile, Repository, download, is_content, list_files, partial_path
from migician.progress import progress_bar
from migician.samples.dataset_info import INFO, write_dataset_info

_ARCHIVES = "archives"
_RECORD = "fetched.json"
_OWN = (_ARCHIVES, _RECORD)
"""What only this command puts into a dataset's folder."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Where a released dataset is, and what has to be done to it."""

    repository: str
    folder: str
    """What its files call the folder they lie in: made below the target."""
    images: str
    """The field of its records that lists images."""
    revision: str = "main"
    """The commit whose layout is known; "main" where only the latest is complete."""
    strip: tuple[str, ...] = ()
    """What its archives wrongly put before every name."""
    merged: str | None = None
    """A file that names the images of all parts: of no use beside only some of them."""
    trains: bool = False
    """Whether it is for LLaMA-Factory, which needs a dataset_info.json."""


DATASETS = {
    "mgrounding-630k": Dataset(
        "Michael4933/MGrounding-630k",
        "MGrounding-630k",
        "images",
        strip=("home/liyou/opensource_datasets/MGrounding-630k/", "MGrounding-630k/"),
        merged="MGrounding-630k.json",
        trains=True,
    ),
    "mig-bench": Dataset(
        "Michael4933/MIG-Bench",
        "MIG-Bench",
        "images",
        "3c3615aa1b30a519b49d52333d5351a6813b8b48",
        strip=("MIG-Bench/",),
    ),
    "mmiu": Dataset(
        "FanqingM/MMIU-Benchmark",
        "MMIU-Benchmark",
        "input_image_path",
        "03bf7d143d920e97a757f606b6b7baee161b019b",
        strip=("MMIU-Benchmark/",),
    ),
    "mibench": Dataset(
        "StarBottle/MIBench", "MIBench", "image", "aedc0e59e94dfddb6bf6f8e95263b048d646051f", strip=("MIBench/",)
    ),
}


class FileState(msgspec.Struct):
    """What is known of one file of the repository, in fetched.json."""

    size: int
    hash: str
    ours: bool = False
    """Whether it was downloaded here, and may be removed once unpacked."""
    done: bool = False
    """In its place and checked; of an archive: unpacked."""


class Fetched(msgspec.Struct):
    """fetched.json: what a folder holds, and from which commit."""

    dataset: str
    repository: str
    revision: str
    date: str
    files: dict[str, FileState]
    dataset_info: str | None = None
    """The sha256 of the dataset_info.json written here."""


@dataclass(frozen=True, slots=True)
class Download:
    """One plain file, or an archive with all of its volumes, the last one last."""

    name: str
    files: tuple[HubFile, ...]
    is_archive: bool

    @property
    def size(self) -> int:
        """Bytes to download in all."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Plan:
    """What `fetch` will do, and the bytes that takes."""

    dataset: Dataset
    listing: Repository
    folder: Path
    state: Fetched
    parts: tuple[Download, ...]
    """Those still to be fetched, in order."""
    download: int
    room: int
    """The most that will lie on the disk beside what is there now."""


def plan(
    name: str, to: Path, only: list[str], revision: str | None, keep_archives: bool, *, force: bool = False
) -> Plan:
    """What fetching a dataset into `to` needs; looks only at the Hub's list and the target, and changes nothing.

    An unfinished folder stays with its commit; with `force` nothing in it counts as done. Raises `UserError` for a
    dataset or part that is not known, and for a folder of another commit than the one asked for.
    """
    check_place(to)
    if name not in DATASETS:
        raise UserError(unknown("dataset", name, DATASETS))
    dataset = DATASETS[name]
    folder = to / dataset.folder
    state = _read_state(folder / _RECORD)
    listing = list_files(dataset.repository, revision or (state.revision if state else dataset.revision))
    if state and (state.repository, state.revision) != (listing.repository, listing.revision):
        raise UserError(
            f"{folder}: holds files of {state.repository} at {state.revision}, not of {listing.repository} at "
            f"{listing.revision}. Name another folder, or leave --revision out"
        )
    own = next((file.path for file in listing.files if file.path.partition("/")[0] in _OWN), None)
    if own is not None:
        raise UserError(
            f"{listing.repository}: the Hub lists {own}, which would stand in the place of this command's own"
        )
    state = state or Fetched(name, listing.repository, listing.revision, "", {})
    if force:
        for file in state.files.values():
            file.done = False
    parts = _chosen(_parts(listing), only, dataset)
    left = tuple(part for part in parts if not _is_done(part, state, folder))
    missing = sum(_to_download(part, folder) for part in left)
    return Plan(dataset, listing, folder, state, left, missing, _room(left, folder, dataset, keep_archives))


def fetch(planned: Plan, keep_archives: bool, say: Callable[[str], None]) -> ImageCheck:
    """Download, check, unpack and look for every image that the data names; gives what that found.

    Resumes where an earlier run stopped. Archives downloaded here are removed once unpacked, unless kept; no file
    of anyone else is removed or replaced. Raises `UserError` before the first byte where the disk has too little room.
    """
    check_room(planned.folder, planned.room, "the download with what it unpacks to")
    planned.folder.mkdir(parents=True, exist_ok=True)
    before = msgspec.json.encode(planned.state) if planned.state.date else b""
    with alone(planned.folder, planned.folder):
        for part in planned.parts:
            if part.is_archive:
                _fetch_archive(part, planned, keep_archives, say)
            else:
                _fetch_file(part.files[0], planned.folder / part.files[0].path, planned, say)
                _mark_done(part, planned)
        checked = check_images(planned.folder, planned.dataset.images, planned.dataset.merged)
        if planned.dataset.trains:
            _describe(planned, checked, say)
        if msgspec.json.encode(planned.state) == before:
            return checked
        planned.state.date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        _write_state(planned)
    return checked


def _parts(listing: Repository) -> list[Download]:
    """The files of a repository by what belongs together: plain files first, then archives, the largest first.

    In that order the least room is needed, as each archive is removed before the next comes.
    """
    volumes: dict[str, list[HubFile]] = {}
    plain = []
    archives = {file.path[: -len(".zip")] for file in listing.files if file.path.endswith(".zip")}
    for file in listing.files:
        stem, dot, ending = file.path.rpartition(".")
        is_volume = ending == "zip" or (ending.startswith("z") and ending[1:].isdecimal())
        if dot and is_volume and stem in archives:
            volumes.setdefault(stem, []).append(file)
        else:
            plain.append(Download(file.path, (file,), False))
    grouped = [Download(stem, tuple(sorted(files, key=_volume_number)), True) for stem, files in volumes.items()]
    return plain + sorted(grouped, key=lambda part: -part.size)


def _volume_number(file: HubFile) -> float:
    ending = file.path.rpartition(".")[2]
    return float("inf") if ending == "zip" else int(ending[1:])


def _chosen(parts: list[Download], only: list[str], dataset: Dataset) -> list[Download]:
    if not only:
        return parts
    known = [part.name for part in parts if part.is_archive]
    for name in only:
        if name not in known:
            raise UserError(f"--only: {unknown(f'part of {dataset.folder}', name, known)}")
    return [part for part in parts if part.name in only or not (part.is_archive or part.name == dataset.merged)]


def _is_done(part: Download, state: Fetched, folder: Path) -> bool:
    if not all(file.path in state.files and state.files[file.path].done for file in part.files):
        return False
    return part.is_archive or _size(folder / part.name) == part.size


def _to_download(part: Download, folder: Path) -> int:
    return sum(file.size - _arrived(_place(part, file, folder), file) for file in part.files)


def _arrived(place: Path, file: HubFile) -> int:
    """Bytes of a file that are on disk already."""
    return min(file.size, _size(place) or _size(partial_path(place, file)))


def _place(part: Download, file: HubFile, folder: Path) -> Path:
    return folder / _ARCHIVES / file.path if part.is_archive else folder / file.path


def _size(path: Path) -> int:
    return path.stat().st_size if is_file(path) else 0


def _room(parts: tuple[Download, ...], folder: Path, dataset: Dataset, keep_archives: bool) -> int:
    """The most bytes that will be on the disk at once, beside those there now.

    What an archive unpacks to is known once it is there. Before that, its own size stands for it: photographs are
    compressed already. The exact size is checked again before each is unpacked.
    """
    most, held = 0, 0
    for part in parts:
        coming = _to_download(part, folder)
        if not part.is_archive:
            held += coming
            continue
        last = _place(part, part.files[-1], folder)
        unpacked = part.size
        if coming == 0:
            # One that is not the archive after all is named when its hash is compared.
            with contextlib.suppress(UserError):
                unpacked = missing_bytes(last, folder, **_layout(part, dataset))
        most = max(most, held + coming + unpacked)
        held += unpacked + (coming if keep_archives else 0)
    return max(most, held)


def _layout(part: Download, dataset: Dataset) -> dict[str, Any]:
    return {"strip": dataset.strip, "below": PurePosixPath(part.name).name, "reserved": _OWN}


def _fetch_archive(part: Download, planned: Plan, keep_archives: bool, say: Callable[[str], None]) -> None:
    places = [_place(part, file, planned.folder) for file in part.files]
    for file, place in zip(part.files, places, strict=True):
        _fetch_file(file, place, planned, say)
    with progress_bar(f"unpacking {part.name}", in_bytes=True) as report:
        unpacked = unpack(places[-1], planned.folder, **_layout(part, planned.dataset), report=report)
    there = f", {unpacked.there} were there" if unpacked.there else ""
    say(f"{part.name}: {unpacked.written} files unpacked{there}")
    # The archive goes only when its files are on the disk, not merely on their way to it.
    os.sync()
    _mark_done(part, planned)
    for file, place in zip(part.files, places, strict=True):
        if planned.state.files[file.path].ours and not keep_archives:
            place.unlink()
    with contextlib.suppress(OSError):  # not empty: volumes of others, or kept
        places[-1].parent.rmdir()


def _fetch_file(file: HubFile, place: Path, planned: Plan, say: Callable[[str], None]) -> None:
    state = planned.state.files.setdefault(file.path, FileState(file.size, file.hash))
    if place.exists() or place.is_symlink():
        if is_file(place) and is_content(place, file):
            return
        raise UserError(f"{place}: is there, and is not {file.path} of the Hub. It is left alone: move it away")
    # Said before the file appears: killed in between, it is still known whose it is.
    state.ours = True
    _write_state(planned)
    with progress_bar(file.path, in_bytes=True) as report:
        download(planned.listing, file, place, report)
    say(f"{file.path}: {gigabytes(file.size)}, as the Hub lists it")


def _mark_done(part: Download, planned: Plan) -> None:
    for file in part.files:
        planned.state.files[file.path].done = True
    _write_state(planned)


def _read_state(file: Path) -> Fetched | None:
    if not file.exists():
        return None
    return read_json(file, Fetched, "what this command writes (remove it to have every file checked again)")


def _write_state(planned: Plan) -> None:
    write_json(planned.folder / _RECORD, planned.state)


def _describe(planned: Plan, checked: ImageCheck, say: Callable[[str], None]) -> None:
    """Write dataset_info.json for the data files found; one that was changed since is left as it is."""
    file = planned.folder / INFO
    if file.exists() and sha256_of(file) != planned.state.dataset_info:
        say(f"{file}: is not as this command wrote it, and stays as it is")
        return
    names = {data.stem: data.relative_to(planned.folder).as_posix() for data in checked.files}
    if names:
        planned.state.dataset_info = sha256_of(write_dataset_info(planned.folder, names))
