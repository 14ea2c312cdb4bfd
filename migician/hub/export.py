"""A dataset as parquet, its images in the records: what the Hub shows, and `datasets` reads without the image files."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from migician.again import making, stamp
from migician.build.card.readme import HISTOGRAMS, SAMPLES, Stored, bare_readme, read_card, readme
from migician.build.image_roots import ImageRoots, dataset_roots, read_image
from migician.errors import NOT_JSON, UserError, writing
from migician.files import is_file, is_folder, write_json
from migician.progress import progress_bar
from migician.samples.dataset_info import INFO, Inputs, Samples, inputs_of
from migician.samples.layouts import LayoutReader
from migician.samples.record_file import records
from migician.samples.sample import NAME, Sample

SHARD = 500 << 20
"""Bytes after which the next file begins."""
GROUP = 32 << 20
"""Bytes of records and images that are held, and written as one group of rows."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export."""

    folder: Path
    samples: Mapping[str, int]
    """By the name of the file they came from, which is the name that `datasets.load_dataset` takes."""
    shards: int
    size: int
    """In bytes."""


def export(
    dataset: str | Path,
    to: str | Path,
    *,
    images: bool = True,
    media_dir: str | Path | None = None,
    roots: Iterable[str | Path] = (),
    force: bool = False,
) -> Exported:
    """Write the samples of `dataset` as parquet files into the folder `to`, which appears whole or not at all.

    `dataset` is a folder with a dataset_info.json, that file itself, or a JSON file of samples; `media_dir` is where
    the paths of images begin, if not in that folder. Rows are the records; in place of each path stands the image as
    `datasets.Image` stores it, with the file's own bytes and the path, unless `images` is False. An id becomes text.
    Of a file that merges the others nothing is written. Memory holds one group of rows. Images are taken from the
    dataset's folder, from `media_dir`, from the roots of sources that the card names, and from `roots`, wherever links
    lead; so are the files of samples that a dataset_info.json names.

    Raises `Done` where `to` is this export already, and `UserError` naming the record that is no sample, the image that
    is missing, is no image or lies elsewhere, or a `to` that holds anything else; another export is replaced with
    `force`.
    """
    target = Path(to)
    inputs = inputs_of(Path(dataset), Path(media_dir) if media_dir else None)
    settings = {
        "dataset": stamp(dataset, but=target),
        "media_dir": str(inputs.media_dir.resolve()),
        "images": "embedded" if images else "named",
    }
    allowed = dataset_roots(Path(dataset), [inputs.media_dir], map(Path, roots))
    files = _separate(inputs)
    allowed.check((one.file for one in files.values() if one.file != Path(dataset)), Path(dataset))
    with making(target, settings, force=force) as folder:
        schema = _schema(images)
        rows = {name: _rows(one, inputs.media_dir, allowed if images else None) for name, one in files.items()}
        counts = {name: _write(one, folder / name, schema) for name, one in rows.items()}
        samples = {name: count for name, count in counts.items() if count}
        if not samples:
            raise UserError(f"{dataset}: holds no sample")
        _describe(Path(dataset), folder, samples, "embedded" if images else "named", allowed)
        shards = list(folder.rglob("*.parquet"))
        size = sum(file.stat().st_size for file in shards)
    return Exported(target, samples, len(shards), size)


def _separate(inputs: Inputs) -> dict[str, Samples]:
    """The files of samples by name, without the one that has them all again."""
    files = {one.file.stem: one for one in inputs.files}
    if len(files) > 1:
        files.pop(NAME, None)
    if not files:
        raise UserError(f"{inputs.media_dir}: its dataset_info.json names no file of samples that is there")
    return files


