"""Every benchmark: its file forms, its prompts, what is refused; the verbs over all of them; and how one is added."""

import hashlib
import importlib
import json
import pickle
import subprocess
import sys

import msgspec
import pytest
from benchmarks.released_forms import blink_row, inside, mantis_row, muir_row, short_row, vstar_row, write_parquet
from PIL import Image
from typer.testing import CliRunner

from migician import benchmarks
from migician.benchmarks import BENCHMARKS, load_benchmark, mmiu
from migician.benchmarks.scoring.scoring import Reading
from migician.boxes import Box
from migician.boxtext import QWEN
from migician.cli import app
from migician.errors import UserError
from migician.evaluation.ask import Asking, Plan, evaluate
from migician.models.families.internvl2 import FAMILY as INTERNVL2
from migician.models.families.minicpm_v import FAMILY as MINICPM_V
from migician.models.family import QWEN2_VL
from migician.models.pictures import load_pictures
from migician.models.protocol import Request
from migician.models.stand_ins.scripted import Scripted

STRICT = Reading("strict", QWEN)
CONTEXT = (
    "Look closely.\nThe steps: step 1: CLICK: (603, 801)\n"
    "Select from the following choices.\nA: the first\nB: the second\nC: neither"
)


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def mmiu_row(task="person_reid", output="B", **fields):
    images = [f"./High-level-obj-semantic/{task}/{task}_0_{number}.jpg" for number in range(2)]
    return {
        "task": task,
        "question": f"Which of {task}?",
        "context": CONTEXT,
        "input_image_path": images,
        "output": output,
    } | fields


def mibench_row(task="subtle_difference", answer="red.", **fields):
    return {
        "task": task,
        "image": ["image/a.png", "image/b.png"],
        "question": "<image> and <image>: what colour changed?",
        "options": ["blue", "red", "dark red"],
        "answer": answer,
    } | fields


def phrase(sent="woman in white", bbox=(10, 10, 50, 40)):
    return {"image": "train2014/a.png", "sent": sent, "bbox": list(bbox), "width": 100, "height": 80}


class TestMmiu:
    def test_the_prompt_the_options_and_the_answer(self, tmp_path):
        bench = load_benchmark("mmiu", write(tmp_path / "test.json", [mmiu_row()]))
        (question,) = bench.questions
        assert question.options == ("the first", "the second", "neither") and question.answer == 1
        expected = f"Question:\nWhich of person_reid?\nSpecifically:\n{CONTEXT}"
        assert (
            bench.prompt(question, "corrected", QWEN2_VL, None)
            == bench.prompt(question, "published", QWEN2_VL, None)
            == expected
        )
        assert bench.sha256 == hashlib.sha256((tmp_path / "test.json").read_bytes()).hexdigest()

    def test_both_forms_hold_the_same_questions(self, tmp_path):
        parquet, pyarrow = (importlib.import_module(name) for name in ("pyarrow.parquet", "pyarrow"))
        rows = [mmiu_row(), mmiu_row("ordering", None, options="A: x\nB: y"), mmiu_row(output="C.")]
        table = pyarrow.Table.from_pylist([{"source": "elsewhere", **{"options": None} | row} for row in rows])
        parquet.write_table(table, tmp_path / "all.parquet")
        forms = [load_benchmark("mmiu", file) for file in (write(tmp_path / "a.json", rows), tmp_path / "all.parquet")]
        assert list(forms[0].questions) == list(forms[1].questions) and len(forms[0].questions) == 3
        assert [form.facts["files"] for form in forms] == [["a.json"], ["all.parquet"]]
        assert forms[0].questions[1].options == ("x", "y")  # a field of options goes before the context's

    @pytest.mark.parametrize("output", [None, "", "D", "AB", "the second"])
    def test_a_row_without_a_right_answer_is_kept_and_listed(self, tmp_path, output):
        bench = load_benchmark("mmiu", write(tmp_path / "a.json", [mmiu_row(), mmiu_row(output=output)]))
        assert len(bench.questions) == 2 and bench.malformed == [1]

    def test_options_of_several_lines_and_letters_in_the_text(self):
        text = "A: is a letter.\nNow choose.\nA: first\nand more\nB) second\nC. third"
        assert mmiu.split_options(text) == ("first\nand more", "second", "third")
        assert mmiu.split_options("A: alone") == mmiu.split_options("B: x\nC: y") == ()

    def test_images_are_shrunk_to_fit(self, tmp_path):
        for name, size in (("wide.png", (1600, 400)), ("small.png", (90, 50))):
            Image.new("RGB", size).save(tmp_path / name)
        files = [tmp_path / "wide.png", tmp_path / "small.png"]
        assert [one.size for one in load_pictures(files, mmiu.MAX_SIDE_PX)] == [(800, 200), (90, 50)]
        assert [one.size for one in load_pictures(files)] == [(1600, 400), (90, 50)]
        kept = Image.new("RGB", (1600, 400))
        load_pictures([kept], 800)
        assert kept.size == (1600, 400)


