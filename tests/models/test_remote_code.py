"""Families that ship their code, run as stand-ins that honour the documented calls; and the trust they need."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from migician.errors import UserError
from migician.models import load_model
from migician.models.protocol import Request

pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
from shipped_stand_ins import CODE, own_module_cache, save_stand_in  # noqa: E402

IMAGES = (Image.new("RGB", (112, 56), "red"), Image.new("RGB", (30, 90), "blue"))
GREEDY = {"do_sample": False, "num_beams": 1, "max_new_tokens": 9}


@pytest.fixture(autouse=True)
def _own_module_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_module_cache(tmp_path / "modules", monkeypatch)


def loaded(kind: str, folder: Path, words: Path, **options: Any) -> Any:
    # Each under a name of its own: transformers remembers modules by the name of their folder.
    given = save_stand_in(kind, folder / f"{kind}_{folder.name}", words)
    return load_model(given, trust_remote_code=True, device="cpu", family=kind, **options)


def test_minicpm_v_gets_images_and_text_in_one_list_and_neither_samples_nor_searches(
    tmp_path: Path, tiny_folder: Path
) -> None:
    model = loaded("minicpmv", tmp_path, tiny_folder)
    told, again = model.answer([Request(IMAGES, "Q", 9), Request(IMAGES[:1], "b", 9, (("a", "r"),))])
    assert json.loads(told) == {
        "said": [["user", [[112, 56], [30, 90], "Q"]]],
        "sampling": False, "num_beams": 1, "repetition_penalty": 1.0, "most": 9,
    }  # fmt: skip
    assert json.loads(again)["said"] == [["user", [[112, 56], "a"]], ["assistant", ["r"]], ["user", ["b"]]]


def test_mplug_owl3_gets_its_own_marks_and_an_empty_reply_to_fill(tmp_path: Path, tiny_folder: Path) -> None:
    told = json.loads(loaded("mplugowl3", tmp_path, tiny_folder).answer([Request(IMAGES, "Q", 9)])[0])
    assert told == {
        "said": [["user", "Image-1:<|image|>\nImage-2:<|image|>\nQ"], ["assistant", ""]],
        "sizes": [[112, 56], [30, 90]],
        **GREEDY,
    }


def test_internvl2_gets_tiles_of_each_images_own_shape(tmp_path: Path, tiny_folder: Path) -> None:
    model = loaded("internvl_chat", tmp_path, tiny_folder)
    told, text = model.answer([Request(IMAGES, "b", 9, (("a", "r"),)), Request((), "b", 9)])
    # 112 x 56 in tiles of 56: two, and the whole; 30 x 90 is one by three.
    assert json.loads(told) == {
        "said": "b",
        "history": [["Image-1: <image>\nImage-2: <image>\na", "r"]],
        "tiles": [3, 4],
        "shape": [7, 3, 56, 56],
        **GREEDY,
    }
    assert json.loads(text)["shape"] is None


def test_llava_onevision_1_5_gets_what_its_processor_makes(tmp_path: Path, tiny_folder: Path) -> None:
    model = loaded("llavaonevision1_5", tmp_path, tiny_folder)
    model.model.tokenizer_of_the_test = model.tokenizer
    told = json.loads(model.answer([Request(IMAGES, "Q", 9)])[0])
    assert told["grid"] == [[1, 4, 8], [1, 8, 4]]  # the second is enlarged to the least pixels
    assert told["said"].count("< |image_pad|>") == 8 + 8
    assert told["said"].endswith("< |vision_end|>Q< |im_end|>\n< |im_start|>assistant\n")
    assert {key: told[key] for key in GREEDY} == GREEDY and told["repetition_penalty"] == 1.0
    assert json.loads(model.answer([Request((), "b", 9, (("a", "r"),))])[0])["grid"] is None


def test_cogvlm_sees_one_image_and_says_so(tmp_path: Path, tiny_folder: Path) -> None:
    model = loaded("cogvlm", tmp_path, tiny_folder)
    model.model.tokenizer_of_the_test = model.tokenizer
    told = json.loads(model.answer([Request(IMAGES[:1], "Q <image>", 9)])[0])
    assert told == {"said": "Q ", "history": [], "sizes": [[112, 56]], **GREEDY}
    with pytest.raises(UserError, match="cogvlm sees 1 image at a time; this request has 2"):
        model.answer([Request(IMAGES, "Q")])
    with pytest.raises(UserError, match="cogvlm needs an image"):
        model.answer([Request((), "Q")])


def test_the_report_knows_the_code(tmp_path: Path, tiny_folder: Path) -> None:
    first, second = (loaded("minicpmv", tmp_path / name, tiny_folder) for name in "ab")
    described = first.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["code_sha256"] == second.describe()["code_sha256"]
    file = first.checkpoint.folder / "modeling_stand_in.py"
    file.write_text(file.read_text() + "\n")
    assert first.describe()["code_sha256"] != described["code_sha256"]
    assert (described["family"], first.box_style.name) == ("minicpmv", "minicpm")


@pytest.mark.parametrize("kind", CODE)
def test_no_code_runs_without_trust(kind: str, tmp_path: Path, tiny_folder: Path) -> None:
    folder = save_stand_in(kind, tmp_path / "m", tiny_folder)
    trap = tmp_path / "ran"
    for file in folder.glob("*.py"):
        file.write_text(f"open({str(trap)!r}, 'w')\n{file.read_text()}")
    for options in ({}, {"trust_remote_code": False}):
        with pytest.raises(
            UserError, match=rf"{kind} ships the code .* read it, then add --trust-remote-code$"
        ) as told:
            load_model(folder, family=kind, device="cpu", **options)
        assert "\n" not in str(told.value)
    assert not trap.exists()
    load_model(folder, family=kind, device="cpu", trust_remote_code=True)
    assert trap.exists()


@pytest.mark.parametrize("revision", [None, "main", "v1", "0123abc"])
def test_code_from_the_hub_is_pinned_before_it_is_fetched(
    revision: str | None, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_stand_in("minicpmv", tmp_path / "snapshots" / ("0123abcd" * 5), tiny_folder)
    fetched: list[list[str]] = []

    def download(hub_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        fetched.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    options = {} if revision is None else {"revision": revision}
    with pytest.raises(UserError, match="add --revision with the commit you read"):
        load_model("openbmb/MiniCPM-V-2_6", trust_remote_code=True, **options)
    assert fetched == [["config.json"]]
    model = load_model("minicpm-v-2.6", trust_remote_code=True, revision="0123abcd" * 5, device="cpu")
    assert "*.py" in fetched[-1]
    assert model.describe()["revision"] == "0123abcd" * 5


def test_code_from_a_second_place_is_refused(tmp_path: Path, tiny_folder: Path) -> None:
    folder = save_stand_in("minicpmv", tmp_path / "m", tiny_folder)
    for name, place in (
        ("config.json", {"AutoModel": "elsewhere/else--modeling.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": [None, "elsewhere/else--words.Words"]}),
    ):
        copy = Path(shutil.copytree(folder, tmp_path / name))
        content = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps(content | {"auto_map": place}))
        with pytest.raises(UserError, match=r"takes code from elsewhere/else, which the revision does not pin"):
            load_model(copy, trust_remote_code=True, device="cpu")


def test_code_that_does_not_run_here_is_one_line(tmp_path: Path, tiny_folder: Path) -> None:
    folder = save_stand_in("minicpmv", tmp_path / "broken", tiny_folder)
    file = folder / "modeling_stand_in.py"
    file.write_text(file.read_text().replace("from transformers import", "from transformers import NoSuchThing,"))
    with pytest.raises(UserError, match="does not load under transformers .*NoSuchThing.*its model card names"):
        load_model(folder, trust_remote_code=True, device="cpu")
