"""What a report page holds: every record once, its figures, and images that are made once."""

import json
import re

import pytest
from forked import parent_with
from pages import HOSTILE, NAMES, make_dataset, make_images, make_runs
from PIL import Image
from typer.testing import CliRunner

from migician.benchmarks.published.figures import published_named
from migician.cli import app
from migician.errors import UserError
from migician.evaluation.comparison import compare_folders
from migician.evaluation.run_folder import read_report, read_run
from migician.reports.page.runs import write_page


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("runs"))


def write(runs, out, **options):
    return write_page(runs, [run.name for run in runs], runs[0].parent, out, **options)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)[1])


@pytest.fixture(scope="module")
def content(runs, tmp_path_factory):
    return data_of(write(runs, tmp_path_factory.mktemp("page")))


def test_every_record_is_there_whole(runs, content):
    for place, run in enumerate(runs):
        records = read_run(run)[1]
        assert [sample["id"] for sample in content["samples"]] == list(records)
        for sample in content["samples"]:
            record = records[sample["id"]]
            assert sample["texts"][0] == ["question", record.question]
            assert sample["texts"][1 + place][1] == record.reply
            assert content["tasks"][sample["task"]][0] == record.task
            assert content["outcomes"][sample["outcomes"][place]] == record.outcome
            assert sample["ious"][place] == [record.iou, f"{record.iou:.2f}"]
            truth = [mark for mark in sample["marks"] if mark[0] == 0]
            assert truth == [[0, record.target, *record.truth]]
            drawn = [mark[2:] for mark in sample["marks"] if mark[0] == 1 + place]
            assert drawn == [pytest.approx(box, abs=1e-5) for box in record.boxes[:1]]


def test_the_figures_are_those_of_the_reports(runs, content):
    reports = [read_report(run) for run in runs]
    for row in content["scores"]["rows"]:
        for report, cell in zip(reports, row["cells"], strict=True):
            own = report["average"] if row["task"] is None else report["per_task"][content["tasks"][row["task"]][0]]
            assert cell["at"] == [own["acc@0.5"], *own["interval"]["acc@0.5"]]
    compared = compare_folders(*runs)["average"]
    last = content["comparisons"][0]["rows"][-1]
    assert last["cell"]["at"][0] == compared["acc@0.5"]
    assert last["only"] == [compared["mcnemar"]["first_only"], compared["mcnemar"]["second_only"]]
    for task, per_run in zip(content["tasks"], content["counts"], strict=True):
        for report, counts in zip(reports, per_run, strict=True):
            named = {name: count for name, count in zip(content["outcomes"], counts, strict=True) if count}
            assert named == report["per_task"][task[0]]["outcomes"]


def test_published_figures_come_with_what_makes_them_another_measure(runs, content, tmp_path):
    assert content["scores"]["published"] == []  # not a released file
    given = data_of(write(runs, tmp_path, published=published_named(["migician"])))
    assert given["scores"]["rows"][-1]["cells"][-1] == {"at": [63.82], "text": "63.82", "interval": ""}
    assert "no released MIG-Bench file" in given["cautions"][0]


def test_the_papers_figures_stand_beside_runs_over_a_released_file(tmp_path):
    run = make_runs(tmp_path, 6)[0]
    report = read_report(run)
    (run / "report.json").write_text(json.dumps({**report, "file_released_as": "a released file"}))
    content = data_of(write([run], tmp_path / "page"))
    assert content["scores"]["published"] == ["Migician", "Qwen2-VL-7B"]
    assert data_of(write([run], tmp_path / "page", published=[]))["scores"]["published"] == []


def test_runs_that_are_not_like_for_like_are_headed_each_with_its_own_words(tmp_path):
    first, second = make_runs(tmp_path, 6)
    command = ["score", "mig-bench", "--data", tmp_path / "data.json", "--answers", tmp_path / "second.jsonl"]
    again = [*map(str, command), "--out", str(second), "--protocol", "published", "--force"]
    CliRunner().invoke(app, again, catch_exceptions=False)
    content = data_of(write([first, second], tmp_path / "page"))
    assert content["title"] == "MIG-Bench's form, not a released file (data.json), 2 runs not like for like"
    names = ["first (strict protocol)", "second (published protocol)"]
    assert [one["name"] for one in content["looks"]] == ["true box", *names]
    told = f"Not like for like, the runs differ in protocol: {'; '.join(names)}."
    assert told in content["cautions"] and content["comparisons"][0]["caution"] == told
    assert all(told in one["remarks"] for one in content["tables"][1:])
    assert {row[1] for row in content["tables"][0]["rows"]} == set(names)