class TestMiBench:
    def test_the_prompt_in_both_wordings(self, tmp_path):
        file = write(tmp_path / "multi_image_instruction.json", [mibench_row(), mibench_row(question="What changed?")])
        bench = load_benchmark("mibench", file)
        ending = "Please only strictly answer from the choice list: blue | red | dark red"
        assert (
            bench.prompt(bench.questions[0], "corrected", QWEN2_VL, None)
            == f"<image> and <image>: what colour changed? {ending}"
        )
        assert (
            bench.prompt(bench.questions[0], "published", QWEN2_VL, None)
            == f"Image-1 and Image-2: what colour changed?{ending}"
        )
        assert bench.prompt(bench.questions[1], "published", QWEN2_VL, None) == f"What changed?{ending}"
        assert bench.questions[0].answer == 1 and not bench.questions[0].lettered

    @pytest.mark.parametrize(
        ("family", "mibench_end", "mmiu_end"),
        [
            (QWEN2_VL, "", ""),
            (MINICPM_V, "", "\nPlease only answer with the single letter."),
            (INTERNVL2, "Don't generate additional words.", ""),
        ],
        ids=lambda value: getattr(value, "name", ""),
    )
    def test_the_published_script_adds_a_sentence_for_some_families(self, tmp_path, family, mibench_end, mmiu_end):
        rows = {"mibench": mibench_row(), "mmiu": mmiu_row()}
        for name, end in (("mibench", mibench_end), ("mmiu", mmiu_end)):
            bench = load_benchmark(name, write(tmp_path / f"{name}.json", [rows[name]]))
            asked = {
                wording: bench.prompt(bench.questions[0], wording, family, None)
                for wording in ("corrected", "published")
            }
            for wording, added in (("published", end), ("corrected", "")):
                assert asked[wording] == bench.prompt(bench.questions[0], wording, QWEN2_VL, None) + added

    def test_marks_that_do_not_fit_the_images_are_no_places(self, tmp_path):
        bench = load_benchmark("mibench", write(tmp_path / "a.json", [mibench_row(question="<image> what?")]))
        assert "<image>" not in bench.prompt(bench.questions[0], "corrected", QWEN2_VL, None)

    def test_a_folder_is_both_parts(self, tmp_path):
        write(tmp_path / "multimodal_knowledge_seeking.json", [mibench_row("text_rich_images")])
        write(tmp_path / "multi_image_instruction.json", [mibench_row(), mibench_row(answer="green")])
        bench = load_benchmark("mibench", tmp_path)
        assert [question.task for question in bench.questions] == ["subtle_difference"] * 2 + ["text_rich_images"]
        assert bench.malformed == [1] and len(bench.facts["files"]) == 2
        with pytest.raises(UserError, match="holds neither"):
            load_benchmark("mibench", write(tmp_path / "empty/x.json", []).parent)

    def test_the_part_in_context_is_refused_by_name_and_by_task(self, tmp_path):
        for name, task in (("multimodal_in_context_learning.json", "subtle_difference"), ("x.json", "demo_based")):
            with pytest.raises(UserError, match="in-context part is not documented"):
                load_benchmark("mibench", write(tmp_path / name, [mibench_row(task)]))


