"""The dataset page: a fair draw of samples with their boxes, and figures of all of them."""

import json
import re
from collections import Counter

import pytest
from pages import HOSTILE, make_dataset
from typer.testing import CliRunner

from migician.cli import app
from migician.errors import UserError
from migician.reports.page.dataset import dataset_files, even_shares, write_dataset_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("dataset"))


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)[1])


def test_every_sample_with_its_boxes(folder, tmp_path):
    content = data_of(write_dataset_page(folder, tmp_path))
    names = [sample["name"] for sample in content["samples"]]
    assert names == [f"diff_train-{at}" for at in range(30)] + [f"free-{at}" for at in range(3)]
    for sample in content["samples"]:
        # A box of the question in the image it names, one of the answer in the other; the third names no image.
        assert [0, 0, 0.1, 0.2, 0.3, 0.4, "1"] in sample["marks"]
        assert any(mark[:2] == [1, 1] and mark[2:6] == [0.5, 0.1, 0.9, 0.8] for mark in sample["marks"])
        assert sample["texts"][0][0] == "question" and "[1]" in sample["texts"][0][1]
        assert HOSTILE in sample["raw"]
    (fault,) = content["faults"]
    assert re.fullmatch(r'free\.json, byte \d+: \{"id": 1, "images": "none"\}', fault)


def test_the_figures_are_of_all_samples_whatever_is_shown(folder, tmp_path):
    content = data_of(write_dataset_page(folder, tmp_path, count=4))
    charts = {chart["title"]: dict(chart["bars"]) for chart in content["histograms"]}
    assert charts["Samples by type"] == {"diff_train": 30, "free": 3}
    assert charts["Images per sample"] == {"2": 33} and charts["Questions per sample"] == {"1": 33}
    # 0.2 x 0.2 is 4%, 0.4 x 0.7 is 28%; the hostile text's has no tokens around it.
    boxes = {name: count for name, count in charts["Boxes by share of their image"].items() if count}
    assert boxes == {"to 10%": 33, "to 30%": 33}


def test_a_draw_is_even_over_types_and_repeats_by_seed(folder, tmp_path):
    def drawn(seed):
        content = data_of(write_dataset_page(folder, tmp_path, count=10, seed=seed))
        return [sample["name"] for sample in content["samples"]]

    names = drawn(0)
    assert Counter(name.split("-")[0] for name in names) == {"diff_train": 7, "free": 3}
    assert drawn(0) == names
    seen = {name for seed in range(12) for name in drawn(seed)}
    assert len(seen) > 28  # with 12 draws of 7 of 30, hardly one is never drawn


def test_shares_are_even():
    assert even_shares({"a": 5, "b": 100, "c": 100}, 30) == {"a": 5, "b": 12, "c": 13}
    assert even_shares({"a": 2, "b": 3}, 30) == {"a": 2, "b": 3}


def test_of_files_that_are_merged_only_the_parts_are_read(tmp_path):
    for name in ("card.json", "MGrounding-630k.json", "Difference.json", "Group_Grounding/Group_Grounding.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[]")
    (tmp_path / "card.json").write_text("{}")
    assert [file.name for file in dataset_files(tmp_path)] == ["Difference.json", "Group_Grounding.json"]
    # A build's card says which files are its own: a mix of the same samples may lie beside them.
    (tmp_path / "card.json").write_text('{"files": {"MGrounding-630k.json": {}, "Difference.json": {}, "x.png": {}}}')
    assert [file.name for file in dataset_files(tmp_path)] == ["Difference.json"]
    assert dataset_files(tmp_path / "Difference.json") == [tmp_path / "Difference.json"]
    with pytest.raises(UserError, match="holds no sample"):
        write_dataset_page(tmp_path, tmp_path / "page")


def test_images_that_are_nowhere_are_told(folder, tmp_path):
    with pytest.raises(UserError, match=r"none of the images is below .*--images"):
        write_dataset_page(folder, tmp_path / "page", images=tmp_path)


def test_the_command(folder):
    result = CliRunner().invoke(app, ["report", str(folder), "--count", "3"], catch_exceptions=False)
    assert result.exit_code == 0
    page = folder.with_name("MIG-Bench-page") / "index.html"
    assert len(data_of(page)["samples"]) == 3
    with pytest.raises(UserError, match="are for runs"):
        CliRunner().invoke(app, ["report", str(folder), "--published", "migician"], catch_exceptions=False)


def test_in_a_browser(folder, tmp_path, chromium):
    page = write_dataset_page(folder, tmp_path)
    tab = chromium.new_page(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    faults = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto(page.as_uri())
    assert tab.locator("#count").inner_text() == "33 samples"
    tab.get_by_label("Type", exact=True).select_option("free")
    assert tab.locator(".card").count() == 3
    tab.get_by_label("Text", exact=True).fill("free-2")
    tab.locator(".card").click()
    tab.locator("dialog[open] figure").first.wait_for()
    marks = tab.locator("dialog figure").nth(1).locator("rect.mark.answer")
    image = tab.locator("dialog figure").nth(1).locator("img").bounding_box()
    place = marks.first.evaluate(
        "one => { const b = one.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }"
    )
    x, y = image["x"] + 0.5 * image["width"], image["y"] + 0.1 * image["height"]
    assert place == pytest.approx([x, y, 0.4 * image["width"], 0.7 * image["height"]], abs=0.6)
    tab.locator("dialog summary").click()
    assert HOSTILE in tab.locator("dialog pre").text_content()
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.title().startswith("MIG-Bench") and faults == []
    tab.close()