def _rows(samples: Samples, media_dir: Path, allowed: ImageRoots | None) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows of a file with their sizes in bytes; `allowed` are the roots of images, None where they stay outside."""
    file, reader = samples.file, LayoutReader(samples.layout, samples.file.stem)
    with progress_bar(f"{file.stem} to parquet") as report:
        for number, (offset, record) in enumerate(records(file)):
            try:
                sample = reader.sample(record, number)
            except NOT_JSON as error:
                raise UserError(f"{file}: byte {offset}: not a sample: {error}") from None
            row, size = msgspec.to_builtins(sample) | {"id": str(sample.id)}, len(record)
            if allowed:
                contents = [_image_of(sample, image, media_dir, file, allowed) for image in sample.images]
                row["images"] = [
                    {"bytes": content, "path": image} for content, image in zip(contents, sample.images, strict=True)
                ]
                size += sum(map(len, contents))
            yield row, size
            report(number + 1, None)


def _image_of(sample: Sample, image: str, media_dir: Path, file: Path, allowed: ImageRoots) -> bytes:
    where = f"{file}: sample {sample.id!r}: image"
    # What others wrote must not bring in files from outside the dataset.
    if Path(image).is_absolute() or ".." in Path(image).parts:
        raise UserError(f"{where} {image!r} leads out of the folder of the images; fix it")
    advice = "name the folder that paths begin in with --media-dir, leave images out with --no-images, or list them all"
    return _content(media_dir / image, allowed, f"{where} {media_dir / image}", f"{advice} with migician check")


def _content(file: Path, allowed: ImageRoots, where: str, advice: str) -> bytes:
    """The bytes of an image; raises `UserError`, with `advice`, where it lies elsewhere or is no image."""
    real = allowed.real(file)
    if isinstance(real, str):
        raise UserError(f"{where} {real}")
    try:
        return read_image(real)
    except (OSError, UserError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{where} cannot be read: {reason}; {advice}") from None


def _schema(images: bool) -> Any:
    """Of the rows; it says to `datasets` what is an image."""
    try:
        from datasets import Features, Image, Value
    except ImportError:
        raise UserError("parquet needs `datasets`: pip install 'migician[data]'") from None
    text = Value("string")
    turns = [{"from": text, "value": text}]
    return Features(
        {"id": text, "images": [Image() if images else text], "conversations": turns, "type": text}
    ).arrow_schema


def _write(rows: Iterator[tuple[dict[str, Any], int]], folder: Path, schema: Any) -> int:
    """Write rows into the files of a new folder, if there are any; gives how many."""
    importlib.import_module("pyarrow.parquet")
    arrow = importlib.import_module("pyarrow")
    count, groups = 0, _groups(rows)
    for shard, first in enumerate(groups):
        folder.mkdir(exist_ok=True)
        with (
            (folder / f"train-{shard:05d}.parquet").open("wb") as stream,
            arrow.parquet.ParquetWriter(stream, schema) as writer,
        ):
            for group in itertools.chain([first], groups):
                writer.write_table(arrow.Table.from_pylist(group, schema=schema))
                count += len(group)
                if stream.tell() >= SHARD:
                    break
    return count


def _groups(rows: Iterator[tuple[dict[str, Any], int]]) -> Iterator[list[dict[str, Any]]]:
    """The rows, as many together as have `GROUP` bytes."""
    group, held = [], 0
    for row, size in rows:
        group.append(row)
        held += size
        if held >= GROUP:
            yield group
            group, held = [], 0
    if group:
        yield group


def _describe(dataset: Path, folder: Path, samples: Mapping[str, int], stored: Stored, allowed: ImageRoots) -> None:
    """README.md, and with it what the dataset has of a card."""
    configs = {name: f"{name}/*.parquet" for name in samples}
    configs = {"default": "*/*.parquet", **configs} if configs else {}
    home = dataset if is_folder(dataset) else dataset.parent
    text = bare_readme(home.resolve().name, sum(samples.values()), configs)
    # The card describes all files, not one of several.
    card = read_card(home) if is_folder(dataset) or dataset.name == INFO else None
    if card is not None:
        try:
            card |= {"stored": stored, "links": {}}
            text = readme(card, configs)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{home / 'card.json'}: not a card of this version ({error!r}); build it again") from None
        write_json(folder / "card.json", card)
        for picture in (HISTOGRAMS, SAMPLES):
            if is_file(home / picture) and (stored == "embedded" or picture != SAMPLES):
                advice = "remove it, or build the dataset again"
                (folder / picture).write_bytes(_content(home / picture, allowed, f"{home / picture}:", advice))
    with writing(folder / "README.md") as stream:
        stream.write(text.encode())
