"""Pictures that training and evaluation see differently: LLaMA-Factory's own compared with ours, and fixed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.boxes import Size
from migician.build.dataset import build
from migician.models.pictures import alike, load_picture, seen_apart, stretched
from migician.samples.dataset_info import dataset_entry
from migician.samples.lengths import Resize, cells, image_tokens
from migician.training.check import check
from migician.training.check.options import CheckOptions

SIZE = (64, 48)
NOISE = np.random.default_rng(0).integers(0, 255, (48, 64, 4), dtype=np.uint8)
TURNED = Image.Exif()
TURNED[0x0112] = 6
PALETTE = Image.fromarray(NOISE[:, :, :3]).quantize(16)


def with_alpha(alpha: int | None, colours: int | None = None) -> Image.Image:
    pixels = NOISE.copy()
    if alpha is not None:
        pixels[:, :, 3] = alpha
    if colours is not None:
        pixels[:, :, :3] = colours
    return Image.fromarray(pixels)


def deep(low: int, high: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(low, high, (48, 64)).astype(np.uint16))


# name of the file: the picture, how it is saved, and why both see it differently.
KINDS: dict[str, tuple[Image.Image, dict[str, Any], str]] = {
    "plain.jpg": (Image.fromarray(NOISE[:, :, :3]), {}, ""),
    "grey.png": (Image.fromarray(NOISE[:, :, 0]), {}, ""),
    "bits.png": (Image.fromarray(NOISE[:, :, 0]).convert("1"), {}, ""),
    "cmyk.jpg": (Image.fromarray(NOISE, "CMYK"), {}, ""),
    "palette.png": (PALETTE, {}, ""),
    "opaque.png": (with_alpha(255), {}, ""),
    "hidden.png": (with_alpha(0), {}, "transparent"),
    "half.webp": (with_alpha(None), {"lossless": True}, "transparent"),
    "white.png": (with_alpha(0, 255), {}, ""),
    "grey-alpha.png": (with_alpha(None).convert("LA"), {}, "transparent"),
    "palette-alpha.png": (PALETTE, {"transparency": 3}, "transparent"),
    "palette-alpha.gif": (PALETTE, {"transparency": 3}, "transparent"),
    "deep.png": (deep(0, 65535), {}, "deep"),
    "deep.tif": (deep(0, 65535), {}, "deep"),
    "deep-black.png": (deep(0, 1), {}, ""),
    "turned.jpg": (Image.fromarray(NOISE[:, :, :3]), {"exif": TURNED}, "rotated"),
    "turned.png": (Image.fromarray(NOISE[:, :, :3]), {"exif": TURNED}, "rotated"),
    "turned.tif": (Image.fromarray(NOISE[:, :, :3]), {"exif": TURNED}, ""),
    "turned-packed.tif": (Image.fromarray(NOISE[:, :, 0]), {"exif": TURNED, "compression": "tiff_lzw"}, ""),
}
LARGE, SMALL = (900, 700), (20, 20)
"""Sizes that LLaMA-Factory scales before it converts: transparency turns black, and a palette is not smoothed."""
SCALED: dict[str, tuple[Image.Image, dict[str, Any], str]] = {
    "large.png": (Image.fromarray(NOISE[:, :, :3]).resize(LARGE), {}, ""),
    "large-grey.png": (Image.fromarray(NOISE[:, :, 0]).resize(LARGE), {}, ""),
    "large-opaque.png": (with_alpha(255).resize(LARGE), {}, ""),
    "large-white.png": (Image.new("RGBA", LARGE, (255, 255, 255, 0)), {}, "transparent"),
    "large-half.png": (with_alpha(None).resize(LARGE), {}, "transparent"),
    "large-palette.png": (PALETTE.resize(LARGE), {}, "palette"),
    "large-bits.png": (Image.fromarray(NOISE[:, :, 0]).resize(LARGE).convert("1"), {}, "palette"),
    "small-palette.gif": (PALETTE.resize(SMALL), {}, "palette"),
    "small-white.png": (Image.new("RGBA", SMALL, (255, 255, 255, 0)), {}, "transparent"),
}
FORMATS = {"half.webp": "WEBP"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for name, (picture, options, _) in (KINDS | SCALED).items():
        picture.save(root / name, **options)
    for name, size in {"thin.png": (1000, 10), "thin.jpg": (5, 900), "small.png": (20, 20)}.items():
        Image.effect_noise(size, 80).save(root / name)
    return root


@pytest.fixture(scope="module")
def trained() -> Callable[[Path], Image.Image]:
    """What LLaMA-Factory makes of a file before it goes to the processor."""
    pytest.importorskip("llamafactory", reason="train extra not installed: bash scripts/setup.sh")
    from llamafactory.data.mm_plugin import get_mm_plugin

    plugin = get_mm_plugin("qwen2_vl", image_token="<|image_pad|>", video_token="<|video_pad|>")
    limits = {"image_max_pixels": Resize().image_max_pixels, "image_min_pixels": Resize().image_min_pixels}

    def see(file: Path) -> Image.Image:
        (picture,) = plugin._regularize_images([str(file)], **limits)["images"]
        return picture

    return see


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("name", KINDS)
def test_they_are_said_to_be_seen_apart_where_they_are(
    name: str, folder: Path, trained: Callable[[Path], Image.Image]
) -> None:
    with Image.open(folder / name) as opened:
        assert seen_apart(folder / name, opened) == KINDS[name][2]
    assert same(trained(folder / name), load_picture(folder / name)) == (not KINDS[name][2])


@pytest.mark.parametrize("name", SCALED)
def test_so_are_those_that_training_scales_first(
    name: str, folder: Path, tmp_path: Path, trained: Callable[[Path], Image.Image]
) -> None:
    alike(folder / name).save(tmp_path / "x.png")
    with Image.open(folder / name) as opened, Image.open(tmp_path / "x.png") as again:
        assert seen_apart(folder / name, opened) == SCALED[name][2]
        assert seen_apart(tmp_path / "x.png", again) == ""
    assert same(trained(folder / name), trained(tmp_path / "x.png")) == (not SCALED[name][2])


@pytest.mark.parametrize("name", [*(name for name in KINDS if KINDS[name][2]), "thin.png", "thin.jpg", "plain.jpg"])
def test_what_is_written_again_is_seen_alike(
    name: str, folder: Path, tmp_path: Path, trained: Callable[[Path], Image.Image]
) -> None:
    alike(folder / name).save(tmp_path / "x.png")
    assert same(trained(tmp_path / "x.png"), load_picture(tmp_path / "x.png"))
    with Image.open(tmp_path / "x.png") as opened:
        assert seen_apart(tmp_path / "x.png", opened) == "" and stretched(opened.size) == opened.size


def test_a_turned_tiff_that_is_read_in_pieces_is_found(tmp_path: Path, trained: Callable[[Path], Image.Image]) -> None:
    """Pillow 11 to 13 mix up the rows of such a file; where it does not, there is nothing to find."""
    file = tmp_path / "x.tif"
    Image.fromarray(NOISE[:, :, 0]).save(file, exif=TURNED)
    with Image.open(file) as opened:
        said = seen_apart(file, opened)
    assert said == ("" if same(trained(file), load_picture(file)) else "rotated")


@pytest.mark.parametrize("size", [(1000, 10), (5, 900), (2, 300), (27, 500), (20, 20), (30, 20), (640, 480)])
def test_a_thin_one_has_the_same_tokens_for_both_once_stretched(size: Size) -> None:
    limits = Resize().processor_min_pixels, Resize().processor_max_pixels
    columns, rows = cells(*stretched(size), *limits)
    assert columns * rows == image_tokens(stretched(size))
    assert (stretched(size) == size) == (
        columns * rows == image_tokens(size) and cells(*size, *limits) == (columns, rows)
    )


def dataset(root: Path, names: list[str]) -> Path:
    records = [
        {"id": name, "images": [name], "type": "t"}
        | {"conversations": [{"from": "human", "value": f"<image>{name}?"}, {"from": "gpt", "value": "!"}]}
        for name in names
    ]
    (root / "x.json").write_text(json.dumps(records))
    (root / "dataset_info.json").write_text(json.dumps({"x": dataset_entry("x.json")}))
    return root


def test_check_lists_them_with_the_fix(folder: Path) -> None:
    expected: dict[str, int] = {"thin": 2, "tiny": 3}
    for _, _, kind in (KINDS | SCALED).values():
        if kind:
            expected[kind] = expected.get(kind, 0) + 1
    names = [*KINDS, *SCALED, "thin.png", "thin.jpg", "small.png"]
    report = check(dataset(folder, names))
    found = {one.kind: one for one in report.findings}
    assert {kind: one.count for kind, one in found.items()} == expected
    assert {one.severity for one in report.findings} == {"warning"}
    assert all("--collect" in found[kind].fix for kind in ("transparent", "deep", "thin", "palette"))
    assert found["thin"].places[0].value == "thin.png: 1000 x 10, 36 tokens in training, 20 in evaluation"
    # Headers tell only what is turned, and what is thin.
    quick = {one.kind: one.count for one in check(folder, CheckOptions(quick=True)).findings}
    assert quick == {"thin": 2, "tiny": 3, "rotated": 2}


def test_collect_writes_them_so_that_both_see_the_same(
    tmp_path: Path, folder: Path, trained: Callable[[Path], Image.Image]
) -> None:
    names = ["plain.jpg", "hidden.png", "half.webp", "deep.tif", "palette-alpha.gif", "thin.png", "opaque.png"]
    lines = []
    for name in names:
        width, height = load_picture(folder / name).size
        boxes = [("mug", [1, 1, width * 0.4, height - 1]), (f"{name} itself", [width * 0.6, 1, width - 1, height - 1])]
        objects = [{"label": label, "box": box} for label, box in boxes]
        lines.append(json.dumps({"image": name, "objects": objects}))
    (tmp_path / "own.jsonl").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    build(["common_object"], {"jsonl": tmp_path / "own.jsonl"}, out, images=folder, collect=True)
    used = {image for one in json.loads((out / "Common_Object.json").read_text()) for image in one["images"]}
    ending = {Path(image).name for image in used}
    assert {"plain.jpg", "hidden.png", "half.webp.png", "deep.tif.png", "palette-alpha.gif.png", "opaque.png"} <= ending
    for image in used:
        assert same(trained(out / image), load_picture(out / image)), image
    assert not {one.kind for one in check(out).findings} & {"transparent", "deep", "thin"}
    # Sound files are the sources' own, byte for byte.
    sound = next(image for image in used if image.endswith("plain.jpg"))
    assert (out / sound).read_bytes() == (folder / "plain.jpg").read_bytes()
