"""Rows for reinforcement learning: what each framework loads, what is left out, and what replies would earn."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from command_line import command
from PIL import Image
from rich.console import Console

from migician.boxes import Box
from migician.boxtext import QWEN, STYLES
from migician.cli import rewarding
from migician.cli.converting import ROW_FORMS
from migician.errors import Done, UserError
from migician.training.prompts import PromptReader
from migician.training.reward_adapters import for_easyr1, for_swift, for_trl, for_verl
from migician.training.reward_replies import Replies
from migician.training.reward_report import Asked, reward_report, warnings
from migician.training.reward_rows import FORMS, is_right, write_rows
from migician.training.rewards import PRESETS, in_form

SIZES = [(640, 480), (333, 500), (1000, 200)]
ONE, OTHER = (QWEN.write(Box.from_permille(*corners)) for corners in ((100, 200, 500, 600), (0, 0, 250, 999)))
TURNS = [
    ("<image><image><image>Where is the dog in Image-2?", ONE),
    ("What is it?", "A dog."),
    ("And in the first and the third image?", f"Image-1: {OTHER}\nImage-3: {ONE}"),
]


def record(number: int, turns: list[tuple[str, str]], images: int = 3) -> dict[str, Any]:
    said = [{"from": who, "value": text} for turn in turns for who, text in zip(("human", "gpt"), turn, strict=True)]
    return {"id": f"r{number}", "images": [f"{n}.png" for n in range(images)], "conversations": said, "type": "t"}


@pytest.fixture
def records(tmp_path: Path) -> Path:
    for number, size in enumerate(SIZES):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    written = [record(0, TURNS), record(1, [("<image>Is it there?", "No.")], 1), record(2, TURNS[:1])]
    (tmp_path / "data.json").write_text(json.dumps(written))
    return tmp_path / "data.json"


def earned(form: str, row: dict[str, Any], reply: str, style: str) -> float:
    """What a framework's adapter gives for a reply to a row as its loader has it."""
    if form == "trl":
        columns = {name: [row[name]] for name in ("truths", "sizes") if name in row}
        (total,) = for_trl("mg-thinker", style=style)(completions=[reply], **columns)
        assert total is not None
        return total
    if form == "verl":
        truth = row["reward_model"]["ground_truth"]
        return for_verl("mg-thinker", style=style)(row["data_source"], reply, truth, row["extra_info"])["score"]
    if form == "easyr1":
        return for_easyr1("mg-thinker", style=style)([{"response": reply, "ground_truth": row["answer"]}])[0]["overall"]
    columns = {name: [row[name]] for name in ("solution", "sizes") if name in row}
    return for_swift("mg-thinker", style=style)([reply], **columns)[0]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("convention", ["qwen2_vl", "qwen2_5_vl"])
@pytest.mark.parametrize("form", FORMS)
def test_rows_load_and_the_own_answer_earns_the_most(form: str, convention: str, suffix: str, records: Path) -> None:
    datasets = pytest.importorskip("datasets")
    if convention != "qwen2_vl":
        out = records.with_name("other.json")
        assert not command("data", "convert", "records", "--from", records, "--to", convention, "--out", out).status
        records = out
    out = records.with_name(f"rows{suffix}")
    ended = command("data", "convert", "records", "--from", records, "--to", form, "--out", out)
    assert not ended.status, ended.error
    kind = "parquet" if suffix == ".parquet" else "json"
    cache = str(records.with_name("cache"))
    rows = datasets.load_dataset(kind, data_files=str(out), split="train", cache_dir=cache).to_list()
    reader = PromptReader(records)
    prompts = [one for _, one in reader.all() if form != "easyr1" or len(one.turns) == 1]
    assert len(rows) == len(prompts) == (2 if form == "easyr1" else 3)
    for row, prompt in zip(rows, prompts, strict=True):
        most = PRESETS["mg-thinker"].most(len(prompt.truths))
        assert earned(form, row, in_form(prompt.answer, "mg-thinker"), reader.style) == pytest.approx(most)
        assert earned(form, row, "<think></think><answer>no</answer>", reader.style) < most
        assert all(Path(name).is_file() for name in row["images"]) and len(row["images"]) == 3
    card = json.loads(out.with_name("rows.rows.json").read_bytes())
    assert card["form"] == form and card["style"] == reader.style and card["rows"] == len(rows)
    assert card["left_out"]["answers without a box"] == 2 and sum(card["left_out"].values()) == 5 - len(rows)


