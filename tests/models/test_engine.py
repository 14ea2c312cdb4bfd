"""Whole runs of the tiny model: shared work, several processes, kills, full disks, and always the same report."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import command, process
from forked import parent_with
from PIL import Image

from migician.benchmarks import mig_bench
from migician.benchmarks.scoring.scoring import Reading
from migician.boxtext import QWEN
from migician.evaluation.ask import Asking, Plan, evaluate
from migician.models.protocol import Request

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
Migician = pytest.importorskip("migician.chat.migician").Migician

STRICT = Reading("strict", QWEN)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """30 questions over 11 tuples of 2 to 4 images; two of the tuples have an image in common."""
    root = tmp_path_factory.mktemp("world")
    chance = random.Random(1)
    rows, made = [], 0
    for number in range(11):
        names = []
        for _ in range(chance.randint(2, 4)):
            names.append(f"./MIG-Bench/images/{made}.png")
            made += 1
            size = (chance.randint(30, 150), chance.randint(30, 150))
            values = np.random.default_rng(made).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            (root / names[-1]).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(root / names[-1])
        if number == 10:
            names[0] = rows[0]["images"][0]
        rows += [
            {
                "task": ("diff", "region")[number % 2],
                "images": names,
                "question": f"Question {question} " + "more words " * chance.randint(0, 5),
                "answer": [0.1, 0.1, 0.5, 0.5],
                "need_format": False,
            }
            for question in range(1 + number % 5)
        ]
    chance.shuffle(rows)
    (root / "data.json").write_text(json.dumps(rows))
    return root


@pytest.fixture(scope="module")
def model(tiny_folder):
    torch.set_num_threads(1)
    return Migician.from_pretrained(tiny_folder, device="cpu")


def run(model, world, out, **plan):
    plan = Plan(**{"batch_size": 8, "max_new_tokens": 6, **plan})
    return evaluate(mig_bench.load(world / "data.json"), Asking(model, world, out, plan), STRICT)


def untimed(folder):
    """Report and records of a run, less what differs from one time to the next."""
    report = json.loads((folder / "report.json").read_text())
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    for one in (report, *records):
        for name in ("date", "model_seconds", "outside_seconds", "seconds"):
            one.pop(name, None)
    return report, records


@pytest.fixture(scope="module")
def whole(model, world, tmp_path_factory):
    """The folder of a run that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run(model, world, out)
    return out


def test_the_report_proves_that_work_is_shared(model, world, whole):
    work = untimed(whole)[0]["work"]
    rows = json.loads((world / "data.json").read_text())
    tuples = {tuple(row["images"]) for row in rows}
    assert work["images_encoded"] == work["distinct_images"] == len({name for names in tuples for name in names})
    assert work["prefixes_computed"] == work["image_tuples"] == len(tuples)
    assert work["questions"] == len(rows) and work["image_slots"] == sum(len(row["images"]) for row in rows)


def test_replies_are_those_of_questions_asked_alone_in_the_order_of_the_file(model, world, whole):
    rows = json.loads((world / "data.json").read_text())
    alone = [
        model.answer([Request(tuple(world / name for name in row["images"]), row["question"].rstrip(), 6)])[0]
        for row in rows
    ]
    kept = [json.loads(line) for line in (whole / "answers.jsonl").read_text().splitlines()]
    assert [line["index"] for line in kept] == list(range(len(rows)))
    assert [line["response"] for line in kept] == alone


def test_with_less_memory_there_are_more_batches_and_the_same_replies(tiny_folder, world, whole, tmp_path):
    small = Migician.from_pretrained(tiny_folder, device="cpu")
    small.token_budget = 200
    run(small, world, tmp_path / "out")
    report, records = untimed(tmp_path / "out")
    assert report["work"]["batches"] > untimed(whole)[0]["work"]["batches"]
    assert records == untimed(whole)[1]


