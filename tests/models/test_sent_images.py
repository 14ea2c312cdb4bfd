"""The contract of images: whichever engine is asked, the same pictures arrive, in their order and number.

Each engine is real up to the thing that gets the pictures; that is stood in for, or listened to, and says what came.
What should come is worked out here from the pixels that were saved, by Pillow's own turning and shrinking.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from noise_images import noise, tagged
from PIL import Image, ImageOps
from scripted_server import Script, served

from migician.errors import UserError
from migician.models import load_model, seen_sizes
from migician.models.engines.sent_images import given_pictures, given_sizes, sent_size
from migician.models.protocol import Request

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
from shipped_stand_ins import own_module_cache, save_stand_in  # noqa: E402
from tiny_families import save_tiny  # noqa: E402

MAX_PIXELS = 96 * 96


# ---- the images, and what is to be seen of each ----


def plain(file: Path) -> Image.Image:
    noise(60, 40).save(file.with_suffix(".png"))
    return noise(60, 40)


def turned_jpeg(file: Path) -> Image.Image:
    noise(64, 40).save(file.with_suffix(".jpg"), exif=tagged(6), quality=95)
    return Image.open(file.with_suffix(".jpg")).transpose(Image.Transpose.ROTATE_270)


def mirrored_png(file: Path) -> Image.Image:
    noise(60, 40, 1).save(file.with_suffix(".png"), exif=tagged(2))
    return ImageOps.mirror(noise(60, 40, 1))


def clear_png(file: Path) -> Image.Image:
    """Its left half hides noise: nobody is to see it."""
    alpha = Image.new("L", (60, 40), 255)
    alpha.paste(0, (0, 0, 30, 40))
    hidden = noise(60, 40, 2)
    hidden.putalpha(alpha)
    hidden.save(file.with_suffix(".png"))
    seen = noise(60, 40, 2)
    seen.paste("white", (0, 0, 30, 40))
    return seen


def grey_of_16_bits(file: Path) -> Image.Image:
    values = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    Image.fromarray(values).save(file.with_suffix(".png"))
    return Image.fromarray(np.round(values / 65535 * 255).astype(np.uint8)).convert("RGB")


def turned_tiff(file: Path) -> Image.Image:
    noise(60, 40, 3).save(file.with_suffix(".tif"), exif=tagged(6), compression="tiff_lzw")
    return noise(60, 40, 3).transpose(Image.Transpose.ROTATE_270)


def turned_grey_tiff(file: Path) -> Image.Image:
    """Not compressed: Pillow 11 to 13 mix up its rows, unless told not to map it."""
    noise(50, 30, 4).convert("L").save(file.with_suffix(".tif"), exif=tagged(8))
    return noise(50, 30, 4).convert("L").transpose(Image.Transpose.ROTATE_90).convert("RGB")


def large(file: Path) -> Image.Image:
    noise(150, 101, 5).save(file.with_suffix(".png"))
    return noise(150, 101, 5)


KINDS: dict[str, Callable[[Path], Image.Image]] = {
    kind.__name__: kind
    for kind in (
        plain, turned_jpeg, mirrored_png, clear_png, grey_of_16_bits, turned_tiff, turned_grey_tiff, large
    )
}  # fmt: skip


@dataclass
class Shown:
    files: list[Path]
    pictures: list[Image.Image]
    """What is to be seen of each, before any shrinking."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("images")
    pictures = [make(folder / name).convert("RGB") for name, make in KINDS.items()]
    files = [next(folder.glob(f"{name}.*")) for name in KINDS]
    # One of them twice, and not in the order of their names.
    return Shown([*files, files[1]], [*pictures, pictures[1]])


# ---- the engines: what they are given ----


@dataclass
class Engine:
    model: Any
    asked: Callable[[Request], list[Image.Image]]
    """Asks it, and gives the pictures that arrived, in the order of the request."""
    made: Callable[[Request], list[tuple[int, int]]] | None = None
    """For engines whose processor scales: (width, height) of what it makes of them."""


def arrived(script: Script) -> list[Image.Image]:
    parts = [part for message in script.bodies[-1]["messages"] for part in message["content"]]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) for url in urls]


def of_server(max_pixels: int | None, family: str, url: str, script: Script) -> Engine:
    script.reply = lambda body: "ok"
    options = {} if max_pixels is None else {"max_pixels": max_pixels}
    model = load_model(f"server:{url}#m", family=family, **options)

    def asked(request: Request) -> list[Image.Image]:
        model.answer([request])
        return arrived(script)

    return Engine(model, asked)


class LLM:
    """vLLM's, which writes down the pictures it is given."""

    def __init__(self, **options: Any) -> None:
        self.given: list[Image.Image] = []
        self.llm_engine = SimpleNamespace(vllm_config=SimpleNamespace())

    def chat(self, messages: list[Any], **options: Any) -> list[Any]:
        parts = [part for message in messages[0] for part in message["content"] if isinstance(part, dict)]
        self.given = [part["image_pil"] for part in parts if part["type"] == "image_pil"]
        return [SimpleNamespace(outputs=[SimpleNamespace(text="ok")]) for _ in messages]