class TestRefCoco:
    def test_lines(self, tmp_path):
        file = tmp_path / "refcoco_val.jsonl"
        file.write_text(
            "".join(json.dumps(one) + "\n" for one in (phrase(), phrase(bbox=(60, 10, 50, 40)) | {"task": "t"}))
        )
        bench = load_benchmark("refcoco", file)
        assert bench.questions[0].truth == Box(0.1, 0.125, 0.5, 0.5) and bench.questions[0].target == 0
        assert [question.task for question in bench.questions] == ["refcoco", "t"] and bench.malformed == [1]
        asked = bench.prompt(bench.questions[0], "corrected", QWEN2_VL, None)
        assert "<|object_ref_start|>woman in white<|object_ref_end|>" in asked and asked.endswith("additional words.")

    def test_the_folder_of_its_authors(self, tmp_path):
        folder = tmp_path / "refcoco+"
        refs = [
            {"ref_id": number, "ann_id": 7, "image_id": 3, "split": split, "sentences": [{"sent": "a"}, {"sent": "b"}]}
            for number, split in enumerate(("train", "val", "testA"))
        ]
        image = {"id": 3, "file_name": "COCO_train2014_000000000003.jpg", "width": 100, "height": 80}
        write(folder / "instances.json", {"images": [image], "annotations": [{"id": 7, "bbox": [10, 10, 40, 30]}]})
        (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, 0))
        bench = load_benchmark("refcoco", folder)
        assert [question.task for question in bench.questions] == ["refcoco+_val"] * 2 + ["refcoco+_testA"] * 2
        assert bench.questions[0].truth == Box(0.1, 0.125, 0.5, 0.5)
        assert bench.questions[0].images == ("train2014/COCO_train2014_000000000003.jpg",)
        files = [folder / "refs(unc).p", folder / "instances.json"]
        assert bench.sha256 == hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        refs[1]["ann_id"] = 8
        (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, 0))
        with pytest.raises(UserError, match=r"instances\.json: does not list .* reference 1"):
            load_benchmark("refcoco", folder)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("mmiu", "[", "not an MMIU file"),
        ("mmiu", "[]", "no question"),
        ("mmiu", json.dumps([{"task": "x"}]), "row 0: not an MMIU file.*missing required field `question`"),
        ("mmiu", json.dumps([mmiu_row(input_image_path=[])]), "row 0 has no images"),
        ("mmiu", "PAR1 and no more", "damaged parquet"),
        ("mibench", "{}", "not a MIBench file"),
        ("mibench", "[]", "no question"),
        ("mibench", json.dumps([mibench_row(image=[])]), "row 0 has no images"),
        ("refcoco", "[]", "holds no question"),
        ("refcoco", "{}", ":1:.*on one line"),
        ("refcoco", "", "no phrase"),
        ("refcoco", json.dumps(phrase() | {"width": 0}), ":1: an image of 0 x 80"),
        ("mmui", "[]", "unknown benchmark 'mmui'.*Did you mean 'mmiu'"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(tmp_path, name, content, says):
    file = tmp_path / "bad.json"
    file.write_text(content)
    with pytest.raises(UserError, match=says) as raised:
        load_benchmark(name, file)
    assert "\n" not in str(raised.value)


@pytest.fixture
def worlds(tmp_path):
    """A small file and its images for each benchmark: name -> (data, images)."""
    names = ["MIG-Bench/a.png", "MIG-Bench/b.png", "image/a.png", "image/b.png", "train2014/a.png"]
    names += [path for task in ("person_reid", "ordering") for path in mmiu_row(task)["input_image_path"]]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80), "grey").save(tmp_path / name)
    polled = [
        {
            "task": "common_object",
            "images": ["./MIG-Bench/a.png", "./MIG-Bench/b.png"],
            "question": f"Recognize and locate this object in the {nth}th image. ",
            "answer": [0.1, 0.1, 0.5, 0.5],
        }
        for nth in (1, 2)
    ]
    mig = write(tmp_path / "mig.json", polled)
    lines = tmp_path / "refcoco.jsonl"
    lines.write_text(json.dumps(phrase()) + "\n" + json.dumps(phrase("man")) + "\n")
    files = {
        "mig-bench": mig,
        "mig-bench-one-shot": mig,
        "mmiu": write(tmp_path / "mmiu.json", [mmiu_row(), mmiu_row("ordering", "C"), mmiu_row("ordering", None)]),
        "mibench": write(tmp_path / "mi.json", [mibench_row(), mibench_row("text_rich_images", "blue")]),
        "refcoco": lines,
        "muirbench": write_parquet(tmp_path / "muir.parquet", [muir_row(), muir_row("Ordering", "C")]),
        "blink": write_parquet(tmp_path / "blink.parquet", [blink_row(), blink_row(2, "Jigsaw", "(B)")]),
        "mantis-eval": write_parquet(tmp_path / "mantis.parquet", [mantis_row(), short_row()]),
        "vstar": write_parquet(tmp_path / "vstar.parquet", [vstar_row(image=inside(1))]),
    }
    described = {"id": 0, "images_id": [0, 1], "text": "the dog", "text_style": "Referring"}
    shown = [{"id": at, "file_name": f"image/{name}.png", "width": 100, "height": 80} for at, name in enumerate("ab")]
    drawn = {"image_id": 1, "text_id": 0, "category_id": 1, "bbox": [10, 10, 40, 30]}
    content = {"descriptions": [described], "images": shown, "annotations": [drawn]}
    files["mc-bench"] = write(tmp_path / "mc.json", content)
    assert files.keys() == BENCHMARKS.keys()
    return {name: (file, tmp_path) for name, file in files.items()}


