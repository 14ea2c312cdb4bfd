"""The synthesis against a real server in the test: what is asked, kept, refused, and what a stop costs."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scripted_server import Body, Script, answer, served, step, text_of

from migician.boxtext import parse_boxes
from migician.build.decontamination import BY_NAME, MIG_BENCH
from migician.build.synthesis import SynthesisSettings, synthesise
from migician.build.synthesis.pipeline import dry_run
from migician.errors import UserError
from migician.samples.sample import read_samples
from migician.sources import coco
from migician.sources.scenes import Scene, Tally

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = {"vision_model": "see", "text_model": "write"}


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with served(script) as address:
        yield address


def instances(root: Path, images: int, labels: tuple[str, ...] = ("dog", "cat", "car", "hat")) -> Path:
    """A COCO folder of drawn images with one to four objects each."""
    listed_images, annotations = [], []
    (root / "train2017").mkdir(parents=True)
    for number in range(images):
        name = f"{number:012d}.jpg"
        Image.new("RGB", (200, 100), (number * 7 % 256, number * 31 % 256, 90)).save(root / "train2017" / name)
        listed_images.append({"id": number, "file_name": name, "width": 200, "height": 100})
        for place in range(1 + number % 4):
            box = [10 + 45 * place, 5 + number % 50, 40, 30]
            annotations.append({"image_id": number, "category_id": place, "bbox": box, "iscrowd": 0})
    categories = [{"id": place, "name": label} for place, label in enumerate(labels)]
    (root / "annotations").mkdir()
    file = root / "annotations" / "instances_train2017.json"
    file.write_text(json.dumps({"images": listed_images, "annotations": annotations, "categories": categories}))
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return instances(tmp_path_factory.mktemp("photos") / "coco", 60)


def contents(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def run(photos: Path, folder: Path, url: str, **changed: Any) -> Any:
    settings = SynthesisSettings(**MODELS, **changed.pop("settings", {}))
    given = {"server": url, "cache": folder / "cache", "count": 6, **changed}
    return synthesise({"coco": photos}, folder / given.pop("out", "out"), settings, **given)


class TestSamples:
    def test_every_box_is_an_annotation_or_was_refined_from_one(
        self, photos: Path, tmp_path: Path, script: Script, url: str
    ) -> None:
        built = run(photos, tmp_path, url)
        samples = read_samples(tmp_path / "out" / "Free-Form.json")
        origins = [json.loads(line) for line in (tmp_path / "out" / "provenance.jsonl").read_text().splitlines()]
        assert built.samples == len(samples) == len(origins) == 6
        scenes = {scene.id: scene for scene in coco.read(photos, Tally())}
        moved = 0
        for one, origin in zip(samples, origins, strict=True):
            assert (one.problems(), one.type, one.id) == ([], "ff_train", origin["id"])
            assert all((tmp_path / "out" / image).is_file() for image in one.images)
            assert len(one.conversations) == 2 * len(origin["turns"])
            for turn, targets in zip(one.conversations[1::2], origin["turns"], strict=True):
                mentions = parse_boxes(turn.value).mentions
                assert len(mentions) == len(targets) > 0
                for mention, (image, place) in zip(mentions, targets, strict=True):
                    found = origin["images"][image - 1]
                    known = found["objects"][place - 1]
                    scene: Scene = scenes[found["scene"]]
                    assert one.images[image - 1].endswith(scene.image.name)
                    annotated = scene.instances[known["annotation"]].box
                    assert mention.image == image - 1
                    assert list(mention.box.to_permille()) == known["box_permille"]
                    assert known["refined"] == (known["box_permille"] != list(annotated.to_permille()))
                    assert mention.box.iou(annotated) >= 0.75
                    moved += known["refined"]
                    assert f"<|object_ref_start|>{known['phrase']}<|object_ref_end|>" in turn.value
        assert moved
        keys = {key for origin in origins for image in origin["images"] for key in image["replies"].values()}
        keys |= {origin["questions"] for origin in origins}
        assert {file.stem for file in (tmp_path / "cache").rglob("*.json")} == keys

    def test_text_of_models_brings_no_tokens_into_prompts_or_conversations(
        self, photos: Path, tmp_path: Path, script: Script, url: str
    ) -> None:
        run(photos, tmp_path, url)
        asked = [text_of(body) for body in script.bodies if step(body) == "pairs"]
        assert asked
        assert all("It rains." in text and "<" not in text for text in asked)
        first = read_samples(tmp_path / "out" / "Free-Form.json")[0].conversations[0].value
        assert "Which <|object_ref_start|>object of these pictures<|object_ref_end|> comes" in first

    def test_what_is_sent(self, photos: Path, tmp_path: Path, script: Script, url: str) -> None:
        run(photos, tmp_path, url, settings={"max_pixels": 5000}, api_key="k-123")
        assert script.authorizations == {"Bearer k-123"}
        assert {body["model"] for body in script.bodies if step(body) == "pairs"} == {"write"}
        seen = [body for body in script.bodies if step(body) != "pairs"]
        assert {body["model"] for body in seen} == {"see"}
        for body in seen:
            kind, data = body["messages"][1]["content"][0]["image_url"]["url"].split(",")
            assert kind == "data:image/jpeg;base64"
            width, height = Image.open(io.BytesIO(base64.b64decode(data))).size
            assert 4000 < width * height <= 5000
        every = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        assert b"k-123" not in every

    def test_nothing_is_asked_about_images_that_mig_bench_uses(
        self, photos: Path, tmp_path: Path, script: Script, url: str
    ) -> None:
        known = ("000000000034.jpg", "000000000049.jpg")  # sessions 34 and 49 of MagicBrush's dev split
        assert all((photos / "train2017" / name).is_file() for name in known)
        run(photos, tmp_path, url, count=60)
        used = {Path(image).name for one in read_samples(tmp_path / "out" / "Free-Form.json") for image in one.images}
        assert len(used) > 20 and not used & set(known)
        card = json.loads((tmp_path / "out" / "card.json").read_text())
        assert card["parts"][0]["refused"][BY_NAME] in (1, 2) and card["mig_bench"]["left_out"]
        planned, kept = (
            dry_run({"coco": photos}, SynthesisSettings(**MODELS), cache=tmp_path, count=60, exclude=exclude)
            for exclude in (MIG_BENCH, None)
        )
        assert kept.groups - planned.groups == card["parts"][0]["refused"][BY_NAME]

    @pytest.mark.parametrize("grouping", ["random", "common"])
    def test_images_are_never_shared_by_groups(self, photos: Path, tmp_path: Path, url: str, grouping: str) -> None:
        run(photos, tmp_path, url, count=9, settings={"grouping": grouping})
        images = [image for one in read_samples(tmp_path / "out" / "Free-Form.json") for image in one.images]
        assert len(images) == len(set(images))

    def test_on_the_real_photographs(self, shared: Path, tmp_path: Path, script: Script, url: str) -> None:
        built = run(shared / "data/sources/coco", tmp_path, url, count=2)
        assert built.samples == 2
        assert script.asked["caption"] == script.asked["refinement"] == len(built_images(tmp_path / "out"))

    def test_an_image_that_is_not_as_annotated_costs_nothing_and_is_counted(
        self, tmp_path: Path, script: Script, url: str
    ) -> None:
        root = instances(tmp_path / "coco", 12)
        names = sorted((root / "train2017").iterdir())
        names[0].write_bytes(names[0].read_bytes()[:50])
        Image.new("RGB", (100, 100)).save(names[1])
        built = run(root, tmp_path, url, count=50)
        refused = built.parts[0].refused
        assert refused["image that cannot be read"] + refused["image of another size than its annotation says"] in (
            1,
            2,
        )
        assert script.asked["pairs"] == built.samples


def built_images(out: Path) -> list[Path]:
    return [file for file in (out / "MGrounding-630k").rglob("*") if file.is_file()]


class TestBytes:
    def test_the_order_of_replies_does_not_matter_and_the_seed_does(
        self, photos: Path, tmp_path: Path, script: Script, url: str
    ) -> None:
        for name, width, seed in (("one", 1, 1), ("many", 13, 1), ("other", 13, 2)):
            run(photos, tmp_path / name, url, concurrency=width, seed=seed)
        one = contents(tmp_path / "one")
        assert one == contents(tmp_path / "many")
        assert one["out/Free-Form.json"] != contents(tmp_path / "other")["out/Free-Form.json"]

    def test_a_finished_run_is_repeated_without_a_server(
        self, photos: Path, tmp_path: Path, script: Script, url: str
    ) -> None:
        # Groups are refused too, and cost nothing either.
        script.reply = lambda body: "no" if step(body) == "pairs" and body["seed"] % 2 else answer(body)
        run(photos, tmp_path, url)
        asked = len(script.bodies)
        run(photos, tmp_path, url, out="again")
        assert len(script.bodies) == asked
        assert contents(tmp_path / "out") == contents(tmp_path / "again")
        run(photos, tmp_path, url, out="larger", count=7)
        assert len(script.bodies) > asked

    def test_killed_in_the_middle_it_goes_on_and_ends_with_the_same_bytes(
        self, photos: Path, tmp_path: Path, script: Script, url: str
    ) -> None:
        def command(name: str) -> list[str]:
            paths = ["--cache", str(tmp_path / name / "cache"), "--out", str(tmp_path / name / "out")]
            models = ["--vision-model", "see", "--text-model", "write", "--server", url]
            sizes = ["--count", "8", "--concurrency", "4"]
            source = ["--source", f"coco={photos}"]
            return [sys.executable, "-m", "migician.cli", "data", "synthesise", *source, *models, *sizes, *paths]

        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MIGICIAN_API_KEY": "k-77"}
        running: list[subprocess.Popen[bytes]] = []
        started = threading.Event()

        def kill(body: Body) -> str | None:
            if len(script.bodies) == 30:
                started.wait(30)
                running[0].send_signal(signal.SIGKILL)
                running[0].wait(30)
                return "close"
            return None

        script.fault = kill
        running.append(subprocess.Popen(command("killed"), env=environment))
        started.set()
        assert running[0].wait(120) == -signal.SIGKILL
        assert not (tmp_path / "killed" / "out").exists()
        script.fault = lambda body: None
        kept = {file.stem for file in (tmp_path / "killed" / "cache").rglob("*.json")}
        assert 20 <= len(kept) <= 30
        before = len(script.bodies)
        subprocess.run(command("killed"), env=environment, check=True, timeout=120, capture_output=True)
        resumed = len(script.bodies) - before
        subprocess.run(command("whole"), env=environment, check=True, timeout=120, capture_output=True)
        assert resumed == len(script.bodies) - before - resumed - len(kept)
        assert contents(tmp_path / "killed" / "out") == contents(tmp_path / "whole" / "out")
        assert script.authorizations == {"Bearer k-77"}
        written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        assert b"k-77" not in written


class TestRefusals:
    def test_replies_that_are_not_the_form_are_asked_again_a_bounded_number_of_times(
        self, photos: Path, tmp_path: Path, script: Script, url: str
    ) -> None:
        script.reply = lambda body: "I cannot." if step(body) == "pairs" else answer(body)
        built = run(photos, tmp_path, url, count=2)
        groups = built.parts[0].refused["group without a question that passed the checks"]
        assert built.samples == 0
        assert script.asked["pairs"] == 3 * groups == built.parts[0].refused["reply that is not the JSON asked for"]
        assert len({body["seed"] for body in script.bodies if step(body) == "pairs"}) == 3 * groups

    def test_a_second_reply_may_be_good(self, photos: Path, tmp_path: Path, script: Script, url: str) -> None:
        tried: set[str] = set()

        def second(body: Body) -> str:
            first = text_of(body) not in tried
            tried.add(text_of(body))
            return "{" if step(body) == "pairs" and first else answer(body)

        script.reply = second
        built = run(photos, tmp_path, url, count=3)
        assert built.parts[0].refused["reply that is not the JSON asked for"] == 3
        assert built.samples == 3

    def test_a_server_without_schemas_is_asked_without_from_then_on(
        self, photos: Path, tmp_path: Path, script: Script, url: str
    ) -> None:
        script.fault = lambda body: "400" if "response_format" in body else None
        built = run(photos, tmp_path, url, count=3, concurrency=1)
        assert built.samples == 3
        assert sum("response_format" in body for body in script.bodies) == 2  # one for each model

    def test_requests_the_server_does_not_take_are_counted(
        self, photos: Path, tmp_path: Path, script: Script, url: str
    ) -> None:
        seen: list[str] = []

        def third(body: Body) -> str | None:
            if step(body) == "pairs" and text_of(body) not in seen:
                seen.append(text_of(body))
            return "413" if step(body) == "pairs" and seen.index(text_of(body)) == 2 else None

        script.fault = third
        built = run(photos, tmp_path, url, count=4, concurrency=1)
        assert built.samples == 4
        assert built.parts[0].refused["request that the server does not take"] == 1
        asked = len(script.bodies)
        run(photos, tmp_path, url, count=4, out="again")
        assert len(script.bodies) == asked
        assert contents(tmp_path / "out") == contents(tmp_path / "again")

    @pytest.mark.parametrize(
        ("fault", "told"),
        [("400", "model 'see' does not take the first"), ("401", "MIGICIAN_API_KEY"), ("404", "names of the models")],
    )
    def test_what_can_never_work_is_an_error_at_once(
        self, photos: Path, tmp_path: Path, script: Script, url: str, fault: str, told: str
    ) -> None:
        script.fault = lambda body: fault
        with pytest.raises(UserError, match=told) as caught:
            run(photos, tmp_path, url, api_key="k-9", concurrency=1)
        assert "k-9" not in str(caught.value)
        assert len(script.bodies) <= 2
        assert not (tmp_path / "out").exists()

    def test_arguments_that_cannot_be(self, photos: Path, tmp_path: Path) -> None:
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "a").touch()
        for changed, told in (
            ({"out": "full"}, "is not empty"),
            ({"count": 0}, "count must be 1"),
            ({"server": "localhost:8000"}, "expected an address"),
            ({"server": "http://user:secret@host"}, "without user"),
            ({"api_key": "a\nb"}, "no key has"),
        ):
            with pytest.raises(UserError, match=told) as caught:
                run(photos, tmp_path, "http://127.0.0.1:9", **changed)
            assert "secret" not in str(caught.value)
        with pytest.raises(UserError, match="unknown source 'got10k'"):
            synthesise(
                {"got10k": photos}, tmp_path / "o", SynthesisSettings(**MODELS), server="", cache=tmp_path, count=1
            )


class TestPlan:
    def test_the_estimate_is_what_a_good_run_costs(
        self, photos: Path, tmp_path: Path, script: Script, url: str
    ) -> None:
        planned = dry_run({"coco": photos}, SynthesisSettings(**MODELS), cache=tmp_path / "cache", count=6)
        run(photos, tmp_path, url)
        assert planned.requests == len(script.bodies)
        assert set(planned.prompts[:2]) <= {text_of(body) for body in script.bodies}
        assert re.search(r'"phrase":"(dog|cat|car|hat)"', planned.prompts[2])

    def test_the_command_prints_prompts_and_no_server_is_asked(self, photos: Path, tmp_path: Path) -> None:
        from typer.testing import CliRunner

        from migician.cli import app

        models = ["--vision-model", "see", "--text-model", "write", "--server", "http://127.0.0.1:9"]
        folders = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
        arguments = ["data", "synthesise", "--source", f"coco={photos}", "--count", "2", "--dry-run", *models, *folders]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0
        assert result.stdout.count("Reply with JSON alone") == 2
        assert "2 groups, " in result.stderr
        assert not list(tmp_path.iterdir())


def test_groups_by_clip(photos: Path, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from migician.build.synthesis import similarity

    def by_name(images: list[Path], *_: object) -> np.ndarray[Any, Any]:
        angles = np.array([int(image.stem) / 40 for image in images])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    monkeypatch.setattr(similarity, "clip_vectors", by_name)
    run(photos, tmp_path, url, count=3, settings={"grouping": "clip"})
    samples = read_samples(tmp_path / "out" / "Free-Form.json")
    assert len(samples) == 3
    assert all(4 <= len(one.images) <= 6 for one in samples)