def test_texts_end_no_element_and_nothing_comes_from_outside(runs, tmp_path):
    page = write(runs, tmp_path).read_text()
    assert page.count("</script") == 2 and "\u2028" not in page and HOSTILE not in page
    outside = set(re.findall(r"https?://[^\s\"']+", page))
    assert outside <= {"http://www.w3.org/2000/svg"}  # the name of SVG, not an address


def test_each_image_is_made_once_and_an_earlier_one_is_used_again(runs, tmp_path):
    images = data_of(write(runs, tmp_path))["images"]
    assert [image[1:] for image in images] == [[900, 300, NAMES[0]], [64, 128, NAMES[1]]]
    files = {file.name: file for file in (tmp_path / "images").iterdir()}
    assert set(files) == {image[0] for image in images}
    assert [Image.open(files[image[0]]).size for image in images] == [(640, 213), (64, 128)]
    before = {name: file.stat().st_mtime_ns for name, file in files.items()}
    (tmp_path / "images" / f"{'0' * 24}.jpg").write_bytes(b"of an earlier page")
    (tmp_path / "images" / "mine.jpg").write_bytes(b"not of a page")
    write(runs, tmp_path)
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "images").iterdir()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"mine.jpg"}


def test_an_image_is_shown_upright(tmp_path):
    runs = make_runs(tmp_path, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (40, 20)).save(tmp_path / NAMES[0], "JPEG", exif=exif)
    file, *size, _ = data_of(write(runs, tmp_path / "page"))["images"][0]
    assert size == [20, 40] and Image.open(tmp_path / "page/images" / file).size == (20, 40)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_an_image_is_shown_as_the_model_sees_it(form, tmp_path):
    """A TIFF that Pillow turns by itself, and transparency, which hides what is saved below it."""
    from migician.models.pictures import load_picture

    runs = make_runs(tmp_path, 3)
    exif = Image.Exif()
    exif[0x0112] = 8
    picture = Image.new("RGBA", (40, 20), (255, 0, 0, 255))
    picture.paste((0, 0, 255, 0), (0, 0, 20, 20))
    picture.save(tmp_path / NAMES[0], form, exif=exif)
    file, *size, _ = data_of(write(runs, tmp_path / "page"))["images"][0]
    shown, seen = Image.open(tmp_path / "page/images" / file), load_picture(tmp_path / NAMES[0])
    assert size == [20, 40] == [*shown.size] and shown.size == seen.size
    for place in ((10, 35), (10, 5)):
        assert shown.getpixel(place) == pytest.approx(seen.getpixel(place), abs=8)
    assert seen.getpixel((10, 35)) == (255, 255, 255)


def test_a_dataset_is_shown_as_a_trainer_reads_it(tmp_path):
    """LLaMA-Factory turns no JPEG and Pillow every TIFF; `check` warns of both, and a look shows their boxes."""
    from migician.reports.page.files import AssetStore

    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.jpg", "a.tif"):
        Image.new("RGB", (40, 20)).save(tmp_path / name, exif=exif)
    store = AssetStore(lambda name: tmp_path / name, as_trained=True)
    assert [store.number(name) for name in ("a.jpg", "a.tif")] == [0, 1]
    images, faults = store.fill(tmp_path / "out", 1)
    assert [tuple(image[1:3]) for image in images] == [(40, 20), (20, 40)] and not faults
    assert [Image.open(tmp_path / "out" / image[0]).size for image in images] == [(40, 20), (20, 40)]


def test_broken_images_leave_a_gap_and_are_told(tmp_path):
    runs = make_runs(tmp_path, 3)
    (tmp_path / NAMES[0]).write_bytes(b"no image")
    content = data_of(write(runs, tmp_path / "page"))
    assert content["images"][0][0] == "" and content["images"][1][0]
    assert content["faults"] == [f"{NAMES[0]}: cannot be read as an image (UnidentifiedImageError)"]