def of_vllm(folder: Path, max_pixels: int | None, family: str, monkeypatch: pytest.MonkeyPatch) -> Engine:
    module: Any = ModuleType("vllm")
    module.LLM, module.SamplingParams, module.__version__ = LLM, SimpleNamespace, "stand-in"
    monkeypatch.setitem(sys.modules, "vllm", module)
    model: Any = load_model(f"vllm:{folder}", family=family, max_pixels=max_pixels)

    def asked(request: Request) -> list[Image.Image]:
        model.answer([request])
        return list(model.engine.given)

    return Engine(model, asked)


def of_shipped(folder: Path, max_pixels: int | None, monkeypatch: pytest.MonkeyPatch) -> Engine:
    model: Any = load_model(folder, trust_remote_code=True, device="cpu", max_pixels=max_pixels)
    given: list[Image.Image] = []

    def chat(image: None, msgs: list[Any], **options: Any) -> str:
        given[:] = [part for message in msgs for part in message["content"] if not isinstance(part, str)]
        return "ok"

    monkeypatch.setattr(model.model, "chat", chat, raising=False)

    def asked(request: Request) -> list[Image.Image]:
        model.answer([request])
        return list(given)

    return Engine(model, asked)


class Listening:
    """A processor that also writes down the pictures it is given, and what it made of them."""

    def __init__(self, real: Any) -> None:
        self.real, self.given, self.made = real, list[Image.Image](), list[Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __call__(self, *positional: Any, images: Any = None, **options: Any) -> Any:
        flat = [one for row in images for one in row] if isinstance(images[0], list) else images
        self.given += flat
        found = self.real(*positional, images=images, **options)
        side = getattr(getattr(self.real, "image_processor", self.real), "patch_size", None)
        if "image_grid_thw" in found:
            self.made += [(int(columns) * side, int(rows) * side) for _, rows, columns in found["image_grid_thw"]]
        return found


def of_auto(folder: Path, max_pixels: int | None) -> Engine:
    model: Any = load_model(folder, device="cpu", max_pixels=max_pixels)

    def heard(request: Request) -> Listening:
        real = model.processor
        model.processor = Listening(real)
        try:
            model.answer([request])
            return model.processor
        finally:
            model.processor = real

    scales = hasattr(model.processor.image_processor, "merge_size")
    return Engine(model, lambda request: heard(request).given, (lambda r: heard(r).made) if scales else None)


def of_qwen(folder: Path, max_pixels: int | None) -> Engine:
    model: Any = load_model(folder, device="cpu", max_pixels=max_pixels)

    def heard(request: Request, what: str) -> list[Any]:
        real = model.processor.image_processor
        model.processor.image_processor = Listening(real)
        try:
            prepared = model.prepare([request])
            # Each image once; the group says which stands where.
            came = dict(zip(prepared.pictures, getattr(model.processor.image_processor, what), strict=True))
            model.reply(prepared)
        finally:
            model.processor.image_processor = real
        model._pictures = type(model._pictures)()  # what it keeps of files would not arrive a second time
        (group,) = prepared.groups
        return [came[key] for key in group.images]

    return Engine(model, lambda request: heard(request, "given"), lambda request: heard(request, "made"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("engines")
    tiny = {
        kind: save_tiny(kind, root / kind, root / f"{kind}-words")
        for kind in [*ENGINES["auto"], "qwen2_5_vl", "qwen3_vl"]
    }
    return {"qwen2_vl": tiny_folder, "minicpmv": save_stand_in("minicpmv", root / "minicpmv_m", tiny_folder), **tiny}


ENGINES: dict[str, list[str]] = {
    "qwen": ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"],
    "auto": ["qwen3_vl_moe", "llava_onevision"],
    "shipped": ["minicpmv"],
    "server": ["qwen2_vl", "qwen2_5_vl"],
    "vllm": ["qwen2_vl", "qwen2_5_vl"],
}
"""Engine -> the families it is tried with."""


@pytest.fixture
def start(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str, int | None], Engine]]:
    own_module_cache(tmp_path / "modules", monkeypatch)
    torch.set_num_threads(1)
    script = Script()
    with served(script) as url:

        def made(engine: str, family: str, max_pixels: int | None) -> Engine:
            if engine == "server":
                return of_server(max_pixels, family, url, script)
            if engine == "vllm":
                return of_vllm(folders[family], max_pixels, family, monkeypatch)
            if engine == "shipped":
                return of_shipped(folders[family], max_pixels, monkeypatch)
            return (of_auto if engine == "auto" else of_qwen)(folders[family], max_pixels)

        yield made


PAIRS = [(engine, family) for engine, families in ENGINES.items() for family in families]


def limited(picture: Image.Image, max_side_px: int | None) -> Image.Image:
    copy = picture.copy()
    if max_side_px is not None:
        copy.thumbnail((max_side_px, max_side_px))
    return copy


@pytest.mark.parametrize("max_pixels", [None, MAX_PIXELS])
@pytest.mark.parametrize("max_side_px", [None, 80])
@pytest.mark.parametrize(("engine", "family"), PAIRS)
def test_the_same_pictures_arrive_at_every_engine(
    engine: str, family: str, max_side_px: int | None, max_pixels: int | None, shown: Shown, start: Any
) -> None:
    asked = start(engine, family, max_pixels)
    request = Request(tuple(shown.files), "What?", 2, max_side_px=max_side_px)
    came = asked.asked(request)
    wanted = [limited(picture, max_side_px) for picture in shown.pictures]
    assert len(came) == len(wanted) == len(shown.files)
    by_processor = asked.made is not None
    for picture, should, file in zip(came, wanted, shown.files, strict=True):
        assert picture.mode == "RGB" and picture.getexif().get(0x0112, 1) == 1, file.name
        if not by_processor and asked.model.family.style.scale == "pixel":
            should = should.resize(sent_size(should.size, asked.model.family, max_pixels), Image.Resampling.BICUBIC)
        elif not by_processor and max_pixels is not None and should.width * should.height > max_pixels:
            assert picture.width * picture.height <= max_pixels
            assert abs(picture.width / picture.height - should.width / should.height) < 0.06
            should = should.resize(picture.size, Image.Resampling.BICUBIC)
        assert picture.size == should.size, file.name
        assert picture.tobytes() == should.tobytes(), file.name
    if by_processor and max_pixels is not None:
        assert all(width * height <= max_pixels for width, height in asked.made(request))


@pytest.mark.parametrize("max_side_px", [None, 80])
@pytest.mark.parametrize(
    ("engine", "family"), [pair for pair in PAIRS if pair[1] in ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")]
)
def test_pixels_are_counted_in_the_sizes_that_arrive(
    engine: str, family: str, max_side_px: int | None, shown: Shown, start: Any
) -> None:
    asked = start(engine, family, None)
    request = Request(tuple(shown.files), "What?", 2, max_side_px=max_side_px)
    arriving = asked.made(request) if asked.made else [picture.size for picture in asked.asked(request)]
    assert asked.model.seen_sizes(shown.files, max_side_px) == arriving
    if asked.model.box_style.scale == "pixel":
        assert seen_sizes(asked.model, shown.files, max_side_px) == arriving


@pytest.mark.parametrize(("engine", "family"), PAIRS)
def test_every_report_says_how_images_were_seen(engine: str, family: str, start: Any) -> None:
    for max_pixels in (None, MAX_PIXELS):
        told, again = (start(engine, family, max_pixels).model.describe() for _ in range(2))
        if engine == "server":
            told["address"] = again["address"] = None
        assert told == again == json.loads(json.dumps(told))
        assert {"min_pixels", "max_pixels", "sizes_sent", "image_processor"} <= told.keys()
        if engine != "vllm":  # what that chose is asked of it: see test_vllm
            assert (told["dtype"], told["attention"]) == (
                (None, None) if engine == "server" else ("float32", told["attention"])
            )
            assert told["attention"] in ((None,) if engine == "server" else ("sdpa", "eager"))
        assert (told["image_processor"] is None) is (engine in ("server", "shipped")), "a server does not say"
        if max_pixels is not None:
            assert told["max_pixels"] == max_pixels and str(max_pixels) in told["sizes_sent"]


@pytest.mark.parametrize(("engine", "family"), PAIRS)
def test_an_image_that_is_none_is_named_by_its_place(
    engine: str, family: str, shown: Shown, start: Any, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(shown.files[0].read_bytes()[:900])
    with pytest.raises(UserError, match=r"image 2 of 2, .*broken\.png: damaged or cut off"):
        start(engine, family, None).model.answer([Request((shown.files[0], broken), "What?", 2)])


@given(
    st.lists(st.tuples(st.integers(1, 120), st.integers(1, 120)), max_size=4),
    st.none() | st.integers(1, 90),
    st.none() | st.integers(1, 5000),
)
def test_sizes_without_pixels_are_those_of_the_pictures(
    sizes: list[tuple[int, int]], max_side_px: int | None, most: int | None
) -> None:
    def scaling(size: tuple[int, int]) -> tuple[int, int]:
        from migician.models.family import QWEN2_VL

        return sent_size(size, QWEN2_VL, most)

    images = tuple(Image.new("L", size) for size in sizes)
    made = given_pictures(Request(images, "?", max_side_px=max_side_px), scaling)
    assert [picture.size for picture in made] == given_sizes(images, max_side_px, scaling)
    # One pixel of the shorter side is left of the thinnest.
    assert all(most is None or one.width * one.height <= max(most, *one.size) for one in made)
