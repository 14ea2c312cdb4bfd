"""Scenes as readers give them, at random or by hand, and what a build makes of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from migician.boxes import Box
from migician.sources.index.pairs import Pairs, write_pairs
from migician.sources.index.scenes import Scenes, write_scenes
from migician.sources.index.tracks import Tracks, write_tracks
from migician.sources.scenes import Frame, ImagePair, Instance, Scene, Tally, Track
from migician.tasks import TASKS
from migician.tasks.draft import Draft

SIZE = (640, 480)
LABELS = ("dog", "cat", "bird", "Moniter/TV", "apple")


def boxes() -> st.SearchStrategy[Box]:
    """Boxes as readers give them: proper, down to a hair's breadth."""
    pair = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).filter(lambda two: two[0] < two[1])
    return st.builds(lambda x, y: Box(x[0], y[0], x[1], y[1]), pair, pair)


def scenes_(most: int = 14) -> st.SearchStrategy[list[Scene]]:
    phrases = st.sampled_from(["", "a very small one", "the other one.", "one"])
    instances = st.lists(st.builds(Instance, boxes(), st.sampled_from(LABELS), phrases), min_size=1, max_size=most)
    return st.lists(instances, max_size=12).map(
        lambda lists: [Scene(str(i), Path(f"/{i}.jpg"), SIZE, tuple(one)) for i, one in enumerate(lists)]
    )


def tracks() -> st.SearchStrategy[list[Track]]:
    frames = st.lists(st.none() | boxes(), min_size=1, max_size=40)
    return st.lists(frames, max_size=5).map(
        lambda lists: [
            Track(str(i), tuple(Frame(Path(f"/{i}/{k}.jpg"), box) for k, box in enumerate(one)), "dog")
            for i, one in enumerate(lists)
        ]
    )


def pairs() -> st.SearchStrategy[list[ImagePair]]:
    pair = st.builds(
        ImagePair,
        st.just("p"),
        st.just(Path("/a")),
        st.just(Path("/b")),
        st.none() | boxes(),
        st.none() | boxes(),
        st.sampled_from(["", "Add a dog."]),
    )
    return st.lists(pair, max_size=8)


INPUTS: dict[str, st.SearchStrategy[list[Any]]] = {
    "object_tracking": tracks(),
    "common_object": scenes_(4),
    "region_locating": scenes_(),
    "difference": pairs(),
    "free_form": scenes_(4),
    "group_grounding": scenes_(4),
    "group_referring": scenes_(4),
    "referring_grounding": scenes_(4),
}


WRITERS: dict[Any, Any] = {
    Scene: (write_scenes, Scenes),
    Track: (write_tracks, Tracks),
    ImagePair: (write_pairs, Pairs),
}


def drafts(name: str, scenes: list[Any], seed: int, **changed: Any) -> tuple[list[Draft], Tally]:
    """What a build makes of `scenes`, through a real index on disk."""
    task, tally = TASKS[name], Tally()
    settings = task.settings(**changed)
    write, opened = WRITERS[task.takes]
    with tempfile.TemporaryDirectory() as folder:
        write(scenes, Path(folder), Path("/"))
        columns = opened(Path(folder))
        plans = list(task.plan(columns, seed, tally, settings))
        made = list(task.drafts(columns, plans, seed, settings))
        assert made == [one for plan in plans for one in task.drafts(columns, [plan], seed, settings)]
    for refusal in made:
        if isinstance(refusal, str):
            tally.add(refusal)
    return [draft for draft in made if isinstance(draft, Draft)], tally


def scene(*instances: tuple[str, Box], name: str = "s") -> Scene:
    return Scene(name, Path(f"/{name}.jpg"), SIZE, tuple(Instance(box, label) for label, box in instances))


HALF = Box(0.2, 0.2, 0.7, 0.8)
