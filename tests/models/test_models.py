"""The registry, the tiny model, and the Qwen2-VL wrapper on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.errors import UserError
from migician.models import CHECKPOINTS, ENGINES, FAMILIES, MODELS, load_model
from migician.models.checkpoint import commit_of, read_checkpoint
from migician.models.protocol import Model, Request
from migician.models.stand_ins.tiny import TinyShape

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
Migician = pytest.importorskip("migician.chat.migician").Migician


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


IMAGES = (noise(112, 112), noise(200, 60, 1), noise(90, 300, 2))


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> Any:
    torch.set_num_threads(1)
    return Migician.from_pretrained(tiny_folder, device="cpu")


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def test_a_request_can_have_its_images_shrunk(model: Any) -> None:
    for side, grid in ((None, (1, 8, 8)), (56, (1, 4, 4))):
        prepared = model.prepare([Request((noise(112, 112),), "What?", max_side_px=side)])
        assert [picture.grid for picture in prepared.pictures.values()] == [grid]


# ---- the registry ----


def test_nothing_heavy_is_imported_until_a_model_is_named(tiny_folder: Path) -> None:
    script = """if True:
        import sys
        import migician.models, migician.chat.grounding, migician.models.stand_ins.scripted
        import migician.models.stand_ins.constant
        import migician.draw, migician.training.merge, migician.models.checkpoint
        assert not {"torch", "transformers", "safetensors", "huggingface_hub"} & sys.modules.keys()
        sys.modules["torch"] = None  # what Python does for a package that is not installed
        try:
            migician.models.load_model(sys.argv[1])
        except migician.UserError as error:
            assert "'torch': pip install 'migician[models]'" in str(error), error
        else:
            raise AssertionError
        """
    subprocess.run([sys.executable, "-c", script, str(tiny_folder)], check=True)


def test_every_loader_exists() -> None:
    import importlib

    def found(place: str) -> Any:
        module, _, name = place.partition(":")
        return getattr(importlib.import_module(module), name)

    for place in (*MODELS.values(), *ENGINES.values()):
        assert callable(found(place))
    for place in FAMILIES.values():
        assert callable(found(found(place).loader))


def test_models_by_name_and_by_folder(tiny_folder: Path) -> None:
    constant = load_model("constant:100,200,500,600")
    assert constant.answer([Request((), "?")] * 2) == ["<|box_start|>(100,200),(500,600)<|box_end|>"] * 2
    assert isinstance(constant, Model)
    tiny = load_model(tiny_folder, device="cpu", max_pixels=3136)
    assert isinstance(tiny, Model)
    assert (tiny.name, tiny.describe()["max_pixels"]) == ("tiny", 3136)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("migicain", "no model 'migicain'. Known: .* Did you mean 'migician'"),
        ("constant:1,2,3", "expected x1,y1,x2,y2 from 0 to 1000"),
        ("constant:500,500,100,100", "expected x1,y1,x2,y2 from 0 to 1000"),
        ("scripted:nowhere.jsonl", "^nowhere.jsonl: cannot be read: No such file"),
    ],
)
def test_a_wrong_name_says_what_to_do(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_model(name)


def test_models_without_weights_take_no_options() -> None:
    with pytest.raises(UserError, match="constant sees no images, so it takes no max_pixels"):
        load_model("constant", max_pixels=1000)


def test_a_wrong_folder_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    # The Hub is not asked about a path whose folder is here, though it has the form of a Hub id.
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the Hub"))
    for name, said in [
        ("out/stage-9", "out/stage-9: no such model folder"),
        ("/no/such/folder", "/no/such/folder: no such model folder"),
        ("./out", "out: not a model: it holds no config.json"),
    ]:
        with pytest.raises(UserError, match=said):
            load_model(name)
    (tmp_path / "out" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="model_type 'bert'. Supported: .*qwen2_vl"):
        load_model("./out")


def test_hub_ids_are_fetched_at_their_revision(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = copy.parent / "snapshots" / ("0123abcd" * 5)
    snapshot.parent.mkdir()
    copy.rename(snapshot)
    asked = []

    def download(hub_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((hub_id, revision))
        assert not any("*.bin" in pattern or "*.py" in pattern for pattern in allow_patterns)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    loaded = load_model("migician", revision="main", device="cpu")
    assert set(asked) == {(CHECKPOINTS["migician"], "main")}
    assert loaded.name == "Michael4933/Migician"
    assert loaded.describe()["revision"] == "0123abcd" * 5 == commit_of(snapshot)


def test_an_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("cannot reach the Hub\nmore lines")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(UserError, match="nobody/nothing: no such local folder, and the Hub answers: cannot") as caught:
        load_model("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_scripted_answers_from_its_file(tmp_path: Path) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text('{"prompt": "a?", "reply": "(1,2),(3,4)"}\n\n{"prompt": "b?", "reply": "no"}\n')
    loaded = load_model(f"scripted:{script}")
    assert loaded.answer([Request((), "b?"), Request((), "a?")]) == ["no", "(1,2),(3,4)"]
    with pytest.raises(UserError, match="has no reply to 'c"):
        loaded.answer([Request((), "c?")])
    script.write_text('{"prompt": "a?"}')
    with pytest.raises(UserError, match=r"script\.jsonl:1: not \{\"prompt\": \.\.\., \"reply\": \.\.\.\}"):
        load_model(f"scripted:{script}")


# ---- the tiny model ----


def test_the_tiny_model_repeats_byte_by_byte(tiny_folder: Path, tmp_path: Path) -> None:
    from migician.models.stand_ins.tiny import make_tiny

    again = make_tiny(tmp_path / "again", seed=0)
    names = sorted(file.name for file in tiny_folder.iterdir())
    assert names == sorted(file.name for file in again.iterdir())
    assert all((tiny_folder / name).read_bytes() == (again / name).read_bytes() for name in names)
    other = make_tiny(tmp_path / "other", seed=1)
    assert read_checkpoint(other).fingerprint() != read_checkpoint(again).fingerprint()
    with pytest.raises(UserError, match="made with other settings: seed was 1 and is now 2"):
        make_tiny(other, seed=2)


def test_the_tiny_tokenizer_reads_as_qwen2_vl_does(model: Any) -> None:
    tokenizer = model.processor.tokenizer
    text = "It's in Image-2. <|object_ref_start|>Ünï 图<|object_ref_end|><|box_start|>(316,58),(764,999)<|box_end|>"
    tokens = tokenizer.tokenize(text)
    assert [token for token in tokens if any(letter.isdigit() for letter in token)] == list("231658764999")
    assert {"<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"} <= set(tokens)
    assert tokenizer.decode(tokenizer(text).input_ids) == text


# ---- the Qwen2-VL wrapper ----


def requests() -> list[Request]:
    return [
        Request(IMAGES[:1], "short", 12),
        Request(IMAGES, "a much longer question about the third image and <|box_start|>(1,2),(3,4)<|box_end|>", 7),
        Request((), "no image at all", 9),
        Request(IMAGES[1:], "what? <image> and <image>", 12, (("before", "(5,6),(7,8)"),)),
    ]


def test_a_batch_replies_as_its_requests_alone(model: Any) -> None:
    together = model.answer(requests())
    assert together == [model.answer([request])[0] for request in requests()]
    assert len(set(together)) > 1
    assert model.answer([]) == []


def test_the_prompt_is_the_processors_own_chat_template(model: Any) -> None:
    request = Request(IMAGES[:2], "Find it.", history=(("Look.", "Yes."),))
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    assert model.prompt_text(request) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n{image}{image}Look.<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
        "<|im_start|>user\nFind it.<|im_end|>\n<|im_start|>assistant\n"
    )
    marked = model.prompt_text(Request(IMAGES[:2], "<image>\nThis, and <image>: where?"))
    assert f"user\n{image}\nThis, and {image}: where?<|im_end|>" in marked
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Find it."}]}]
    own = model.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert model.prompt_text(Request(IMAGES[:1], "Find it.")) == own


def test_replies_keep_box_tokens_and_lose_only_stops_and_padding(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = model.processor.tokenizer
    reply = " <|object_ref_start|>it<|object_ref_end|>\n<|box_start|>(1,2),(30,400)<|box_end|> "
    written = tokenizer(reply + "<|im_end|><|endoftext|><|endoftext|>", return_tensors="pt").input_ids

    monkeypatch.setattr(model._decoder, "reply", lambda *_: [written[0].tolist()])
    assert model.answer([Request((), "?")]) == [reply]


def test_the_checkpoints_own_sampling_settings_are_not_used(model: Any, copy: Path) -> None:
    settings = json.loads((copy / "generation_config.json").read_text())
    settings |= {"do_sample": True, "temperature": 5.0, "top_k": 50, "repetition_penalty": 2.0}
    (copy / "generation_config.json").write_text(json.dumps(settings))
    loaded = Migician.from_pretrained(copy, device="cpu")
    assert loaded.answer(requests()) == model.answer(requests())
    assert loaded.describe() | {"name": "tiny"} == model.describe()


def test_a_folder_in_the_layout_of_the_released_weights_replies_alike(model: Any, copy: Path) -> None:
    """As transformers 4.45 wrote them: flat config, three tokenizer files, template and pixel limits in JSON."""
    config = json.loads((copy / "config.json").read_text())
    text, vision = config.pop("text_config"), config["vision_config"]
    rope = text.pop("rope_parameters")
    flat = {name: text[name] for name in text if name not in ("model_type", "layer_types")}
    config |= flat | {"rope_theta": rope["rope_theta"], "torch_dtype": config.pop("dtype")}
    config["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    config["vision_config"] = {"in_chans": 3, "spatial_patch_size": 14} | vision
    (copy / "config.json").write_text(json.dumps(config))

    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    added = {str(token["id"]): {**token, "id": None} for token in tokenizer["added_tokens"]}
    special = {token["content"] for token in tokenizer["added_tokens"]}
    words = {word: index for word, index in tokenizer["model"]["vocab"].items() if word not in special}
    (copy / "vocab.json").write_text(json.dumps(words))
    merges = ["#version: 0.2", *(" ".join(pair) for pair in tokenizer["model"]["merges"])]
    (copy / "merges.txt").write_text("\n".join(merges) + "\n", encoding="utf-8")
    (copy / "tokenizer.json").unlink()
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    added = {index: {name: value for name, value in one.items() if name != "id"} for index, one in added.items()}
    (copy / "tokenizer_config.json").write_text(json.dumps(settings | {"added_tokens_decoder": added}))

    (copy / "chat_template.json").write_text(json.dumps({"chat_template": (copy / "chat_template.jinja").read_text()}))
    (copy / "chat_template.jinja").unlink()
    pictures = json.loads((copy / "processor_config.json").read_text())["image_processor"]
    limits = pictures.pop("size")
    pictures |= {"min_pixels": limits["shortest_edge"], "max_pixels": limits["longest_edge"]}
    (copy / "preprocessor_config.json").write_text(json.dumps(pictures | {"processor_class": "Qwen2VLProcessor"}))
    (copy / "processor_config.json").unlink()

    loaded = Migician.from_pretrained(copy, device="cpu")
    assert loaded.answer(requests()) == model.answer(requests())
    assert repr(loaded) == repr(model).replace("tiny", "copy")


def test_what_was_chosen_is_said(model: Any) -> None:
    assert re.fullmatch(r"Migician\(tiny, \d\.\dM, cpu float32, sdpa, 3136\.\.\d+ px per image\)", repr(model))
    described = model.describe()
    assert json.loads(json.dumps(described)) == described
    assert (described["dtype"], described["decoding"]["method"]) == ("float32", "greedy")


def test_pixel_limits_decide_how_many_tokens_an_image_takes(tiny_folder: Path, model: Any) -> None:
    small = Migician.from_pretrained(tiny_folder, device="cpu", max_pixels=56 * 56)
    request = Request((noise(500, 500),), "?")
    tokens = [one.image_tokens((500, 500)) for one in (small, model)]
    prepared = [next(iter(one.prepare([request]).pictures.values())).tokens for one in (small, model)]
    assert tokens == prepared
    assert tokens == [4, TinyShape().max_pixels // 28**2], "one token for 28 x 28 pixels"
    assert "3136..3136 px" in repr(small)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_pixels": 100}, "max at least 784"),
        ({"min_pixels": 9000, "max_pixels": 5000}, "expected 1 <= min <= max"),
        ({"dtype": "int8"}, "dtype 'int8': expected one of bfloat16"),
        ({"attention": "magic"}, "attention 'magic': expected one of flash"),
        ({"device": "cpu", "attention": "flash_attention_2"}, "not possible here"),
        ({"device": "tpu"}, "device 'tpu': expected cuda"),
        ({"revision": "main"}, "a folder has no revision 'main'"),
    ],
)
def test_wrong_options_are_named(tiny_folder: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Migician.from_pretrained(tiny_folder, **options)


def test_dtype_and_limits_follow_the_memory(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from migician.models.engines import machine

    checkpoint = read_checkpoint(tiny_folder)
    for memory, dtype, pixels in [
        (6e9, torch.float32, 768**2),
        (3e9, torch.float32, 560**2),
        (1e6, torch.bfloat16, 392**2),
    ]:
        monkeypatch.setattr(machine, "_memory_bytes", lambda _, memory=memory: memory)
        chosen = machine.Machine.choose(checkpoint, device="cpu", dtype=None, attention=None)
        assert (chosen.dtype, chosen.affordable_pixels()) == (dtype, pixels)
        assert bool(chosen.notes) == (dtype == torch.bfloat16)


def test_a_checkpoint_that_lacks_weights_is_refused(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    removed = tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert removed.numel()
    with pytest.raises(UserError, match=r"tensors missing: 1, such as .*up_proj"):
        Migician.from_pretrained(copy, device="cpu")


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("tokenizer*", "does not have Qwen2-VL's tokens"),
        ("processor_config.json", "tokenizer or image processor cannot be loaded"),
        ("chat_template.jinja", "no chat template"),
    ],
)
def test_a_checkpoint_without_its_small_files_is_refused(copy: Path, lost: str, said: str) -> None:
    for file in copy.glob(lost):
        file.unlink()
    with pytest.raises(UserError, match=said) as caught:
        Migician.from_pretrained(copy, device="cpu")
    assert "copy the small files of the model it was trained from" in str(caught.value)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(IMAGES, "<image> only one"), "1 <image> marks for 3 images"),
        (Request((), "a <|image_pad|> of mine"), "which stands for pixels"),
        (Request((), "word " * 5000), "exceed the model's 4096: load it with a lower max_pixels"),
        (Request((noise(1000, 4),), "?"), "1000 x 4 is too thin"),
        (Request((IMAGES[0], "gone.png"), "?"), "image 2 of 2, gone.png: no such file"),
    ],
)
def test_requests_nobody_can_answer(model: Any, request_: Request, said: str) -> None:
    with pytest.raises(UserError, match=said):
        model.answer([request_])


def test_the_patch_embedding_is_the_convolution_it_replaces() -> None:
    from migician.models.engines.patches import PatchProduct

    for bias in (False, True):  # Qwen3-VL's has one
        convolution = torch.nn.Conv3d(3, 16, (2, 14, 14), stride=(2, 14, 14), bias=bias)
        patches = torch.randn(9, 3, 2, 14, 14)
        expected = convolution(patches).view(-1, 16)
        torch.testing.assert_close(PatchProduct(convolution)(patches), expected, rtol=1e-5, atol=1e-5)


def test_the_fingerprint_knows_the_weights_not_the_files(copy: Path) -> None:
    before = read_checkpoint(copy).fingerprint()
    from transformers import AutoModelForImageTextToText

    AutoModelForImageTextToText.from_pretrained(copy).save_pretrained(copy.parent / "shards", max_shard_size="1MB")
    assert len(list((copy.parent / "shards").glob("*.safetensors"))) > 2
    assert read_checkpoint(copy.parent / "shards").fingerprint() == before
    with (copy / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x7f")
    assert read_checkpoint(copy).fingerprint() != before
