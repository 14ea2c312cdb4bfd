"""A scored run to look at: figures as a table, questions as pictures, two runs side by side; for notebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from migician.benchmarks.images import find_image
from migician.benchmarks.scoring.scoring import Drawn, Scoring
from migician.benchmarks.scoring.values import value_of
from migician.boxes import Box
from migician.build.card.album import plain
from migician.draw import ON_ALL, PALETTE, Mark, contact_sheet, truth
from migician.errors import UserError, unknown
from migician.evaluation import EvalConfig, comparison
from migician.evaluation import run as run_evaluation
from migician.evaluation.answer_files import score_file
from migician.evaluation.answer_log import images_of
from migician.evaluation.headings import headed, mark, title, title_of, unreplied
from migician.evaluation.report import HEADINGS, Report, headline_metric, scoring_of
from migician.evaluation.run_folder import read_run
from migician.models.faults import BEARING
from migician.models.pictures import load_picture
from migician.models.protocol import Model
from migician.reports.tables import differences, one_run_told, significance
from migician.reports.writers import write_markdown


@dataclass(frozen=True)
class Run:
    """One run on disk: its report, its records, and where its images are; in a notebook it shows its table."""

    folder: Path
    report: Report = field(repr=False)
    """The content of report.json."""
    records: dict[int, Any] = field(repr=False)
    """By the question's index: reply, boxes, outcome, IoU."""
    images: Path | None = None
    """The folder that the benchmark's image names start from; None where it was never said."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.resolve().name

    @property
    def scoring(self) -> Scoring:
        """How its replies became records."""
        return scoring_of(self.report)

    def select(self, *, task: str | None = None, outcome: str | None = None) -> list[Any]:
        """The records of a task, with an outcome, or both; the best first where records have an IoU.

        Raises `UserError` for an unknown task or outcome.
        """
        known = {"task": list(self.report["per_task"]), "outcome": list(self.scoring.outcomes)}
        for what, name in (("task", task), ("outcome", outcome)):
            if name is not None and name not in known[what]:
                raise UserError(unknown(what, name, known[what]))
        found = (one for one in self.records.values() if task in (None, one.task) and outcome in (None, one.outcome))
        return sorted(found, key=lambda one: -getattr(one, "iou", 0.0))

    def show(self, index: int) -> Image.Image:
        """The question with that index as one picture: its images, true boxes dashed, those of the reply solid.

        Dotted is what is drawn on all images, because none is named for it.
        """
        return _picture([self], index)

    def to_dataset(self) -> Any:
        """The records as a `datasets.Dataset`, with the columns of `migician report --parquet`.

        Raises `UserError` without the package `datasets`.
        """
        try:
            from datasets import Dataset
        except ImportError:
            raise UserError("this needs `datasets`: pip install 'migician[data]'") from None
        from migician.reports.parquet import record_table

        return Dataset(record_table([self.folder], [self.name]))

    def to_coco(self, out: str | Path) -> Path:
        """Write truths and predictions in COCO's form into the new folder `out`; see `migician.reports.coco`."""
        from migician.reports.coco import write_coco

        return write_coco(self.folder, out, images=self.images).folder

    def __repr__(self) -> str:
        metric = headline_metric(self.report["average"])
        figure = f"{HEADINGS.get(metric, metric)} {value_of(self.report['average'], metric)}"
        return f"Run({self.name}: {title(self.report)}, n {self.report['n']}, {figure})"

    def _repr_markdown_(self) -> str:
        return write_markdown(one_run_told(self.name, self.report))


@dataclass(frozen=True)
class Comparison:
    """Two runs over the same questions; in a notebook it shows the paired differences, second minus first."""

    first: Run
    second: Run
    figures: Report = field(repr=False)
    """What `migician compare --json` prints."""

    @property
    def only_first(self) -> list[int]:
        """The questions that the first run alone has right."""
        return sorted(_right(self.first) - _right(self.second))

    @property
    def only_second(self) -> list[int]:
        """The questions that the second run alone has right."""
        return sorted(_right(self.second) - _right(self.first))

    def show(self, index: int) -> Image.Image:
        """As `Run.show`, with the boxes of both runs, named at their corners."""
        return _picture([self.first, self.second], index)

    def __repr__(self) -> str:
        metric = headline_metric(self.figures["average"])
        difference = value_of(self.figures["average"], metric, signed=True)
        told = f"Comparison({self._heading}: {HEADINGS.get(metric, metric)} {difference})"
        return " ".join(filter(None, (told, mark(self._reports))))

    @property
    def _reports(self) -> dict[str, Report]:
        runs = (self.first, self.second)
        alike = self.first.name == self.second.name
        return {str(run.folder) if alike else run.name: run.report for run in runs}

    @property
    def _heading(self) -> str:
        return " minus ".join(reversed(headed(self._reports).values()))

    def _repr_markdown_(self) -> str:
        found = [mark(self._reports), unreplied(self._reports)]
        remarks = ["95% intervals of the paired difference, clustered by image tuple.", *filter(None, found)]
        title = f"{self._heading}, percentage points: {title_of(self._reports)}"
        shown = replace(differences(self.figures), title=title, remarks=remarks)
        return "\n".join(map(write_markdown, (shown, significance(self.figures))))


