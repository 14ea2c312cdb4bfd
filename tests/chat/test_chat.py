"""The conversation behind the chat page and the terminal: what may come in, what is asked, what is shown."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from migician.boxtext import STYLES
from migician.chat.examples import EXAMPLES, example
from migician.chat.grounding import Grounding
from migician.chat.page import serve
from migician.chat.session import OfferedModels, Session
from migician.chat.terminal import converse
from migician.chat.transcript import answered, boxes_drawn, transcript
from migician.chat.uploads import ChatLimits, kept, take
from migician.draw import Mark, draw_boxes
from migician.errors import UserError
from migician.models import load_model
from migician.models.protocol import Request
from migician.models.stand_ins.scripted import Scripted

IN_SECOND = "In Image-2: <|box_start|>(250,100),(700,900)<|box_end|>"


def declared_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header declares that size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


HOSTILE = {
    "bomb.png": (declared_png(60_000, 60_000), "million pixels"),
    "large.png": (declared_png(9_000, 9_000), "million pixels"),
    "text.png": (b"this is no picture", "not an image"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not an image"),
    "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "cut.png": (declared_png(50, 50), "cut.png"),
    "empty.jpg": (b"", "not an image"),
}


def png(colour: str, size: tuple[int, int] = (80, 60)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two image files, one red and one blue."""
    files = [tmp_path / "red.png", tmp_path / "blue.png"]
    for file, colour in zip(files, ("red", "blue"), strict=True):
        file.write_bytes(png(colour))
    return files


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, says = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as refused:
        take(tmp_path / name)
    assert says in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("path", ["http://127.0.0.1/a", "HTTPS://a.b/c.png", "file:///etc/passwd", "data:image/png,"])
def test_an_address_is_never_fetched(path: str) -> None:
    with pytest.raises(UserError, match="is an address"):
        take(path)


def test_what_is_no_file_is_not_taken_as_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), Path("/"), Path()):
        with pytest.raises(UserError, match="not a file"):
            take(path)
    for path in (tmp_path / "gone", Path("a" * 5000), Path("a\0b")):
        with pytest.raises(UserError, match="no such file|cannot be read") as refused:
            take(path)
        assert "\n" not in str(refused.value)


def test_limits_of_bytes_pixels_and_count(two: list[Path]) -> None:
    with pytest.raises(UserError, match="MB per file"):
        take(two[0], limits=ChatLimits(file_bytes=10))
    with pytest.raises(UserError, match="million pixels"):
        take(two[0], limits=ChatLimits(pixels=80 * 60 - 1))
    assert take(two[0], limits=ChatLimits(pixels=80 * 60, side_px=40)).decoded().size == (40, 30)
    session = Session()
    assert "MB in one conversation" in session.add(two[:1], ChatLimits(talk_bytes=10))[0]
    assert len(session.add(two * 100)) == 1 and session.pictures == []
    assert session.add([*two, Path("gone.png")])[0].startswith("gone.png: no such file")
    assert len(session.pictures) == 2


def test_turns_are_kept_and_later_images_are_counted_on(two: list[Path]) -> None:
    asked: list[Request] = []
    model = Scripted(lambda request: asked.append(request) or IN_SECOND)
    session = Session()
    session.add(two[:1])
    session.ask(model, "What is this?")
    session.add(two[1:])
    turn = session.ask(model, "And where is it?")
    assert [request.prompt for request in asked] == ["<image>What is this?", "<image>And where is it?"]
    assert asked[1].history == (("<image>What is this?", IN_SECOND),)
    assert [image.getpixel((0, 0)) for image in asked[1].images] == [(255, 0, 0), (0, 0, 255)]
    assert turn.boxes[0].image == 1
    [(place, drawn)] = boxes_drawn(turn)
    expected = draw_boxes(Image.new("RGB", (80, 60), "blue"), [Mark(turn.boxes[0].box)])
    assert place == 1 and drawn.tobytes() == expected.tobytes()


def test_another_model_begins_the_talk_anew_over_the_same_images(two: list[Path]) -> None:
    asked: list[Request] = []
    first, second = Scripted(lambda _: IN_SECOND), Scripted(lambda request: asked.append(request) or "none")
    session = Session()
    session.add(two)
    session.ask(first, "Where?")
    session.ask(second, "Where?")
    assert asked[0].history == () and len(asked[0].images) == 2 and len(session.history) == 1


@pytest.mark.parametrize(
    ("style", "spelled"),
    [
        ("qwen", "<|box_start|>(250,100),(700,900)<|box_end|>"),
        ("internvl", "<box>[[250, 100, 700, 900]]</box>"),
        ("mantis", "<box>[0.250, 0.100, 0.700, 0.900]</box>"),
    ],
)
def test_a_region_is_spelled_as_the_family_does(two: list[Path], style: str, spelled: str) -> None:
    session = Session()
    session.add(two)
    model = Scripted(lambda _: "", box_style=STYLES[style])
    assert session.reference(model, "2: 250, 100, 700, 900") == f"the region {spelled} of Image-2"


