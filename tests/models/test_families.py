"""What families declare, how questions are asked of each, and the real classes with tiny random weights."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.benchmarks import mig_bench
from migician.benchmarks.scoring.boxes import BoxQuestion
from migician.boxes import Box
from migician.boxtext import QWEN, STYLES, final_answer, parse_boxes, translate
from migician.errors import UserError
from migician.models import FAMILIES, find_family, load_model
from migician.models.conversation import conversation
from migician.models.family import QWEN2_VL, Family
from migician.models.pictures import load_picture, upright_size
from migician.models.protocol import Request, Staged

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
import transformers  # noqa: E402
from tiny_families import MAKERS, save_tiny  # noqa: E402
from transformers import CONFIG_MAPPING  # noqa: E402


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


IMAGES = (noise(112, 112), noise(200, 60, 1), noise(90, 300, 2))
PLACES = {name: place.split(":") for name, place in FAMILIES.items()}
DECLARED: dict[str, Family] = {
    name: getattr(importlib.import_module(module), constant) for name, (module, constant) in PLACES.items()
}
TRACKED = (
    "the object in the first image(<|box_start|>(58,7),(764,1000)<|box_end|>) of "
    "<|object_ref_start|>it<|object_ref_end|>"
)


def question(text: str, *, need_format: bool = True) -> BoxQuestion:
    return BoxQuestion(0, "t", ("a.png", "b.png"), text, Box(0, 0, 1, 1), None, need_format)


# ---- what is declared ----


def test_declarations_load_no_torch() -> None:
    script = """if True:
        import sys, importlib
        import migician.models, migician.benchmarks.mig_bench
        for place in migician.models.FAMILIES.values():
            module, _, name = place.partition(":")
            getattr(importlib.import_module(module), name)
        assert not {"torch", "transformers", "httpx", "vllm"} & sys.modules.keys(), sys.modules.keys()
        """
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("family", DECLARED.values(), ids=DECLARED)
def test_a_family_reads_the_format_it_asks_for(family: Family) -> None:
    """The example in its format sentence, with numbers in it, is a box in its style."""
    assert DECLARED[family.name] is family
    assert family.style in STYLES.values()
    assert bool(family.source) is (family.style is not STYLES["generic"])
    box, size = Box(0.1, 0.2, 0.5, 0.75), (1000, 400)
    written = family.style.write(box, size)
    if family.style.form == "tokens":
        assert parse_boxes(written, family.style).boxes == (Box(100 / 999, 200 / 999, 500 / 999, 749 / 999),)
        return  # Rex-Omni is asked for a list and answers in tokens
    assert parse_boxes(written, family.style, size).boxes == (box,)
    for sentence in (family.format, family.published_format or family.format):
        if "x1" not in sentence and "x0" not in sentence:
            continue  # UniVG-R1 is asked for tags, not for a spelling; OneThinker is shown an example
        filled = sentence
        for number in re.findall(r"[0-9.]+", written.replace("box_2d", "")):
            filled = re.sub(r"[xy][0-2]", number, filled, count=1)
        assert parse_boxes(filled, family.style, size).boxes == (box,)


@pytest.mark.parametrize("family", DECLARED.values(), ids=DECLARED)
@pytest.mark.parametrize("wording", ["corrected", "published"])
def test_boxes_in_questions_are_respelled_exactly(family: Family, wording: str) -> None:
    if wording == "published" and family.published_format is None:
        with pytest.raises(UserError, match="published script does not ask"):
            mig_bench.prompt(question("?"), wording, family)
        return
    sizes = [(280, 560), (28, 28)]
    asked = mig_bench.prompt(question(TRACKED), wording, family, sizes)
    sentence = family.published_format if wording == "published" else family.format
    assert sentence and asked.endswith(f" {sentence}")
    parsed = parse_boxes(asked.removesuffix(sentence), family.style, sizes[0])
    (box,) = parsed.boxes
    precision = {"pixel": 0.5 / 280, "bins": 0.5 / 999}.get(family.style.scale, 0) + 1e-9
    assert np.allclose(box.as_tuple(), (0.058, 0.007, 0.764, 1.0), atol=precision, rtol=0)
    if family.tags != QWEN2_VL.tags:
        assert "<|" not in asked


def test_fifty_eight_thousandths_is_not_fifty_eight_hundredths() -> None:
    asked = mig_bench.prompt(question(TRACKED), "corrected", DECLARED["llava_onevision"])
    assert "first image(<box>[0.058, 0.007, 0.764, 1.000]</box>) of <ref>it</ref> Format:" in asked


def test_translation_changes_only_whole_boxes_between_tokens() -> None:
    for text in ("(1,2),(3,4)", "Format:<|box_start|>(x1,y1),(x2,y2)<|box_end|>.", "<|box_start|>(1,2)<|box_end|>", ""):
        assert translate(text, STYLES["mantis"]) == text
    text = "a<|box_start|>(1,2),(30,400)<|box_end|>b<|box_start|>(0,0),(1000,1000)<|box_end|>"
    assert translate(text, QWEN) == text


def test_pixels_in_a_question_are_those_of_the_image_it_names() -> None:
    family = DECLARED["qwen2_5_vl"]
    text = "In Image-1 and the second image(<|box_start|>(500,500),(1000,1000)<|box_end|>)?"
    assert '{"bbox_2d": [14, 28, 28, 56]}' in family.respelled(text, [(280, 280), (28, 56)])
    with pytest.raises(UserError, match="no image is named before the box"):
        family.respelled(text.replace("Image-1 and the second image", "it"), [(280, 280), (28, 56)])
    with pytest.raises(ValueError, match="counts pixels: give the image's size"):
        family.respelled(text)
    assert family.respelled("no box, no sizes") == "no box, no sizes"


def test_rows_that_need_no_format(shared: Path) -> None:
    bench = mig_bench.load(shared / "data/mig_bench/MIG_data.json")
    quiet = [one for one in bench.questions if not one.need_format]
    assert len(quiet) == 499 + 550
    for family in DECLARED.values():
        sizes = [(784, 784)] * 6
        added = [mig_bench.prompt(one, "corrected", family, sizes).endswith(family.format) for one in quiet]
        assert set(added) == {family is not QWEN2_VL}
        boxed = [one for one in bench.questions if "<|box_start|>" in one.text]
        assert len(boxed) == 838
        for one in boxed:
            asked = mig_bench.prompt(one, "corrected", family, sizes).removesuffix(family.format)
            before, after = parse_boxes(one.text), parse_boxes(asked, family.style, sizes[0])
            gap = max(abs(a - b) for a, b in zip(before.boxes[0].as_tuple(), after.boxes[0].as_tuple(), strict=True))
            assert gap <= {"pixel": 0.5 / 784, "bins": 0.5 / 999}.get(family.style.scale, 0) + 1e-9


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("qwen2_vl", "<image><image>Q"),
        ("internvl", "Image-1: <image>Image-2: <image>Q"),
        ("internvl_chat", "Image-1: <image>\nImage-2: <image>\nQ"),
        ("llava_onevision", "image1:<image>\nimage2:<image>\nQ"),
        ("mplugowl3", "Image-1:<image>\nImage-2:<image>\nQ"),
    ],
)
def test_images_are_marked_as_published(name: str, text: str) -> None:
    family = DECLARED[name]
    assert family.placed("Q", 2) == text
    assert family.placed("Q", 0) == "Q"
    assert family.placed("a<image>b<image>", 2) == "a<image>b<image>"
    with pytest.raises(UserError, match="1 <image> marks for 2 images"):
        family.placed("a<image>b", 2)


def test_images_stand_at_their_marks_through_a_conversation() -> None:
    request = Request(IMAGES, "c<image>", history=(("<image>a<image>", "r <s>"), ("b", "t")))
    turns = conversation(request, QWEN2_VL)
    assert [turn.parts for turn in turns] == [(0, "a", 1), ("r <s>",), ("b",), ("t",), ("c", 2)]
    assert [turn.role for turn in turns] == ["user", "assistant"] * 2 + ["user"]
    unmarked = conversation(Request(IMAGES[:2], "b", history=(("a", "r"),)), DECLARED["internvl"])
    assert [turn.text for turn in unmarked] == ["Image-1: <image>Image-2: <image>a", "r", "b"]


# ---- which family a checkpoint is of ----


def config(folder: Path, **content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def test_a_family_is_told_by_the_config_or_by_name_never_otherwise(tmp_path: Path) -> None:
    folder = config(tmp_path / "m", model_type="qwen2_vl")
    assert find_family(folder).name == "qwen2_vl"
    assert find_family(folder, "univg_r1").name == "univg_r1"
    with pytest.raises(UserError, match="model_type 'qwen2_vl', so it is not a qwen3_vl"):
        load_model(folder, family="qwen3_vl")
    with pytest.raises(UserError, match="unknown family 'qwen3vl'. Known: .* Did you mean 'qwen3_vl'"):
        find_family(folder, "qwen3vl")
    unknown = config(tmp_path / "u", model_type="newcomer")
    with pytest.raises(UserError, match="says model_type 'newcomer'.*any other that transformers has a class for"):
        find_family(unknown)
    assert find_family(unknown, "generic").name == "generic"
    assert find_family("onethinker-8b").name == "onethinker" and find_family("rex-omni").name == "rex_omni"
    nameless = config(tmp_path / "c", architectures=["CogVLMForCausalLM"], auto_map={"AutoConfig": "a.B"})
    assert find_family(nameless, "cogvlm").name == "cogvlm"
    with pytest.raises(UserError, match="says model_type None. Supported"):
        find_family(nameless)
    with pytest.raises(UserError, match="a server does not say how its model writes boxes: add --family"):
        load_model("server:http://localhost:1#m")


def test_of_a_hub_id_only_the_config_is_fetched_to_know_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def download(hub_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        fetched.append((hub_id, revision, allow_patterns))
        return str(config(tmp_path / "m", model_type="qwen2_vl"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert find_family("univg-r1", revision="main").name == "univg_r1"
    assert find_family("nobody/other", "internvl").name == "internvl"
    assert fetched == []
    assert find_family("vllm:nobody/something", revision="main").name == "qwen2_vl"
    assert fetched == [("nobody/something", "main", ["config.json"])]


def test_a_new_family_is_one_file_and_one_line(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "newcomer.py").write_text("""
from migician.boxtext import STYLES
from migician.models.family import Family

