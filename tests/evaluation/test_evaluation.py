"""Running a model over a benchmark: resume, faults, and what ends in the report."""

import json
import os
import signal
import subprocess
import sys

import pytest
from command_line import command, process
from PIL import Image

from migician.benchmarks import mig_bench
from migician.benchmarks.scoring.scoring import Reading
from migician.boxtext import QWEN
from migician.errors import UserError
from migician.evaluation.answer_log import lock_run
from migician.evaluation.ask import Asking, Plan, evaluate
from migician.evaluation.report import notes
from migician.models import find_family
from migician.models.faults import BEARING, RunStopped, Tolerance
from migician.models.stand_ins.scripted import Scripted

STRICT = Reading("strict", QWEN)


@pytest.fixture
def world(tmp_path):
    """Twelve questions over pairs of grey images: (data file, image root)."""
    rows = []
    for number in range(12):
        names = [f"./MIG-Bench/images/{number // 2}_{side}.png" for side in range(2)]
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 24), (number * 9, 90, 90)).save(path)
        rows.append(
            {
                "task": ("diff", "region", "reasoning")[number % 3],
                "images": names,
                "question": f"Question {number}: find it in the 2th image. ",
                "answer": [0.1, 0.1, 0.5, 0.5],
                "additional_info": "",
                "need_format": False,
            }
        )
    data = tmp_path / "data.json"
    data.write_text(json.dumps(rows))
    return data, tmp_path


def without_times(report):
    return {name: value for name, value in report.items() if name not in ("date", "model_seconds", "outside_seconds")}


def untimed(line):
    return {name: value for name, value in json.loads(line).items() if name not in ("seconds", "outside_seconds")}


def untimed_lines(path):
    return [untimed(line) for line in path.read_text().splitlines()]


class Counting(Scripted):
    """Remembers what it was asked."""

    def __init__(self, reply="(100,100),(500,500)"):
        super().__init__(lambda request: reply if isinstance(reply, str) else reply(request))
        self.asked = []

    def answer(self, requests):
        self.asked += [request.prompt for request in requests]
        return super().answer(requests)


def run(world, out, model, *, tolerance=BEARING, **plan):
    data, root = world
    return evaluate(mig_bench.load(data), Asking(model, root, out, Plan(**plan), tolerance), STRICT)


def test_a_whole_run(world, tmp_path):
    model = Counting()
    seen = []
    data, root = world
    asking = Asking(model, root, tmp_path / "out", Plan(batch_size=5), progress=lambda *counts: seen.append(counts))
    report = evaluate(mig_bench.load(data), asking, STRICT)
    assert report["n"] == 12 and report["average"]["acc@0.5"] == 100
    assert report["model"]["name"] == "scripted" and report["plan"]["batch_size"] == 5
    assert len(model.asked) == 12 and seen == [(0, 12), (4, 12), (8, 12), (12, 12)]  # pairs stay whole
    again = run(world, tmp_path / "out", model, batch_size=5)
    assert len(model.asked) == 12  # nothing is asked twice
    assert without_times(again) == without_times(report)


KILLED = """
import os, signal, sys
from migician.benchmarks import mig_bench
from migician.boxtext import QWEN
from migician.evaluation.ask import Asking, Plan, evaluate
from migician.models.stand_ins.scripted import Scripted
from migician.benchmarks.scoring.scoring import Reading
data, root, out, log, fatal = sys.argv[1:]
from pathlib import Path
def reply(request):
    with open(log, "a") as stream:
        stream.write(request.prompt + "\\n")
    if sum(1 for _ in open(log)) == int(fatal):
        os.kill(os.getpid(), signal.SIGKILL)
    return "(100,100),(500,500)" if "3" in request.prompt else "Image-1: (1,1),(9,9)"
evaluate(mig_bench.load(data), Asking(Scripted(reply), Path(root), Path(out), Plan()), Reading("strict", QWEN))
"""


def test_a_kill_in_the_middle_changes_nothing(world, tmp_path):
    data, root = world

    def start(out, log, fatal):
        words = [
            sys.executable,
            "-c",
            KILLED,
            str(data),
            str(root),
            str(tmp_path / out),
            str(tmp_path / log),
            str(fatal),
        ]
        return subprocess.run(words, check=False).returncode

    assert start("cut", "cut.log", 7) == -signal.SIGKILL
    assert not (tmp_path / "cut/report.json").exists()
    assert len((tmp_path / "cut/answers.jsonl").read_text().splitlines()) == 6
    assert start("cut", "again.log", 0) == 0
    assert start("whole", "whole.log", 0) == 0
    cut, whole = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("cut", "whole"))
    assert without_times(cut) == without_times(whole)
    assert untimed_lines(tmp_path / "cut/records.jsonl") == untimed_lines(tmp_path / "whole/records.jsonl")
    # Six answered before the kill; the seventh died with the process, so it alone is asked again.
    before, after = ((tmp_path / name).read_text().splitlines() for name in ("cut.log", "again.log"))
    assert before[:6] + after == (tmp_path / "whole.log").read_text().splitlines()