@pytest.mark.parametrize("written", ["", "2", "3: 1, 2, 3, 4", "0: 1, 2, 3, 4", "1: 5, 2, 3, 4", "1: 1, 2, 3, 1001"])
def test_a_region_that_is_none_is_refused(two: list[Path], written: str) -> None:
    session = Session()
    session.add(two)
    with pytest.raises(UserError, match="region"):
        session.reference(Scripted(lambda _: ""), written)


def test_questions_are_bounded(two: list[Path]) -> None:
    session, model = Session(), Scripted(lambda _: "none")
    session.add(two)
    for text, says in ((" ", "no question"), ("a" * 8001, "at most 8,000")):
        with pytest.raises(UserError, match=says):
            session.ask(Scripted(lambda _: IN_SECOND), text)
    assert session.history == []
    with pytest.raises(UserError, match="start a new one"):
        for _ in range(9):
            session.ask(model, "a" * 20, limits=ChatLimits(talk_letters=99))
    assert 0 < len(session.history) < 5


def test_what_is_said_and_replied_stands_as_text(two: list[Path]) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    session = Session()
    session.add(two)
    turn = session.ask(Scripted(lambda _: attack), attack)
    page = transcript([answered(turn, lambda _: "")])
    assert page.count("&lt;script&gt;") == 2 and "<script" not in page and "<img src=x" not in page


def test_a_reply_grows_and_is_what_answer_gives(tiny_folder: Path, two: list[Path]) -> None:
    model = load_model(tiny_folder)
    session = Session()
    session.add(two)
    *grown, turn = session.aloud(model, "Where is the disc?")
    plain = Session()
    plain.add(two)
    whole = plain.ask(model, "Where is the disc?").reply
    assert isinstance(turn, Grounding)
    assert len(grown) > 2 and turn.reply == whole and grown[-1] == whole
    assert [len(text) for text in grown] == sorted(len(text) for text in grown)


def test_closing_stops_the_model_and_keeps_no_turn(tiny_folder: Path, two: list[Path]) -> None:
    model = load_model(tiny_folder)
    session = Session()
    session.add(two)
    steps = session.aloud(model, "Where is the disc?")
    next(steps)
    steps.close()
    next(again := session.aloud(model, "And now?"))  # waits until the first has let go of the model
    again.close()
    assert all("And now?" in said for said, _ in session.history)


def test_a_shelf_loads_each_model_once_and_no_other(two: list[Path]) -> None:
    loaded: list[str] = []
    models = OfferedModels(["a", "b"], lambda name: loaded.append(name) or Scripted(lambda _: name, name))
    assert [models.get(name).name for name in ("b", "a", "b")] == ["b", "a", "b"] and loaded == ["b", "a"]
    with pytest.raises(UserError, match="not offered"):
        models.get("/etc")


def test_visitors_read_of_a_model_neither_its_folder_nor_what_fails_there(tmp_path: Path, two: list[Path]) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "tiny").mkdir(parents=True)
    given = [str(tmp_path / "a/tiny"), str(tmp_path / "b/tiny"), f"scripted:{tmp_path}/a.jsonl", "Owner/name"]
    loaded: list[str] = []
    models = OfferedModels([*given, given[0]], lambda name: loaded.append(name) or Scripted(lambda _: name, name))
    assert models.names == ("tiny", "tiny (2)", "scripted:a.jsonl", "Owner/name")
    for name in models.names:
        models.get(name)
    assert loaded == given


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_can_be_asked(name: str) -> None:
    made = example(name)
    session = Session([kept(image, name) for image in made.images])
    assert len(made.images) >= 2 and f"Image-{len(made.images)}" in made.question
    assert session.ask(Scripted(lambda _: IN_SECOND), made.question).boxes[0].image == 1


def test_the_terminal_answers_line_by_line(
    tmp_path: Path, two: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"/image {two[1]}", "Where?", "/nonsense", "/region 1: 10, 20, 300, 400", "what is it?", "/quit", "never"]
    model = Scripted(lambda request: IN_SECOND)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    converse(model, two[:1], tmp_path / "out", as_json=True)
    printed = capsys.readouterr()
    first, second = [json.loads(line) for line in printed.out.splitlines()]
    assert first["boxes"] == [{"image": 2, "permille": [250, 100, 700, 900], "pixels": [20, 6, 56, 54]}]
    assert second["question"] == "the region <|box_start|>(10,20),(300,400)<|box_end|> of Image-1 what is it?"
    assert first["picture"] != second["picture"] and Image.open(second["picture"]).size[0] > 100
    assert "no command /nonsense" in printed.err
    with pytest.raises(UserError, match="no such file"):
        converse(model, [tmp_path / "gone.png"], tmp_path)


def test_without_gradio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    names = ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "GRADIO_SHARE", "GRADIO_ANALYTICS_CACHE_FREQUENCY")
    for name in names:
        monkeypatch.setenv(name, "")  # so that they are put back
    with pytest.raises(UserError, match=r"pip install 'migician\[page\]'"):
        serve(OfferedModels(["constant:1,2,3,4"]), port=0)
