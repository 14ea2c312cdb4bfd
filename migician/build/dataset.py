"""Sources -> tasks -> a dataset on disk, in the layout of MGrounding-630k.

`out/` is both `dataset_dir` and `media_dir` for LLaMA-Factory:

    MGrounding-630k/<Task>/<Source>/...     images; records name them "./MGrounding-630k/..."
                                            (a link to the source's folder, or the images themselves)
    <Task>.json                             the samples of one task
    MGrounding-630k.json                    all of them
    dataset_info.json                       what LLaMA-Factory reads them by
    card.json, README.md                    counts, refusals by reason, seed, versions, sha256
    histograms.png, samples.jpg             the same as a picture, and twelve samples drawn

Same recipe, sources and seed, same bytes, on any number of workers, also after an interruption.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from migician.again import check_new, note_made, stamp
from migician.boxes import Size
from migician.build.balance import Balance
from migician.build.card.card import DatasetFacts, versions, write_card
from migician.build.card.readme import BuiltPart, markdown_table
from migician.build.decontamination import MIG_BENCH, Decontaminator, begin
from migician.build.recipe import Recipe, chosen, settings_for, settings_of
from migician.build.rendering import Job, Piece, Rendered, render
from migician.errors import UserError, alone, appearing, empty, made, partial_of, swap, writing
from migician.progress import OnProgress, progress_bar
from migician.samples.dataset_info import write_dataset_info
from migician.samples.sample import NAME
from migician.sampling import derived
from migician.sources import SOURCES
from migician.sources.index import Index, is_index, open_index, write_index
from migician.sources.scenes import ImagePair, Scene, Tally, Track
from migician.tasks import TASKS
from migician.tasks.draft import Plan
from migician.workers import Workers, in_processes, on_ray

_ITEMS: dict[Any, str] = {Scene: "images", ImagePair: "pairs", Track: "sequences"}
"""What the items of a source are called."""
_PIECE = 256
"""Plans of a piece: where crops are cut, work for about a second, so that no process waits long for the last piece."""


@dataclass(frozen=True, slots=True)
class Built:
    """A finished dataset."""

    folder: Path
    parts: tuple[BuiltPart, ...]
    warnings: tuple[str, ...] = ()
    """Where the answers of a task lean to one side; see `migician.build.balance`."""

    @property
    def samples(self) -> int:
        """How many there are in total."""
        return sum(part.made for part in self.parts)

    @property
    def short(self) -> tuple[BuiltPart, ...]:
        """The parts with fewer samples than were asked for, or none at all."""
        return tuple(part for part in self.parts if part.shortfall)

    def _repr_markdown_(self) -> str:
        rows = []
        for part in self.parts:
            reasons = ", ".join(f"{why}: {count:,}" for why, count in (part.left_out | part.refused).items())
            asked = "all" if part.asked is None else f"{part.asked:,}"
            rows.append((part.task, part.source, asked, f"{part.made:,}", reasons))
        head = [f"**{self.samples:,} samples in {self.folder}**"]
        return markdown_table(head, ("task", "source", "asked for", "made", "left out"), rows) + "\n"


def build(
    tasks: Sequence[str],
    sources: Mapping[str, Path],
    out: str | Path,
    *,
    count: int | None = None,
    seed: int | None = None,
    workers: int = 1,
    ray: bool = False,
    config: str | Path | None = None,
    collect: bool = False,
    force: bool = False,
    exclude: Decontaminator | None = MIG_BENCH,
    name: str = NAME,
    images: str | Path | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    absent: float | None = None,
) -> Built:
    """Build a dataset into the folder `out`, which appears whole or not at all.

    `tasks` are names of `TASKS`, or just "all"; `sources` gives, by name, the root of each source
    or an index of it (`make_index`). Of sources that are a file, `images` is the folder of their images. With
    `config` the recipe says what is taken from where;
    without, every task takes from every source that fits it, as much as there is. `count` is samples
    per task, `seed` overrides the recipe's (0 without one). `workers` processes do the work, or with
    `ray` a Ray cluster. Whole images stay where they are, behind a link to their source; with
    `collect` they are opened, compared with their annotations and brought into `out`. No sample has
    an image that MIG-Bench uses, as far as `exclude` knows them; with None they are left in, and the card says so.
    `name` is the title of the dataset's card; files and folders keep theirs. `settings` are, by task, what differs
    from the recipe's settings, such as `{"object_tracking": {"shuffle": 0.2}}`; `absent` (0..1) is the setting of that
    name for all tasks that have it, from sources whose annotations tell what is not there.

    `out` may exist only if it is empty, or with `force` if it holds an earlier build. A build
    that was killed leaves a folder beside `out`; the same call resumes from it.

    Raises `Done` where the same call has made `out` already.
    Raises `UserError` naming what is unknown, missing or unreadable, and where not one sample could be made. Bad
    rows of a source and samples that fail a filter are counted on the card.
    """
    target = Path(out)
    recipe = chosen(tasks, sources, count, seed, Path(config) if config else None, settings or {}, absent)
    exclude, excluded = begin(exclude)
    used = dict.fromkeys(source for task in recipe.tasks.values() for source in task.sources)
    plan: dict[str, Any] = {  # all that decides over the bytes
        "recipe": recipe,
        "sources": {source: stamp(sources[source], but=target) for source in used},
        "images": str(Path(images).resolve()) if images else None,
        "collect": collect,
        "mig_bench": excluded,
        "name": name,
        "versions": versions(),
    }
    check_new(target, plan, force=force, mark="card.json")
    with _workplace(target) as work:
        check_new(target, plan, force=force, mark="card.json")  # another process may have made it meanwhile
        _keep_or_empty(work, plan)
        with contextlib.nullcontext(on_ray) if ray else in_processes(workers) as crew:
            made = [
                _part(work, task, source, recipe, indexed, collect, exclude, crew)
                for task, asked in recipe.tasks.items()
                for source in asked.sources
                for indexed in [_index(work, source, Path(sources[source]), recipe, images)]
            ]
        parts = [part for part, _ in made]
        balances: dict[str, Balance] = {}
        for part, balance in made:
            if part.made:
                balances.setdefault(part.task, Balance()).add(balance)
        if not balances:
            raise UserError(f"{out}: not one sample could be made. {'. '.join(part.shortfall for part in parts)}")
        facts = DatasetFacts(name, recipe, parts, excluded, balances)
        _assemble(work, facts)
        note_made(work / "data", plan)
        swap(work / "data", target)
    return Built(target, tuple(parts), tuple(facts.warnings))


@contextlib.contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """The folder beside `target` that a build works in: locked while it is in use, kept only if the build is killed."""
    work = partial_of(target)
    try:
        with made(target.parent), alone(work, target):
            try:
                yield work
            except (UserError, OSError):
                shutil.rmtree(work, ignore_errors=True)
                raise
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{error.filename or target}: {error.strerror or error}; {target} was not built") from None


def _keep_or_empty(work: Path, plan: Mapping[str, Any]) -> None:
    """Empty the work folder unless an interrupted build of the same dataset left it."""
    wanted = msgspec.json.encode(plan, order="sorted")
    file = work / "plan.json"
    if file.exists() and file.read_bytes() == wanted:
        return
    empty(work)
    with writing(file) as stream:
        stream.write(wanted)


def _index(work: Path, source: str, root: Path, recipe: Recipe, images: str | Path | None) -> tuple[Path, Index]:
    """The folder and the index of a source; the index is made unless `root` is one."""
    if is_index(root):
        index = open_index(root)
        same_split = index.split == recipe.split or SOURCES[source].of_file
        if index.source != source or not same_split:
            raise UserError(f"{root}: is an index of {index.source} {index.split!r}, not of {source} {recipe.split!r}")
        return root, index
    folder = work / "index" / source
    if not folder.exists():
        with appearing(folder) as partial:  # without a record: the build's own says what it was made from
            write_index(source, root, partial, split=recipe.split, images=images)
    return folder, open_index(folder)


def _part(
    work: Path,
    name: str,
    source: str,
    recipe: Recipe,
    indexed: tuple[Path, Index],
    collect: bool,
    exclude: Decontaminator | None,
    crew: Workers,
) -> tuple[BuiltPart, Balance]:
    """The samples of one task from one source, as files of records in `work`, and what their answers point to."""
    folder, index = indexed
    task, asked = TASKS[name], recipe.tasks[name].sources[source]
    place = f"{NAME}/{task.folder}/{SOURCES[source].folder}"
    seed, data = derived(recipe.seed, name, source), (work / "data").resolve()
    changed = settings_for(source, recipe.tasks[name])
    job = Job(name, changed, seed, str(folder.resolve()), str(data), place, collect, exclude)
    refused, settings = Tally(), settings_of(name, recipe.tasks[name])
    plans = task.plan(index.items, job.seed, refused, settings)
    records = work / "parts" / f"{name}-{source}"
    with progress_bar(f"{name} from {source}") as report:
        count, balance, sizes = _render_all(job, plans, asked, records, refused, crew, report)
    if count and not collect:
        link = work / "data" / place
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(index.root, target_is_directory=True)
    passes = getattr(settings, "passes", None)
    drawn_from = f"{len(index.items):,} {_ITEMS[task.takes]}" + (f", passes: {passes}" if passes else "")
    return BuiltPart(name, source, asked, count, index.left_out, refused.counts, drawn_from, sizes), balance


def _render_all(
    job: Job, plans: Iterator[Plan], asked: int | None, records: Path, refused: Tally, crew: Workers, report: OnProgress
) -> tuple[int, Balance, dict[str, Size]]:
    """Records of the first `asked` plans that give one: how many, what their answers point to, `BuiltPart.frame_sizes`.

    Never more plans are begun than samples are still wanted, so no picture is made in vain, and
    what is made and counted does not depend on how many work on it.
    """
    made = begun = 0
    balance = Balance()
    sizes: dict[str, Size] = {}
    while asked is None or made < asked:
        wanted = itertools.islice(plans, None if asked is None else asked - made)
        pieces = _pieces(job, wanted, begun, records)
        before = begun
        for done in crew(render, pieces):
            made += done.made
            balance.add(done.balance)
            begun += done.made + sum(done.refused.values())
            for reason, count in done.refused.items():
                refused.add(reason, count)
            sizes |= done.frame_sizes
            report(made, asked)
        if begun == before:
            break
    return made, balance, sizes


def _pieces(job: Job, plans: Iterator[Plan], first: int, records: Path) -> Iterator[Piece]:
    for start in itertools.count(first, _PIECE):
        piece = list(itertools.islice(plans, _PIECE))
        if not piece:
            return
        yield Piece(job, start, piece, str(records / f"{start:09d}.jsonl"))


def _assemble(work: Path, facts: DatasetFacts) -> None:
    """The dataset's own files, in `work/data`, of the records in `work/parts`; none of a task without samples."""
    data = work / "data"
    files = {name: f"{TASKS[name].stem}.json" for name in facts.balances}
    with writing(data / f"{NAME}.json") as whole:
        before_whole = b"[\n"
        for name, file in files.items():
            with writing(data / file) as stream:
                before = b"[\n"
                for records in _records(work / "parts", name, facts.recipe):
                    stream.writelines((before, records))
                    whole.writelines((before_whole, records))
                    before = before_whole = b",\n"
                stream.write(b"\n]\n")
        whole.write(b"\n]\n")
    files["mgrounding"] = f"{NAME}.json"
    write_dataset_info(data, files)
    write_card(data, NAME, facts, list(files.values()))


def _records(parts: Path, task: str, recipe: Recipe) -> Iterator[bytes]:
    """The records of a task, piece after piece, as they stand in a JSON list."""
    for source in recipe.tasks[task].sources:
        for file in sorted((parts / f"{task}-{source}").glob("*.jsonl")):
            with file.open("rb") as stream:
                if msgspec.json.decode(stream.readline(), type=Rendered).made:
                    yield stream.read()
