"""Images as people give them: what is taken, how it is turned, what is refused and why."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.errors import UserError
from migician.models.pictures import as_list, load_picture, load_pictures

PLAIN = Image.new("RGB", (8, 6), "red")


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
    Image.effect_noise((200, 200), 90).save(stream, "JPEG")
    (folder / "cut.jpg").write_bytes(stream.getvalue()[:3000])
    return folder / "cut.jpg"


def text_file(folder: Path) -> Path:
    (folder / "text.png").write_text("not an image")
    return folder / "text.png"


def cut_png(folder: Path) -> Path:
    (folder / "head.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\5IHDR\0\0\0\x64\0\0\0\0\0")
    return folder / "head.png"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "gone.jpg", r"image 2 of 2, .*gone.jpg: no such file"),
        (lambda folder: folder, "image 2 of 2, .*: cannot be read: Is a directory"),
        (text_file, "not an image that Pillow can read"),
        (cut_jpeg, "cut.jpg: damaged or cut off"),
        (cut_png, "head.png: cannot be read: Truncated IHDR"),
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
        load_pictures([PLAIN, make(tmp_path)])
    assert str(caught.value).startswith("image 2 of 2")


def test_too_large_an_image_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (2000, 2000)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    with pytest.raises(UserError, match=r"bomb.png: more than 2 million pixels"):
        load_picture(tmp_path / "bomb.png")


def test_one_image_or_several() -> None:
    assert len(as_list("a.jpg")) == len(as_list(PLAIN)) == len(as_list(np.zeros((4, 4, 3), np.uint8))) == 1
    assert len(as_list(np.zeros((5, 4, 4, 3), np.uint8))) == 5
    assert len(as_list([Path("a.jpg"), PLAIN, np.zeros((4, 4), np.uint8)])) == 3


def test_a_crop_of_which_the_disk_takes_a_part_is_refused(tmp_path: Path) -> None:
    # Pillow does not see it (findings/pillow-short-write.sh), so pictures are encoded in memory.
    script = """if True:
        import resource, signal, sys
        from pathlib import Path
        from PIL import Image
        from migician.build import images
        from migician.errors import UserError
        picture, target = Image.effect_noise((400, 400), 60), Path(sys.argv[1])
        images._save(picture, target)
        whole = target.stat().st_size
        target.unlink()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole - 100, resource.RLIM_INFINITY))
        try:
            images._save(picture, target)
        except UserError as error:
            print(error)
    """
    words = [sys.executable, "-c", script, tmp_path / "a.jpg"]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    assert ended.stdout == f"{tmp_path / 'a.jpg'}: cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []
