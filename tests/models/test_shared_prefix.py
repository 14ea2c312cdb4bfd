"""Shared images and prefixes against transformers' own `generate`, one request at a time."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.errors import UserError
from migician.models.protocol import Request
from migician.models.stand_ins.tiny import TinyShape, make_tiny

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
transformers = pytest.importorskip("transformers", reason="models extra not installed: bash scripts/setup.sh")
Migician = pytest.importorskip("migician.chat.migician").Migician
sharing = pytest.importorskip("migician.models.engines.shared_prefix")
from tiny_families import save_tiny  # noqa: E402

IMAGE = 7
"""The token of an image in tests that need no model."""


@pytest.fixture(scope="module", params=["a head for each", "heads that share keys", "qwen2_5_vl", "qwen3_vl"])
def folder(request: Any, tmp_path_factory: Any) -> Path:
    if request.param in ("qwen2_5_vl", "qwen3_vl"):
        made = tmp_path_factory.mktemp("sharing")
        return save_tiny(request.param, made / "tiny", made / "words")
    shared = request.param == "heads that share keys"
    shape = TinyShape(heads=8, key_value_heads=2 if shared else 8, spread=0.2)  # wide: replies that differ
    return make_tiny(tmp_path_factory.mktemp("sharing") / "tiny", seed=int(shared), shape=shape)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    torch.set_num_threads(1)
    return Migician.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Any:
    """The same weights, asked as transformers' documentation says."""
    loaded = transformers.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    loaded.generation_config = transformers.GenerationConfig(do_sample=False, pad_token_id=0)
    return loaded.eval()


@pytest.fixture(scope="module")
def replies(model: Any, files: Any) -> Callable[[int], list[str]]:
    """What the model replies to the random batch of a seed, asked once."""
    return functools.cache(lambda seed: model.answer(random_batch(random.Random(seed), files)))


@pytest.fixture(scope="module")
def files(tmp_path_factory: Any) -> list[Path]:
    made = tmp_path_factory.mktemp("files")
    for number in range(8):
        rng = np.random.default_rng(number)
        height, width = rng.integers(30, 300, 2)
        values = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(values).save(made / f"{number}.png")
    return sorted(made.iterdir())


def random_batch(chance: random.Random, files: list[Path]) -> list[Request]:
    """Some tuples of images with some questions each, in any order."""
    words = [
        "where",
        "is",
        "the",
        "red",
        "dog",
        "of",
        "Image-2",
        "in",
        "the",
        "first",
        "picture",
        "(1,20),(300,999)",
        "?",
    ]
    batch = []
    for _ in range(chance.randint(1, 4)):
        images = tuple(chance.sample(files, chance.randint(0, 4)))
        for _ in range(chance.randint(1, 4)):
            text = " ".join(chance.choices(words, k=chance.randint(1, 15)))
            if chance.random() < 0.3:
                text = "<image> and " * len(images) + text
            history = (("before", "(5,6),(7,8)"),) if chance.random() < 0.2 else ()
            batch.append(Request(images, text, chance.randint(1, 20), history))
    chance.shuffle(batch)
    return batch