def test_a_batch_cut_while_it_was_written_is_asked_again_whole(world, tmp_path):
    out = tmp_path / "out"
    run(world, out, Counting(), batch_size=4)
    answers = out / "answers.jsonl"
    whole = answers.read_bytes()
    lines = whole.splitlines(keepends=True)
    answers.write_bytes(b"".join(lines[:6]) + lines[6][:10])
    model = Counting()
    run(world, out, model, batch_size=4)
    assert len(model.asked) == 8  # the batch of rows 4 to 7 again, and the last
    assert untimed_lines(answers) == [untimed(line) for line in lines]


def test_a_folder_holds_one_run_only(world, tmp_path):
    run(world, tmp_path / "out", Counting(), limit=1)
    with pytest.raises(UserError, match=r"another run: plan\.limit was 1 and is now 2.*--out"):
        run(world, tmp_path / "out", Counting(), limit=2)
    (tmp_path / "out/run.json").unlink()
    with pytest.raises(UserError, match=r"choose another --out"):
        run(world, tmp_path / "out", Counting(), limit=1)


def test_some_tasks_and_some_questions(world, tmp_path):
    model = Counting()
    report = run(world, tmp_path / "out", model, tasks=("diff", "region"), limit=2)
    assert (report["n"], report["rows_in_file"], report["average"]["tasks"]) == (4, 12, 2)
    with pytest.raises(UserError, match="'dif' is not in .*Its tasks: diff, region, reasoning"):
        run(world, tmp_path / "other", model, tasks=("dif",))


def test_one_failing_question_is_an_outcome_not_the_end(world, tmp_path):
    def reply(request):
        if "Question 5" in request.prompt:
            raise RuntimeError("out of memory\nand more")
        return "(100,100),(500,500)"

    report = run(world, tmp_path / "out", Counting(reply), batch_size=4, tolerance=Tolerance(0.1))
    outcomes = [figures["outcomes"] for figures in report["per_task"].values()]
    assert sum(one.get("failed", 0) for one in outcomes) == 1 and report["n"] == 12
    record = json.loads((tmp_path / "out/records.jsonl").read_text().splitlines()[5])
    assert record["error"] == "RuntimeError: out of memory" and record["iou"] == 0
    assert report["failures"] == {"n": 1, "reasons": [{"reason": "RuntimeError: out of memory", "n": 1}]}
    assert any(
        "failed on 1 of 12 questions, each scored 0: RuntimeError: out of memory (1)" in one for one in notes(report)
    )


def failing_on(*numbers, kind=RuntimeError):
    def reply(request):
        if any(f"Question {number}:" in request.prompt for number in numbers):
            raise kind("no room")
        return "(100,100),(500,500)"

    return Counting(reply)


def test_a_model_that_always_fails_is_an_error_and_nothing_is_booked(world, tmp_path):
    with pytest.raises(RunStopped, match=r"none of the 12 questions asked was answered: RuntimeError: no room.*\(12\)"):
        run(world, tmp_path / "out", failing_on(*range(12)))
    assert not (tmp_path / "out/report.json").exists()
    healthy = Counting()
    report = run(world, tmp_path / "out", healthy)
    assert len(healthy.asked) == 12 and "failures" not in report


def test_beyond_the_share_of_failures_a_run_ends_without_a_figure(world, tmp_path):
    out, bad = tmp_path / "out", failing_on(5, 7, 9)
    with pytest.raises(
        RunStopped, match=r"2 of 12 questions failed, more than --fail-on-error 0\.1 allows.*--retry-failed"
    ):
        run(world, out, bad, tolerance=Tolerance(0.1))
    assert not (out / "report.json").exists()
    asked = len(bad.asked)
    with pytest.raises(RunStopped, match="2 of 12"):  # the same command: nothing is asked, the same line
        run(world, out, bad, tolerance=Tolerance(0.1))
    assert len(bad.asked) == asked
    report = run(world, out, bad, tolerance=Tolerance(1))
    assert report["failures"]["n"] == 3 and report["n"] == 12


def test_failed_questions_alone_are_asked_again_and_the_report_is_that_of_a_run_without_faults(world, tmp_path):
    out = tmp_path / "out"
    run(world, out, failing_on(5, 7), batch_size=4, tolerance=Tolerance(1))
    healthy = Counting()
    report = run(world, out, healthy, batch_size=4, tolerance=Tolerance(retry=True))
    assert [prompt[:11] for prompt in healthy.asked] == ["Question 5:", "Question 7:"]
    whole = run(world, tmp_path / "whole", Counting(), batch_size=4)
    assert without_times(report) == without_times(whole)
    assert untimed_lines(out / "records.jsonl") == untimed_lines(tmp_path / "whole/records.jsonl")
    still = Counting()
    run(world, out, still, batch_size=4, tolerance=Tolerance(retry=True))
    assert not still.asked


def test_what_an_engine_does_not_allow_stops_the_run_at_once(world, tmp_path):
    model = Counting(
        lambda request: (_ for _ in ()).throw(ValueError("At most 1 image(s) may be provided in one prompt."))
    )
    with pytest.raises(RunStopped, match="At most 1 image"):
        run(world, tmp_path / "out", model)
    assert len(model.asked) == 1


