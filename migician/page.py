"""The page to look at: every figure, and the boxes drawn over the images. Opens offline, without a server."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from migician.benchmarks.images import find_image
from migician.errors import UserError, writing
from migician.report import HEADINGS, Report, metric_names, read_report, scoring_of, title
from migician.scoring import read_records

THUMBNAIL_PX = 640


def write_page(folders: Sequence[Path], names: Sequence[str], images: Path, out: Path, *, per_task: int = 60) -> Path:
    """Write `out/index.html` over one or more runs of the same benchmark file, and give its path.

    Shown are the first `per_task` questions of each task, each with its images, what is right and
    what each run replied: boxes on their images, options by their text. `images` is the folder the
    benchmark's images lie below; they are copied beside the page, once each, at most 640 pixels long.
    """
    runs = [_Run(folder, name) for folder, name in zip(folders, names, strict=True)]
    first = runs[0]
    for run in runs[1:]:
        if any(run.report[key] != first.report[key] for key in ("benchmark", "data_sha256")):
            raise UserError(f"{run.folder} scores another benchmark file than {first.folder}: a page shows one")
    shelf = _Shelf(images, out / "images")
    cards = [_card(record, runs, shelf) for record in _first_of_each(list(first.records.values()), per_task)]
    page = _template().render(
        runs=runs,
        title=title(first.report),
        metrics={name: HEADINGS.get(name, name) for name in metric_names(first.report["average"])},
        outcomes=first.scoring.outcomes,
        tasks=list(first.report["per_task"]),
        cards=cards,
        total=len(first.records),
    )
    with writing(out / "index.html") as stream:
        stream.write(page.encode())
    return out / "index.html"


class _Run:
    """One run's report and records, with the name it goes by."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.report: Report = read_report(folder)
        self.scoring = scoring_of(self.report)
        records = read_records(folder / "records.jsonl", self.scoring.record)
        self.records = {record.index: record for record in records}


class _Shelf:
    """Thumbnails beside the page, each image once."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self._made: dict[str, dict[str, Any]] = {}

    def put(self, name: str) -> dict[str, Any]:
        """Where the page finds an image, and its shape."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> dict[str, Any]:
        from PIL import Image, ImageOps

        path = find_image(name, self._root)
        if path is None:
            raise UserError(f"{name} is not below {self._root}: say where the images are with --images")
        # The name is a digest: file names of a benchmark are untrusted text.
        file = f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.png"
        try:
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened).convert("RGB")
        except OSError as error:
            raise UserError(f"{path}: cannot be read as an image ({error})") from None
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        with writing(self._folder / file) as stream:
            image.save(stream, "PNG")
        return {"file": f"images/{file}", "width": image.width, "height": image.height, "name": Path(name).name}


def _first_of_each(records: Sequence[Any], per_task: int) -> list[Any]:
    taken: dict[str, int] = {}
    chosen = []
    for record in records:
        taken[record.task] = taken.get(record.task, 0) + 1
        if taken[record.task] <= per_task:
            chosen.append(record)
    return chosen


def _card(record: Any, runs: Sequence[_Run], shelf: _Shelf) -> dict[str, Any]:
    replies = [
        {"run": number, "record": own, "shown": run.scoring.show(own)}
        for number, run in enumerate(runs)
        if (own := run.records.get(record.index)) is not None
    ]
    shown = runs[0].scoring.show(record)
    return {"record": record, "shown": shown, "images": [shelf.put(name) for name in record.images], "replies": replies}


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Replies are untrusted text: everything is escaped.
    environment = Environment(
        loader=PackageLoader("migician"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")
