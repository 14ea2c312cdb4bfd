"""MuirBench, BLINK, Mantis-Eval, V* and MMIU: released forms, prompts, answers of every kind, whole runs."""

import json

import pytest
from benchmarks.released_forms import (
    blink_row,
    inside,
    mantis_row,
    muir_row,
    script_of,
    short_row,
    vstar_row,
    write_lines,
    write_parquet,
)
from PIL import Image
from typer.testing import CliRunner

from migician.benchmarks import load_benchmark
from migician.benchmarks.scoring.choices import CHOICES, is_accepted
from migician.benchmarks.scoring.scoring import Answer, Reading
from migician.boxtext import QWEN
from migician.cli import app
from migician.errors import UserError
from migician.models.family import QWEN2_VL

STRICT = Reading("strict", QWEN)
ROWS = {
    "muirbench": [
        muir_row(),
        muir_row("Ordering", "C", question="What?"),
        muir_row("Ordering", "A", question="Which is <image>?", options=["<image>", "mirrored <image>"],
                 image_list=[inside(1), inside(2), inside(3)]),
    ],
    "blink": [blink_row(), blink_row(2, "Jigsaw", "(B)", image_3=inside(9), prompt="Which?\n(A) one\n(B) it")],
    "mantis-eval": [mantis_row(), mantis_row("(B)", question="Is it?"), short_row(), short_row("3", question="?")],
    "vstar": [vstar_row(image=inside(1)), vstar_row("relative_position", "B", image=inside(2), text="(A) on (B) off")],
}  # fmt: skip


def invoke(*args):
    return CliRunner().invoke(app, [str(one) for one in args], catch_exceptions=False)


@pytest.fixture
def load(tmp_path):
    return lambda name, rows: load_benchmark(name, write_parquet(tmp_path / f"{name}.parquet", rows))


def asked(bench, place=0, wording="corrected"):
    return bench.prompt(bench.questions[place], wording, QWEN2_VL, None)


def outcome(bench, place, reply):
    return CHOICES.score_one(bench.questions[place], Answer(place, reply), STRICT, lambda *_: None).outcome


LETTER = "\nAnswer with the option's letter from the given choices directly."


class TestMuirBench:
    def test_images_stand_at_their_marks_in_question_and_options(self, load):
        bench = load("muirbench", ROWS["muirbench"])
        options = "\nA. one\nB. two\nC. None of the choices provided"
        assert asked(bench) == f"How many hats are in <image> and <image> together?{options}{LETTER}"
        assert asked(bench, 2) == f"Which is <image>?\nA. <image>\nB. mirrored <image>{LETTER}"
        assert QWEN2_VL.placed(asked(bench, 2), 3) == asked(bench, 2)

    def test_marks_that_do_not_fit_are_no_places(self, load):
        bench = load("muirbench", [muir_row(question="Look at <image>.")])
        assert "<image>" not in asked(bench)

    @pytest.mark.parametrize(
        ("place", "reply", "expected"),
        [
            (0, "B", "correct"), (0, "(B) two", "correct"), (0, "The answer is B.", "correct"),
            (0, "one", "wrong_choice"),
            (0, "A or B", "undecided"), (0, None, "failed"), (0, "", "undecided"),
            (1, "C", "correct"), (1, "None of the choices provided.", "correct"), (1, "A", "wrong_choice"),
            (1, "C. None of the choices provided", "correct"),
            (2, "A", "correct"), (2, "Image-2", "correct"), (2, "B. mirrored Image-3", "wrong_choice"),
        ],
    )  # fmt: skip
    def test_replies(self, load, place, reply, expected):
        assert outcome(load("muirbench", ROWS["muirbench"]), place, reply) == expected

    def test_the_facts_say_what_the_file_is(self, load):
        facts = load("muirbench", ROWS["muirbench"]).facts
        assert facts["unanswerable"] == 1 and not facts["is_whole"] and facts["published_figure"] == "micro"
        tasks = [f"task {number % 12}" for number in range(2600)]
        bare = [muir_row(task, image_list=[{"bytes": None, "path": "a.png"}]) for task in tasks]
        whole = load("muirbench", bare)
        assert whole.facts["is_whole"] and whole.pictures is None and len(whole.questions) == 2600

    def test_a_row_without_images_or_answer(self, load):
        assert load("muirbench", [muir_row(answer="E"), muir_row()]).malformed == [0]
        with pytest.raises(UserError, match="row 1 has no images"):
            load("muirbench", [muir_row(), muir_row(image_list=[])])


