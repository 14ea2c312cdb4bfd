"""Servers that fail half-way: what passes, what the set-up causes, what a question causes; and odd answers."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Ended, command
from PIL import Image
from scripted_server import Body, Script, served

from migician.benchmarks import mig_bench
from migician.benchmarks.scoring.scoring import Reading
from migician.boxtext import QWEN
from migician.evaluation.ask import Asking, Plan, evaluate
from migician.models.engines.server import ServedModel
from migician.models.family import QWEN2_VL
from migician.models.faults import BEARING, RunStopped, Tolerance, of_the_setup, setting_not_taken
from migician.models.protocol import Request

TASKS = ("diff", "region", "reasoning")
ROWS = 24


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.json, 24 questions over 12 pairs of images."""
    home = tmp_path_factory.mktemp("drawn")
    rows = []
    for number in range(ROWS):
        names = [f"./MIG-Bench/images/{number // 2}_{side}.png" for side in range(2)]
        for name in names:
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 24), (number * 9, 90, 90)).save(path)
        asked = f"Question {number}: find it in the 2th image. "
        rows.append({"task": TASKS[number % 3], "images": names, "question": asked, "answer": [0.1, 0.1, 0.5, 0.5]})
    (home / "data.json").write_text(json.dumps(rows))
    return home


@pytest.fixture
def world(drawn: Path, tmp_path: Path) -> Path:
    """A folder of its own for each test with what was drawn."""
    return shutil.copytree(drawn, tmp_path, copy_function=os.link, dirs_exist_ok=True)


def question(body: Body) -> int | None:
    """The number of the question in a request; None for what is no question of the benchmark."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    return int(text.split("Question ")[1].split(":")[0]) if "Question " in text else None


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Script, str]]:
    """One server for all, as reports name its address."""
    script = Script()
    with served(script) as address:
        yield script, address


@pytest.fixture
def script(server: tuple[Script, str]) -> Script:
    return as_new(server[0])


@pytest.fixture
def url(server: tuple[Script, str]) -> str:
    return server[1]


def as_new(script: Script) -> Script:
    script.__dict__.update(Script().__dict__)
    script.reply = lambda body: f"(100,100),(500,{400 + (question(body) or 0)})"
    return script


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    async def pause(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


def asked_of(url: str, clock: Clock | None = None, **options: Any) -> ServedModel:
    clock = clock or Clock()
    return ServedModel(url, "m", QWEN2_VL, pause=clock.pause, clock=clock, **options)


def run(world: Path, model: ServedModel, out: str = "out", tolerance: Tolerance = BEARING) -> dict[str, Any]:
    bench = mig_bench.load(world / "data.json")
    reading, plan = Reading("strict", QWEN), Plan(batch_size=8)
    return evaluate(bench, Asking(model, world, world / out, plan, tolerance), reading)


def evaluated(world: Path, url: str, out: str, *more: str) -> Ended:
    words = ["eval", "mig-bench", "--model", f"server:{url}#m", "--family", "qwen2_vl", "--concurrency", "2"]
    words += ["--data", str(world / "data.json"), "--images", str(world), "--out", str(world / out), *more]
    return command(*words)


def compared(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Report and records without what says when and how fast."""
    times = ("date", "model_seconds", "outside_seconds")
    report = json.loads((folder / "report.json").read_text())
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    return {name: value for name, value in report.items() if name not in times}, [
        {name: value for name, value in one.items() if name != "seconds"} for one in records
    ]


