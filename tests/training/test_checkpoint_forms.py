"""One model as versions of transformers write it merges with itself to itself; what differs in substance does not.

The forms below are those of folders that transformers 4.45.2, 4.57.6, 5.5.4 and 5.24.0 saved, written out here because
only one version can be installed.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
safetensors = pytest.importorskip("safetensors.torch")

from migician.errors import UserError  # noqa: E402
from migician.training.checkpoint_forms import canonical  # noqa: E402
from migician.training.merge import merge  # noqa: E402

EMBEDDINGS = "model.embed_tokens.weight"
ROPE = {"type": "mrope", "mrope_section": [2, 3, 3]}


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def old(name: str) -> str:
    """A name as 4.45 has it."""
    return name if name.startswith(("visual.", "lm_head.")) else f"model.{name}"


def middle_5(name: str) -> str:
    """A name as 5.5.4 has it; 5.24 writes those of 4.45 again."""
    return f"model.{name}" if not name.startswith("lm_head.") else name


def language(name: str) -> str:
    """A name as a plain state dict of 4.52 to 5.x has it, and what DeepSpeed gathers."""
    return (
        name
        if name.startswith("lm_head.")
        else f"model.{'' if name.startswith('visual.') else 'language_model.'}{name}"
    )


def copy(folder: Path, to: Path, naming: Callable[[str], str] = old) -> Path:
    shutil.copytree(folder, to)
    tensors = safetensors.load_file(folder / "model.safetensors")
    named = {naming(canonical(name)): tensor for name, tensor in tensors.items()}
    safetensors.save_file(named, to / "model.safetensors", metadata={"format": "pt"})
    return to


def old_files(folder: Path, template: str) -> None:
    """Tokenizer and processor in the files of 4.x."""
    processor = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    fewest, most = processor["size"]["shortest_edge"], processor["size"]["longest_edge"]
    processor |= {"min_pixels": fewest, "max_pixels": most, "size": {"min_pixels": fewest, "max_pixels": most}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "processor_config.json").unlink()
    (folder / template).write_text(json.dumps({"chat_template": (folder / "chat_template.jinja").read_text()}))
    (folder / "chat_template.jinja").unlink()
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    decoder = {str(one["id"]): {key: value for key, value in one.items() if key != "id"} for one in added}
    edit(folder / "tokenizer_config.json", lambda one: one.update(added_tokens_decoder=decoder, backend=None))

    def offsets(content: dict[str, Any]) -> None:
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
        plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        content["decoder"] = content["post_processor"] = content["pre_tokenizer"]["pretokenizers"][1] = plain

    edit(folder / "tokenizer.json", offsets)


def flat(content: dict[str, Any]) -> None:
    """A config of 5.x as 4.45 writes it, and as the released Qwen2-VL has it."""
    text = content.pop("text_config")
    rope = text.pop("rope_parameters")
    for key in ("model_type", "layer_types", "dtype"):
        text.pop(key, None)
    content.update(text | {"rope_theta": rope["rope_theta"], "rope_scaling": ROPE, "sliding_window": 4096})
    content.update(torch_dtype=content.pop("dtype"), transformers_version="4.45.2", vision_token_id=1)
    vision = content["vision_config"]
    for key in ("patch_size", "hidden_act", "in_channels", "initializer_range", "spatial_merge_size", "model_type"):
        vision.pop(key, None)
    vision |= {"in_chans": 3, "spatial_patch_size": 14}


def both(content: dict[str, Any]) -> None:
    """A config of 5.x as 4.57 writes it, flat and nested; what is tied stands in the nested part alone."""
    text = json.loads(json.dumps(content["text_config"]))
    rope = text.pop("rope_parameters")
    tied = content["tie_word_embeddings"]
    if tied:
        content.pop("tie_word_embeddings")
    text |= {"rope_theta": rope["rope_theta"], "rope_scaling": {"rope_type": "default", **ROPE, "type": "default"}}
    content.update({key: value for key, value in text.items() if key not in ("model_type", "layer_types")})
    content.update(text_config=text | {"tie_word_embeddings": tied}, transformers_version="4.57.6")


@pytest.fixture(scope="module", params=["tied", "untied", "tied, the head stored too"])
def forms(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One model, tied or not, as three versions write it, and as a plain state dict names its tensors."""
    root = tmp_path_factory.mktemp("forms")
    base = copy(tiny_folder, root / "5.x", middle_5)
    if request.param != "untied":
        tensors = safetensors.load_file(base / "model.safetensors")
        tensors.pop("lm_head.weight")
        safetensors.save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
        edit(base / "config.json", lambda one: one.update(tie_word_embeddings=True))
    early = copy(base, root / "4.45")
    old_files(early, "chat_template.json")
    edit(early / "config.json", flat)
    middle = copy(base, root / "4.57", language)
    tensors = safetensors.load_file(middle / "model.safetensors")
    if "stored" in request.param:
        tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"].clone()
    safetensors.save_file(tensors, middle / "model.safetensors", metadata={"format": "pt"})
    old_files(middle, "chat_template.json")
    edit(middle / "config.json", both)
    return [base, early, middle]


