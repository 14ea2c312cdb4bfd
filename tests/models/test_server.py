"""A model behind a server: a scripted one that fails on purpose, and transformers' own with a tiny model."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scripted_server import Script, served

from migician.benchmarks import Benchmark, mig_bench
from migician.benchmarks.scoring.scoring import Reading
from migician.chat.grounding import ground
from migician.errors import UserError
from migician.evaluation.answer_files import read_answers
from migician.evaluation.ask import Asking, Plan, evaluate
from migician.models import load_model
from migician.models.engines.sent_images import data_url, sent_size
from migician.models.engines.server import ServedModel
from migician.models.families.qwen2_5_vl import FAMILY as QWEN2_5_VL
from migician.models.family import QWEN2_VL
from migician.models.protocol import Metered, Model, Request

RED, BLUE = Image.new("RGB", (60, 40), "red"), Image.new("RGB", (30, 20), "blue")


@pytest.fixture
def script() -> Script:
    made = Script()
    made.reply = lambda body: f"reply to {body['messages'][-1]['content'][-1]['text']}"
    return made


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with served(script) as address:
        yield address


async def _no_wait(seconds: float) -> None:
    pass


def patient(url: str, family: Any = QWEN2_VL, **options: Any) -> ServedModel:
    return ServedModel(url, "m", family, pause=_no_wait, **options)


def shown(part: dict[str, Any]) -> Image.Image:
    head, content = part["image_url"]["url"].split(",")
    assert head.startswith("data:image/") and head.endswith(";base64")
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_images_and_texts_are_sent_in_order_greedily(script: Script, url: str) -> None:
    model = load_model(f"server:{url}#org/name", family="qwen2_vl")
    assert isinstance(model, Model) and isinstance(model, Metered)
    request = Request((RED, BLUE), "b <image>", 7, (("a <image>", "r"),))
    script.reply = lambda body: "ok"
    assert model.answer([request]) == ["ok"]
    (body,) = script.bodies
    first, second, third = body["messages"]
    assert [part["type"] for part in (*first["content"], *third["content"])] == ["text", "image_url"] * 2
    assert second == {"role": "assistant", "content": "r"}
    pictures = [shown(first["content"][1]), shown(third["content"][1])]
    assert [picture.convert("RGB").tobytes() for picture in pictures] == [RED.tobytes(), BLUE.tobytes()]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("org/name", 7, 0)


def test_what_vllm_would_do_unasked_is_left_out_where_a_server_does_not_know_it(script: Script, url: str) -> None:
    """vLLM takes the checkpoint's own penalty, and drops box tokens; a hosted model knows neither setting."""
    extras = {"repetition_penalty": 1.0, "skip_special_tokens": False}
    model = patient(url)
    model.answer([Request((RED,), "a")])
    assert extras.items() <= script.bodies[0].items() and extras.items() <= model.describe()["decoding"].items()

    def fault(body: dict[str, Any]) -> str | None:
        unknown = [name for name in extras if name in body]
        script.told = f"Unrecognized request argument supplied: {unknown[0]}" if unknown else ""
        return "400" if unknown else None

    script.fault = fault
    strict = patient(url)
    assert strict.answer([Request((RED,), "b")]) == ["reply to b"]
    assert not extras.keys() & script.bodies[-1].keys()
    asked = len(script.bodies)
    strict.answer([Request((RED,), "c")])
    assert len(script.bodies) == asked + 1  # what it does not know is kept in mind


def test_a_family_marks_its_images_for_a_server_too(script: Script, url: str) -> None:
    model = load_model(f"server:{url}#m", family="internvl")
    model.answer([Request((RED, BLUE), "Where?")])
    content = script.bodies[0]["messages"][0]["content"]
    assert [part.get("text", "-") for part in content] == ["Image-1: ", "-", "Image-2: ", "-", "Where?"]


@pytest.mark.parametrize("limit", [1, 3])
def test_so_many_requests_at_once_and_replies_in_order(script: Script, url: str, limit: int) -> None:
    script.hold = limit
    requests = [Request((), f"{number}", 5) for number in range(9)]
    model = patient(url, concurrency=limit)
    assert model.answer(requests) == [f"reply to {number}" for number in range(9)]
    assert script.highest == limit
    assert model.answer([]) == []