def invoke(*args):
    return CliRunner().invoke(app, [str(one) for one in args], catch_exceptions=False)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_is_asked_scored_and_beaten_by_its_baseline(worlds, tmp_path, name):
    data, images = worlds[name]
    options = ["--data", data, "--images", images, "--model", "constant:100,100,500,500"]
    shown = invoke("eval", name, *options, "--out", tmp_path / "dry", "--dry-run")
    assert "--- row 0, " in shown.stdout and not (tmp_path / "dry").exists()
    asked = json.loads(invoke("eval", name, *options, "--out", tmp_path / "asked", "--json").stdout)
    given = ["--data", data, "--answers", tmp_path / "asked/answers.jsonl"]
    scored = json.loads(invoke("score", name, *given, "--out", tmp_path / "scored", "--json").stdout)
    for key in ("benchmark", "data_sha256", "n", "per_task", "average", "micro", "malformed_rows"):
        assert asked[key] == scored[key]
    assert asked["benchmark"] == name and asked["n"] == len(load_benchmark(name, data).questions)
    floor = json.loads(invoke("dev", "baseline", name, "--data", data, "--out", tmp_path / "floor", "--json").stdout)
    metric = next(iter(asked["average"]["interval"]))
    assert floor["average"][metric] >= asked["average"][metric] and floor["average"][metric] > 0
    low, high = floor["average"]["interval"][metric]
    assert 0 <= low <= floor["average"][metric] <= high <= 100
    compared = json.loads(invoke("compare", tmp_path / "floor", tmp_path / "asked", "--json").stdout)
    assert compared["n"] == asked["n"]
    assert invoke("report", tmp_path / "floor", tmp_path / "asked", "--images", images).exit_code == 0
    table = ["--parquet", tmp_path / "records.parquet"]
    done = invoke("report", tmp_path / "floor", tmp_path / "asked", *table)
    assert f"records.parquet: {2 * asked['n']} records" in done.stderr


def test_choices_are_reported_beside_chance_with_malformed_rows_apart(worlds, tmp_path):
    data, _ = worlds["mmiu"]
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(("B", "A or C", "A")))
    )
    given = ["--data", data, "--answers", answers, "--json"]
    report = json.loads(invoke("score", "mmiu", *given, "--out", tmp_path / "out").stdout)
    assert report["per_task"]["person_reid"]["outcomes"] == {"correct": 1}
    assert report["per_task"]["ordering"]["outcomes"] == {"wrong_choice": 1, "undecided": 1}
    assert report["average"]["accuracy"] == 50 and report["micro"]["accuracy"] == pytest.approx(100 / 3)
    assert report["average"]["chance"] == pytest.approx(100 * (1 / 3 + 1 / 6) / 2)  # nothing guesses a malformed row
    assert report["malformed_rows"] == [2] and report["without_malformed"]["micro"]["accuracy"] == 50
    assert report["micro"]["clusters"] == 2 and report["scoring"] == "choices" and "style" not in report
    published = invoke("score", "mmiu", *given, "--out", tmp_path / "p", "--protocol", "published")
    assert json.loads(published.stdout)["per_task"]["ordering"]["accuracy"] == 50  # "C" is in "A or C"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--protocol", "published", "--y-stretch"], "--y-stretch moves boxes"),
        (["--style", "qwen"], "--style says how boxes are formatted"),
    ],
)
def test_what_is_for_boxes_is_refused_for_options(worlds, tmp_path, options, says):
    data, _ = worlds["mmiu"]
    with pytest.raises(UserError, match=says):
        invoke("score", "mmiu", "--data", data, "--answers", "x.jsonl", "--out", tmp_path / "out", *options)


