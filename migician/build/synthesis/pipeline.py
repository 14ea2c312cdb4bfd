"""Sources -> groups -> models -> checks -> a dataset on disk.

The folder is laid out as `migician build` does, with one file more:

    MGrounding-630k/Free-Form/<Source>/...  images; records name them "./MGrounding-630k/..."
    Free-Form.json                          the samples
    provenance.jsonl                        a line a sample: scenes, objects, and the replies that made it
    dataset_info.json, card.json, README.md what LLaMA-Factory reads it by; counts, refusals, versions

Same sources, seed and replies, same bytes, in whatever order the replies come. Until the end all
that is on disk are replies in the cache, so the same command continues a run that was stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from migician.again import check_new, making, stamp
from migician.build.card.card import Part, Told, write_card
from migician.build.dataset import Built
from migician.build.exclusion import MIG_BENCH, Exclude, Excluded, begin, refuser
from migician.build.images import Placer
from migician.build.recipe import Recipe, TaskRecipe
from migician.build.synthesis.author import Author, Made
from migician.build.synthesis.cache import Cache, Shown
from migician.build.synthesis.client import ChatClient
from migician.build.synthesis.grouping import Group, clip_groups, common_groups, random_groups
from migician.build.synthesis.prompts import Found
from migician.build.synthesis.requests import Requests, Settings, asked_objects
from migician.errors import UserError, unknown, writing
from migician.progress import OnProgress, progress_bar
from migician.samples.dataset_info import write_dataset_info
from migician.samples.sample import NAME, Sample, sample, write_samples
from migician.sampling import derived, shares
from migician.sources import SOURCES, misplaced, scenes_of
from migician.sources.scenes import Scene, Tally
from migician.tasks import TASKS

_TASK = TASKS["free_form"]


@dataclass(slots=True)
class _Part:
    """The scenes of one source, and what becomes of them."""

    name: str
    root: Path
    asked: int
    scenes: list[Scene] = field(default_factory=list)
    left_out: Tally = field(default_factory=Tally)
    refused: Tally = field(default_factory=Tally)
    made: list[Made] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would ask, for a look before it costs anything."""

    prompts: tuple[str, ...]
    """Those of the first group, in the order of the steps."""
    groups: int
    images: int
    requests: int
    """If every reply can be used at once; refused groups are replaced by others, which costs more."""


def synthesise(
    sources: Mapping[str, Path],
    out: str | Path,
    settings: Settings,
    *,
    server: str,
    cache: str | Path,
    count: int,
    seed: int = 0,
    split: str = "train",
    concurrency: int = 8,
    api_key: str | None = None,
    timeout_s: float = 300.0,
    exclude: Exclude | None = MIG_BENCH,
    images: Path | None = None,
    force: bool = False,
) -> Built:
    """Write `count` free-form samples over the images of `sources` into the folder `out`, by way of models.

    Of sources that are a file, `images` is the folder of their images. `server` is the address of an
    OpenAI-compatible server, `cache` the folder of its replies.
    `count` is shared evenly by the sources. Groups are asked about in order until there are
    enough samples; refusals are counted on the card by reason. Nothing is asked about a group with an image
    that MIG-Bench uses, as far as `exclude` makes it known; None leaves them in. `out` must not exist or be
    empty, or with `force` be such a dataset; `Done` is raised where it is this one already.
    Raises `UserError` naming what is unknown, missing or unreadable, and where the server fails for
    good; the same call then goes on where this one stopped.
    """
    target = Path(out)
    exclude, excluded = begin(exclude)
    made_from = {
        "sources": {name: stamp(root, but=target) for name, root in sources.items()},
        "images": str(images.resolve()) if images else None,
        "settings": settings,
        "count": count,
        "seed": seed,
        "split": split,
        "mig_bench": excluded,
    }
    check_new(target, made_from, force=force)
    parts = _parts(sources, count, settings, split, images)
    client = ChatClient(
        server, Cache(Path(cache)), api_key=api_key, concurrency=concurrency, timeout_s=timeout_s, seed=seed
    )
    asyncio.run(_ask(client, parts, settings, Path(cache), seed, concurrency, exclude))
    with making(target, made_from, force=force) as partial:
        done = _fill(partial, parts, settings, seed, split, excluded)
    return Built(target, tuple(done))


def plan(
    sources: Mapping[str, Path],
    settings: Settings,
    *,
    cache: str | Path,
    count: int,
    seed: int = 0,
    split: str = "train",
    exclude: Exclude | None = MIG_BENCH,
    images: Path | None = None,
) -> Plan:
    """What `synthesise` would ask for these arguments, without a server; labels stand where phrases will."""
    first: tuple[str, ...] = ()
    groups = shown = 0
    exclude, _ = begin(exclude)
    for part in _parts(sources, count, settings, split, images):
        requests = Requests(settings, part.name, seed)
        for number, group in zip(range(part.asked), _groups(part, settings, Path(cache), seed, exclude), strict=False):
            scenes = [part.scenes[position] for position in group]
            first = first or _prompts(requests, number, scenes)
            groups += 1
            shown += len(scenes)
    return Plan(first, groups, shown, groups + 2 * shown)