class TestBlink:
    def test_the_validation_split_of_a_folder_of_tasks(self, tmp_path):
        for task in ("Art_Style", "Jigsaw"):
            for split, answer in (("val", "(A)"), ("test", "hidden")):
                rows = [blink_row(number, task, answer, split) for number in (1, 2)]
                write_parquet(tmp_path / task / f"{split}-00000-of-00001.parquet", rows)
        bench = load_benchmark("blink", tmp_path)
        assert [question.task for question in bench.questions] == ["Art_Style"] * 2 + ["Jigsaw"] * 2
        assert bench.facts["splits"] == ["val"] and bench.malformed == []
        with pytest.raises(UserError, match="BLINK's test split hides them"):
            load_benchmark("blink", tmp_path / "Jigsaw/test-00000-of-00001.parquet")

    def test_the_files_own_prompt_and_its_images_before_it(self, load):
        bench = load("blink", ROWS["blink"])
        own = ROWS["blink"][0]["prompt"]
        assert asked(bench) == own + LETTER and asked(bench, wording="official") == own
        assert [len(question.images) for question in bench.questions] == [2, 3]
        assert QWEN2_VL.placed(asked(bench), 2) == "<image><image>" + own + LETTER

    def test_a_row_without_a_prompt_gets_one(self, load):
        assert asked(load("blink", [blink_row(prompt=None)])).endswith(
            f"\nA. the second image\nB. the third image{LETTER}"
        )


class TestMantisEval:
    def test_both_kinds_of_question(self, load):
        bench = load("mantis-eval", ROWS["mantis-eval"])
        assert asked(bench) == f"Is the dog of <image> in <image>?\nA. Yes\nB. No{LETTER}"
        assert (
            asked(bench, 2) == "How many dogs? <image> <image>\nAnswer with a single word or number, and nothing else."
        )
        assert [question.task for question in bench.questions] == ["multi-choice"] * 2 + ["short-answer"] * 2
        assert [question.answer for question in bench.questions] == [0, 1, None, None] and bench.malformed == []

    @pytest.mark.parametrize(
        ("place", "reply", "expected"),
        [
            (0, "A", "correct"), (0, "Yes", "correct"), (0, "(B) No", "wrong_choice"), (1, "No.", "correct"),
            (2, "three", "correct"), (2, "Three.", "correct"), (2, "3", "wrong_choice"), (3, "3.", "correct"),
            (2, "Final Answer: three", "correct"), (2, "The answer is Three!", "correct"),
            (2, "There are three dogs.", "wrong_choice"), (2, "<think>two</think>three", "correct"),
            (2, None, "failed"),
        ],
    )  # fmt: skip
    def test_replies(self, load, place, reply, expected):
        assert outcome(load("mantis-eval", ROWS["mantis-eval"]), place, reply) == expected

    def test_an_accepted_text_is_the_whole_answer(self):
        assert is_accepted("**the Eiffel Tower**", ["Eiffel tower"])
        assert not is_accepted("", ["red"]) and not is_accepted("red and blue", ["red"])

    def test_several_answers(self, tmp_path):
        rows = [short_row(["3", "three"], images=["a.png", "b.png"]), mantis_row(["B"], images=["a.png", "b.png"])]
        bench = load_benchmark("mantis-eval", write_lines(tmp_path / "a.jsonl", rows))
        assert [outcome(bench, 0, reply) for reply in ("Three", "3", "2")] == ["correct", "correct", "wrong_choice"]
        assert bench.questions[1].answer == 1 and bench.pictures is None

    def test_rows_without_an_answer(self, load):
        assert load("mantis-eval", [mantis_row("D"), mantis_row(), short_row(" ")]).malformed == [0, 2]


