"""Training and answering count the same positions: LLaMA-Factory's batches against what our engines give the model."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from PIL import Image
from test_labels import prepared

from migician.models import load_model
from migician.models.families.qwen3_vl import FAMILY as QWEN3_VL
from migician.models.protocol import Request
from migician.models.stand_ins import tiny
from migician.samples.bases import BASES
from migician.samples.dataset_info import dataset_entry

pytest.importorskip("llamafactory", reason="train extra not installed: bash scripts/setup.sh")
torch = pytest.importorskip("torch", reason="train extra not installed: bash scripts/setup.sh")
transformers_auto = pytest.importorskip("migician.models.engines.transformers_auto")
sequential_positions = pytest.importorskip("migician.models.engines.shared_prefix").sequential_positions

# Sizes that no base resizes: multiples of 28 and of 32 within every limit, wide, tall and square.
SIZES = {"wide.png": (224, 448), "tall.png": (448, 224), "square.png": (224, 224), "again.png": (448, 448)}
SAMPLES: list[tuple[list[str], list[tuple[str, str]]]] = [
    (
        ["wide.png", "tall.png", "square.png"],
        [
            ("Image-1: <image>\nImage-2: <image>\nFind the dog.", "It's in the first image. (316,58),(764,999)"),
            ("And in this one? <image>", "It is not there."),
            ("Are you sure?", "Yes"),
        ],
    ),
    (["again.png"], [("<image>What is it?", "A star.")]),
    (["tall.png", "again.png"], [("<image><image>Which is red?", "The second one."), ("Where?", "(1,2),(3,4)")]),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("positions")
    for number, (name, size) in enumerate(SIZES.items()):
        Image.effect_noise(size, 40 + 20 * number).convert("RGB").save(folder / name)
    samples = []
    for number, (images, turns) in enumerate(SAMPLES):
        said = [
            {"from": role, "value": text} for turn in turns for role, text in zip(("human", "gpt"), turn, strict=True)
        ]
        samples.append({"id": number, "images": images, "conversations": said, "type": "t"})
    (folder / "set.json").write_text(json.dumps(samples))
    (folder / "dataset_info.json").write_text(json.dumps({"set": dataset_entry("set.json")}))
    return folder


@pytest.fixture(scope="module", params=BASES)
def base(request: Any) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of the base that takes the images at their own size."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    shape = tiny.TinyShape(width=64, heads=4, key_value_heads=4, layers=2, max_pixels=448 * 448)
    return tiny.make_tiny(folder, seed=0, base=base, shape=shape)


@pytest.fixture(scope="module")
def model(base: str, checkpoint: Path) -> Any:
    """The model as an evaluation loads it."""
    torch.set_num_threads(1)
    if base == "qwen3_5":  # the same, whether or not it is among the families
        return transformers_auto.load(str(checkpoint), QWEN3_VL, device="cpu")
    loaded: Any = load_model(checkpoint, device="cpu")
    loaded._decoder._stops = [-1]  # with random weights the very first token may be one that ends a reply
    return loaded


def in_training(data: Path, checkpoint: Path, base: str, **settings: Any) -> tuple[int, list[tuple[list[int], Any]]]:
    """How many rows LLaMA-Factory's batch of all samples has, and each sample's tokens and positions, (3, N)."""
    batch = prepared(data, checkpoint, base, dataset="set", **settings).batch
    positions, mask, found = batch["position_ids"], batch["attention_mask"], []
    assert positions.shape[0] == 4 and torch.equal(positions[0], positions[1])  # their text positions, then the three
    for row, ids in enumerate(batch["input_ids"]):
        if mask.dim() == 2:
            blocks = mask[row] - 1  # padding is -1
        else:  # what a token sees begins where its sample does
            seen = mask[row, 0] == 0
            blocks = torch.where(seen.any(-1), seen.int().argmax(-1), -1)
        ours = [blocks == block for block in blocks[blocks >= 0].unique()]
        found += [(ids[one].tolist(), positions[1:, row, one]) for one in ours]
    return len(batch["input_ids"]), found


def questions(data: Path, number: int) -> Iterator[Request]:
    """Each turn of a sample as it is asked, with what was said before."""
    images, turns = SAMPLES[number]
    paths = [data / name for name in images]
    for turn, (question, _) in enumerate(turns):
        shown = sum(asked.count("<image>") for asked, _ in turns[: turn + 1])
        yield Request(tuple(paths[:shown]), question, 4, tuple(turns[:turn]))


@contextmanager
def watched(model: Any) -> Iterator[list[Any]]:
    """The positions that the language model is given, (3, rows, N) each time."""
    given: list[Any] = []

    def look(module: Any, words: Any, named: dict[str, Any]) -> None:
        given.append((named["position_ids"] if "position_ids" in named else words[2])[-3:])

    hook = model.model.model.language_model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield given
    finally:
        hook.remove()


@pytest.mark.parametrize("packed", [False, True])
def test_answering_counts_as_training_did(base: str, checkpoint: Path, model: Any, data: Path, packed: bool) -> None:
    """Token by token up to the answer and within it: our engine, transformers' own positions, and LLaMA-Factory's."""
    settings = {"neat_packing": True, "per_device_train_batch_size": 1} if packed else {}
    rows, trained = in_training(data, checkpoint, base, **settings)
    assert (rows, len(trained)) == (1 if packed else len(SAMPLES), len(SAMPLES))
    matched = set()
    for number in range(len(SAMPLES)):
        for request in questions(data, number):
            pictures = [Image.open(path).convert("RGB") for path in request.images]
            inputs = model.processor(text=[model.prompt_text(request)], images=pictures, return_tensors="pt")
            prompt = inputs["input_ids"][0].tolist()
            ((place, positions),) = [
                (place, its) for place, (ids, its) in enumerate(trained) if ids[: len(prompt)] == prompt
            ]
            matched.add(place)
            inputs.pop("pixel_values")
            own, _ = model.model.model.get_rope_index(**inputs)
            assert torch.equal(own[:, 0], positions[:, : len(prompt)])
            with watched(model) as given:
                model.answer([request])
            asked = torch.cat(given, dim=-1)[:, 0] if given else None
            assert asked is not None and asked.shape[1] > len(prompt)  # and into the answer
            both = min(asked.shape[1], positions.shape[1])
            assert torch.equal(asked[:, :both], positions[:, :both])
            assert len(positions[:, : len(prompt)].unique(dim=0)) == 3  # time, height and width differ: these are 3-D
    assert matched == set(range(len(SAMPLES)))


def test_the_experiment_trains_with_the_plain_count(
    tiny_folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LLaMA-Factory's batch under the experiment's switch has what an engine asks with under --positions sequential."""
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")
    script = importlib.import_module("positions_experiment")
    with script.counted_plainly():
        _, trained = in_training(data, tiny_folder, "qwen2_vl")
    for ids, positions in trained:
        assert torch.equal(positions, sequential_positions(ids, [], 0))
    _, again = in_training(data, tiny_folder, "qwen2_vl")
    assert not any(torch.equal(positions, sequential_positions(ids, [], 0)) for ids, positions in again)