def open_run(folder: str | Path, *, images: str | Path | None = None) -> Run:
    """The run that `migician eval` or `migician score` wrote into `folder`.

    `images` is the folder of the benchmark's images, by default the one that was asked from. Raises `UserError` where
    the folder holds no run.
    """
    home = Path(folder)
    report, records = read_run(home)
    where = Path(images) if images is not None else images_of(home)
    return Run(home, report, records, where)


def score(
    benchmark: str,
    data: str | Path,
    answers: str | Path,
    out: str | Path,
    *,
    protocol: str = "strict",
    style: str | None = None,
    y_stretch: bool = False,
    images: str | Path | None = None,
    max_pixels: int | None = None,
    partial: bool = False,
    force: bool = False,
) -> Run:
    """Score answers that exist already, as `migician score` does with the same options; writes into `out`.

    Raises `UserError` for a benchmark, style or protocol that is not known, and naming what is unreadable.
    """
    root = None if images is None else Path(images)
    score_file(
        benchmark,
        data,
        answers,
        out,
        protocol=protocol,
        style=style,
        y_stretch=y_stretch,
        images=root,
        max_pixels=max_pixels,
        partial=partial,
        force=force,
    )
    return open_run(out, images=root)


def evaluate(
    benchmark: str,
    model: Model | str | Path,
    data: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    protocol: str = "strict",
    y_stretch: bool = False,
    tasks: Sequence[str] = (),
    limit: int | None = None,
    batch_size: int = 32,
    max_new_tokens: int | None = None,
    fail_on_error: float = BEARING.share,
    retry_failed: bool = False,
    check_images: bool = False,
    force: bool = False,
) -> Run:
    """Ask a model, loaded or by its name, every question, as `migician eval` does; resumes where it stopped.

    `tasks` are the only ones asked, `limit` the first N questions of each, `fail_on_error` the share of questions
    (0..1) that may fail; `retry_failed` asks those again; `check_images` compares images by their content; `force`
    throws away what `out` holds, and asks all again. Raises as the command does.
    """
    run_evaluation(
        EvalConfig(
            benchmark,
            model,
            data,
            images,
            out,
            protocol=protocol,
            y_stretch=y_stretch,
            tasks=tasks,
            limit=limit,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            fail_on_error=fail_on_error,
            retry_failed=retry_failed,
            check_images=check_images,
            force=force,
        )
    )
    return open_run(out, images=images)


def compare(first: Run, second: Run) -> Comparison:
    """How `second` differs from `first` over the same questions; raises `UserError` where they are not the same."""
    runs = [(str(run.folder), run.report, run.records) for run in (first, second)]
    return Comparison(first, second, comparison.compare(*runs))


def _right(run: Run) -> set[int]:
    return {index for index, record in run.records.items() if record.outcome == "correct"}


def _picture(runs: Sequence[Run], index: int) -> Image.Image:
    """A question with what each run replied."""
    records = []
    for run in runs:
        if index not in run.records:
            raise UserError(f"{run.folder}: holds no question {index}; `run.records` has its {len(run.records)}")
        records.append(run.records[index])
    first = records[0]
    pictures = [load_picture(_image(runs, name)) for name in first.images]
    marks: list[list[Mark]] = [[] for _ in pictures]

    def put(drawn: Sequence[Drawn], make: Callable[[Box], Mark]) -> bool:
        """Draw them; whether one is in no particular image."""
        for images, box in drawn:
            mark = make(Box(*box))
            for image in images:
                marks[image].append(mark if len(images) == 1 else replace(mark, line="dotted"))
        return any(len(images) > 1 for images, _ in drawn)

    dotted = put(runs[0].scoring.show(first).truths, truth)
    lines = []
    for place, (run, record) in enumerate(zip(runs, records, strict=True)):
        shown, colour = run.scoring.show(record), PALETTE[place]
        dotted |= put(shown.boxes, partial(Mark, label=run.name, colour=colour))
        said = "(no reply)" if record.reply is None else plain(record.reply)[:600]
        lines.append(f"{run.name}: {said}   [{', '.join(filter(None, (record.outcome, shown.remark)))}]")
    if dotted:
        lines.append(f"Dotted: {ON_ALL}.")
    return contact_sheet(pictures, marks, title=plain(first.question), note="\n".join(lines))


def _image(runs: Sequence[Run], name: str) -> Path:
    roots = [run.images for run in runs if run.images is not None]
    found = next((path for root in roots if (path := find_image(name, root)) is not None), None)
    if found is None:
        where = f"is not below {roots[0]}" if roots else "is in a folder that this run does not name"
        raise UserError(f"{name} {where}: say where the images are, as in open_run(folder, images=...)")
    return found
