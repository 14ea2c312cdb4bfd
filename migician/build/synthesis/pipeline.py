"""Sources -> groups -> models -> checks -> a dataset on disk.

The folder is laid out as `migician build` does, with one file more:

    MGrounding-630k/Free-Form/<Source>/...  images; records name them "./MGrounding-630k/..."
    Free-Form.json                          the samples
    provenance.jsonl                        one line per sample: scenes, objects, and the replies that made it
    dataset_info.json, card.json, README.md what LLaMA-Factory reads it by; counts, refusals, versions

Same sources, seed and replies, same bytes, in any order of replies. Until the end only replies in the cache are
on disk, so the same command resumes a run that was stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from migician.again import check_new, making, stamp
from migician.build.card.card import DatasetFacts, write_card
from migician.build.card.readme import BuiltPart
from migician.build.dataset import Built
from migician.build.decontamination import MIG_BENCH, Decontamination, Decontaminator, begin, refuser
from migician.build.images import Placer
from migician.build.recipe import Recipe, TaskRecipe, check_request, fitting
from migician.build.synthesis.author import Author, WrittenSample
from migician.build.synthesis.client import ChatClient, ReplyCache, ShownImage
from migician.build.synthesis.grouping import Group, clip_groups, common_groups, random_groups
from migician.build.synthesis.requests import Requests, SynthesisSettings, asked_objects
from migician.errors import writing
from migician.progress import OnProgress, progress_bar
from migician.samples.dataset_info import write_dataset_info
from migician.samples.sample import NAME, Sample, sample, write_samples
from migician.sampling import derived, shares
from migician.sources import SOURCES, scenes_of
from migician.sources.scenes import Scene, Tally
from migician.tasks import TASKS

_TASK = TASKS["free_form"]


@dataclass(slots=True)
class _SourceWork:
    """The scenes of one source, and the samples made of them."""

    requests: Requests
    root: Path
    asked: int
    scenes: list[Scene] = field(default_factory=list)
    left_out: Tally = field(default_factory=Tally)
    refused: Tally = field(default_factory=Tally)
    made: list[WrittenSample] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run would ask, to look at before it costs anything."""

    prompts: tuple[str, ...]
    """Those of the first group, in the order of the steps."""
    groups: int
    images: int

    @property
    def requests(self) -> int:
        """If every reply can be used at once; refused groups are replaced by others, which costs more."""
        return self.groups + 2 * self.images