def test_an_image_that_breaks_during_the_run_is_a_failed_answer(model, world, tmp_path):
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(world, root)
    rows = json.loads((root / "data.json").read_text())
    broken = rows[3]["images"][1]
    content = (root / broken).read_bytes()
    (root / broken).write_bytes(content[: len(content) // 2])  # its header is whole
    run(model, root, tmp_path / "out")
    records = untimed(tmp_path / "out")[1]
    failed = {record["index"] for record in records if record["outcome"] == "failed"}
    assert failed == {index for index, row in enumerate(rows) if broken in row["images"]}
    assert all("damaged or cut off" in records[index]["error"] for index in failed)


def test_a_run_with_1d_positions_says_so_and_is_another_run(tiny_folder, world, tmp_path):
    words = ["eval", "mig-bench", "--data", world / "data.json", "--images", world, "--limit", 3, "--max-new-tokens", 6]
    plain, counted = tmp_path / "plain", tmp_path / "counted"
    assert command(*words, "--model", tiny_folder, "--out", plain).status == 0
    asking = command(*words, "--model", tiny_folder, "--out", counted, "--positions", "sequential")
    assert ", sequential positions" in " ".join(asking.output.split())
    asked = {out.name: untimed(out) for out in (plain, counted)}
    assert "positions" not in asked["plain"][0]["model"]  # as in runs of earlier versions, which are continued
    assert asked["counted"][0]["model"]["positions"] == "sequential"
    assert [one["reply"] for one in asked["plain"][1]] != [one["reply"] for one in asked["counted"][1]]
    assert "sequential positions" in " ".join(command("table", counted).output.split())
    compared = command("compare", plain, counted)
    assert "differ in positions" in " ".join((compared.output + compared.error).split())
    assert "holds another run" in command(*words, "--model", tiny_folder, "--out", counted).error


@pytest.mark.parametrize("model", ["constant", "server:http://localhost:1/v1#m"])
def test_positions_are_refused_where_they_cannot_be_chosen(world, tmp_path, model):
    words = ["eval", "mig-bench", "--data", world / "data.json", "--images", world, "--out", tmp_path / "out"]
    refused = command(*words, "--model", model, "--positions", "sequential", "--family", "qwen2_vl")
    assert refused.status == 2 and "takes no" in refused.error and "positions" in refused.error


SCRIPT = """
import atexit, os, resource, signal, sys
from pathlib import Path
from migician.benchmarks import mig_bench
from migician.boxtext import QWEN
from migician.errors import UserError
from migician.evaluation.ask import Asking, Plan, evaluate
from migician.models import load_model
from migician.evaluation.ranks import Ranks
from migician.benchmarks.scoring.scoring import Reading
import torch

def threads():
    return [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]

# Registered first, so the last to be run; in one piece, as two processes write it.
atexit.register(lambda: os.write(2, b"of gloo at exit: %d\\n" % sum("gloo" in name for name in threads())))
torch.set_num_threads(1)
folder, world, out, log, fatal, room = sys.argv[1:]
ranks = Ranks.meet()
model = load_model(folder, device="cpu")
reply = model.reply
batches = 0

def counted(prepared):
    global batches
    replies = reply(prepared)
    batches += 1
    with open(f"{log}-{ranks.rank}", "a") as stream:
        stream.write(f"{len(replies)}\\n")
    if batches == int(fatal):
        os.kill(os.getpid(), signal.SIGKILL)
    return replies

model.reply = counted
if int(room):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), int(room)))
plan = Plan(batch_size=8, max_new_tokens=6)
bench = mig_bench.load(world + "/data.json")
try:
    evaluate(bench, Asking(model, Path(world), Path(out), plan, ranks=ranks), Reading("strict", QWEN))
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


@pytest.fixture(scope="module")
def parent():
    """What a run alone in a process is forked from."""
    imports = "import transformers, migician.evaluation.ask, migician.models.engines.qwen2_vl, torch"
    with parent_with(imports, OMP_NUM_THREADS="1") as made:
        yield made


@pytest.fixture
def start(tiny_folder, world, tmp_path, parent):
    """Start the run in processes of its own; gives (exit status, what it said, questions answered by the model)."""
    (tmp_path / "script.py").write_text(SCRIPT)

    def begin(out, processes=1, fatal=0, room=0):
        log = tmp_path / f"log-{len(list(tmp_path.iterdir()))}"
        words = [tiny_folder, world, tmp_path / out, log, fatal, room]
        if processes == 1:
            done = parent.run(SCRIPT, *words)
        else:
            launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
            line = [sys.executable, *map(str, [*launcher, tmp_path / "script.py", *words])]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
            done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
        asked = [int(line) for file in tmp_path.glob(log.name + "-*") for line in file.read_text().split()]
        return done.returncode, done.stderr, sum(asked)

    return begin


def test_killed_twice_and_with_another_number_of_processes_each_time(start, whole, tmp_path):
    """Two processes, then one, then two: the report of one that nothing happened to, and no question asked twice."""
    out, n = tmp_path / "out", untimed(whole)[0]["n"]

    def kept():
        return sum(len(path.read_text().splitlines()) for path in out.glob("answers*.jsonl"))

    assert start("out", processes=2, fatal=2)[0] != 0
    first = kept()
    assert start("out", fatal=2)[0] == -signal.SIGKILL
    second = kept()
    assert 0 < first < second < n and not (out / "report.json").exists()
    status, said, asked = start("out", processes=2)
    assert status == 0, said[-2000:]
    # A thread of theirs that frees a tensor while Python ends would end the process by SIGABRT.
    assert said.count("of gloo at exit: 0\n") == 2
    assert untimed(out) == untimed(whole)
    assert asked == n - second
    assert {path.name for path in out.glob("*.jsonl")} == {"answers.jsonl", "records.jsonl"}


def test_a_full_disk_is_one_line_and_no_answer_is_lost(start, whole, tmp_path):
    written = (whole / "answers.jsonl").stat().st_size
    status, said, asked = start("out", room=written // 2)
    assert status == 2 and len(said.splitlines()[-1:]) == 1
    assert "answers.jsonl: cannot be written: File too large. What was answered is kept: make room" in said
    kept = (tmp_path / "out/answers.jsonl").read_bytes()
    assert kept.endswith(b"\n")  # no half of a line
    status, said, again = start("out")
    assert status == 0, said[-2000:]
    assert again == untimed(whole)[0]["n"] - len(kept.splitlines()) and again < asked + again
    assert untimed(tmp_path / "out") == untimed(whole)


def test_a_folder_in_use_is_refused(world, tmp_path):
    from migician.evaluation.answer_log import lock_run

    out = tmp_path / "out"
    words = ["eval", "mig-bench", "--model", "constant", "--data", world / "data.json", "--images", world, "--out", out]
    identity = {"data_sha256": "another", "model": {}, "plan": {}}
    with lock_run(out, identity, world):
        refused = process(*words)
        assert refused.status == 2
        assert (
            refused.error == f"migician: {out}: another process is writing it; wait for it, or choose another place\n"
        )
    assert "holds another run" in command(*words).error  # the lock went with its holder