def test_what_stands_before_a_question_is_its_context(records: Path) -> None:
    rows = {}
    for form in FORMS:
        out = records.with_name(f"{form}.jsonl")
        write_rows(records, out, form)
        rows[form] = [json.loads(line) for line in out.read_text().splitlines()]
    whole = [text for turn in TURNS for text in turn][:-1]
    assert [one["content"] for one in rows["verl"][1]["prompt"]] == whole
    assert [one["content"] for one in rows["swift-rl"][1]["messages"]] == whole
    assert rows["verl"][1]["extra_info"] | {"sizes": 0} == {
        "index": 0, "turn": 2, "id": "r0", "answer": TURNS[2][1], "sizes": 0,
    }  # fmt: skip
    first, *others = rows["trl"][1]["prompt"]
    assert first["content"] == [{"type": "image"}] * 3 + [{"type": "text", "text": "Where is the dog in Image-2?"}]
    assert [one["role"] for one in others] == ["assistant", "user", "assistant", "user"]
    assert rows["easyr1"][0]["prompt"] == TURNS[0][0] and tuple(FORMS) == ROW_FORMS


def test_what_is_read_is_not_written_over(records: Path) -> None:
    replies = records.with_name("a.rows.json")
    replies.write_text(json.dumps([ONE] * 3))
    before = {file: file.read_bytes() for file in (records, replies)}
    for out in (records, records.with_name("a.rows.json"), records.with_name("a.jsonl")):
        words = ["--from", records, "--to", "trl", "--keep", "0..1", "--answers", replies, "--out", out, "--force"]
        ended = command("data", "convert", "records", *words)
        assert ended.status == 2 and "would take the place of what is read" in ended.error
        assert {file: file.read_bytes() for file in before} == before
        assert out in before or not out.exists()


def test_a_card_lost_to_a_kill_is_written_by_the_same_command(records: Path) -> None:
    out = records.with_name("rows.jsonl")
    card = write_rows(records, out, "trl")
    written = out.with_name("rows.rows.json").read_bytes()
    out.with_name("rows.rows.json").unlink()
    with pytest.raises(Done):
        write_rows(records, out, "trl")
    assert out.with_name("rows.rows.json").read_bytes() == written and card.rows == 3


def test_rows_with_images_after_a_thousand_without(records: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = [record(number, [("Where?", ONE)], 0) for number in range(1000)]
    records.write_text(json.dumps([*texts, record(1000, TURNS[:1])]))
    write_rows(records, records.with_name("rows.parquet"), "trl")
    lengths = [len(row) for row in parquet.read_table(records.with_name("rows.parquet"))["images"].to_pylist()]
    assert lengths == [0] * 1000 + [3]


def test_an_unknown_form_names_those_of_rows_too(records: Path) -> None:
    ended = command("data", "convert", "records", "--from", records, "--to", "verll", "--out", records)
    assert ended.status == 2 and "Did you mean 'verl'?" in ended.error


def test_turns_are_kept_by_how_often_they_are_answered(records: Path) -> None:
    replies = records.with_name("replies.jsonl")
    named = [
        {"index": 0, "turn": 0, "response": [ONE, ONE, OTHER, "no"]},
        {"index": 0, "turn": 2, "response": [TURNS[2][1]] * 2},
        {"index": 0, "turn": 2, "response": TURNS[2][1]},
        {"index": 2, "response": ["no", OTHER]},
    ]
    replies.write_text("".join(json.dumps(one) + "\n" for one in named))
    words = ["data", "convert", "records", "--from", records, "--to", "trl", "--out", records.with_name("rows.jsonl")]
    ended = command(*words, "--keep", "0.1..0.9", "--answers", replies)
    assert not ended.status and "1 row for trl" in ended.error
    (row,) = records.with_name("rows.jsonl").read_text().splitlines()
    assert (json.loads(row)["record"], json.loads(row)["turn"]) == (0, 0)
    card = json.loads(records.with_name("rows.rows.json").read_bytes())
    assert card["left_out"] == {
        "answers without a box": 2,
        "turns answered right more often than --keep says": 1,
        "turns answered right more seldom than --keep says": 1,
    }
    assert (card["kept"], card["replies"]) == ("0.1..0.9", "replies.jsonl")
    assert command(*words, "--keep", "0.5..1", "--answers", replies, "--force").error.startswith(
        f"{records.with_name('rows.jsonl')}: 2 rows"
    )


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        (TURNS[2][1], True),
        (f"Image-3: {ONE}\nImage-1: {OTHER}", True),
        (f"<think>?</think><answer>{TURNS[2][1]}</answer>", True),
        (f"Image-1: {OTHER}", False),
        (f"{TURNS[2][1]}\nImage-2: {ONE}", False),
        (f"Image-1: {ONE}\nImage-3: {OTHER}", False),
        ("", False),
    ],
)
def test_a_reply_is_right_where_it_gives_each_box_and_no_other(reply: str, right: bool, records: Path) -> None:
    prompt = [one for _, one in PromptReader(records).all()][1]
    assert is_right(reply, prompt, "qwen") is right


