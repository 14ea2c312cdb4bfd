"""The model protocol, the registry, the Qwen2-VL wrapper on a tiny random model, grounding and chat."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.boxes import Box
from migician.checkpoints import commit_of, read_checkpoint
from migician.draw import PREDICTION
from migician.errors import UserError
from migician.models import CHECKPOINTS, FAMILIES, MODELS, Model, Request, load_model
from migician.models.grounding import Chat, ground
from migician.models.pictures import as_list, load_picture, load_pictures
from migician.models.scripted import Scripted

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
Migician = pytest.importorskip("migician.models.qwen2_vl").Migician


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


# ---- the registry ----


def test_nothing_heavy_is_imported_until_a_model_is_named(tiny_folder: Path) -> None:
    script = """if True:
        import sys
        import migician.models, migician.models.grounding, migician.models.scripted, migician.models.constant
        import migician.draw, migician.merging, migician.checkpoints
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

    for place in (*MODELS.values(), *FAMILIES.values()):
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


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
        ("constant:1,2,3", "expected x1,y1,x2,y2 in thousandths"),
        ("constant:500,500,100,100", "expected x1,y1,x2,y2 in thousandths"),
        ("scripted:nowhere.jsonl", "scripted:nowhere.jsonl: cannot be read: No such file"),
    ],
)
def test_a_wrong_name_says_what_to_do(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_model(name)


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
    with pytest.raises(UserError, match="model_type 'bert'. Supported: qwen2_vl"):
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
    with pytest.raises(UserError, match="nobody/nothing: no such folder here, and the Hub .*: cannot reach") as caught:
        load_model("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_scripted_answers_from_its_file(tmp_path: Path) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text('{"prompt": "a?", "reply": "(1,2),(3,4)"}\n\n{"prompt": "b?", "reply": "no"}\n')
    loaded = load_model(f"scripted:{script}")
    assert loaded.answer([Request((), "b?"), Request((), "a?")]) == ["no", "(1,2),(3,4)"]
    with pytest.raises(UserError, match="holds no reply to 'c"):
        loaded.answer([Request((), "c?")])
    script.write_text('{"prompt": "a?"}')
    with pytest.raises(UserError, match="not lines of"):
        load_model(f"scripted:{script}")


# ---- the tiny model ----


def test_the_tiny_model_repeats_byte_by_byte(tiny_folder: Path, tmp_path: Path) -> None:
    from migician.models.tiny import make_tiny

    again = make_tiny(tmp_path / "again", seed=0)
    names = sorted(file.name for file in tiny_folder.iterdir())
    assert names == sorted(file.name for file in again.iterdir())
    assert all((tiny_folder / name).read_bytes() == (again / name).read_bytes() for name in names)
    other = make_tiny(tmp_path / "other", seed=1)
    assert read_checkpoint(other).fingerprint() != read_checkpoint(again).fingerprint()
    with pytest.raises(UserError, match="exists and is not empty"):
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

    def generate(input_ids: Any, **_: object) -> Any:
        return torch.cat([input_ids, written], dim=1)

    monkeypatch.setattr(model.model, "generate", generate)
    assert model.answer([Request((), "?")]) == [reply]


def test_the_checkpoints_own_sampling_settings_are_not_used(model: Any, copy: Path) -> None:
    settings = json.loads((copy / "generation_config.json").read_text())
    settings |= {"do_sample": True, "temperature": 5.0, "top_k": 50, "repetition_penalty": 2.0}
    (copy / "generation_config.json").write_text(json.dumps(settings))
    loaded = Migician.from_pretrained(copy, device="cpu")
    assert loaded.answer(requests()) == model.answer(requests())
    assert loaded.describe() | {"name": "tiny"} == model.describe()


def test_what_was_chosen_is_said(model: Any) -> None:
    assert repr(model) == "Migician(tiny, 1.8M, cpu float32, sdpa, 3136..12544 px an image)"
    described = model.describe()
    assert json.loads(json.dumps(described)) == described
    assert (described["dtype"], described["decoding"]["method"]) == ("float32", "greedy")


def test_pixel_limits_decide_how_many_tokens_an_image_takes(tiny_folder: Path, model: Any) -> None:
    small = Migician.from_pretrained(tiny_folder, device="cpu", max_pixels=56 * 56)
    request = Request((noise(500, 500),), "?")
    tokens = [int((one._inputs([request])["mm_token_type_ids"]).sum()) for one in (small, model)]
    assert tokens == [4, 16], "one token for 28 x 28 pixels"
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
    from migician.models import machine

    checkpoint = read_checkpoint(tiny_folder)
    for memory, dtype, pixels in [
        (6e9, torch.float32, 768**2),
        (3e9, torch.float32, 560**2),
        (1e7, torch.bfloat16, 392**2),
    ]:
        monkeypatch.setattr(machine, "_memory_bytes", lambda _, memory=memory: memory)
        chosen = machine.Machine.choose(checkpoint, device="cpu", dtype=None, attention=None)
        assert (chosen.dtype, chosen.affordable_pixels(768**2)) == (dtype, pixels)
        assert bool(chosen.notes) == (dtype == torch.bfloat16)


def test_a_checkpoint_that_lacks_weights_is_refused(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    removed = tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert removed.numel()
    with pytest.raises(UserError, match=r"1 tensors are missing, .*up_proj"):
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
    from migician.models.qwen2_vl import PatchProduct

    convolution = torch.nn.Conv3d(3, 16, (2, 14, 14), stride=(2, 14, 14), bias=False)
    patches = torch.randn(9, 3, 2, 14, 14)
    expected = convolution(patches).view(-1, 16)
    torch.testing.assert_close(PatchProduct(convolution)(patches), expected, rtol=1e-5, atol=1e-5)


def test_the_fingerprint_knows_the_weights_not_the_files(copy: Path) -> None:
    before = read_checkpoint(copy).fingerprint()
    from transformers import AutoModelForImageTextToText

    AutoModelForImageTextToText.from_pretrained(copy).save_pretrained(copy.parent / "shards", max_shard_size="2MB")
    assert len(list((copy.parent / "shards").glob("*.safetensors"))) > 2
    assert read_checkpoint(copy.parent / "shards").fingerprint() == before
    with (copy / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x7f")
    assert read_checkpoint(copy).fingerprint() != before


# ---- pictures ----


def test_pictures_become_upright_rgb(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    wide.save(tmp_path / "turned.jpg", exif=exif)
    assert load_picture(tmp_path / "turned.jpg").size == (20, 40)
    assert load_picture(str(tmp_path / "turned.jpg")).mode == "RGB"

    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert load_picture(clear).getpixel((0, 0)) == (255, 255, 255), "what is transparent stands on white"
    palette = Image.new("P", (2, 2))
    palette.info["transparency"] = 0
    assert load_picture(palette).getpixel((0, 0)) == (255, 255, 255)

    grey = np.array([[0, 65535], [32768, 257]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey16.png")
    read = load_picture(tmp_path / "grey16.png")
    assert [read.getpixel((x, y))[0] for y in range(2) for x in range(2)] == [0, 255, 128, 1]  # type: ignore[index]

    for shape in [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)]:
        assert load_picture(np.zeros(shape, np.uint8)).size == (7, 5)
    assert load_picture(Image.new("CMYK", (3, 4))).mode == "RGB"


def cut_jpeg(folder: Path) -> Path:
    stream = io.BytesIO()
    noise(200, 200).save(stream, "JPEG")
    (folder / "cut.jpg").write_bytes(stream.getvalue()[:3000])
    return folder / "cut.jpg"


def text_file(folder: Path) -> Path:
    (folder / "text.png").write_text("not an image")
    return folder / "text.png"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "gone.jpg", r"image 2 of 2, .*gone.jpg: no such file"),
        (lambda folder: folder, "image 2 of 2, .*: cannot be read: Is a directory"),
        (text_file, "not an image that Pillow can read"),
        (cut_jpeg, "cut.jpg: damaged or cut off"),
        (lambda folder: "https://example.org/a.jpg", "download it"),
        (lambda folder: np.zeros((4, 4, 3)), r"float64 .*\(array \* 255\)"),
        (lambda folder: np.zeros((4, 4), np.int64), "int64 with shape"),
        (lambda folder: np.zeros((3, 40, 50), np.uint8), r"channels first; give array.transpose\(1, 2, 0\)"),
        (lambda folder: np.zeros((5, 4, 2), np.uint8), r"expected \(height, width\)"),
        (lambda folder: np.zeros((0, 4), np.uint8), r"expected \(height, width\)"),
        (lambda folder: Image.new("F", (4, 4)), "holds decimals"),
        (lambda folder: None, "NoneType is not an image"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, make: Callable[[Path], Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_pictures([IMAGES[0], make(tmp_path)])
    assert str(caught.value).startswith("image 2 of 2")


def test_too_large_an_image_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (2000, 2000)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    with pytest.raises(UserError, match=r"bomb.png: more than 2 million pixels"):
        load_picture(tmp_path / "bomb.png")


def test_one_image_or_several() -> None:
    assert len(as_list("a.jpg")) == len(as_list(IMAGES[0])) == len(as_list(np.zeros((4, 4, 3), np.uint8))) == 1
    assert len(as_list(np.zeros((5, 4, 4, 3), np.uint8))) == 5
    assert len(as_list([Path("a.jpg"), IMAGES[0], np.zeros((4, 4), np.uint8)])) == 3


# ---- grounding and chat ----

BOX = "<|box_start|>(100,200),(500,600)<|box_end|>"


@pytest.mark.parametrize(
    ("reply", "query", "count", "expected"),
    [
        (f"It's in the third image. {BOX}", "Find it.", 3, 2),
        (f"It's in the third image. {BOX}", "Find it in Image-1.", 3, 2),
        (BOX, "Find the object of the first image in Image-2.", 3, 1),
        (BOX, "locate it in the 3th image", 3, 2),
        (BOX, "Find it.", 1, 0),
        (BOX, "Find it.", 3, None),
        (BOX, "Find it in Image-7.", 3, None),
        (f"It's in the ninth image. {BOX}", "Find it in Image-2.", 3, None),
    ],
)
def test_a_box_belongs_to_the_image_that_is_named(reply: str, query: str, count: int, expected: int | None) -> None:
    answered = ground(Scripted(lambda _: reply), IMAGES[:count], query)
    assert [found.image for found in answered.boxes] == [expected]
    assert answered.boxes[0].box == Box(0.1, 0.2, 0.5, 0.6)
    drawn = (np.asarray(answered.picture) == (0xD5, 0x5E, 0x00)).all(axis=-1).any()
    assert drawn == (expected is not None), f"{PREDICTION} only where the image is known"
    if expected is not None:
        width, height = IMAGES[expected].size
        assert answered.boxes[0].pixels == (round(width / 10), round(height / 5), round(width / 2), round(height * 0.6))


def test_several_boxes_each_on_their_image() -> None:
    reply = f"Image-1: {BOX}, Image-3: <|box_start|>(0,0),(900,900)<|box_end|><|box_start|>(9,9),(1,1)<|box_end|>"
    answered = ground(Scripted(lambda _: reply), IMAGES, "Find the dogs.")
    assert [found.image for found in answered.boxes] == [0, 2]
    assert repr(answered) == "Grounding(Image-1 (100, 200, 500, 600); Image-3 (0, 0, 900, 900))"


@pytest.mark.parametrize(
    ("reply", "status"),
    [("Nothing there.", "no_box"), ("(900,900),(100,100)", "garbled"), ("(1,1),(1200,900)", "off_scale")],
)
def test_a_reply_without_a_box_is_shown_too(reply: str, status: str, tmp_path: Path) -> None:
    answered = ground(Scripted(lambda _: reply), IMAGES[0], "Find it.")
    assert (answered.boxes, answered.status, answered.reply) == ((), status, reply)
    assert Image.open(io.BytesIO(answered._repr_png_())).size == answered.picture.size
    for name in ("a.png", "b.jpg"):
        assert Image.open(answered.save(tmp_path / name)).size == answered.picture.size
    with pytest.raises(UserError, match="unknown picture format"):
        answered.save(tmp_path / "a.tiff")


def test_grounding_with_the_real_wrapper(model: Any, tmp_path: Path) -> None:
    IMAGES[1].save(tmp_path / "b.png")
    answered = model.ground([IMAGES[0], tmp_path / "b.png", np.asarray(IMAGES[2])], "Find it.", max_new_tokens=8)
    assert answered.reply == model.answer([Request(IMAGES, "Find it.", 8)])[0]
    with pytest.raises(UserError, match="no image to look at"):
        model.ground([], "Find it.")


def test_a_chat_remembers_and_takes_more_images(model: Any) -> None:
    chat = model.chat(IMAGES[:2])
    first = chat.say("Find it.", max_new_tokens=5)
    second = chat.say("And here?", images=IMAGES[2], max_new_tokens=5)
    assert chat.images == second.images
    assert len(chat.images) == 3
    assert chat.history == [("<image><image>Find it.", first.reply), ("<image>And here?", second.reply)]
    same = Request(IMAGES, "<image>And here?", 5, (("<image><image>Find it.", first.reply),))
    assert model.answer([same]) == [second.reply]
    assert "And here?" in chat._repr_html_()


def test_a_turn_that_failed_can_be_said_again() -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch names its own."""

    failures = [OutOfMemoryError("CUDA out of memory")]

    def reply(request: Request) -> str:
        if failures:
            raise failures.pop()
        return f"{request.prompt.count('<image>')} images"

    chat = Chat(Scripted(reply), IMAGES[:2])
    with pytest.raises(UserError, match="out of memory on 3 images; load with a lower max_pixels"):
        chat.say("Find it.", images=IMAGES[2])
    assert (chat.history, len(chat.images)) == ([], 2)
    assert chat.say("Find it.", images=IMAGES[2]).reply == "3 images"
    with pytest.raises(UserError, match="1 <image> marks in the text for 0 new images"):
        chat.say("and <image>?")
