"""Which way an image is up, and how large it is: read from its tags and shrunk as Pillow does, without an engine."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise_images import noise, tagged
from PIL import Image, ImageOps, PngImagePlugin

from migician.models.pictures import load_picture, orientation, shrunk, upright_size


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("way", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_is_never_mixed_up(mode: str, way: int, compression: str | None, tmp_path: Path) -> None:
    """Pillow 11.3 maps some of these into memory by the wrong size; the same pixels as PNG are the truth."""
    saved = noise(40, 24, 6).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        saved = Image.fromarray(np.asarray(saved).astype(np.uint16) * 257)
    saved.save(tmp_path / "a.tif", exif=tagged(way), compression=compression)
    with Image.open(tmp_path / "a.tif") as opened:
        opened.filename = ""
        opened.load()
        stored = load_picture(saved)
        turned = ImageOps.exif_transpose(with_exif(stored, way))
        assert load_picture(tmp_path / "a.tif").tobytes() == load_picture(opened).tobytes() == turned.tobytes()
    assert load_picture(Image.open(tmp_path / "a.tif")).tobytes() == turned.tobytes()
    assert upright_size(tmp_path / "a.tif") == turned.size


def with_exif(picture: Image.Image, way: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "PNG", exif=tagged(way))
    return Image.open(stream)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("way", range(10))
def test_sizes_and_pixels_agree_on_which_way_is_up(form: str, way: int, tmp_path: Path) -> None:
    file = tmp_path / "image"
    noise(40, 24).save(file, form, exif=tagged(way), **({"lossless": True} if form == "WEBP" else {}))
    with Image.open(file) as opened:
        wanted = ImageOps.exif_transpose(opened).convert("RGB")
    for image in (file, Image.open(file)):
        assert load_picture(image).tobytes() == wanted.tobytes()
        assert upright_size(image) == wanted.size == ((24, 40) if 5 <= way <= 8 else (40, 24))
    loaded = Image.open(file)
    loaded.load()
    assert load_picture(loaded).size == wanted.size


def test_an_orientation_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    """Its tag may stand last, or be text; a file without any is not decoded to learn that."""
    late, xmp = tmp_path / "late.png", tmp_path / "xmp.png"
    noise(40, 24).save(late)
    content, exif = late.read_bytes(), tagged(6).tobytes().removeprefix(b"Exif\0\0")
    chunk = io.BytesIO()
    PngImagePlugin.putchunk(chunk, b"eXIf", exif)
    late.write_bytes(content[:-12] + chunk.getvalue() + content[-12:])
    words = PngImagePlugin.PngInfo()
    words.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="8"/>')
    noise(40, 24).save(xmp, pnginfo=words)
    for file in (late, xmp):
        assert upright_size(file) == load_picture(file).size == (24, 40), file.name
    bare = tmp_path / "bare.png"
    bare.write_bytes(content[: len(content) // 2])  # no pixels to decode
    assert upright_size(bare) == (40, 24)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0" + b"\xff" * 40, b"garbage"]
)
def test_damaged_exif_does_not_hide_sound_pixels(exif: bytes, tmp_path: Path) -> None:
    noise(40, 24).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as opened:
        assert orientation(opened) == 1
    assert load_picture(tmp_path / "a.jpg").size == upright_size(tmp_path / "a.jpg") == (40, 24)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 1000))
def test_shrunk_is_what_pillow_shrinks_to(width: int, height: int, side: int) -> None:
    picture = Image.new("1", (width, height))
    picture.thumbnail((side, side))
    assert shrunk((width, height), side) == picture.size
    assert shrunk((width, height), None) == (width, height)


@pytest.mark.parametrize(("form", "ending"), [("JPEG", "jpg"), ("TIFF", "tif")])
def test_boxes_in_pixels_of_foreign_answers_are_those_of_the_upright_image(
    form: str, ending: str, tmp_path: Path
) -> None:
    from migician.benchmarks import mig_bench
    from migician.benchmarks.scoring.scoring import Reading
    from migician.boxtext import STYLES
    from migician.evaluation.answer_files import read_answers
    from migician.evaluation.report import score_answers

    noise(80, 40).save(tmp_path / f"a.{ending}", form, exif=tagged(6))
    row = {"task": "diff", "images": [f"./a.{ending}"], "question": "Where?", "answer": [0.5, 0.25, 1.0, 0.5]}
    (tmp_path / "data.json").write_text(json.dumps([row]))
    (tmp_path / "answers.jsonl").write_text('{"index": 0, "response": "[20, 20, 40, 40]"}\n')
    bench = mig_bench.load(tmp_path / "data.json")
    report = score_answers(
        bench, read_answers(tmp_path / "answers.jsonl", bench), Reading("strict", STYLES["list-pixel"]),
        tmp_path / "out", images=tmp_path, partial=False, spec={},
    )  # fmt: skip
    assert report["average"]["mean_iou"] == pytest.approx(100)