FAMILY = Family("newcomer", STYLES["list-fraction"], "Write [x1, y1, x2, y2].", None, image_mark="({n}) <image>")
""")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(FAMILIES, "qwen2_vl", "newcomer:FAMILY")
    model = load_model(tiny_folder, device="cpu")
    assert "user\n(1) <|vision_start|>" in model.prompt_text(Request(IMAGES[:1], "?"))  # type: ignore[attr-defined]
    assert mig_bench.prompt(question(TRACKED), "corrected", model.family).endswith("Write [x1, y1, x2, y2].")
    assert len(model.answer([Request(IMAGES[:2], "?", 3)])) == 1


def test_univg_r1_is_run_as_qwen2_vl_and_asked_otherwise(tiny_folder: Path) -> None:
    plain, thinking = load_model(tiny_folder, device="cpu"), load_model(tiny_folder, device="cpu", family="univg_r1")
    request = Request(IMAGES[:2], "Where?", 6)
    assert plain.answer([request]) == thinking.answer([request])
    assert [model.describe()["family"] for model in (plain, thinking)] == ["qwen2_vl", "univg_r1"]
    assert mig_bench.prompt(question("Where?"), family=thinking.family).endswith("in <answer> </answer> tags.")
    assert thinking.family.new_tokens == 256


def test_any_checkpoint_is_asked_in_the_generic_form(tiny_folder: Path) -> None:
    model = load_model(tiny_folder, device="cpu", family="generic")
    assert model.describe()["box_style"] == "generic" and len(model.answer([Request(IMAGES[:2], "Where?", 3)])) == 1
    asked = mig_bench.prompt(question(TRACKED), family=model.family)
    assert (
        'first image({"bbox_2d": [58, 7, 764, 1000]}) of "it" Answer with JSON' in asked and "from 0 to 1000" in asked
    )


# ---- transformers' own classes, tiny and random ----


@pytest.fixture(scope="module", params=MAKERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    torch.set_num_threads(1)
    if request.param == "smolvlm":
        pytest.importorskip("num2words", reason="SmolVLM's processor needs num2words")
    if request.param not in CONFIG_MAPPING:
        pytest.skip(f"{request.param} needs a newer transformers than {transformers.__version__}")
    folder = tmp_path_factory.mktemp(request.param)
    yield load_model(save_tiny(request.param, folder / "model", folder / "words"), device="cpu")


def requests() -> list[Request]:
    return [
        Request(IMAGES[:1], "short", 12),
        Request(IMAGES, "a much longer question about the third image and (1,2),(3,4)", 7),
        Request((), "no image at all", 9),
        Request(IMAGES[1:], "what? <image> and <image>", 12, (("before", "(5,6),(7,8)"),)),
        Request(IMAGES[2:], "short", 12),
    ]


def test_a_batch_replies_as_its_requests_alone(model: Any) -> None:
    together = model.answer(requests())
    assert together == [model.answer([request])[0] for request in requests()]
    assert model.answer([]) == []


def test_the_image_matters(model: Any) -> None:
    of_noise = [Request((noise(84, 84, seed),), "short", 12) for seed in range(6)]
    assert len(set(model.answer(of_noise))) > 1


def test_decoding_is_greedy_though_the_checkpoint_says_otherwise(model: Any) -> None:
    assert model.answer(requests()[:1]) == model.answer(requests()[:1])
    described = model.describe()
    assert json.loads(json.dumps(described)) == described
    assert (described["decoding"]["method"], model.model.generation_config.do_sample) == ("greedy", False)


def test_the_prompt_is_the_processors_own_chat_template(model: Any) -> None:
    kind = model.checkpoint.config["model_type"]
    text = {"type": "text", "text": "Find it."}
    own = {
        "llava_onevision": [{"type": "text", "text": "image1:<image>\nimage2:<image>\nFind it."}],
        "internvl": [{"type": "text", "text": "Image-1: "}, {"type": "image"},
                     {"type": "text", "text": "Image-2: "}, {"type": "image"}, text],
    }.get(kind, [{"type": "image"}, {"type": "image"}, text])  # fmt: skip
    wanted = model.processor.apply_chat_template(
        [{"role": "user", "content": own}], tokenize=False, add_generation_prompt=True, **model.family.template_options
    )
    assert model.prompt_text(Request(IMAGES[:2], "Find it.")) == wanted
    assert wanted.count(model.processor.image_token) == 2


def test_replies_are_cut_at_the_stop_and_keep_their_tokens(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = model.processor.tokenizer
    stop = words.convert_ids_to_tokens(model._stops)[-1]
    reply = " it <|box_start|>(1,2),(30,400)<|box_end|> "
    written = words(reply + stop + words.pad_token * 2, return_tensors="pt", add_special_tokens=False).input_ids
    if isinstance(model, Staged):
        monkeypatch.setattr(model._decoder, "reply", lambda *_: written.tolist())  # type: ignore[attr-defined]
    else:
        monkeypatch.setattr(model.model, "generate", lambda input_ids, **_: torch.cat([input_ids, written], dim=1))
    assert model.answer([Request((), "?")]) == [reply]


def test_a_thought_that_the_template_opens_is_part_of_the_reply(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its opening tag a thought that is cut off, and its boxes, would be taken for the answer."""
    template = model.processor.chat_template
    monkeypatch.setattr(model.processor, "chat_template", template + "{{ '<think>\n' if add_generation_prompt }}")
    (reply,) = model.answer([Request(IMAGES[:1], "?", 4)])
    assert reply.startswith("<think>") and final_answer(reply) == ""
    monkeypatch.setattr(model.processor, "chat_template", template)
    assert not model.answer([Request(IMAGES[:1], "?", 4)])[0].startswith("<think>")


