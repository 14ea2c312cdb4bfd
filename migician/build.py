"""Sources -> tasks -> a dataset on disk, in the layout of MGrounding-630k.

`out/` is both `dataset_dir` and `media_dir` for LLaMA-Factory:

    MGrounding-630k/<Family>/<Source>/...   images; records name them "./MGrounding-630k/..."
    <Family>.json                           the samples of one family
    MGrounding-630k.json                    all of them
    dataset_info.json                       what LLaMA-Factory reads them by
    card.json, README.md                    counts, refusals by reason, seed, versions, sha256

Same recipe, sources and seed, same bytes, on any number of workers.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from migician.card import Part, write_card
from migician.errors import UserError
from migician.mixture import write_dataset_info
from migician.placing import Placer
from migician.recipe import Recipe, TaskRecipe, adjusted, fitting, plain_recipe, read_recipe, settings_of, unknown
from migician.samples import Sample, sample, write_samples
from migician.scenes import Tally
from migician.seeds import derived
from migician.sources import SOURCES
from migician.tasks import TASKS
from migician.tasks.draft import Draft

NAME = "MGrounding-630k"
_BATCH = 256
Advance = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Built:
    """A finished dataset."""

    folder: Path
    parts: tuple[Part, ...]

    @property
    def samples(self) -> int:
        """How many there are in all."""
        return sum(part.made for part in self.parts)

    @property
    def short(self) -> tuple[Part, ...]:
        """The parts whose source had fewer samples than were asked for."""
        return tuple(part for part in self.parts if part.asked is not None and part.made < part.asked)


def build(
    tasks: Sequence[str],
    sources: Mapping[str, Path],
    out: str | Path,
    *,
    count: int | None = None,
    seed: int | None = None,
    workers: int = 1,
    config: str | Path | None = None,
    overwrite: bool = False,
) -> Built:
    """Build a dataset into the folder `out`, which appears whole or not at all.

    `tasks` are names of `TASKS`, or just "all"; `sources` gives the root of each source by name.
    With `config` the recipe says what is taken from where; without, every task takes from every
    source that fits it, as much as there is. `count` is samples a task, `seed` overrides the recipe's
    (0 without one), `workers` threads make images. `out` may exist only if it is empty, or with
    `overwrite` if it holds an earlier build.

    Raises `UserError` naming what is unknown, missing or unreadable. Bad rows of a source and
    samples that fail a filter are counted on the card.
    """
    target = Path(out)
    recipe = _recipe(tasks, sources, count, seed, config)
    _refuse_occupied(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        partial.chmod(0o755)
        parts = _fill(partial, recipe, sources, workers)
        _swap(partial, target)
    except OSError as error:
        raise UserError(f"{error.filename or target}: {error.strerror or error}; {target} was not built") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Built(target, tuple(parts))


def _recipe(
    tasks: Sequence[str],
    sources: Mapping[str, Path],
    count: int | None,
    seed: int | None,
    config: str | Path | None,
) -> Recipe:
    """What to build; raises `UserError` where names, sources or numbers do not fit."""
    names = None if "all" in tasks else list(dict.fromkeys(tasks))
    bad = [unknown("task", name, ["all", *TASKS]) for name in names or [] if name not in TASKS]
    bad += [unknown("source", name, SOURCES) for name in sources if name not in SOURCES]
    bad += [f"source {name!r}: {root} is not a folder" for name, root in sources.items() if not Path(root).is_dir()]
    if count is not None and count < 1:
        bad.append(f"count must be 1 or more, not {count}")
    if bad:
        raise UserError("; ".join(bad))
    if config is not None:
        recipe = adjusted(read_recipe(Path(config)), names, count, seed)
    else:
        recipe = adjusted(plain_recipe(names or TASKS, sources, count), None, None, seed)
    bad = [sentence for name in names or recipe.tasks or TASKS for sentence in _lacking(name, recipe, sources)]
    if bad:
        raise UserError("; ".join(bad))
    return recipe


def _lacking(name: str, recipe: Recipe, sources: Mapping[str, Path]) -> list[str]:
    """What a task still needs, in at most one sentence."""
    if name not in recipe.tasks:
        usable = fitting(name)
        return [f"task {name!r} needs one of these sources: {', '.join(usable)}. Give --source {usable[0]}=ROOT"]
    lacking = [source for source in recipe.tasks[name].sources if source not in sources]
    return [f"task {name!r} needs source {', '.join(lacking)}: give --source {lacking[0]}=ROOT"] if lacking else []


def _refuse_occupied(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise UserError(f"{target}: is a file; choose another folder for the dataset")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise UserError(f"{target}: is not empty; choose another folder, or --overwrite to replace an earlier build")
    if not (target / "card.json").is_file():
        raise UserError(f"{target}: holds no card.json, so it is no earlier build and is not replaced; remove it first")


def _swap(partial: Path, target: Path) -> None:
    """Give `partial` the name `target`, whatever earlier build has it now."""
    if not target.exists():
        partial.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old.part", dir=target.parent))
    target.rename(old / target.name)
    try:
        partial.rename(target)
    except OSError:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _fill(folder: Path, recipe: Recipe, sources: Mapping[str, Path], workers: int) -> list[Part]:
    """Everything a dataset consists of, written into `folder`."""
    Image.init()  # the plug-ins load once, before threads ask for them
    parts: list[Part] = []
    merged: list[Sample] = []
    files: dict[str, str] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for name, task in recipe.tasks.items():
            family: list[Sample] = []
            for source in task.sources:
                part, samples = _part(folder, name, source, task, Path(sources[source]), recipe, pool)
                parts.append(part)
                family.extend(samples)
            files[name] = f"{TASKS[name].folder}.json"
            write_samples(folder / files[name], family)
            merged.extend(family)
    files["mgrounding"] = f"{NAME}.json"
    write_samples(folder / files["mgrounding"], merged)
    write_dataset_info(folder, files)
    write_card(folder, NAME, recipe, parts, list(files.values()))
    return parts


def _part(
    folder: Path,
    name: str,
    source_name: str,
    task_recipe: TaskRecipe,
    root: Path,
    recipe: Recipe,
    pool: ThreadPoolExecutor,
) -> tuple[Part, list[Sample]]:
    """The samples of one task from one source, their images made."""
    task, source = TASKS[name], SOURCES[source_name]
    asked = task_recipe.sources[source_name]
    left_out, refused = Tally(), Tally()
    scenes = source.read(root, left_out, split=recipe.split)
    seed = derived(recipe.seed, name, source_name)
    drafts = task.build(scenes, seed, refused, settings_of(name, task_recipe))
    place = f"{NAME}/{task.folder}/{source.folder}"
    placer = Placer(root, folder / place, f"./{place}")
    samples: list[Sample] = []
    with _progress(f"{name} from {source_name}", asked) as advance:
        for draft, paths in _placed(drafts, placer, asked, pool, refused):
            number = f"{task.type}_{source_name}_{len(samples):06d}"
            samples.append(sample(number, list(paths), draft.conversation(), task.type))
            advance()
    return Part(name, source_name, asked, len(samples), dict(left_out.counts), dict(refused.counts)), samples


def _placed(
    drafts: Iterator[Draft], placer: Placer, asked: int | None, pool: ThreadPoolExecutor, refused: Tally
) -> Iterator[tuple[Draft, tuple[str, ...]]]:
    """The first `asked` drafts whose pictures can be made, in order, with the paths of these.

    A batch never holds more drafts than are still wanted, so no picture is made in vain, and
    what is read, made and counted does not depend on how many work on it.
    """
    made = 0
    while asked is None or made < asked:
        batch = list(itertools.islice(drafts, _BATCH if asked is None else min(_BATCH, asked - made)))
        if not batch:
            return
        for draft, placed in zip(batch, pool.map(placer.place, batch), strict=True):
            if placed.refusal:
                refused.add(placed.refusal)
            else:
                made += 1
                yield draft, placed.paths


@contextlib.contextmanager
def _progress(label: str, total: int | None) -> Iterator[Advance]:
    """A bar with the time left on stderr, if that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(label, total=total)
        yield lambda: progress.advance(bar)