def test_one_model_in_three_forms_merges_to_itself_bit_for_bit(forms: list[Path], tmp_path: Path) -> None:
    for number, order in enumerate(itertools.permutations(forms)):
        out = merge(order, tmp_path / str(number), [0.5, 0.2, 0.3])
        assert (out / "model.safetensors").read_bytes() == (order[0] / "model.safetensors").read_bytes(), order
        ours, theirs = (json.loads((folder / "config.json").read_text()) for folder in (out, order[0]))
        # What 4.57 says in the text's part alone is said where transformers 5 looks for it, too.
        assert ours == theirs | ({} if "tie_word_embeddings" in theirs else {"tie_word_embeddings": True})


def test_the_merged_model_replies_as_each_of_them(forms: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from migician.chat.migician import Migician

    images = [Image.effect_noise(size, 90).convert("RGB") for size in ((112, 112), (200, 60))]
    merged = [merge([forms[k], forms[k - 1], forms[k - 2]], tmp_path / str(k)) for k in range(3)]
    replies = []
    for folder in (*forms[:2], *merged):  # a head tied by 4.57 is not found by 5.x, unless merged
        model = Migician.from_pretrained(folder, device="cpu")
        questions = ("Where is it?", "Find it in Image-2.")
        replies.append([model.ground(images, one, max_new_tokens=40).reply for one in questions])
    assert replies == [replies[0]] * 5 and all(replies[0])


def test_renames_are_said(forms: list[Path], tmp_path: Path) -> None:
    base, early, middle = forms
    told: list[str] = []
    out = merge([base, early, middle], tmp_path / "out", on_renamed=told.append)
    assert f"visual.* of {early} is model.visual.* of {base}" in told
    assert f"model.language_model.* of {middle} is model.* of {base}" in told
    assert json.loads((out / "merge.json").read_text())["renamed"] == told
    assert merge([base, base], tmp_path / "same", on_renamed=told.append) and len(told) <= 3


def test_other_weights_in_another_form_are_averaged(tiny_folder: Path, tmp_path: Path) -> None:
    from migician.models.stand_ins.tiny import make_tiny

    other = copy(make_tiny(tmp_path / "other", seed=1), tmp_path / "old")
    old_files(other, "chat_template.json")
    edit(other / "config.json", flat)
    out = safetensors.load_file(merge([tiny_folder, other], tmp_path / "out") / "model.safetensors")
    ours = safetensors.load_file(tiny_folder / "model.safetensors")
    theirs = safetensors.load_file(other / "model.safetensors")
    assert out.keys() == ours.keys()
    for name, tensor in out.items():
        torch.testing.assert_close(tensor, (ours[name] + theirs[old(canonical(name))]) / 2, rtol=1e-6, atol=1e-9)


def text(**settings: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", lambda one: one.update(settings))


def vision(**settings: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", lambda one: one["vision_config"].update(settings))


def token(folder: Path) -> None:
    edit(folder / "tokenizer.json", lambda one: one["added_tokens"].append({"content": "<new>", "id": 9999}))


def pixels(folder: Path) -> None:
    edit(folder / "preprocessor_config.json", lambda one: one.update(max_pixels=10_000))


def untied(folder: Path) -> None:
    tensors = safetensors.load_file(folder / "model.safetensors")
    tensors.pop("lm_head.weight")
    safetensors.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", lambda one: one.update(tie_word_embeddings=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (text(rope_theta=1e6), "text_config.rope_parameters.rope_theta is 30.0 in A and 1000000.0 in B"),
        (text(rope_scaling={"type": "mrope", "mrope_section": [4, 2, 2]}), "mrope_section"),
        (text(rope_scaling={"type": "yarn", "factor": 4.0, **ROPE} | {"type": "yarn"}), "rope_type is 'default'"),
        (text(num_attention_heads=4), "num_attention_heads is 8 in A and 4 in B"),
        (text(rms_norm_eps=1e-6), "rms_norm_eps"),
        (text(hidden_act="gelu"), "text_config.hidden_act"),
        (text(use_sliding_window=True), "use_sliding_window is False in A and True in B"),
        (text(image_token_id=5), "image_token_id"),
        (text(quantization_config={"bits": 4}), "quantization_config.bits is None in A and 4 in B"),
        (text(something_new=1), "something_new is None in A and 1 in B"),
        (vision(num_heads=8), "vision_config.num_heads is 4 in A and 8 in B"),
        (vision(patch_size=16), "vision_config.patch_size is 14 in A and 16 in B"),
        (vision(hidden_act="gelu"), "vision_config.hidden_act"),
        (token, "tokenizer.json differs in its added tokens"),
        (pixels, "the image processor's pixels are (3136, 12544) in A and (3136, 10000) in B"),
        (lambda folder: (folder / "chat_template.json").write_text('{"chat_template": "x"}'), "chat template differs"),
        (untied, "tie_word_embeddings is False in A and True in B"),
    ],
)
def test_what_differs_in_substance_is_refused_in_every_form(
    change: Callable[[Path], None], said: str, tiny_folder: Path, tmp_path: Path
) -> None:
    other = copy(tiny_folder, tmp_path / "b")
    old_files(other, "chat_template.json")
    edit(other / "config.json", flat)
    change(other)
    with pytest.raises(UserError) as caught:
        merge([tiny_folder, other], tmp_path / "out")
    assert said in str(caught.value) and "trained from one base" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_stored_head_that_is_not_what_it_is_tied_to_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    other = copy(tiny_folder, tmp_path / "b")
    edit(other / "config.json", lambda one: one.update(tie_word_embeddings=True))
    with pytest.raises(UserError, match=r"lm_head.weight is not its embeddings.*set tie_word_embeddings: false"):
        merge([other, other], tmp_path / "out")


def released(content: dict[str, Any]) -> None:
    """A config of 5.x as the makers of Qwen3-VL wrote theirs, with 4.57: rotary positions in two parts of the text."""
    text = content["text_config"]
    rope = text.pop("rope_parameters")
    text |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope, "use_cache": True}
    text.pop("dtype", None)
    content.update(transformers_version="4.57.0.dev0")