@pytest.fixture(scope="module")
def whole(
    drawn: Path, server: tuple[Script, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Report and records of a run to which nothing happened."""
    home = shutil.copytree(drawn, tmp_path_factory.mktemp("whole"), copy_function=os.link, dirs_exist_ok=True)
    as_new(server[0])
    run(home, asked_of(server[1]))
    return compared(home / "out")


STOPS = [
    ("401", "no key", "Set MIGICIAN_API_KEY"),
    ("402", "Payment Required", "has no credit left"),
    ("404", "The model `m` does not exist.", "names of the models"),
    ("429", "insufficient_quota: You exceeded your current quota", "status 429"),
    ("400", "At most 1 image(s) may be provided in one prompt.", "At most 1 image"),
    ("400", "max_tokens must be at most 64", "max_tokens must be at most 64"),
    ("422", "temperature: Input should be greater than 0", "temperature"),
    ("503", "overloaded", "still failing after [2-7] tries"),
    ("500", "boom", "still failing after [2-7] tries"),
    ("429", "slow down", "still failing after [2-7] tries"),
    ("close", "", "still failing after [2-7] tries"),
    ("403", "this key may not use the model", "Set MIGICIAN_API_KEY"),
]


@pytest.mark.parametrize(("fault", "told", "says"), STOPS)
@pytest.mark.parametrize("concurrency", [1, 5])
def test_a_server_that_fails_half_way_stops_the_run_and_the_rest_is_asked_later(
    world: Path, whole: Any, script: Script, url: str, fault: str, told: str, says: str, concurrency: int
) -> None:
    script.told, script.fault = told, lambda body: fault if len(script.bodies) > 9 else None
    clock = Clock()
    with pytest.raises(RunStopped, match=says):
        run(world, asked_of(url, clock, concurrency=concurrency))
    assert clock.now <= 60 * concurrency, "waits that run beside each other add up here"
    assert len(script.bodies) < 9 + concurrency * 8 + 2, "a dead server is not asked question by question"
    kept = [json.loads(line) for line in (world / "out/answers.jsonl").read_text().splitlines()]
    answered = [question(body) for body in script.bodies[:9]]
    assert sorted(one["index"] for one in kept) == sorted(answered) and all(one.get("response") for one in kept)
    assert not (world / "out/report.json").exists()
    script.bodies.clear()
    script.fault = lambda body: None
    assert run(world, asked_of(url, concurrency=concurrency))["average"] == whole[0]["average"]
    assert sorted(question(body) for body in script.bodies) == sorted(set(range(ROWS)) - set(answered))
    assert compared(world / "out") == whole


@pytest.mark.parametrize(
    ("fault", "told", "says"),
    [("401", "no key", "MIGICIAN_API_KEY"), ("400", "At most 1 image(s) may be provided", "At most 1 image")],
)
def test_the_command_ends_with_a_line_and_a_status(
    world: Path, script: Script, url: str, fault: str, told: str, says: str
) -> None:
    script.told, script.fault = told, lambda body: fault if len(script.bodies) > 9 else None
    done = evaluated(world, url, "out")
    assert done.status == 2 and says in done.error and done.output == ""
    assert len(done.error.strip().splitlines()) == 1 and "Traceback" not in done.error
    script.fault = lambda body: None
    assert evaluated(world, url, "out").status == evaluated(world, url, "whole").status == 0
    assert compared(world / "out") == compared(world / "whole")


def test_a_question_that_the_server_cannot_answer_is_booked_with_its_reason_and_asked_again(
    world: Path, script: Script, url: str
) -> None:
    """Status 500 for one question for ever, 400 for another: the server answers all others."""
    faults = {7: "500", 11: "400"}
    script.told, script.fault = "cannot decode image", lambda body: faults.get(question(body) or 0)
    clock = Clock()
    report = run(world, asked_of(url, clock, concurrency=1), tolerance=Tolerance(0.1))
    assert clock.now <= 60
    assert report["failures"]["n"] == 2 and report["n"] == ROWS
    errors = {one["index"]: one["error"] for one in compared(world / "out")[1] if one["outcome"] == "failed"}
    assert errors.keys() == faults.keys()
    assert "status 500" in errors[7] and "while the server answers other requests" in errors[7]
    assert errors[11].startswith("status 400") and "cannot decode image" in errors[11]
    script.bodies.clear()
    script.fault = lambda body: None
    again = run(world, asked_of(url), tolerance=Tolerance(retry=True))
    assert sorted(question(body) for body in script.bodies) == [7, 11] and "failures" not in again
    run(world, asked_of(url), "whole")
    assert compared(world / "out") == compared(world / "whole")


def test_an_image_that_cannot_be_read_is_the_questions_own_fault(world: Path, script: Script, url: str) -> None:
    model = asked_of(url)
    (world / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    picture = Image.new("RGB", (30, 20))
    replies = dict(model.replies([Request((world / "broken.png",), "Question 1:"), Request((picture,), "Question 2:")]))
    assert replies[1].text and replies[0].text is None and "broken.png" in (replies[0].fault or "")


def test_beyond_the_share_a_served_run_ends(world: Path, script: Script, url: str) -> None:
    script.told, script.fault = "cannot decode", lambda body: "400" if (question(body) or 0) % 2 else None
    done = evaluated(world, url, "out")
    assert done.status == 2 and "questions failed, more than --fail-on-error 0.05" in done.error
    assert not (world / "out/report.json").exists()
    done = evaluated(world, url, "out", "--fail-on-error", "1")
    assert done.status == 0 and "the model failed on 12 of 24 questions" in done.error
    assert "cannot decode" in done.error


def choice(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}], **more}


BOX = "(1,1),(2,2)"
SENT: list[tuple[dict[str, Any], str | None, str, str | None]] = [
    # what is sent, the reply, what its fault says, what was thought
    (choice({"content": BOX}), BOX, "", None),
    (choice({"content": BOX}, usage=None), BOX, "", None),
    (choice({"content": BOX}, usage={"prompt_tokens": None, "completion_tokens": None}), BOX, "", None),
    (choice({"content": BOX}, None, model=None), BOX, "", None),
    (choice({"content": BOX}, "length"), BOX, "", None),
    (choice({"content": "(1,1)"}, "content_filter"), None, "content filter", None),
    (choice({"content": None}, "length"), None, "no content within 9 tokens .*raise --max-new-tokens", None),
    (choice({"content": "", "reasoning_content": "hm"}, "length"), None, "tokens of thinking", "hm"),
    (choice({"content": None}, "content_filter"), None, "content filter", None),
    (choice({"content": None, "refusal": "I can't help."}), None, "declined by the model: I can't help", None),
    (choice({"content": None}), None, r"without content \(finish_reason stop\)", None),
    (choice({}, None), None, "finish_reason not given", None),
    (choice({"content": ""}), "", "", None),
    (choice({"content": BOX, "reasoning_content": "first"}), BOX, "", "first"),
    (choice({"content": BOX, "reasoning": "second"}), BOX, "", "second"),
    (choice({"content": BOX, "reasoning": {"effort": 1}}), BOX, "", None),
    (choice({"content": [{"type": "text", "text": "(1,1),"}, {"type": "text", "text": "(2,2)"}]}), BOX, "", None),
    (choice({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": BOX}]}), BOX, "", None),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "text", "says", "thought"), SENT)
def test_what_servers_really_send(
    script: Script, url: str, sent: dict[str, Any], text: str | None, says: str, thought: str | None
) -> None:
    script.whole = lambda body: sent
    ((_, reply),) = asked_of(url).replies([Request((), "q", 9)])
    assert (reply.text, reply.reasoning) == (text, thought)
    if text is None:
        assert re.search(says, reply.fault or "")
    else:
        assert reply.fault is None


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ({"message": "Provider returned error", "code": 401}, "Provider returned error.*MIGICIAN_API_KEY"),
        ({"message": "upstream is busy", "code": 529}, "upstream is busy"),
        ({"message": "something else"}, "something else"),
        ("just words", "just words"),
    ],
)
def test_an_error_with_status_200_shows_its_words(script: Script, url: str, error: Any, says: str) -> None:
    script.whole = lambda body: {"error": error}
    with pytest.raises(RunStopped, match=says):
        asked_of(url).answer([Request((), "q")])


@pytest.mark.parametrize(
    "ended",
    [
        choice({"content": ""}, "abort"),
        choice({"content": "<|box_start|>(25"}, "error"),
        choice({"content": BOX}, "network_error"),
        choice({"content": BOX}, "insufficient_system_resource"),
        {"choices": [{"message": {"content": "(1,"}, "finish_reason": "stop", "error": {"code": 502, "message": "x"}}]},
        choice({"content": "(1,"}, error={"code": 502, "message": "provider disconnected"}),
    ],
)
def test_a_reply_that_the_server_broke_off_is_no_answer(
    world: Path, whole: Any, script: Script, url: str, ended: dict[str, Any]
) -> None:
    script.whole = lambda body: ended if len(script.bodies) == 10 else None
    assert run(world, asked_of(url, concurrency=1), "once")["average"] == whole[0]["average"], "it is asked again"
    assert len(script.bodies) == ROWS + 1
    script.bodies.clear()
    script.whole = lambda body: ended if len(script.bodies) > 9 else None
    with pytest.raises(RunStopped, match="still failing after [2-7] tries"):
        run(world, asked_of(url, concurrency=1), "out")
    script.whole = lambda body: None
    assert run(world, asked_of(url), "out")["average"] == whole[0]["average"]
    assert compared(world / "out") == whole


def test_content_that_a_server_will_not_have_is_the_questions_own_fault(world: Path, script: Script, url: str) -> None:
    script.told = "Your chosen model requires moderation and your input was flagged"
    script.fault = lambda body: "403" if question(body) == 5 else None
    report = run(world, asked_of(url))
    assert report["failures"]["n"] == 1 and "flagged" in report["failures"]["reasons"][0]["reason"]
    assert len(script.bodies) == ROWS


REFUSED = [
    ("seed", "Unrecognized request argument supplied: seed"),
    ("seed", '[{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]'),
    ("temperature", "Unsupported value: 'temperature' does not support 0 with this model."),
    ("temperature", "`temperature` is deprecated for this model."),
    ("max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
    ("max_tokens", "unknown field max_tokens"),
]


@pytest.mark.parametrize(("name", "words"), REFUSED)
def test_a_parameter_that_is_not_taken_is_dropped_and_the_report_says_so(
    world: Path, script: Script, url: str, name: str, words: str
) -> None:
    script.told, script.fault = words, lambda body: "400" if name in body else None
    report = run(world, asked_of(url, concurrency=1))
    renamed = name == "max_tokens"
    assert report.get("dropped_parameters") == (None if renamed else [name])
    assert sum(name in body for body in script.bodies) == 1, "found out once"
    if renamed:
        assert all(body["max_completion_tokens"] == 128 for body in script.bodies[1:])
    script.bodies.clear()
    assert run(world, asked_of(url))["average"] == report["average"] and not script.bodies


def test_both_names_of_the_limit_may_be_refused(world: Path, script: Script, url: str) -> None:
    def fault(body: Body) -> str | None:
        name = next((name for name in ("max_tokens", "max_completion_tokens") if name in body), None)
        script.told = f"unknown field {name}"
        return name and "400"

    script.fault = fault
    assert run(world, asked_of(url, concurrency=1))["dropped_parameters"] == ["max_tokens"]


def test_thinking_is_kept_in_the_record(world: Path, script: Script, url: str) -> None:
    script.whole = lambda body: choice({"content": "(100,100),(500,500)", "reasoning_content": "It is on the left."})
    run(world, asked_of(url))
    records = compared(world / "out")[1]
    assert all(one["reasoning"] == "It is on the left." and one["outcome"] == "correct" for one in records)


OF_THE_QUESTION = [
    "This model's maximum context length is 4096 tokens. However, you asked for max_tokens 5000.",
    "'max_tokens' or 'max_completion_tokens' is too large: 128. This model's maximum context length is 64 tokens",
    "cannot identify image file <_io.BytesIO object>",
    "Invalid image data URL",
    "The image is too large to process",
    "upstream error while decoding",
]


@pytest.mark.parametrize("words", OF_THE_QUESTION)
def test_words_that_speak_of_one_question(words: str) -> None:
    assert not of_the_setup(words)
    assert not setting_not_taken(words, {"max_tokens", "temperature", "seed"})


@pytest.mark.parametrize(
    "words",
    [
        "At most 4 image(s) may be provided in one request.",
        "Too many images in request: 5 > 4",
        "You may send up to 5 images per request",
        "m is not a multimodal model",
        "This model does not support image inputs",
        "No endpoints found that support image input",
        "The model `gpt-9` does not exist or you do not have access to it.",
        "Your credit balance is too low to access the API",
        "Incorrect API key provided",
    ],
)
def test_words_that_speak_of_the_set_up(words: str) -> None:
    assert of_the_setup(words)