def synthesise(
    sources: Mapping[str, Path],
    out: str | Path,
    settings: SynthesisSettings,
    *,
    server: str,
    cache: str | Path,
    count: int,
    seed: int = 0,
    split: str = "train",
    concurrency: int = 8,
    api_key: str | None = None,
    timeout_s: float = 300.0,
    exclude: Decontaminator | None = MIG_BENCH,
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
    good; the same call then resumes where this one stopped.
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
    works = _works(sources, count, settings, seed, split, images)
    client = ChatClient(
        server, ReplyCache(Path(cache)), api_key=api_key, concurrency=concurrency, timeout_s=timeout_s, seed=seed
    )
    asyncio.run(_ask(client, works, Path(cache), concurrency, exclude))
    with making(target, made_from, force=force) as partial:
        done = _fill(partial, works, split, excluded)
    return Built(target, tuple(done))


def dry_run(
    sources: Mapping[str, Path],
    settings: SynthesisSettings,
    *,
    cache: str | Path,
    count: int,
    seed: int = 0,
    split: str = "train",
    exclude: Decontaminator | None = MIG_BENCH,
    images: Path | None = None,
) -> DryRun:
    """What `synthesise` would ask for these arguments, without a server; labels stand where phrases will."""
    first: tuple[str, ...] = ()
    groups = shown = 0
    exclude, _ = begin(exclude)
    for work in _works(sources, count, settings, seed, split, images):
        for number, scenes in zip(range(work.asked), _groups(work, Path(cache), exclude), strict=False):
            first = first or _prompts(work.requests, number, scenes)
            groups += 1
            shown += len(scenes)
    return DryRun(first, groups, shown)


def _works(
    sources: Mapping[str, Path], count: int, settings: SynthesisSettings, seed: int, split: str, images: Path | None
) -> list[_SourceWork]:
    known = fitting("free_form")
    check_request(sources, known, count, [] if sources else [f"give a source, such as --source {known[0]}=ROOT"])
    amounts = shares(dict.fromkeys(sources, 1), count)
    works = [
        _SourceWork(Requests(settings, name, seed), Path(root), amounts[name])
        for name, root in sources.items()
        if amounts[name]
    ]
    for work in works:
        work.root, scenes = scenes_of(work.requests.source, work.root, work.left_out, split=split, images=images)
        for scene in scenes:
            if isinstance(scene, Scene) and asked_objects(scene, settings):
                work.scenes.append(scene)
            else:
                work.left_out.add("image without an object to ask about")
    return works


async def _ask(
    client: ChatClient, works: list[_SourceWork], cache: Path, concurrency: int, exclude: Decontaminator | None
) -> None:
    async with client:
        for work in works:
            author = Author(client, work.requests, work.refused)
            with progress_bar(f"samples from {work.requests.source}") as report:
                work.made = await _collect(author, work.asked, _groups(work, cache, exclude), concurrency, report)


async def _collect(
    author: Author, wanted: int, groups: Iterator[list[Scene]], concurrency: int, report: OnProgress
) -> list[WrittenSample]:
    """The first `wanted` samples, in order of their groups.

    A group is only begun while those begun before it may still be too few, so the groups that
    are asked about, and with them samples, counts and requests, do not depend on who answers first.
    """
    made: dict[int, WrittenSample] = {}
    running: dict[asyncio.Task[WrittenSample | None], int] = {}
    number = 0
    try:
        while True:
            while len(running) < concurrency and len(made) + len(running) < wanted:
                group = await asyncio.to_thread(next, groups, None)
                if group is None:
                    break
                task = asyncio.create_task(author.write(number, group))
                running[task] = number
                number += 1
            if not running:
                return [made[place] for place in sorted(made)]
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                place, sample_ = running.pop(task), task.result()
                if sample_:
                    made[place] = sample_
            report(len(made), wanted)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _groups(work: _SourceWork, cache: Path, exclude: Decontaminator | None) -> Iterator[list[Scene]]:
    """The groups that may be asked about, refusals counted."""
    refusal = refuser(exclude)
    for group in _all_groups(work, cache):
        scenes = [work.scenes[position] for position in group]
        if reason := refusal([str(scene.image) for scene in scenes]):
            work.refused.add(reason)
        else:
            yield scenes


def _all_groups(work: _SourceWork, cache: Path) -> Iterator[Group]:
    settings, seed = work.requests.settings, derived(work.requests.seed, "synthesis", work.requests.source)
    if settings.grouping == "random":
        return random_groups(len(work.scenes), seed, work.refused)
    if settings.grouping == "common":
        return common_groups(work.scenes, seed, work.refused)
    from migician.build.synthesis.similarity import clip_vectors

    with progress_bar(f"CLIP vectors of {work.requests.source}") as report:
        images = [scene.image for scene in work.scenes]
        vectors = clip_vectors(images, settings.clip_model, cache / "clip", report)
    return clip_groups(vectors, seed, work.refused)


def _prompts(requests: Requests, number: int, scenes: list[Scene]) -> tuple[str, ...]:
    """The prompts of a group before any reply: of its first image, and the question about all."""
    shown = ShownImage(scenes[0].image, "")
    objects = [
        [
            (scene.instances[place].label, scene.instances[place].box)
            for place in asked_objects(scene, requests.settings)
        ]
        for scene in scenes
    ]
    asked = (
        requests.caption(scenes[0], shown, 0),
        requests.refine(scenes[0], shown, 0),
        requests.questions(number, [("(its caption)", found) for found in objects], 0),
    )
    return tuple(request.text for request in asked)


def _fill(folder: Path, works: list[_SourceWork], split: str, excluded: Decontamination) -> list[BuiltPart]:
    samples: list[Sample] = []
    done = []
    with writing(folder / "provenance.jsonl") as provenance:
        for work in works:
            placed = list(_placed(folder, work))
            for one, origin in placed:
                provenance.write(msgspec.json.encode(origin) + b"\n")
                samples.append(one)
            left_out, refused = (dict(sorted(tally.counts.items())) for tally in (work.left_out, work.refused))
            done.append(BuiltPart("synthesis", work.requests.source, work.asked, len(placed), left_out, refused))
    files = {"free_form_synthesised": f"{_TASK.folder}.json"}
    write_samples(folder / files["free_form_synthesised"], samples)
    write_dataset_info(folder, files)
    requests = works[0].requests
    asked: dict[str, int | None] = {work.requests.source: work.asked for work in works}
    recipe = Recipe({"synthesis": TaskRecipe(asked, msgspec.to_builtins(requests.settings))}, requests.seed, split)
    write_card(folder, NAME, DatasetFacts(NAME, recipe, done, excluded), [*files.values(), "provenance.jsonl"])
    return done


def _placed(folder: Path, work: _SourceWork) -> Iterator[tuple[Sample, dict[str, object]]]:
    """Samples whose images are linked, each with its provenance."""
    place = f"{NAME}/{_TASK.folder}/{SOURCES[work.requests.source].folder}"
    placer = Placer(work.root, folder, place, collect=True)
    for number, (draft, origin) in enumerate(work.made):
        pictures = (
            msgspec.structs.replace(one, image=Path(one.image).relative_to(work.root).as_posix())
            for one in draft.pictures
        )
        placed = placer.place_all(msgspec.structs.replace(draft, pictures=tuple(pictures)))
        if isinstance(placed, str):  # it could be read when it was asked about
            work.refused.add(placed)
            continue
        name = f"{_TASK.type}_{work.requests.settings.grouping}_{work.requests.source}_{number:06d}"
        one = sample(name, placed, draft.conversation(), _TASK.type)
        yield one, {"id": name, **origin}