def generated(model: Any, plain: Any, request: Request) -> tuple[str, list[float]]:
    """The plain way's reply, and for each of its tokens how far the best was before the second."""
    pictures = [Image.open(path).convert("RGB") for path in request.images]
    inputs = model.processor(text=[model.prompt_text(request)], images=pictures or None, return_tensors="pt")
    output = plain.generate(
        **inputs,
        max_new_tokens=request.max_new_tokens,
        eos_token_id=model._stops,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    tops = [logits[0].topk(2).values for logits in output.logits]
    return model._decoded(tokens), [float(top[0] - top[1]) for top in tops]


@pytest.mark.parametrize("seed", range(12))
def test_a_shared_batch_replies_as_generate_does_one_by_one(
    model: Any, plain: Any, files: Any, replies: Callable[[int], list[str]], seed: int
) -> None:
    batch = random_batch(random.Random(seed), files)
    for request, reply in zip(batch, replies(seed), strict=True):
        expected, margins = generated(model, plain, request)
        assert reply == expected or min(margins) < 1e-4, "only a tie within float error may differ"


def counted(model: Any, plain: Any, request: Request) -> tuple[str, list[float]]:
    """`generated` with 1-D positions and without a cache: every token of every pass has its plain number."""
    pictures = [Image.open(path).convert("RGB") for path in request.images]
    inputs = model.processor(text=[model.prompt_text(request)], images=pictures or None, return_tensors="pt")
    ids, tokens, margins = inputs.pop("input_ids"), list[int](), list[float]()
    images = {name: inputs[name] for name in ("pixel_values", "image_grid_thw") if name in inputs}
    while len(tokens) < request.max_new_tokens and not {*tokens} & {*model._stops}:
        positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
        with torch.inference_mode():
            logits = plain(input_ids=ids, position_ids=positions, **images).logits[0, -1]
        top = logits.topk(2)
        tokens.append(int(top.indices[0]))
        margins.append(float(top.values[0] - top.values[1]))
        ids = torch.cat([ids, top.indices[None, :1]], dim=1)
    return model._decoded(tokens), margins


def test_1d_positions_are_the_plain_count_in_shared_batches_too(
    folder: Path, plain: Any, files: Any, replies: Callable[[int], list[str]]
) -> None:
    model = Migician.from_pretrained(folder, device="cpu", positions="sequential")
    assert "sequential positions" in repr(model) and model.describe()["positions"] == "sequential"
    found: list[str] = []
    for seed in range(2):
        batch = random_batch(random.Random(seed), files)
        found += model.answer(batch)
        for request, reply in zip(batch, found[-len(batch) :], strict=True):
            expected, margins = counted(model, plain, request)
            assert reply == expected or min(margins) < 1e-4, "only a tie within float error may differ"
    assert found != replies(0) + replies(1)  # which are those of 3-D positions


def test_scores_of_the_first_token_are_those_of_a_plain_forward(model: Any, plain: Any, files: Any) -> None:
    """Nearer than replies can tell: a padding token that is seen shows here."""
    batch = random_batch(random.Random(3), files)
    seen: list[Any] = []
    hook = model.model.lm_head.register_forward_hook(lambda *call: seen.append(call[2]))
    model.answer(batch)
    hook.remove()
    for request, logits in zip(batch, seen[0], strict=True):
        pictures = [Image.open(path).convert("RGB") for path in request.images]
        inputs = model.processor(text=[model.prompt_text(request)], images=pictures or None, return_tensors="pt")
        with torch.inference_mode():
            expected = plain(**inputs).logits[0, -1]
        torch.testing.assert_close(logits, expected, rtol=0, atol=2e-4)


def test_the_random_batches_say_something(replies: Callable[[int], list[str]]) -> None:
    found = [reply for seed in range(12) for reply in replies(seed)]
    assert len(set(found)) > len(found) // 2


def test_tokens_are_the_processors_own(model: Any, files: Any) -> None:
    for seed in range(6):
        for request in random_batch(random.Random(seed), files):
            prepared = model.prepare([request])
            pictures = [Image.open(path).convert("RGB") for path in request.images]
            text = model.prompt_text(request)
            expected = model.processor(text=[text], images=pictures or None, return_tensors="pt")
            (group,) = prepared.groups
            assert group.prefix + group.own[0] == expected["input_ids"][0].tolist()
            patches = [prepared.pictures[key].pixels for key in group.images]
            if patches and all(one is not None for one in patches):
                assert torch.equal(torch.cat(patches), expected["pixel_values"])


def test_positions_are_transformers_own(model: Any, plain: Any, files: Any) -> None:
    for seed in range(6):
        for request in random_batch(random.Random(seed), files):
            pictures = [Image.open(path).convert("RGB") for path in request.images]
            inputs = model.processor(text=[model.prompt_text(request)], images=pictures or None, return_tensors="pt")
            inputs.pop("pixel_values", None)
            expected, _ = plain.model.get_rope_index(**inputs)
            grids = [tuple(grid) for grid in inputs.get("image_grid_thw", torch.zeros(0, 3)).tolist()]
            tokens = inputs["input_ids"][0].tolist()
            assert torch.equal(
                sharing.mrope_positions(tokens, grids, model.model.config.image_token_id), expected[:, 0]
            )


def test_other_positions_than_these_are_refused(folder: Path, model: Any) -> None:
    assert "positions" not in model.describe()
    with pytest.raises(UserError, match="unknown positions 'squential'. Known: sequential. Did you mean 'sequential'"):
        Migician.from_pretrained(folder, device="cpu", positions="squential")


def prompts(*sequences: list[int], images: tuple[str, ...] = ("a",)) -> list[Any]:
    return [sharing.Prompt(list(tokens), images, 5) for tokens in sequences]


def test_what_prompts_share() -> None:
    text = prompts([1, IMAGE, IMAGE, 2, 3], [1, IMAGE, IMAGE, 2, 4, 5])
    assert sharing.share(text, IMAGE) == [sharing.Group(("a",), [1, IMAGE, IMAGE, 2], [0, 1], [[3], [4, 5]])]
    alone = prompts([1, IMAGE, 2])
    assert sharing.share(alone, IMAGE) == [sharing.Group(("a",), [1, IMAGE], [0], [[2]])]
    repeated = prompts([1, IMAGE, 2, 3], [1, IMAGE, 2, 3], [1, IMAGE, 2])
    (group,) = sharing.share(repeated, IMAGE)
    assert (group.prefix, group.own) == ([1, IMAGE], [[2, 3], [2, 3], [2]])


def test_prompts_that_differ_before_their_last_image_share_no_prefix() -> None:
    groups = sharing.share(prompts([1, IMAGE, 2, IMAGE, 3], [1, IMAGE, 4, IMAGE, 3], images=("a", "b")), IMAGE)
    assert [(group.rows, group.prefix) for group in groups] == [
        ([0], [1, IMAGE, 2, IMAGE]),
        ([1], [1, IMAGE, 4, IMAGE]),
    ]


def test_each_image_and_each_prefix_is_computed_once(folder: Path, files: Any) -> None:
    model = Migician.from_pretrained(folder, device="cpu")
    pair, other = tuple(files[:2]), (files[1], files[2])
    model.answer([Request(images, text, 3) for text in ("a?", "b b", "c") for images in (pair, other)])
    assert (model.work["images_encoded"], model.work["prefixes_computed"]) == (3, 2)
    model.answer([Request((files[2], files[0]), "d", 3)])
    assert (model.work["images_encoded"], model.work["prefixes_computed"]) == (3, 3)


def test_a_file_that_changed_is_another_image(model: Any, files: Any, tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    replies = []
    for source in files[:2]:
        path.write_bytes(source.read_bytes())
        replies.append(model.answer([Request((path,), "what?", 8)]))
    assert replies == [model.answer([Request((source,), "what?", 8)]) for source in files[:2]]
    assert replies[0] != replies[1]


def test_images_in_memory_are_not_taken_for_each_other(model: Any, files: Any) -> None:
    expected = [model.answer([Request((path,), "what?", 8)]) for path in files]
    assert [model.answer([Request((Image.open(path).copy(),), "what?", 8)]) for path in files] == expected


def test_kept_images_stay_within_their_bound() -> None:
    kept = sharing.FeatureCache(max_tokens=10)
    for name in "abc":
        kept.add(name, sharing.ImageFeatures((1, 4, 4), 4, None))
    assert [name for name in "abc" if kept.get(name)] == ["b", "c"]
    kept.get("b")
    kept.add("d", sharing.ImageFeatures((1, 4, 4), 4, None))
    assert [name for name in "bcd" if kept.get(name)] == ["b", "d"]
    kept.add("d", sharing.ImageFeatures((1, 4, 4), 4, None))
    assert kept.get("b")
    kept.add("e", sharing.ImageFeatures((1, 8, 8), 16, None))
    assert kept.get("e") and not kept.get("b")


def test_tokens_of_an_image_are_known_from_its_size(model: Any, files: Any) -> None:
    for path in files:
        with Image.open(path) as image:
            (picture,) = model.prepare([Request((path,), "?")]).pictures.values()
            assert model.image_tokens(image.size) == picture.tokens
    assert model.image_tokens((1000, 4)) == 0 == model.image_tokens((0, 0))
    with pytest.raises(UserError, match="too thin"):
        model.answer([Request((Image.new("RGB", (1000, 4)),), "?")])


def test_eager_attention_replies_alike(folder: Path, model: Any, files: Any) -> None:
    eager = Migician.from_pretrained(folder, device="cpu", attention="eager")
    batch = random_batch(random.Random(5), files)
    assert eager.answer(batch) == model.answer(batch)