class TestVStar:
    def test_the_authors_file_names_its_images(self, tmp_path):
        bench = load_benchmark(
            "vstar", write_lines(tmp_path / "test_questions.jsonl", [vstar_row(), vstar_row(label="E")])
        )
        question = bench.questions[0]
        assert question.options == ("rubber", "cotton", "kevlar", "leather") and question.answer == 0
        assert question.images == ("direct_attributes/sa_1.jpg",) and bench.pictures is None and bench.malformed == [1]
        options = "\nA. rubber\nB. cotton\nC. kevlar\nD. leather"
        assert asked(bench) == f"What is the material of the glove?{options}{LETTER}"

    def test_options_on_one_line(self, load):
        row = vstar_row(image=inside(1), text="Is it left or right? (A) right (B) left", label="B")
        question = load("vstar", [row]).questions[0]
        assert question.options == ("right", "left") and question.text == "Is it left or right?"

    def test_its_name_tells_its_folder(self, tmp_path):
        for category in ("direct_attributes", "relative_position"):
            (tmp_path / "V" / category).mkdir(parents=True)
            Image.new("RGB", (64, 48)).save(tmp_path / "V" / category / "sa_1.jpg")
        file = write_lines(tmp_path / "V/test_questions.jsonl", [vstar_row(), vstar_row("relative_position")])
        given = [
            "--data",
            file,
            "--images",
            tmp_path / "V",
            "--model",
            script_of(tmp_path / "s", load_benchmark("vstar", file), lambda _: "A"),
        ]
        report = json.loads(invoke("eval", "vstar", *given, "--out", tmp_path / "out", "--json").stdout)
        assert report["average"]["accuracy"] == 100 and report["micro"]["clusters"] == 2


class TestMmiu:
    ROW = {
        "visual_input_component": "natural image",
        "source": "elsewhere",
        "question": "Which one?",
        "context": "Select from the following choices.\nA: x\nB: y",
        "options": "A: x\nB: y",
        "input_image_path": ["./High-level-obj-semantic/a.jpg"],
        "output": "B",
    }
    END = "Please answer the option directly like A,B,C,D..."

    def test_the_official_prompt_depends_on_the_task(self, load):
        bench = load("mmiu", [self.ROW | {"task": task} for task in ("person_reid", "visual_grounding")])
        context = self.ROW["context"]
        assert asked(bench, 0, "official") == f"Which one?\n{context}\n{self.END}"
        assert asked(bench, 1, "official") == f"{context}\nWhich one?\n{self.END}"
        assert asked(bench) == f"Question:\nWhich one?\nSpecifically:\n{context}"

    def test_the_whole_file_has_60_names_for_52_tasks(self, load):
        rows = [self.ROW | {"task": f"task {number % 60}"} for number in range(11_698)]
        assert load("mmiu", rows).facts["is_whole"] and not load("mmiu", rows[1:]).facts["is_whole"]

    def test_images_may_be_inside(self, load):
        bench = load("mmiu", [self.ROW | {"task": "t", "input_image_path": [inside(1), inside(2)]}])
        assert len(bench.questions[0].images) == 2 == len(list(bench.pictures()))


@pytest.mark.parametrize("name", ["muirbench", "mantis-eval", "vstar"])
def test_no_official_prompt_where_there_is_none(load, name):
    with pytest.raises(UserError, match=f"{name} asks otherwise"):
        asked(load(name, ROWS[name]), wording="official")


@pytest.mark.parametrize("name", ROWS)
def test_a_scripted_model_from_the_prompt_to_the_report(tmp_path, name):
    """Each question is answered right by its prompt as the command prints it; then all of it is right."""
    file = write_parquet(tmp_path / "data/a.parquet", ROWS[name])
    bench = load_benchmark(name, file)
    given = ["--data", file, "--images", tmp_path / "images"]
    shown = invoke("eval", name, *given, "--model", "constant", "--out", tmp_path / "out", "--dry-run").stdout
    for place in {question.task: question.index for question in reversed(bench.questions)}.values():
        assert QWEN2_VL.placed(asked(bench, place), len(bench.questions[place].images)) in shown

    def right(question):
        return f"Answer: {question.accepted[0] if question.accepted else 'ABC'[question.answer]}"

    asking = [
        "eval",
        name,
        *given,
        "--model",
        script_of(tmp_path / "script.jsonl", bench, right),
        "--out",
        tmp_path / "run",
    ]
    report = json.loads(invoke(*asking, "--json").stdout)
    assert report["n"] == len(ROWS[name]) and report["prompt"] == bench.facts["prompt"]
    assert {figures["accuracy"] for figures in report["per_task"].values()} == {100}
    text = " ".join(invoke(*asking).output.split())
    assert "the file is not the whole benchmark" in text and "papers quote the mean over" in text