WRONG = [
    ('{"index": 1, "response": "a"}', "a reply to record 1, and no turn of it gives boxes"),
    ('{"index": 0, "turn": 1, "response": "a"}', "a reply to record 0, and its turn 1 does not give boxes"),
    ('{"index": "x", "response": "a"}', "`index` must be a whole number"),
    ('{"index": 0, "turn": -1, "response": "a"}', "`turn` must be a whole number"),
    ('{"index": 0, "response": [3]}', "`response` must be a reply as text"),
    ('{"index": 0}', "`response` must be a reply as text"),
    ('"a"\n"b"', "holds replies to 2 turns, and 3 give boxes"),
    ('"a"\n["b", 3]', "expected"),
    ("", "holds no reply"),
]


@pytest.mark.parametrize(("written", "said"), WRONG)
def test_replies_to_something_else_are_refused(written: str, said: str, records: Path) -> None:
    replies, out = records.with_name("replies.jsonl"), records.with_name("rows.jsonl")
    replies.write_text(written)
    with pytest.raises(UserError, match=said) as refused:
        write_rows(records, out, "trl", keep=(0.0, 1.0), replies=replies)
    assert str(replies) in str(refused.value) and not out.exists()


def test_replies_alone_are_those_to_each_turn(tmp_path: Path) -> None:
    for name, written in (("a.json", '["x", ["y", "z"]]'), ("a.jsonl", '"x"\n["y", "z"]\n')):
        (tmp_path / name).write_text(written)
        replies = Replies.read(tmp_path / name)
        assert [replies.of(0, 0), replies.of(0, 2)] == [["x"], ["y", "z"]]
        replies.check_used()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "trl", "--keep", "0.1..0.9"], "--keep and --answers go together"),
        (["--to", "trl", "--keep", "0.9..0.1", "--answers", "a"], "expected LOW..HIGH between 0 and 1"),
        (["--to", "trl", "--style", "qwen3_vl"], "convert the records first"),
        (["--to", "qwen3_vl", "--keep", "0..1", "--answers", "a"], "are for --to trl"),
        (["--to", "trl", "--media", "nowhere"], "not there"),
        (["--to", "verll"], "easyr1, swift-rl. Did you mean 'verl'?"),
    ],
)
def test_what_cannot_be_asked_for(words: list[str], said: str, records: Path) -> None:
    out = records.with_name("rows.jsonl")
    ended = command("data", "convert", "records", "--from", records, "--out", out, *words)
    assert ended.status == 2 and said in ended.error and not out.exists()


def test_an_always_zero_part_is_seen_before(records: Path) -> None:
    replies = records.with_name("replies.json")
    answers = [TURNS[0][1], TURNS[2][1], TURNS[0][1]]
    replies.write_text(json.dumps([[answers[0], OTHER], [answers[1]] * 2, answers[2]]))
    ended = command("reward", "--data", records, "--answers", replies)
    assert not ended.status and "think is 0 for every reply" in ended.error
    assert "1 of 2 questions with several replies (50.0%)" in ended.error
    report = json.loads(command("reward", "--data", records, "--answers", replies, "--json").output)
    assert report["style"] == "qwen" and report["replies"] == 5 and report["unanswered"] == 0
    assert [(row["record"], row["turn"], row["most"]) for row in report["rows"]] == [
        (0, 0, 2.75), (0, 2, 4.75), (2, 0, 2.75),
    ]  # fmt: skip
    spread = {one.pop("part"): one for one in report["spread"]}
    image = [1, 1, 2, 2, 1]
    assert spread["image"]["mean"] == pytest.approx(sum(image) / 5) and spread["think"]["zero"] == 1
    assert spread["image"]["deviation"] == pytest.approx(math.sqrt(sum((one - 1.4) ** 2 for one in image) / 5))