def _parts(sources: Mapping[str, Path], count: int, settings: Settings, split: str, images: Path | None) -> list[_Part]:
    fitting = [name for name, source in SOURCES.items() if source.gives is _TASK.takes]
    bad = [unknown("source", name, fitting) for name in sources if name not in fitting]
    bad += [fault for name, root in sources.items() if name in fitting and (fault := misplaced(name, Path(root)))]
    if not sources:
        bad.append(f"give a source, such as --source {fitting[0]}=ROOT")
    if count < 1:
        bad.append(f"count must be 1 or more, not {count}")
    if bad:
        raise UserError("; ".join(bad))
    amounts = shares(dict.fromkeys(sources, 1), count)
    parts = [_Part(name, Path(root), amounts[name]) for name, root in sources.items() if amounts[name]]
    for part in parts:
        part.root, scenes = scenes_of(part.name, part.root, part.left_out, split=split, images=images)
        for scene in scenes:
            if isinstance(scene, Scene) and asked_objects(scene, settings):
                part.scenes.append(scene)
            else:
                part.left_out.add("image without an object to ask about")
    return parts


async def _ask(
    client: ChatClient,
    parts: list[_Part],
    settings: Settings,
    cache: Path,
    seed: int,
    concurrency: int,
    exclude: Exclude | None,
) -> None:
    async with client:
        for part in parts:
            groups = _groups(part, settings, cache, seed, exclude)
            with progress_bar(f"samples from {part.name}") as report:
                author = Author(client, Requests(settings, part.name, seed), part.refused)
                part.made = await _collect(author, part, groups, concurrency, report)


async def _collect(
    author: Author, part: _Part, groups: Iterator[Group], concurrency: int, report: OnProgress
) -> list[Made]:
    """The first `part.asked` samples, in order of their groups.

    A group is only begun while those begun before it may still be too few, so the groups that
    are asked about, and with them samples, counts and requests, do not depend on who answers first.
    """
    made: dict[int, Made] = {}
    running: dict[asyncio.Task[Made | None], int] = {}
    number = 0
    try:
        while True:
            while len(running) < concurrency and len(made) + len(running) < part.asked:
                group = await asyncio.to_thread(next, groups, None)
                if group is None:
                    break
                task = asyncio.create_task(author.write(number, [part.scenes[position] for position in group]))
                running[task] = number
                number += 1
            if not running:
                return [made[place] for place in sorted(made)]
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                place, sample_ = running.pop(task), task.result()
                if sample_:
                    made[place] = sample_
            report(len(made), part.asked)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _groups(part: _Part, settings: Settings, cache: Path, seed: int, exclude: Exclude | None) -> Iterator[Group]:
    """The groups that may be asked about, refusals counted."""
    refusal = refuser(exclude)
    for group in _all_groups(part, settings, cache, seed):
        if reason := refusal([str(part.scenes[position].image) for position in group]):
            part.refused.add(reason)
        else:
            yield group


def _all_groups(part: _Part, settings: Settings, cache: Path, seed: int) -> Iterator[Group]:
    own = derived(seed, "synthesis", part.name)
    if settings.grouping == "random":
        return random_groups(len(part.scenes), own, part.refused)
    if settings.grouping == "common":
        return common_groups(part.scenes, own, part.refused)
    from migician.build.synthesis.similarity import clip_vectors

    with progress_bar(f"CLIP vectors of {part.name}") as report:
        images = [scene.image for scene in part.scenes]
        vectors = clip_vectors(images, settings.clip_model, cache / "clip", report)
    return clip_groups(vectors, own, part.refused)


def _prompts(requests: Requests, number: int, scenes: list[Scene]) -> tuple[str, ...]:
    """The prompts of a group before any reply: of its first image, and the question about all."""
    shown = Shown(scenes[0].image, "")
    objects = [
        [Found(scene.things[place].label, scene.things[place].box) for place in asked_objects(scene, requests.settings)]
        for scene in scenes
    ]
    asked = (
        requests.caption(scenes[0], shown, 0),
        requests.refine(scenes[0], shown, 0),
        requests.questions(number, [("(its caption)", found) for found in objects], 0),
    )
    return tuple(request.text for request in asked)


def _fill(
    folder: Path, parts: list[_Part], settings: Settings, seed: int, split: str, excluded: Excluded
) -> list[Part]:
    samples: list[Sample] = []
    done = []
    with writing(folder / "provenance.jsonl") as provenance:
        for part in parts:
            placed = list(_placed(folder, part, settings))
            for one, origin in placed:
                provenance.write(msgspec.json.encode(origin) + b"\n")
                samples.append(one)
            left_out, refused = (dict(sorted(tally.counts.items())) for tally in (part.left_out, part.refused))
            done.append(Part("synthesis", part.name, part.asked, len(placed), left_out, refused))
    files = {"free_form_synthesised": f"{_TASK.folder}.json"}
    write_samples(folder / files["free_form_synthesised"], samples)
    write_dataset_info(folder, files)
    asked: dict[str, int | None] = {part.name: part.asked for part in parts}
    recipe = Recipe({"synthesis": TaskRecipe(asked, msgspec.to_builtins(settings))}, seed, split)
    write_card(folder, NAME, Told(NAME, recipe, done, excluded), [*files.values(), "provenance.jsonl"])
    return done


def _placed(folder: Path, part: _Part, settings: Settings) -> Iterator[tuple[Sample, dict[str, object]]]:
    """Samples whose images are linked, each with its provenance."""
    place = f"{NAME}/{_TASK.folder}/{SOURCES[part.name].folder}"
    placer = Placer(part.root, folder, place, collect=True)
    for number, made in enumerate(part.made):
        pictures = (
            msgspec.structs.replace(one, image=Path(one.image).relative_to(part.root).as_posix())
            for one in made.draft.pictures
        )
        placed = placer.place_all(msgspec.structs.replace(made.draft, pictures=tuple(pictures)))
        if isinstance(placed, str):  # it could be read when it was asked about
            part.refused.add(placed)
            continue
        name = f"{_TASK.type}_{settings.grouping}_{part.name}_{number:06d}"
        one = sample(name, placed, made.draft.conversation(), _TASK.type)
        yield one, {"id": name, **made.provenance}