@pytest.mark.parametrize("base", ["qwen2_5_vl", "qwen3_vl", "qwen3_5"])
def test_other_bases_merge_with_the_form_they_were_released_in(
    base: str, tiny_of: Callable[[str], Path], tmp_path: Path
) -> None:
    own = tiny_of(base)
    theirs = copy(own, tmp_path / "theirs", language)  # Qwen3.5's tower too, which 5.5.4 saves elsewhere
    edit(theirs / "config.json", released)
    for first, second, out in ((own, theirs, "a"), (theirs, own, "b")):
        told: list[str] = []
        merged = merge([first, second], tmp_path / out, on_renamed=told.append)
        kept = base != "qwen3_5" or first is theirs
        same = (merged / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
        assert same is kept
        if not kept:  # it has the names that it was released with, whatever the stages were saved as
            written, released_ones = (safetensors.load_file(one / "model.safetensors") for one in (merged, theirs))
            assert written.keys() == released_ones.keys()
            assert all(torch.equal(tensor, released_ones[name]) for name, tensor in written.items())
            assert any("which all versions read" in line for line in told)
    edit(theirs / "config.json", lambda one: one["text_config"].update(rope_theta=1e6))
    with pytest.raises(UserError, match=r"rope_theta is 30.0 in A and 1000000.0 in B"):
        merge([own, theirs], tmp_path / "c")