@pytest.mark.parametrize("fault", ["429", "500", "close", "cut", "garbage"])
def test_passing_faults_are_tried_again(script: Script, url: str, fault: str) -> None:
    script.fault = lambda body: fault if len(script.bodies) < 3 else None
    model = patient(url)
    assert model.answer([Request((), "a")]) == ["reply to a"]
    assert model.spent() == "1 requests, 100 tokens in, 10 out"


def test_tokens_and_cost_are_summed(url: str) -> None:
    model = patient(url, prices=(2.5, 10.0))
    model.answer([Request((), f"{number}") for number in range(4)])
    assert model.spent() == "4 requests, 400 tokens in, 40 out: 0.0014 at 2.5 and 10 per million"
    assert model.describe() == patient(url).describe(), "a report's identity does not hold what was spent"


def test_a_refused_request_fails_alone(script: Script, url: str) -> None:
    script.fault = lambda body: "400" if body["messages"][-1]["content"][-1]["text"] == "2" else None
    model = patient(url, concurrency=1)
    requests = [Request((RED,), str(number)) for number in range(4)]
    replies = dict(model.replies(requests))
    assert [replies[at].text for at in range(4)] == ["reply to 0", "reply to 1", None, "reply to 3"]
    assert "status 400" in (replies[2].fault or "") and len(script.bodies) == 4
    with pytest.raises(UserError, match="status 400"):
        model.answer(requests)


@pytest.mark.parametrize("name", ["server:", "server:#m", "server:http://localhost:1", "server:ftp://x#m"])
def test_a_wrong_address_says_what_to_write(name: str) -> None:
    with pytest.raises(UserError, match="server:ADDRESS#MODEL|expected an address such as"):
        load_model(name, family="qwen2_vl")


def test_options_that_mean_nothing_to_a_server_are_refused(url: str) -> None:
    with pytest.raises(UserError, match="takes no revision, trust_remote_code"):
        load_model(f"server:{url}#m", family="qwen2_vl", revision="main", trust_remote_code=True)


def test_it_works_where_a_loop_runs_already_as_in_a_notebook(url: str) -> None:
    import asyncio

    async def cell() -> list[str]:
        return patient(url).answer([Request((), "a")])

    assert asyncio.run(cell()) == ["reply to a"]