def test_faults_are_named(runs, tmp_path):
    with pytest.raises(UserError, match=r"wide\.png: not found.*--images"):
        write_page(runs, ["a", "b"], tmp_path, tmp_path / "page")
    assert not (tmp_path / "page/index.html").exists()
    other = make_runs(tmp_path, 4)
    with pytest.raises(UserError, match="different benchmark files"):
        write([runs[0], other[1]], tmp_path / "page")


def test_workers_do_not_change_the_page(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("migician.reports.page.files._BATCH", 1)
    names = [f"./MIG-Bench/images/{at}.png" for at in range(9)]
    for at, name in enumerate(names):
        Image.new("RGB", (30 + at, 20), (20 * at, 0, 0)).save(runs[0].parent / name)
    from migician.build.image_roots import ImageRoots
    from migician.reports.page.files import AssetStore

    made = []
    for processes in (1, 2):
        store = AssetStore(ImageRoots([runs[0].parent], [runs[0].parent]).find)
        assert [store.number(name) for name in [*names, names[0]]] == [*range(9), 0]
        made.append(store.fill(tmp_path / str(processes), processes))
    assert made[0] == made[1]


def test_the_command(runs, tmp_path):
    command = ["report", *map(str, runs), "--images", str(runs[0].parent), "--out", str(tmp_path / "page")]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0 and "average" in result.stdout
    assert (tmp_path / "page/index.html").is_file()
    with pytest.raises(UserError, match="add --images"):
        CliRunner().invoke(app, ["report", str(runs[0])], catch_exceptions=False)
    with pytest.raises(UserError, match="--count is for datasets"):
        CliRunner().invoke(app, [*command, "--count", "3"], catch_exceptions=False)


def test_one_run_of_choices_has_a_page(tmp_path):
    make_images(tmp_path)
    rows = [{"task": "t", "question": "Which?", "options": "A: a\nB: b", "output": "A", "input_image_path": [NAMES[0]]}]
    (tmp_path / "mmiu.json").write_text(json.dumps(rows))
    (tmp_path / "answers.jsonl").write_text('{"index": 0, "response": "A"}\n')
    command = ["score", "mmiu", "--data", tmp_path / "mmiu.json", "--answers", tmp_path / "answers.jsonl"]
    CliRunner().invoke(app, [*map(str, command), "--out", str(tmp_path / "run")], catch_exceptions=False)
    sample = data_of(write([tmp_path / "run"], tmp_path / "page"))["samples"][0]
    assert sample["ious"] == [None] and sample["marks"] == []
    assert sample["texts"][1] == ["right answer", "a; of a | b"]


# The kernel refuses what goes beyond so many bytes of a file, as a full disk does.
FULL = """
import resource, sys
room = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
from migician.cli import main
main()
"""


@pytest.fixture(scope="module")
def full():
    with parent_with("import migician.cli, migician.reports.page.runs, migician.reports.page.dataset") as parent:
        yield parent


@pytest.mark.parametrize("refused", [r"images/[0-9a-f]{24}\.jpg", r"index\.html"])
@pytest.mark.parametrize("what", ["runs", "dataset"])
def test_a_full_disk_is_told_and_left_as_it_was(what, refused, tmp_path, full):
    shown = [*make_runs(tmp_path, 12)[:1], "--images", tmp_path] if what == "runs" else [make_dataset(tmp_path)]
    words = ["report", *map(str, shown), "--workers", "1", "--out"]
    assert CliRunner().invoke(app, [*words, str(tmp_path / "sound")]).exit_code == 0
    page, largest = (
        (tmp_path / "sound/index.html").stat().st_size,
        max(image.stat().st_size for image in (tmp_path / "sound/images").iterdir()),
    )
    room = 300 if "images" in refused else page - 1
    assert 300 < largest < page
    limited = [FULL, room, *words, tmp_path / "pages/new"]
    before = set(tmp_path.rglob("*"))
    ended = full.run(*limited)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1, ended.stderr
    assert re.search(refused + ": cannot be written: File too large", ended.stderr)
    assert set(tmp_path.rglob("*")) == before
    # Of an earlier page there, the images stay.
    assert CliRunner().invoke(app, [*words, str(tmp_path / "pages/new")]).exit_code == 0
    gone, *kept = (tmp_path / "pages/new/images").iterdir()
    gone.unlink()
    (tmp_path / "pages/new/index.html").unlink()
    assert full.run(*limited).returncode == 2
    assert set((tmp_path / "pages/new").rglob("*.*")) == set(kept)
