"""One question or a conversation: whose box it is, what is shown, what is remembered."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.boxes import Box
from migician.boxtext import STYLES
from migician.chat.grounding import Chat, ground
from migician.chat.transcript import box_lines
from migician.draw import PREDICTION, Mark
from migician.errors import UserError
from migician.models.protocol import Request
from migician.models.stand_ins.scripted import Scripted

IMAGES = tuple(Image.effect_noise(size, 90).convert("RGB") for size in ((112, 112), (200, 60), (90, 300)))


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> Any:
    torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
    from migician.chat.migician import Migician

    torch.set_num_threads(1)
    return Migician.from_pretrained(tiny_folder, device="cpu")


BOX = "<|box_start|>(100,200),(500,600)<|box_end|>"


@pytest.mark.parametrize(
    ("reply", "query", "count", "expected"),
    [
        (f"It's in the third image. {BOX}", "Find it.", 3, 2),
        (f"It's in the third image. {BOX}", "Find it in Image-1.", 3, 2),
        (BOX, "Find the object of the first image in Image-2.", 3, 1),
        (BOX, "locate it in the 3th image", 3, 2),
        (BOX, "Find it.", 1, 0),
        (BOX, "Find it.", 3, (0, 1, 2)),
        (BOX, "Find it in Image-7.", 3, (0, 1, 2)),
        (BOX, f"What looks like the region {BOX} of Image-1?", 3, (0, 1, 2)),
        (BOX, f"Find in Image-2 what looks like the region {BOX} of Image-1.", 3, 1),
        (f"It's in the ninth image. {BOX}", "Find it in Image-2.", 3, ()),
    ],
)
def test_a_box_belongs_to_the_image_that_is_named(
    reply: str, query: str, count: int, expected: int | tuple[int, ...]
) -> None:
    answered = ground(Scripted(lambda _: reply), IMAGES[:count], query)
    images = (expected,) if isinstance(expected, int) else expected
    assert [found.images for found in answered.boxes] == [images]
    assert answered.boxes[0].image == (expected if isinstance(expected, int) else None)
    assert answered.boxes[0].box == Box(0.1, 0.2, 0.5, 0.6)
    line = "solid" if len(images) == 1 else "dotted"
    box = Mark(Box(0.1, 0.2, 0.5, 0.6), line=line)
    assert answered.marks == [[box] if image in images else [] for image in range(count)]
    drawn = (np.asarray(answered.picture) == (0xD5, 0x5E, 0x00)).all(axis=-1).any()
    assert drawn == bool(images), f"{PREDICTION} only where there is an image for it"
    if isinstance(expected, int):
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


@pytest.mark.parametrize(
    ("count", "query", "found", "says"),
    [
        (2, "Find it.", 1, "dotted, no image is named for it, so it is drawn on all: left 250"),
        (3, "Find it.", 0, "the box is in pixels of an unknown image"),
        (3, "Find it in Image-3.", 1, "Image-3: left 500"),
    ],
)
def test_pixels_of_no_particular_image_are_read_where_all_images_are_alike(
    count: int, query: str, found: int, says: str
) -> None:
    images = [Image.new("RGB", size) for size in ((400, 200), (400, 200), (200, 400))[:count]]
    model = Scripted(lambda _: '{"bbox_2d": [100, 50, 150, 150]}', box_style=STYLES["qwen2.5-vl"])
    model.seen_sizes = lambda pictures, max_side_px=None: [picture.size for picture in pictures]  # type: ignore[attr-defined]
    answered = ground(model, images, query)
    assert len(answered.boxes) == found
    assert says in box_lines(answered)[0]


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
    with pytest.raises(UserError, match="1 <image> mark in the text for 0 new images"):
        chat.say("and <image>?")