def test_files_are_sent_as_they_are_where_that_says_the_same(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    noise.save(tmp_path / "a.jpg")
    noise.save(tmp_path / "turned.jpg", exif=turned)
    noise.save(tmp_path / "a.png")
    noise.convert("RGBA").save(tmp_path / "clear.png")
    noise.save(tmp_path / "a.bmp")
    place = Image.Exif()
    place[0x010E] = "taken at home"
    noise.save(tmp_path / "place.jpg", exif=place)
    noise.save(tmp_path / "two.webp", save_all=True, append_images=[noise.rotate(180)], lossless=True)
    as_is = {"a.jpg", "a.png"}
    for name in (*as_is, "turned.jpg", "clear.png", "a.bmp", "place.jpg", "two.webp"):
        content = base64.b64decode(data_url(tmp_path / name).split(",")[1])
        assert (content == (tmp_path / name).read_bytes()) is (name in as_is), name
    assert shown({"image_url": {"url": data_url(tmp_path / "turned.jpg")}}).size == (40, 60)
    assert shown({"image_url": {"url": data_url(tmp_path / "a.bmp")}}).tobytes() == noise.tobytes()
    for limit in ({"max_side_px": 30}, {"scaling": lambda size: sent_size(size, QWEN2_VL, 600)}):
        assert shown({"image_url": {"url": data_url(tmp_path / "a.jpg", **limit)}}).size == (30, 20)


def test_pixels_a_server_speaks_of_are_those_that_were_sent() -> None:
    resize = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl").smart_resize
    for width, height in [(640, 480), (3000, 2000), (30, 40), (57, 71), (1000, 90), (784, 784)]:
        sent = sent_size((width, height), QWEN2_5_VL, None)
        again = resize(sent[1], sent[0], factor=28, min_pixels=56 * 56, max_pixels=14 * 14 * 4 * 1280)
        assert (again[1], again[0]) == sent, "the server's own resize leaves it alone"


# ---- a family that counts pixels, from question to report ----


def pixel_bench(folder: Path) -> Benchmark:
    rows = []
    for number, size in enumerate([(100, 50), (640, 480), (30, 30)]):
        for image, shape in enumerate([(56, 84), size]):
            Image.new("RGB", shape, "green").save(folder / f"{number}-{image}.png")
        rows.append({
            "task": "object_tracking",
            "images": [f"./M/{number}-0.png", f"./M/{number}-1.png"],
            "question": "The object in the first image(<|box_start|>(500,0),(1000,250)<|box_end|>): "
                        "please locate it in the 2th image. ",
            "answer": [0.25, 0.5, 0.75, 1.0],
        })  # fmt: skip
    (folder / "bench.json").write_text(json.dumps(rows))
    return mig_bench.load(folder / "bench.json")


def sees_what_is_there(body: dict[str, Any]) -> str:
    """Answers with the middle of the second image's lower half, in pixels of the image as it arrived."""
    width, height = [shown(part) for part in body["messages"][0]["content"] if part["type"] == "image_url"][1].size
    return f'{{"bbox_2d": [{width // 4}, {height // 2}, {width * 3 // 4}, {height}]}}'


def test_boxes_in_pixels_are_scored_by_the_size_the_model_saw(tmp_path: Path, script: Script, url: str) -> None:
    bench = pixel_bench(tmp_path)
    script.reply = sees_what_is_there
    model = patient(url, QWEN2_5_VL)
    asking = Asking(model, tmp_path, tmp_path / "out", Plan(batch_size=2))
    report = evaluate(bench, asking, Reading("strict", model.box_style))
    assert report["average"]["acc@0.7"] == 100
    assert report["average"]["mean_iou"] > 97
    # The question's box is spelled in pixels of the first image as sent: 56 x 84 stays.
    assert "(" + '{"bbox_2d": [28, 0, 56, 21]})' in script.bodies[0]["messages"][0]["content"][-1]["text"]
    answers = read_answers(tmp_path / "out" / "answers.jsonl", bench)
    sizes = {answer.sizes[1] for answer in answers.values() if answer.sizes}
    assert sizes == {(112, 56), (644, 476), (56, 56)}
    # And again from the records alone, without images.
    from migician.evaluation.report import score_answers

    again = score_answers(
        bench, answers, Reading("strict", model.box_style), tmp_path / "again", images=None, partial=False, spec={}
    )
    assert again["per_task"] == report["per_task"]


def test_a_box_in_pixels_lands_on_its_own_image(script: Script, url: str) -> None:
    images = [Image.new("RGB", (280, 280)), Image.new("RGB", (1120, 560))]  # the second is sent at 1064 x 532
    found = {"": None, " In the second image": 1, " In Image-1": 0}
    for where, image in found.items():
        script.reply = lambda body, where=where: f'{where}: {{"bbox_2d": [28, 28, 140, 140]}}'
        grounding = ground(patient(url, QWEN2_5_VL), images, "Find it.")
        if image is None:
            assert grounding.boxes == (), "in which image's pixels, nothing says"
        else:
            width, height = [(280, 280), (1064, 532)][image]
            assert grounding.boxes[0].image == image
            assert grounding.boxes[0].box.as_tuple() == (28 / width, 28 / height, 140 / width, 140 / height)


# ---- transformers' own server ----


def test_transformers_own_server_replies_as_the_model_does_here(tiny_folder: Path, transformers_server: str) -> None:
    noise = [
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (56, 56, 3), dtype=np.uint8)) for seed in (0, 1)
    ]
    requests = [
        Request((noise[0],), "short", 8),
        Request(tuple(noise), "a longer question about <image> and <image>", 8),
        Request((noise[1],), "short", 8),
    ]
    words = load_model(tiny_folder, device="cpu").processor.tokenizer  # type: ignore[attr-defined]
    here = load_model(tiny_folder, device="cpu").answer(requests)
    model = load_model(f"server:{transformers_server}#{tiny_folder}", family="qwen2_vl", concurrency=2)
    there = model.answer(requests)
    # That server drops special tokens from its replies, and that of 5.24 the space before them.
    bare = [words.decode(words(reply).input_ids, skip_special_tokens=True) for reply in here]
    assert [reply.lstrip(" ") for reply in there] == [reply.lstrip(" ") for reply in bare]
    assert len(set(there)) == 3
    assert isinstance(model, ServedModel)
    assert (model.requests, model.completion_tokens) == (3, 24)
    assert model.prompt_tokens > 3 * 20
