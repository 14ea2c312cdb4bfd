"""The report page: every figure, every box where the records have it, and replies as text."""

import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image
from typer.testing import CliRunner

from migician.cli import app
from migician.errors import UserError
from migician.page import write_page

HOSTILE = '<script>alert(1)</script> "quoted" & (100,100),(500,500)'


class Seen(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []
        self.text = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def run(tmp_path):
    """A scored run of three questions over two images of different shape."""
    names = ["./MIG-Bench/images/a.png", "./MIG-Bench/images/<b>.png"]
    for name, size in zip(names, [(900, 300), (64, 64)], strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "grey").save(tmp_path / name)
    rows = [
        {"task": task, "images": names, "question": f"Find <it> in the {nth}th image. ", "answer": [0.1, 0.2, 0.5, 0.6]}
        for task, nth in (("diff", 1), ("diff", 2), ("region", 1))
    ]
    replies = [HOSTILE, "nothing", "Image-2: (0,0),(1,1)"]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    (tmp_path / "answers.jsonl").write_text(
        "".join(json.dumps({"index": i, "response": reply}) + "\n" for i, reply in enumerate(replies))
    )
    command = ["score", "mig-bench", "--data", tmp_path / "data.json", "--answers", tmp_path / "answers.jsonl"]
    CliRunner().invoke(app, [*map(str, command), "--out", str(tmp_path / "run")], catch_exceptions=False)
    return tmp_path / "run"


def page_of(run, **options):
    seen = Seen()
    page = write_page([run], ["model"], run.parent, run / "page", **options)
    seen.feed(page.read_text())
    return seen


def test_replies_and_names_are_text(run):
    seen = page_of(run)
    assert sum(tag == "script" for tag, _ in seen.tags) == 1  # the page's own
    assert HOSTILE in seen.text and any("<b>.png" in text for text in seen.text)


def test_boxes_stand_where_the_records_have_them(run):
    seen = page_of(run)
    truths = [tag for name, tag in seen.tags if name == "rect" and tag["class"] == "truth"]
    boxes = [tag for name, tag in seen.tags if name == "rect" and tag["class"] == "run0"]
    assert len(truths) == 3 and len(boxes) == 2
    assert [float(truths[0][side]) for side in ("x", "y", "width", "height")] == pytest.approx([0.1, 0.2, 0.4, 0.4])
    assert [float(boxes[0][side]) for side in ("x", "y", "width", "height")] == pytest.approx([0.1, 0.1, 0.4, 0.4])


def test_each_image_is_stored_once_and_nothing_comes_from_outside(run):
    seen = page_of(run)
    images = [tag["src"] for name, tag in seen.tags if name == "img"]
    assert len(images) == 6 and len(set(images)) == 2
    assert all((run / "page" / name).is_file() for name in images)
    assert Image.open(run / "page" / images[0]).size == (640, 213)
    assert not re.search(r"https?://", (run / "page/index.html").read_text())


def test_the_page_can_be_limited(run):
    assert sum(name == "article" for name, _ in page_of(run, per_task=1).tags) == 2


def test_faults_are_named(run, tmp_path):
    with pytest.raises(UserError, match=r"a\.png is not below .*--images"):
        write_page([run], ["model"], tmp_path / "nowhere", tmp_path / "page")
    (tmp_path / "MIG-Bench/images/a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.png: cannot be read"):
        write_page([run], ["model"], tmp_path, tmp_path / "page2")
    assert not (tmp_path / "page2/index.html").exists()


def test_the_command(run, tmp_path):
    result = CliRunner().invoke(app, ["report", str(run), "--images", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0 and "average" in result.stdout
    assert (run / "page/index.html").is_file()
    with pytest.raises(UserError, match="add --images"):
        CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False)