def test_a_folder_holds_one_benchmark_only(worlds, tmp_path):
    (data, images), out = worlds["mig-bench"], tmp_path / "out"
    model = Scripted(lambda request: "(100,100),(500,500)")
    evaluate(load_benchmark("mig-bench", data), Asking(model, images, out, Plan()), STRICT)
    with pytest.raises(UserError, match="another run: benchmark was 'mig-bench' and is now 'mig-bench-one-shot'"):
        evaluate(load_benchmark("mig-bench-one-shot", data), Asking(model, images, out, Plan()), STRICT)


def test_the_scripts_are_the_commands():
    for script in ("MIG_bench_eval", "MMIU_eval", "MIBench_eval"):
        done = subprocess.run(
            [sys.executable, f"eval/{script}.py", "--help"], capture_output=True, text=True, check=True
        )
        assert "--dry-run" in done.stdout


ADDED = '''
"""Capitals: which city is it?"""
import hashlib
from pathlib import Path

import msgspec

from migician.benchmarks import Benchmark
from migician.benchmarks.scoring.choices import CHOICES, ChoiceQuestion


def load(path):
    content = Path(path).read_bytes()
    questions = [
        ChoiceQuestion(index, row["country"], tuple(row["images"]), "Which city?", tuple(row["cities"]), row["city"],
                       row["cities"].index(row["city"]), lettered=False)
        for index, row in enumerate(msgspec.json.decode(content))
    ]
    prompt = lambda question, *how: f"Which city is it? {' or '.join(question.options)}?"
    return Benchmark("capitals", Path(path), hashlib.sha256(content).hexdigest(), questions, CHOICES, prompt)
'''


def test_a_benchmark_is_added_with_one_file_and_one_line(tmp_path, monkeypatch):
    (tmp_path / "capitals.py").write_text(ADDED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(benchmarks.BENCHMARKS, "capitals", "capitals")  # the line
    Image.new("RGB", (32, 24)).save(tmp_path / "tower.png")
    row = {"country": "France", "images": ["tower.png"], "cities": ["Paris", "Lyon"], "city": "Paris"}
    data = write(tmp_path / "capitals.json", [row, row | {"city": "Lyon"}])
    script = tmp_path / "script.jsonl"
    script.write_bytes(msgspec.json.encode({"prompt": "Which city is it? Paris or Lyon?", "reply": "It is Paris."}))
    out = tmp_path / "out"
    given = ["--model", f"scripted:{script}", "--data", data, "--images", tmp_path]
    done = invoke("eval", "capitals", *given, "--out", out, "--json")
    report = json.loads(done.stdout)
    assert report["benchmark"] == "capitals" and report["per_task"]["France"]["accuracy"] == 50
    assert report["average"]["chance"] == 50
    given = ["--data", data, "--answers", out / "answers.jsonl", "--out", tmp_path / "again"]
    assert invoke("score", "capitals", *given).exit_code == 0
    assert invoke("dev", "baseline", "capitals", "--data", data, "--out", tmp_path / "floor").exit_code == 0


def test_a_request_carries_the_benchmarks_limit(worlds, tmp_path):
    data, images = worlds["mmiu"]
    seen: list[Request] = []

    def reply(request):
        seen.append(request)
        return "A"

    evaluate(load_benchmark("mmiu", data), Asking(Scripted(reply), images, tmp_path / "out", Plan()), STRICT)
    assert {request.max_side_px for request in seen} == {800}


@pytest.mark.parametrize("name", ["mmiu", "mibench", "refcoco"])
def test_a_byte_order_mark_before_a_benchmark_changes_nothing(tmp_path, name):
    rows = {
        "mmiu": [{"task": "t", "input_image_path": ["a.png"], "question": "?", "options": "A: x\nB: y", "output": "B"}],
        "mibench": [
            {"task": "logical_reasoning", "image": ["a.png"], "question": "?", "options": ["x", "y"], "answer": "y"}
        ],
        "refcoco": {"image": "a.png", "sent": "a dog", "bbox": [1, 2, 3, 4], "width": 10, "height": 10},
    }
    file = tmp_path / "data.json"
    file.write_text(json.dumps(rows[name]))
    plain = load_benchmark(name, file).questions
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert load_benchmark(name, file).questions == plain