def test_what_cannot_be_asked_says_so(model: Any) -> None:
    token = model.processor.image_token
    if token != "<image>":
        with pytest.raises(UserError, match="which stands for pixels"):
            model.answer([Request(IMAGES[:1], f"what is {token}?")])
    with pytest.raises(UserError, match="1 <image> marks for 2 images"):
        model.answer([Request(IMAGES[:2], "what is <image>?")])
    with pytest.raises(UserError, match="exceed the model's 4096"):
        model.answer([Request(IMAGES[:1], "?", 4096)])
    with pytest.raises(UserError, match="transformers' own code; drop --trust-remote-code"):
        load_model(model.checkpoint.folder, device="cpu", trust_remote_code=True)


def test_a_checkpoint_without_all_its_weights_is_refused(model: Any, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(model.checkpoint.folder, tmp_path / "copy"))
    weights = load_file(copy / "model.safetensors")
    dropped = next(name for name in weights if "mlp" in name)
    save_file({name: weight for name, weight in weights.items() if name != dropped}, copy / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    with pytest.raises(UserError, match="tensors missing: 1"):
        load_model(copy, device="cpu")
    (copy / "tokenizer.json").unlink()
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template|cannot be loaded|does not have Qwen2-VL's tokens"):
        load_model(copy, device="cpu")


def test_seen_sizes_are_those_the_processor_makes(model: Any) -> None:
    if not model.checkpoint.config["model_type"].startswith(("qwen", "glm")):
        assert model.box_style.scale != "pixel"
        return
    shapes = [(640, 480), (10, 10), (1000, 30), (56, 56), (57, 71), (113, 111), (30, 600)]
    if model.family.frames > 1:
        shapes.remove((10, 10))  # GLM's processor enlarges what is smaller than a cell by a rule of its own
    pictures = [noise(width, height) for width, height in shapes]
    inputs = model.processor.image_processor(pictures, return_tensors="pt")
    patch = model.processor.image_processor.patch_size
    made = [(int(width) * patch, int(height) * patch) for _, height, width in inputs["image_grid_thw"]]
    assert model.seen_sizes(pictures) == made
    small = load_model(model.checkpoint.folder, device="cpu", max_pixels=64 * 64)
    assert all(width * height <= 64 * 64 for width, height in small.seen_sizes(pictures[:1]))  # type: ignore[attr-defined]


def test_sizes_are_upright_without_reading_pixels(tmp_path: Path) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        noise(40, 20).save(tmp_path / "a.jpg", exif=exif)
        assert upright_size(tmp_path / "a.jpg") == load_picture(tmp_path / "a.jpg").size
    assert upright_size(np.zeros((5, 7), np.uint8)) == (7, 5)
    with pytest.raises(UserError, match=r"gone\.jpg: no such file"):
        upright_size(tmp_path / "gone.jpg")