CUT_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\5IHDR\0\0\0\x64\0\0\0\0\0"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda path: path.unlink(), "is not below"),
        (lambda path: path.write_bytes(b"not an image"), "cannot be read as an image"),
        (lambda path: path.write_bytes(b""), "cannot be read as an image"),
        (lambda path: path.write_bytes(CUT_PNG), "cannot be read as an image"),
    ],
)
def test_images_are_checked_before_the_model_is_asked(world, tmp_path, harm, says):
    data, root = world
    harm(root / "MIG-Bench/images/3_1.png")
    words = ["--model", "constant", "--data", data, "--images", root, "--out", tmp_path / "out"]
    status, _, error = command("eval", "mig-bench", *words)
    assert status == 2 and says in error and "3_1.png" in error
    assert len(error.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_the_command_and_the_script_are_the_same(world, tmp_path):
    data, root = world
    options = ["--model", "constant:100,100,500,500", "--data", str(data), "--images", str(root), "--json"]
    script = [sys.executable, "eval/MIG_bench_eval.py"]
    done = subprocess.run([*script, *options, "--out", tmp_path / "script"], capture_output=True, text=True, check=True)
    ended = process("eval", "mig-bench", *options, "--out", tmp_path / "command")  # where torch is, it is said
    reports = [json.loads(done.stdout), json.loads(ended.output)]
    assert without_times(reports[0]) == without_times(reports[1])
    assert reports[0]["average"]["acc@0.5"] == 100


def test_a_dry_run_prints_the_prompts_and_writes_nothing(world, tmp_path):
    data, root = world
    words = ["--model", "nowhere/nothing", "--data", data, "--images", root, "--out", tmp_path / "out"]
    words += ["--dry-run", "--prompt", "published", "--family", "llava_onevision"]
    status, printed, _ = command("eval", "mig-bench", *words)
    assert status == 0
    assert "row 0, diff, 2 images" in printed and "Don't generate addtional words." in printed
    assert "image1:<image>\nimage2:<image>\n" in printed
    refused = command("eval", "mig-bench", *words, "--positions", "sequential")
    assert refused.status == 2 and "nowhere/nothing takes no positions" in refused.error
    placed = command("eval", "mig-bench", *words, "--positions", "sequential", "--family", "qwen2_vl")
    assert placed.status == 0 and "row 0, diff, 2 images" in placed.output
    assert not (tmp_path / "out").exists()


def test_the_official_prompt_is_asked_and_the_report_says_so(world, tmp_path):
    model = Counting()
    model.family = find_family("", "qwen3_vl")
    report = run(world, tmp_path / "out", model, wording="official")
    assert all(prompt.endswith("2th image. Report bbox coordinates in JSON format.") for prompt in model.asked)
    assert len(model.asked) == 12 and report["plan"]["wording"] == "official"


def test_official_prompts_through_the_command(world, tmp_path):
    data, root = world
    lines = tmp_path / "phrases.jsonl"
    lines.write_text(json.dumps({"image": "a.png", "sent": "the cat", "bbox": [1, 1, 9, 9], "width": 32, "height": 24}))
    words = ["--images", root, "--out", tmp_path / "out", "--dry-run", "--prompt", "official"]
    server = ["--model", "server:http://localhost:1#m", *words]
    status, printed, _ = command("eval", "refcoco", "--data", lines, *server, "--family", "qwen2_5_vl")
    assert status == 0
    assert "<image>Locate the cat in this image and output the bbox coordinates in JSON format." in printed
    status, _, said = command("eval", "mig-bench", "--data", data, *server, "--family", "kimi_k25")
    assert status != 0 and "makers of kimi_k25 document no prompt for boxes" in said and "qwen3_vl" in said
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_in_one_line_and_the_answers_stay(world, tmp_path, monkeypatch):
    out = tmp_path / "out"
    written = []

    def full(handle, content):
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(content)
        return os.writev(handle, [content])

    monkeypatch.setattr("migician.evaluation.answer_log.os.write", full)
    with pytest.raises(UserError, match="No space left on device. What was answered is kept"):
        run(world, out, Counting())
    monkeypatch.undo()
    model = Counting()
    run(world, out, model)
    assert len(model.asked) == 9


def test_damaged_logs_are_named(world, tmp_path):
    out = tmp_path / "out"
    run(world, out, Counting())
    (out / "answers.jsonl").write_text('{"index": "x"}\n')
    with pytest.raises(UserError, match=r"answers\.jsonl: damaged"):
        run(world, out, Counting())
    (out / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json: damaged"):
        lock_run(out, {}, tmp_path).__enter__()


def test_the_best_constant_box_beats_any_other(world, tmp_path):
    from migician.evaluation.baseline import constant_answers
    from migician.evaluation.records import score

    data, _ = world
    bench = mig_bench.load(data)
    assert all(record.iou == pytest.approx(1) for record in score(bench, constant_answers(bench), STRICT))