def test_the_rows_of_the_preset_with_most_parts_fit_80_columns() -> None:
    truth = [(0, (0.1, 0.2, 0.5, 0.6))]
    report = reward_report([Asked(100_000, 10, truth, [ONE] * 16)] * 11, "mg-thinker", "qwen")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(rewarding._rows(report))
    shown = console.export_text()
    assert "answer" in shown and "100000" in shown and "…" not in shown


def test_rewards_of_a_benchmarks_answers(tmp_path: Path) -> None:
    rows = [
        {
            "task": "diff", "images": ["a.jpg", "b.jpg"], "question": f"Which? {n}",
            "answer": [n / 1000, 0.002, 0.3, 0.4], "need_format": True, "additional_info": "",
        }
        for n in (1, 5)
    ]  # fmt: skip
    data, answers = tmp_path / "MIG_data.json", tmp_path / "answers.jsonl"
    data.write_text(json.dumps(rows))
    box = STYLES["qwen"].write(Box.from_permille(1, 2, 300, 400))
    answers.write_text(json.dumps({"index": 0, "response": box}) + "\n")
    ended = command(
        "reward", "--benchmark", "mig-bench", "--data", data, "--answers", answers, "--preset", "leap", "--json"
    )
    assert not ended.status, ended.error
    report = json.loads(ended.output)
    assert report["rows"][0]["replies"][0]["total"] == pytest.approx(1.1) and report["unanswered"] == 1


def test_a_report_warns_only_of_what_teaches_nothing() -> None:
    truth = [(0, (0.1, 0.2, 0.5, 0.6))]
    good, bad = in_form(f"Image-1: {ONE}", "mg-thinker"), "<answer>"
    report = reward_report([Asked(0, 0, truth, [good, bad])], "mg-thinker", "qwen")
    assert not list(warnings(report)) and report.even == 0
    with pytest.raises(UserError, match="no question has a reply"):
        reward_report([Asked(0, 0, truth, [])], "mg-thinker", "qwen")
    with pytest.raises(UserError, match="question 7: .*counts pixels"):
        reward_report([Asked(7, 0, truth, ['{"bbox_2d": [1, 2, 3, 4]}'])], "mg-thinker", "qwen2.5-vl")


@pytest.mark.parametrize(
    ("preset", "full", "lost"),
    [
        ("mg-thinker", 3, ""),
        ("onethinker", 3, ""),
        ("leap", 2, "format 0 of 0.1"),
    ],
)
def test_own_answers_earn_all_there_is(preset: str, full: int, lost: str, records: Path) -> None:
    given = json.loads(records.read_bytes())
    given[2]["conversations"][1]["value"] = f"It is here: {ONE}"
    records.write_text(json.dumps(given))
    ended = command("check", records, "--rewards", "--preset", preset, "--json")
    report = json.loads(ended.output)
    assert report["rewards"] == {"preset": preset, "turns": 3, "full": full}
    assert f"{full} of 3 own answers earn all that {preset} gives" in ended.error
    found = [one for one in report["findings"] if one["kind"] == "reward"]
    assert bool(found) == bool(lost) and ended.status == bool(lost)
    if lost:
        (place,) = found[0]["places"]
        assert (place["record"], place["id"], place["value"]) == (2, "r2", f"turn 0: {lost}")


def test_a_thin_box_does_not_earn_what_vlm_r1_gives(records: Path) -> None:
    """VLM-R1 counts no overlap of one unit of its grid: such a box earns nothing, however right."""
    thin = QWEN.write(Box.from_permille(100, 200, 101, 600))
    records.write_bytes(msgspec.json.encode([record(0, [(TURNS[0][0], thin)])]))
    report = json.loads(command("check", records, "--rewards", "--preset", "vlm-r1", "--json").output)
    (found,) = [one for one in report["findings"] if one["kind"] == "reward"]
    assert found["places"][0]["value"] == "turn 0: iou 0 of 1"
