"""A run in COCO's form: truths and predictions as a pair of files that pycocotools and FiftyOne read.

    OUT/data/000017-01.jpg    the first image of question 17, a link to the benchmark's own
    OUT/labels.json           images, categories (the tasks), true boxes
    OUT/predictions.json      what the model boxed, as a list of results

COCO knows boxes on images, not questions: so every image of a question is an image of its own here, and a box never
counts for another question about the same picture. `drawn_on` has the ids of all images that a box belongs to
(`images_of_box`), as the page draws it: more than one where no image is named for it. Then pycocotools' recall at
IoU 0.5 with one box an image is this project's Acc@0.5, task by task.
Forms: https://cocodataset.org/#format-data and #format-results.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from migician.again import check_new, making, stamp
from migician.boxes import Box, Size
from migician.build.image_roots import ImageRoots
from migician.errors import UserError, writing
from migician.evaluation.answer_log import images_of
from migician.evaluation.headings import title
from migician.evaluation.report import Report, scoring_of
from migician.evaluation.run_folder import read_run
from migician.models.pictures import upright_size

_UNREAD = ("off_scale", "garbled", "failed", "no_box", "refused")
"""Outcomes whose boxes, if a record has any, are not the model's answer."""


@dataclass(frozen=True, slots=True)
class Written:
    """A finished export."""

    folder: Path
    images: int
    truths: int
    predictions: int
    impossible: tuple[int, ...]
    """Questions with a true box whose corners are in the wrong order, which COCO cannot hold: it is left out."""


def write_coco(
    run: str | Path,
    out: str | Path,
    *,
    images: str | Path | None = None,
    roots: Iterable[Path] = (),
    force: bool = False,
) -> Written:
    """Write the run of a folder in COCO's form into the new folder `out`.

    Boxes are [x, y, width, height] in pixels of the upright image. Every prediction has score 1, since the models give
    none. A true box of no particular image is on the question's first, and the reply's beside it, whichever image that
    names, as scoring compares them. A box named for an image that is not there is left out.
    `images` is the folder that the benchmark's names start from, by default the one that was asked from. Raises
    `UserError` for a run without boxes, for an image that is not there, or that a link brings in from outside of that
    folder and `roots`, and where `out` holds anything else (another export is replaced with `force`); `Done` where
    `out` is this export already.
    """
    home, target = Path(run), Path(out)
    report, records = read_run(home)
    scoring = scoring_of(report)
    if not scoring.has_boxes:
        raise UserError(
            f"{home}: its answers are options, and COCO's form holds boxes: write its records with migician report "
            f"{home} --parquet FILE"
        )
    root = Path(images) if images is not None else images_of(home)
    if root is None:
        raise UserError(f"{home} does not say where its images are: add --images")
    files = {name: stamp(home / name) for name in ("report.json", "records.jsonl")}
    settings = {"coco": files, "images": str(root.resolve())}
    check_new(target, settings, force=force)
    form = _Form(
        ImageRoots([root], [root, *roots]), {task: number for number, task in enumerate(report["per_task"], start=1)}
    )
    for record in records.values():
        form.add(record, scoring.show(record))
    with making(target, settings, force=force) as partial:
        form.write(partial, report)
    return Written(target, len(form.images), len(form.truths), len(form.predictions), tuple(sorted(form.impossible)))


class _Form:
    """The content of the two files, and where their images lie."""

    def __init__(self, roots: ImageRoots, categories: dict[str, int]) -> None:
        self.roots, self.categories = roots, categories
        self.images: list[dict[str, Any]] = []
        self.truths: list[dict[str, Any]] = []
        self.predictions: list[dict[str, Any]] = []
        self.impossible: set[int] = set()
        self._files: dict[str, Path] = {}
        self._sizes: dict[Path, Size] = {}

    def add(self, record: Any, shown: Any) -> None:
        """All images of one question, its true boxes and those of its reply."""
        first = len(self.images) + 1
        sizes = [self._place(record, number, name) for number, name in enumerate(record.images)]

        def about(place: int, images: tuple[int, ...], box: tuple[float, float, float, float]) -> dict[str, Any]:
            x1, y1, x2, y2 = Box(*box).to_pixels(sizes[place])
            corner = [round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3)]
            return {
                "image_id": first + place,
                "category_id": self.categories[record.task],
                "bbox": corner,
                "area": round(corner[2] * corner[3], 3),
                "iscrowd": 0,
                "question": record.index,
                "drawn_on": [first + image for image in images],
            }

        anywhere = any(len(images) > 1 for images, _ in shown.truths)
        for images, box in shown.truths:
            if box[0] >= box[2] or box[1] >= box[3]:
                self.impossible.add(record.index)
                continue
            self.truths.append({"id": len(self.truths) + 1, **about(images[0], images, box)})
        for images, box in shown.boxes if record.outcome not in _UNREAD else ():
            if images:
                told = {"score": 1.0, "outcome": record.outcome}
                where = about(0 if anywhere else images[0], images, box)
                self.predictions.append({"id": len(self.predictions) + 1, **where, **told})

    def _place(self, record: Any, number: int, name: str) -> Size:
        """Give an image of a question its entry; its size."""
        path = self.roots.find(name)
        if isinstance(path, str):
            raise UserError(
                f"row {record.index}: {name}: {path}. --images says where the images are, now {self.roots.folders[0]}"
            )
        if path not in self._sizes:
            try:
                self._sizes[path] = upright_size(path)
            except UserError as error:
                raise UserError(f"row {record.index}: {error}") from None
        # Padded, so that the order of names is that of ids: FiftyOne takes predictions by an image's place.
        file = f"{record.index:06d}-{number + 1:02d}{path.suffix.lower()}"
        self._files[file] = path
        width, height = self._sizes[path]
        entry = {"id": len(self.images) + 1, "file_name": file, "width": width, "height": height}
        told = {"question": record.index, "text": record.question, "source": name}
        self.images.append({**entry, **told})
        return width, height

    def write(self, folder: Path, report: Report) -> None:
        """Both files, and links to the images."""
        said = {"description": title(report), "data_sha256": report["data_sha256"], "model": report.get("model")}
        kinds = [{"id": number, "name": task, "supercategory": ""} for task, number in self.categories.items()]
        labels = {"info": said, "licenses": [], "images": self.images, "categories": kinds, "annotations": self.truths}
        (folder / "data").mkdir()
        for file, path in self._files.items():
            (folder / "data" / file).symlink_to(path)
        for name, content in (("labels", labels), ("predictions", self.predictions)):
            with writing(folder / f"{name}.json") as stream:
                stream.write(msgspec.json.encode(content))
