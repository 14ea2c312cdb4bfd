"""Images exchanged between a stop and the same command again: noticed and named, and true copies cost no answer."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from migician.benchmarks import mig_bench
from migician.benchmarks.scoring.scoring import Reading
from migician.boxtext import QWEN
from migician.cli import app
from migician.errors import UserError
from migician.evaluation.ask import Asking, Plan, evaluate
from migician.models.faults import Tolerance
from migician.models.protocol import Request
from migician.models.stand_ins.scripted import Scripted

BOX = "<|box_start|>(100,100),(500,500)<|box_end|>"
STOPPED_AT = 3


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Six questions, each over an image of its own; BMP has one length whatever it shows."""
    rows = []
    for at in range(6):
        name = f"MIG-Bench/images/{at}.bmp"
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24), (40 * at, 0, 0)).save(tmp_path / name)
        rows.append({"task": "diff", "images": [name], "question": f"Number {at}?", "answer": [0.1, 0.1, 0.5, 0.5]})
    (tmp_path / "data.json").write_text(json.dumps(rows))
    return tmp_path


def image(world: Path, at: int) -> Path:
    return world / f"MIG-Bench/images/{at}.bmp"


def asked(world: Path, reply: Callable[[Request], str] = lambda request: BOX, **how: Any) -> list[str]:
    """The questions that a run asks."""
    questions: list[str] = []

    def answer(request: Request) -> str:
        questions.append(request.images[0].stem)
        return reply(request)

    asking = Asking(Scripted(answer), world, world / "out", Plan(), **{"tolerance": Tolerance(share=1), **how})
    evaluate(mig_bench.load(world / "data.json"), asking, Reading("strict", QWEN))
    return questions


def stopped(world: Path, **how: Any) -> None:
    """A run that ends after three questions."""

    def reply(request: Request) -> str:
        if int(request.images[0].stem) == STOPPED_AT:
            raise KeyboardInterrupt
        return BOX

    with pytest.raises(KeyboardInterrupt):
        asked(world, reply, **how)
    assert len((world / "out/answers.jsonl").read_text().splitlines()) == STOPPED_AT


def refused(world: Path, said: str, **how: Any) -> None:
    before = {file: file.read_bytes() for file in (world / "out").iterdir()}
    with pytest.raises(UserError, match=said) as caught:
        asked(world, **how)
    assert "\n" not in str(caught.value)
    assert {file: file.read_bytes() for file in (world / "out").iterdir()} == before


def exchange(file: Path, colour: tuple[int, int, int], *, side: int = 32, same_time: bool = False) -> None:
    status = file.stat()
    Image.new("RGB", (side, 24), colour).save(file)
    later = status.st_mtime_ns + (0 if same_time else 10**9)
    os.utime(file, ns=(status.st_atime_ns, later))


def copied_without_times(world: Path) -> None:
    for at in range(6):
        status = image(world, at).stat()
        os.utime(image(world, at), ns=(status.st_atime_ns, status.st_mtime_ns + 5 * 10**9))


def test_nothing_exchanged_resumes(world: Path) -> None:
    stopped(world)
    assert asked(world) == ["3", "4", "5"]
    assert asked(world) == []


def test_another_size_is_named_with_its_question(world: Path) -> None:
    stopped(world)
    kept = world / "kept.bmp"
    shutil.copy2(image(world, 1), kept)
    exchange(image(world, 1), (9, 9, 9), side=64)
    refused(world, r"1\.bmp: another image than when question 1 was asked \(2,358 bytes, and is now 4,662 bytes\)")
    shutil.copy2(kept, image(world, 1))
    assert asked(world) == ["3", "4", "5"]


def test_another_content_of_the_same_size_is_noticed_by_its_time(world: Path) -> None:
    stopped(world)
    exchange(image(world, 2), (9, 9, 9))
    refused(world, r"2\.bmp has another time than when questions were asked.*--check-images.*cp -p")


def test_a_finished_run_is_not_reported_again_over_other_images(world: Path) -> None:
    asked(world)
    exchange(image(world, 5), (9, 9, 9), side=64)
    refused(world, r"5\.bmp: another image")


def test_what_was_not_asked_yet_may_change(world: Path) -> None:
    stopped(world)
    exchange(image(world, 4), (9, 9, 9), side=64)
    assert asked(world) == ["3", "4", "5"]
    exchange(image(world, 4), (8, 8, 8), side=32)
    refused(world, r"4\.bmp: another image than when question 4")


def test_a_copy_without_times_loses_no_answer(world: Path) -> None:
    stopped(world)
    copied_without_times(world)
    refused(world, r"0\.bmp and 2 more have another time.*add --check-images if you know that it is a true copy")
    assert asked(world, by_content=True) == ["3", "4", "5"]
    # Now that digests are known, no flag is needed: what has another time is read.
    copied_without_times(world)
    assert asked(world) == []
    copied_without_times(world)
    exchange(image(world, 2), (9, 9, 9))
    refused(world, r"2\.bmp: another image than when question 2 was asked \(2,358 bytes of sha256 .*, and is now 2,358")


def test_with_digests_from_the_start_a_copy_is_known_again(world: Path) -> None:
    stopped(world, by_content=True)
    copied_without_times(world)
    assert asked(world) == ["3", "4", "5"]


def test_only_content_tells_what_has_the_size_and_the_time(world: Path) -> None:
    stopped(world, by_content=True)
    exchange(image(world, 0), (9, 9, 9), same_time=True)
    refused(world, r"0\.bmp: another image than when question 0", by_content=True)


def test_a_broken_image_that_was_fetched_again_is_asked_again(world: Path) -> None:
    def reply(request: Request) -> str:
        if request.images[0].stem == "1":
            raise UserError("1.bmp: damaged or cut off")
        return BOX

    asked(world, reply)
    exchange(image(world, 1), (9, 9, 9), side=64)
    refused(world, r"1\.bmp: another image.*put it back, or ask it again with --retry-failed, or")
    assert asked(world, tolerance=Tolerance(share=1, retry=True)) == ["1"]
    assert asked(world) == []


def test_a_run_of_an_earlier_version_resumes(world: Path) -> None:
    stopped(world)
    answers = world / "out/answers.jsonl"
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    answers.write_text("".join(json.dumps({**row, "image_files": None}) + "\n" for row in rows))
    exchange(image(world, 0), (9, 9, 9))
    assert asked(world) == ["3", "4", "5"]
    exchange(image(world, 3), (7, 7, 7))
    refused(world, r"3\.bmp has another time")


def test_the_command(world: Path) -> None:
    words = ["eval", "mig-bench", "--model", "constant:100,100,500,500", "--data", world / "data.json"]
    command = [*map(str, words), "--images", str(world), "--out", str(world / "out")]
    assert CliRunner().invoke(app, command).exit_code == 0
    copied_without_times(world)
    ended = CliRunner().invoke(app, command)
    assert isinstance(ended.exception, UserError) and "--check-images" in str(ended.exception)
    assert CliRunner().invoke(app, [*command, "--check-images"]).exit_code == 0
    rows = [json.loads(line) for line in (world / "out/answers.jsonl").read_text().splitlines()]
    assert [[image(world, at).stat().st_size, image(world, at).stat().st_mtime_ns] for at in range(6)] == [
        row["image_files"][0][:2] for row in rows
    ]
    assert [row["image_files"][0][2] for row in rows] == [
        hashlib.sha256(image(world, at).read_bytes()).hexdigest() for at in range(6)
    ]
