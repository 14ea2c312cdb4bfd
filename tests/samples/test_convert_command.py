"""The command that converts records: files, cards and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from command_line import command
from converted_records import SIZES, THREE, box, convert, record
from PIL import Image

from migician.errors import UserError


@pytest.fixture
def media(tmp_path: Path) -> Path:
    for number, size in enumerate(SIZES):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    return tmp_path


def test_the_command_converts_a_file_and_back(media: Path) -> None:
    (media / "data.json").write_bytes(
        b"[\n" + THREE + b",\n" + record(("<image>Where?", box(1, 2, 3, 4)), images=1) + b"\n]\n"
    )
    words = ["records", "--from", "data.json", "--media", "."]
    for style, name in (("qwen3_vl", "q/there.json"), ("ms-swift", "q/swift.jsonl")):
        done = command("data convert", *words, "--to", style, "--out", name, "--workers", 1, cwd=media)
        assert done.status == 0 and f"{name}: 2 records in the convention {style}" in done.error
        card = json.loads((media / name).with_suffix(".convention.json").read_text())
        assert (card["convention"], card["max_pixels"], card["counts"]["converted"]) == (style, None, 2)
    assert len((media / "q/swift.jsonl").read_text().splitlines()) == 2
    assert list(json.loads((media / "q/dataset_info.json").read_text())) == ["there"]
    again = command("data convert", *words, "--to", "qwen3_vl", "--out", "q/there.json", "--workers", 2, cwd=media)
    assert again.status == 0 and "done already" in again.error
    copied = command("data convert", *words, "--to", "qwen2_vl", "--out", "copy.jsonl", cwd=media)
    assert copied.status == 0 and "copy.jsonl: 2 records in the convention qwen2_vl" in copied.error
    assert not (media / "copy.convention.json").exists()
    back = ["records", "--from", "q/there.json", "--to", "qwen2_vl", "--out", "back.json"]
    assert command("data convert", *back, cwd=media).status == 0
    assert (media / "back.json").read_bytes() == (media / "data.json").read_bytes()
    same = command("data convert", *words, "--to", "qwen2_vl", "--out", "same.json", cwd=media)
    assert same.status == 0 and "same.json: 2 records in the convention qwen2_vl" in same.error
    assert not (media / "same.convention.json").exists()
    pixels = command("data convert", *words, "--to", "qwen2_5_vl", "--max-pixels", 12544, "--out", "p.json", cwd=media)
    assert pixels.status == 0 and json.loads((media / "p.convention.json").read_text())["max_pixels"] == 12544


def test_the_pixels_of_a_source_are_those_that_its_card_says(media: Path) -> None:
    wide = record(("<image>Where?", box(100, 200, 300, 400)), images=1)
    (media / "data.json").write_bytes(b"[\n" + wide + b"\n]\n")
    for source, style, name, more in [
        ("data.json", "qwen2_5_vl", "small.json", ["--max-pixels", 12544]),
        ("small.json", "qwen2_5_vl", "large.json", []),
        ("small.json", "qwen3_vl", "there.json", []),
    ]:
        words = ["records", "--from", source, "--to", style, "--out", name, "--workers", 1, *more]
        assert command("data convert", *words, cwd=media).status == 0
    mixed = ["--part", "small.json=1", "--count", 1, "--style", "qwen3_vl", "--out", "mixed.json", "--workers", 1]
    assert command("data mix", *mixed, cwd=media).status == 0
    near = pytest.approx((0.1, 0.2, 0.3, 0.4), abs=0.006)  # half a pixel of the smaller side, 84
    for name, size in (("large.json", (644, 476)), ("there.json", (1000, 1000)), ("mixed.json", (1000, 1000))):
        (found,) = json.loads((media / name).read_text())
        (boxed,) = json.loads(found["conversations"][1]["value"].strip("`json\n"))
        assert tuple(number / size[axis % 2] for axis, number in enumerate(boxed["bbox_2d"])) == near


@pytest.mark.parametrize("out", ["data.json", "./data.jsonl"])
def test_a_file_never_gets_the_card_of_another(out: str, media: Path) -> None:
    (media / "data.json").write_bytes(b"[" + THREE + b"]")
    before = sorted(media.iterdir())
    words = ["--out", out, "--workers", 1, "--force"]
    convert = command("data convert", "records", "--from", "data.json", "--to", "qwen3_vl", *words, cwd=media)
    mix = command("data mix", "--part", "data.json=1", "--count", 1, "--style", "qwen3_vl", *words, cwd=media)
    for done in (convert, mix):
        assert done.status == 2 and "data.convention.json would be the card of data.json too" in done.error
    assert sorted(media.iterdir()) == before and (media / "data.json").read_bytes() == b"[" + THREE + b"]"


def test_an_image_that_is_a_pipe_is_named(media: Path) -> None:
    (media / "0.png").unlink()
    os.mkfifo(media / "0.png")
    with pytest.raises(UserError, match=r"0\.png: not an image .*not a regular file"):
        convert([THREE], "qwen2_vl", "qwen2_5_vl", media)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--out", "x.json"], "--to is missing"),
        (["--to", "qwen3_vl", "--images", ".", "--out", "x.json"], "--images, --split and --partition are for other"),
        (["--to", "qwen3", "--out", "x.json"], "Did you mean 'qwen3_vl'?"),
        (["--to", "qwen3_vl", "--style", "qwen", "--out", "x.json"], "unknown style of boxes 'qwen'"),
        (["--to", "qwen3_vl", "--wording", "qwen3", "--out", "x.json"], "unknown wording 'qwen3'"),
        (["--from", "strange.json", "--to", "qwen3_vl", "--out", "x.json"], "strange.convention.json: unknown style"),
        (["--to", "qwen3_vl", "--out", "x.parquet"], "expected a .json or .jsonl file"),
        (["--to", "qwen2_5_vl", "--media", "nowhere", "--out", "x.json"], "check --media"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(media: Path, more: list[str], said: str) -> None:
    (media / "data.json").write_bytes(b"[" + THREE + b"]")
    (media / "strange.convention.json").write_text('{"convention": "qwen9_vl"}')
    done = command("data convert", "records", "--from", "data.json", *more, "--workers", 1, cwd=media)
    assert done.status == 2 and said in done.error and len(done.error.strip().splitlines()) == 1
    assert not list(media.glob("x*"))


def test_a_tiny_model_learns_its_words_from_json_lines_too(media: Path) -> None:
    pytest.importorskip("transformers", reason="models extra not installed: bash scripts/setup.sh")
    (media / "data.json").write_bytes(b"[" + THREE + b"]")
    (media / "data.jsonl").write_bytes(THREE + b"\n")
    for name in ("data.json", "data.jsonl"):
        assert command("dev tiny", "--texts", name, "--out", name.replace(".", "-"), cwd=media).status == 0
    words, same = (media / name / "tokenizer.json" for name in ("data-json", "data-jsonl"))
    assert words.read_bytes() == same.read_bytes()
    (media / "bad.jsonl").write_bytes(THREE + b"\n{}\n")
    done = command("dev tiny", "--texts", "bad.jsonl", "--out", "bad", cwd=media)
    assert done.status == 2 and "bad.jsonl: record 1: " in done.error and not (media / "bad").exists()
