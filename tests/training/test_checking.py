"""A dataset with one fault of each kind: all are found in one run, each at its place; a sound one passes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from migician.build.dataset import build
from migician.cli import app
from migician.errors import UserError
from migician.miniature import make_world
from migician.samples.dataset_info import Samples, dataset_entry
from migician.samples.lengths import EstimatedTokens, Resize
from migician.training.check import check
from migician.training.check.data import images as images_module
from migician.training.check.data.images import look, look_at_all
from migician.training.check.data.reading import Reader
from migician.training.check.findings import KINDS, Findings, shown
from migician.training.check.options import CheckOptions
from migician.training.check.report import CheckReport, sentences
from tests.build.test_build import MINIATURE, WORLD

BOX = "<|box_start|>(316,58),(764,999)<|box_end|>"


def scene(seed: int, size: tuple[int, int] = (200, 150)) -> Image.Image:
    """A picture with shapes of its own."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def record(id: Any, *images: str, question: str = "Where?", answer: str = BOX, **changed: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>" * len(images) + question}, {"from": "gpt", "value": answer}]
    return {"id": id, "images": list(images), "conversations": turns, "type": "t", **changed}


def turns(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": role, "value": text} for role, text in pairs]


# kind: the records that have it. Every question is different, so that nothing repeats by chance.
STRUCTURE: dict[str, list[dict[str, Any]]] = {
    "image_count": [record("s0", "a.jpg", conversations=turns(("human", "no mark"), ("gpt", "!")))],
    "media_mark": [record("s1", "a.jpg", question="and <video> q1")],
    "roles": [record("s2", "a.jpg", conversations=turns(("human", "<image> q2"), ("human", "!")))],
    "empty_text": [record("s3", "a.jpg", question=" \n ")],
    "special_token": [record("s4", "a.jpg", question="q4 <|im_end|>")],
    "box_tokens": [record("s5", "a.jpg", question="q5", answer=f"{BOX}<|box_end|>")],
    "box_text": [record("s6", "a.jpg", question="q6", answer="<|box_start|>(1.5,2),(3,4)<|box_end|>")],
    "box_scale": [record("s7", "a.jpg", question="q7", answer="<|box_start|>(1,2),(3,1004)<|box_end|>")],
    "box_corners": [record("s8", "a.jpg", question="q8", answer="<|box_start|>(7,2),(3,4)<|box_end|>")],
    "box_area": [record("s9", "a.jpg", question="q9", answer="<|box_start|>(3,2),(3,4)<|box_end|>")],
    "repeated": [record("s10", "a.jpg", question="q10"), record("s10b", "a.jpg", question="q10")],
    "id_missing": [{key: value for key, value in record("", "a.jpg", question="q11").items() if key != "id"}],
    "id_repeated": [record("s12", "a.jpg", question="q12"), record("s12", "a.jpg", question="q12 again")],
    "mark_in_answer": [record("s13", "a.jpg", conversations=turns(("human", "q13"), ("gpt", "<image> here")))],
    "format_slip": [record("s14", "a.jpg", question="q14 <|box_start|>(x1,y1),(x2,y2)<|box_start|>.")],
    "path": [record("s15", "../outside.jpg", question="q15")],
    "missing": [record("s16", "nowhere.jpg", question="q16")],
    "unreadable": [record("s17", "text.jpg", question="q17")],
    "truncated": [record("s18", "cut.jpg", question="q18")],
    "narrow": [record("s20", "narrow.png", question="q20")],
    "rotated": [record("s21", "rotated.jpg", question="q21")],
    "tiny": [record("s22", "tiny.png", question="q22")],
    "leak_name": [record("s23", "sa_6136360.jpg", question="q23")],
    "leak_picture": [record("s24", "copy.jpg", question="q24")],
    "too_long": [record("s25", "a.jpg", question="long " * 900)],
}


def write_images(folder: Path) -> None:
    scene(1).save(folder / "a.jpg", quality=95)
    scene(2).save(folder.parent / "outside.jpg")
    (folder / "text.jpg").write_text("not an image")
    scene(3).save(folder / "cut.jpg", quality=95)
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-600])
    Image.new("RGB", (6000, 28)).save(folder / "narrow.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(4).save(folder / "rotated.jpg", exif=exif)
    scene(5, (30, 20)).save(folder / "tiny.png")
    scene(6).save(folder / "sa_6136360.jpg")
    scene(7, (100, 75)).save(folder / "copy.jpg", quality=60)


def write_bench(folder: Path) -> Path:
    """A benchmark of two images; the training set has both, one under another name."""
    names = ["MIG-Bench/images/group_grounding/sa_6136360.jpg", "MIG-Bench/images/diff/1.jpg"]
    for name, seed in zip(names, (6, 7), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        scene(seed).save(folder / name, quality=95)
    rows = [{"task": "diff", "images": [f"./{name}"], "question": "?", "answer": [0, 0, 1, 1]} for name in names]
    (folder / "MIG_data.json").write_text(json.dumps(rows))
    return folder / "MIG_data.json"


def write_dataset(folder: Path, *files: tuple[str, list[dict[str, Any]]]) -> Path:
    folder.mkdir(parents=True)
    write_images(folder)
    for name, records in files:
        (folder / name).write_text("[\n" + ",\n".join(json.dumps(one) for one in records) + "\n]\n")
    entries = {Path(name).stem: dataset_entry(name) for name, _ in files}
    (folder / "dataset_info.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckOptions:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return CheckOptions(mig_bench=write_bench(tmp_path / "bench"), mig_bench_images=tmp_path / "bench", cutoff_len=800)


def counts(report: CheckReport) -> dict[str, int]:
    return {one.kind: one.count for one in report.findings}


class TestFaults:
    @pytest.mark.parametrize("kind", STRUCTURE)
    def test_each_alone(self, tmp_path: Path, options: CheckOptions, kind: str) -> None:
        folder = write_dataset(tmp_path / "d", ("Family.json", [record("ok", "a.jpg"), *STRUCTURE[kind]]))
        report = check(folder, options)
        (found,) = report.findings
        assert (found.kind, found.count) == (kind, 1) and report.fails(strict=True)
        assert report.fails(strict=False) == (KINDS[kind].severity == "problem")
        place, last, file = found.places[0], STRUCTURE[kind][-1], folder / "Family.json"
        assert (place.file, place.record, place.id) == (str(file), len(STRUCTURE[kind]), last.get("id"))
        content = file.read_bytes()
        assert place.byte == content.index(json.dumps(last).encode())

    def test_images_of_mig_bench_are_known_by_name_without_the_benchmark(self, tmp_path: Path) -> None:
        files = [record("s0", "a.jpg"), *STRUCTURE["leak_name"], *STRUCTURE["leak_picture"]]
        report = check(write_dataset(tmp_path / "d", ("A.json", files)))
        (found,) = report.findings
        assert (found.kind, found.count, report.leakage) == ("leak_name", 1, None)
        assert found.places[0].value == "sa_6136360.jpg is an image of MIG-Bench"
        assert any("by name only" in sentence for sentence in sentences(report))

    def test_all_in_one_run_also_as_lines_and_as_one_line(self, tmp_path: Path, options: CheckOptions) -> None:
        records = [record("ok", "a.jpg"), *(one for some in STRUCTURE.values() for one in some)]
        folder = write_dataset(tmp_path / "d", ("Family.json", records))
        (folder / "lines.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
        (folder / "line.json").write_text(json.dumps(records))
        found = [counts(check(folder / name, options)) for name in ("", "lines.jsonl", "line.json")]
        assert found == [dict.fromkeys(STRUCTURE, 1)] * 3

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (lambda text: text.replace('"value"', '"vlaue"', 1), "conversations[0].value"),
            (lambda text: text.replace('"images": ["a.jpg"]', '"images": 5', 1), "got `number`"),
            (lambda text: text.replace('"gpt"', '"gpt', 1), "malformed"),
            (lambda text: text.replace("Where", "Wh\x01ere", 1), "malformed"),
            (lambda text: text.replace("Where", "\udcff", 1), "utf-8"),
        ],
    )
    def test_a_broken_record_is_named_and_the_rest_is_read(
        self, tmp_path: Path, damage: Callable[[str], str], said: str
    ) -> None:
        folder = write_dataset(
            tmp_path / "d", ("x.json", [record(0, "a.jpg", question=f"Where {i}?") for i in range(5)])
        )
        before, _, rest = (folder / "x.json").read_text().partition("\n")
        first, _, others = rest.partition("\n")
        text = f"{before}\n{first}\n" + damage(others)
        (folder / "x.json").write_bytes(text.encode(errors="surrogateescape"))
        report = check(folder / "x.json")
        (found,) = (one for one in report.findings if one.kind in ("record", "not_json"))
        assert found.kind == ("not_json" if said in ("malformed", "utf-8") else "record")
        assert found.count == 1 and report.samples == 4
        assert found.places[0].record == 1 and said.lower() in found.places[0].value.lower()
        start = len(before) + len(first) + 2
        assert found.places[0].byte is not None and start <= found.places[0].byte < start + 300

    def test_a_file_that_is_cut_off(self, tmp_path: Path) -> None:
        folder = write_dataset(tmp_path / "d", ("x.json", [record(i, "a.jpg", question=f"{i}") for i in range(9)]))
        whole = (folder / "x.json").read_bytes()
        (folder / "x.json").write_bytes(whole[: len(whole) // 2])
        found = counts(check(folder))
        assert found == {"file": 1, "not_json": 1}

    def test_an_empty_file(self, tmp_path: Path) -> None:
        folder = write_dataset(tmp_path / "d", ("x.json", []))
        assert counts(check(folder)) == {"no_samples": 1}
        (folder / "x.json").write_text("")
        assert counts(check(folder)) == {"no_samples": 1}

    def test_other_fields_are_allowed_and_images_may_be_none(self, tmp_path: Path) -> None:
        text_only = {"id": 1, "conversations": turns(("system", "S"), ("human", "q"), ("gpt", "a")), "more": {"x": []}}
        empty = {"id": 2, "conversations": turns(("human", "q2"), ("gpt", "a")), "images": None}
        folder = write_dataset(tmp_path / "d", ("x.json", [text_only, empty]))
        assert check(folder).findings == []


class TestImages:
    def test_quick_reads_headers_only(self, tmp_path: Path) -> None:
        write_images(tmp_path)
        assert look(tmp_path / "cut.jpg").fault == "truncated"
        quick = look(tmp_path / "cut.jpg", quick=True)
        assert (quick.fault, quick.width, quick.height) == ("", 200, 150)

    @pytest.mark.parametrize("kind", ["png", "webp", "gif", "bmp", "tiff"])
    def test_other_kinds_cut_off(self, tmp_path: Path, kind: str) -> None:
        file = tmp_path / f"x.{kind}"
        scene(1).save(file)
        assert look(file) == images_module.ImageLook("", "", 200, 150)
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
        assert look(file).fault in ("truncated", "unreadable")

    def test_bombs_are_not_decoded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_images(tmp_path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
        assert look(tmp_path / "a.jpg").fault == "bomb"
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000)
        assert look(tmp_path / "a.jpg").fault == "bomb"

    def test_what_would_start_another_program_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "x.jpg").write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
        )
        assert look(tmp_path / "x.jpg").fault == "unreadable"

    @pytest.mark.parametrize("name", ["", "a\0b.jpg", "x" * 5000, "a.jpg/b.jpg"])
    def test_names_that_no_file_can_have(self, tmp_path: Path, name: str) -> None:
        write_images(tmp_path)
        assert look(tmp_path / name).fault in ("missing", "unreadable")

    @pytest.mark.parametrize("quick", [False, True])
    def test_which_way_a_trainer_sees_it(self, tmp_path: Path, quick: bool) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        for name, seen in {"a.jpg": (160, 120, 6), "a.png": (160, 120, 6), "a.tif": (120, 160, 6)}.items():
            scene(4, (160, 120)).save(tmp_path / name, exif=exif)
            found = look(tmp_path / name, quick=quick)
            assert (found.fault, found.width, found.height, found.rotation) == ("", *seen), name

    def test_several_processes_see_the_same(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_images(tmp_path)
        names = ["a.jpg", "cut.jpg", "nowhere.jpg", "rotated.jpg", "copy.jpg"] * 3
        monkeypatch.setattr(images_module, "_BATCH", 2)
        one, two = (list(look_at_all(tmp_path, names, workers, fingerprints=True)) for workers in (1, 2))
        assert one == two

    @pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b.jpg", "C:/b.jpg", r"..\b.jpg"])
    def test_paths_that_lead_out_are_not_opened(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = write_dataset(tmp_path / "d", ("x.json", [record(1, name)]))
        monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
        assert counts(check(folder)) == {"path": 1}


class TestFiles:
    def test_a_merged_file_is_checked_once(self, tmp_path: Path) -> None:
        bad = record("bad", "nowhere.jpg", question="?")
        families = [record(i, "a.jpg", question=f"{i}?") for i in range(6)]
        merged = [*families, bad, record("own", "a.jpg", question="own")]
        folder = write_dataset(tmp_path / "d", ("A.json", families), ("B.json", [bad]), ("All.json", merged))
        report = check(folder)
        assert [(one.samples, one.shared) for one in report.files] == [(6, 0), (1, 0), (8, 7)]
        assert report.samples == 8 and counts(report) == {"missing": 1}

    def test_more_files_than_two_bytes_count(self, tmp_path: Path) -> None:
        folder = write_dataset(tmp_path / "d", ("A.json", [record("a", "a.jpg")]))
        findings = Findings()
        reader = Reader(findings, EstimatedTokens())
        reader.read.files.extend([folder / "B.json"] * 70_000)
        reader.add(Samples(folder / "A.json"))
        assert reader.read.place(0).file == str(folder / "A.json") and findings.listed() == []

    def test_entries_that_do_not_fit(self, tmp_path: Path) -> None:
        folder = write_dataset(tmp_path / "d", ("A.json", [record(1, "a.jpg")]))
        entries = json.loads((folder / "dataset_info.json").read_text())
        entries["gone"] = dataset_entry("gone.json")
        entries["alpaca"] = {"file_name": "A.json"}
        entries["hub"] = {"hf_hub_url": "x/y"}
        entries["wrong"] = {"file_name": 5}
        entries["A"]["columns"].pop("images")
        (folder / "dataset_info.json").write_text(json.dumps(entries))
        # Read as alpaca, three columns are missing, images have none, and the record is skipped.
        skipped = {"roles": 1, "empty_text": 1}
        assert counts(check(folder)) == {"info": 7, "not_checked": 1} | skipped

    def test_images_may_lie_elsewhere(self, tmp_path: Path) -> None:
        folder = write_dataset(tmp_path / "d", ("A.json", [record(1, "a.jpg")]))
        mixture = shutil.copy(folder / "A.json", tmp_path / "mixed.json")
        assert counts(check(mixture)) == {"missing": 1}
        assert check(mixture, CheckOptions(media_dir=folder)).findings == []

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("nowhere", "no such file or folder"),
            ("empty", "holds no dataset_info.json"),
            ("notes.txt", "neither a folder with dataset_info.json nor a file of samples"),
            ("dataset_info.json", "not a dataset_info.json of LLaMA-Factory"),
        ],
    )
    def test_nothing_to_check(self, tmp_path: Path, name: str, said: str) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "notes.txt").write_text("a: 1")
        (tmp_path / "dataset_info.json").write_text("[1]")
        with pytest.raises(UserError, match=said):
            check(tmp_path / name)


class TestLengths:
    def test_tokens_are_text_and_images(self, tmp_path: Path) -> None:
        files = [record(0, "a.jpg", "tiny.png"), record(1, question="none"), record(2, "nowhere.jpg", question="lost")]
        folder = write_dataset(tmp_path / "d", ("A.json", files))
        alone = check(folder, CheckOptions(cutoff_len=1)).lengths
        assert alone and alone.known == 2 and not alone.exact
        one, other = (row.tokens for row in alone.too_long)
        small = Resize(image_max_pixels=100 * 75)
        smaller = check(folder, CheckOptions(cutoff_len=1, resize=small)).lengths
        assert smaller and smaller.too_long[0].tokens == one - 7 * 5 + 4 * 3
        assert smaller.too_long[1].tokens == other
        assert sum(count for _, _, count in alone.histogram) == 2

    def test_exact_with_a_tokenizer(self, tmp_path: Path, tiny_folder: Path) -> None:
        folder = write_dataset(tmp_path / "d", ("A.json", [record(0, "a.jpg")]))
        lengths = check(folder, CheckOptions(tokenizer=tiny_folder)).lengths
        assert lengths and lengths.exact and lengths.longest > 35


class TestBuilt:
    def test_what_build_makes_passes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        roots = make_world(tmp_path / "w", 5, WORLD)
        sources = {name: root for name, root in roots.items() if name != "mig-bench"}
        built = build(["all"], sources, tmp_path / "d", count=8, config=MINIATURE)
        bench = tmp_path / "w" / "MIG-Bench" / "MIG_data.json"
        options = CheckOptions(mig_bench=bench, mig_bench_images=tmp_path / "w", cutoff_len=2048)
        report = check(built.folder, options)
        assert report.findings == [] and report.samples == built.samples
        assert report.images.looked_at == report.images.distinct > 40
        assert report.leakage and report.leakage.fingerprints == 2 * 10


def test_untrusted_text_cannot_write_on_the_terminal() -> None:
    assert shown("a\x1b[31m\n" + "x" * 500) == "a\\x1b[31m\\n" + "x" * 86 + "..."


class TestCommand:
    def run(self, *arguments: object) -> Result:
        return CliRunner().invoke(app, ["check", *map(str, arguments)])

    def test_status_tells_problems_from_warnings(self, tmp_path: Path) -> None:
        clean = write_dataset(tmp_path / "clean", ("A.json", [record(1, "a.jpg")]))
        warned = write_dataset(tmp_path / "warned", ("A.json", STRUCTURE["rotated"]))
        wrong = write_dataset(tmp_path / "wrong", ("A.json", STRUCTURE["truncated"]))
        assert [self.run(one).exit_code for one in (clean, warned, wrong)] == [0, 0, 1]
        assert self.run(warned, "--strict").exit_code == 1
        assert self.run(wrong, "--quick").exit_code == 0

    def test_json_has_what_the_table_shows(self, tmp_path: Path) -> None:
        folder = write_dataset(tmp_path / "d", ("A.json", [*STRUCTURE["box_scale"], *STRUCTURE["too_long"]]))
        bench = write_bench(tmp_path / "bench")
        done = self.run(folder, "--json", "--mig-bench", bench, "--cutoff-len", 800)
        report = json.loads(done.stdout)
        assert {one["kind"] for one in report["findings"]} == {"box_scale", "too_long"}
        assert [row["record"] for row in report["lengths"]["too_long"]] == [1]
        assert report["leakage"]["images"] == 2 and report["leakage"]["known_by"] == {"name": 1, "path": 1}
        table = self.run(folder, "--cutoff-len", 800).stdout
        assert "box off the scale" in table and "(1,2),(3,1004)" in table and "1 more" not in table
