"""What LLaMA-Factory takes, skips and stops at, tried with its own loader: check says the same, and mix keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from forked import Parent
from PIL import Image
from typer.testing import CliRunner

from migician.cli import app
from migician.errors import UserError
from migician.hub.export import export
from migician.reports.page.dataset import write_dataset_page
from migician.samples.dataset_info import NotRead, add_dataset, dataset_entry, layout_beside, layout_of
from migician.samples.layouts import LayoutReader, Record
from migician.training.check import check
from migician.training.check.options import CheckOptions
from migician.training.mixture import MixFile, mix

OWN = dataset_entry("x.json")
TAGS = OWN["tags"]
BARE = OWN | {
    "tags": {tag: TAGS[tag] for tag in ("role_tag", "content_tag", "user_tag", "assistant_tag", "system_tag")}
}
"""As others write it, and earlier versions of this project did: without the tags of tools."""
MESSAGES = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "images": "images"},
    "tags": {"role_tag": "role", "content_tag": "content"}
    | {"user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"},
}
COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "images": "images"}
ALPACA: dict[str, Any] = {"columns": COLUMNS}


def turns(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"from": role, "value": text} for role, text in pairs]


def asked(question: Any = "Where?", answer: Any = "There", **fields: Any) -> dict[str, Any]:
    return {"id": "1", "conversations": turns(("human", question), ("gpt", answer)), **fields}


def said(*pairs: tuple[str, str], **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in pairs], **fields}


def spoken(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    return {"id": "2", "images": [], "conversations": turns(*pairs)}


SHOWN = asked("<image>Where?", images=["a.png"])
TEXT = asked(images=[])
CHAT = said(("user", "<image>Where?"), ("assistant", "There"), images=["a.png"])
TASK = {"instruction": "<image>Where?", "input": "in", "output": "out", "images": ["a.png"]}
CALL = ("function_call", '{"name": "f", "arguments": {}}')

# name: what LLaMA-Factory is given, and how many samples it takes; None where it stops.
CASES: dict[str, tuple[Any, dict[str, Any], int | None]] = {
    "images null beside a list": ([SHOWN, asked(images=None)], OWN, 2),
    "images missing beside a list": ([SHOWN, asked()], OWN, 2),
    "images missing first": ([asked(), SHOWN], OWN, 2),
    "images missing in all": ([asked(), asked("q2")], OWN, None),
    "images null in all": ([asked(images=None)], OWN, 1),
    "text alone": ([TEXT], OWN, 1),
    "one string": ([asked("<image>?", images="a.png"), asked(images=None)], OWN, 2),
    "one string beside a list": ([asked("<image>?", images="a.png"), SHOWN], OWN, None),
    "an empty string is an image": ([asked(images="")], OWN, None),
    "no column of images": ([asked()], OWN | {"columns": {"messages": "conversations"}}, 1),
    "images without a column": ([SHOWN], OWN | {"columns": {"messages": "conversations"}}, None),
    "image of a number": ([asked("<image>", images=5)], OWN, None),
    "image of null": ([asked("<image>", images=[None])], OWN, None),
    "image that is not there": ([asked("<image>", images=["b.png"])], OWN, None),
    "more marks": ([asked("<image><image>?", images=["a.png"])], OWN, None),
    "fewer marks": ([asked(images=["a.png"])], OWN, None),
    "mark of a video": ([asked("<video>?", images=[])], OWN, None),
    "mark of a sound in an answer": ([asked("?", "<audio>", images=[])], OWN, None),
    "mark in an answer": ([asked("?", "<image>", images=["a.png"])], OWN, 1),
    "mark of a video to the system": (
        [SHOWN, spoken(("system", "<video>"), ("human", "?"), ("gpt", "!"))],
        OWN,
        2,
    ),
    "turned around": ([SHOWN, spoken(("gpt", "?"), ("human", "!"))], OWN, 1),
    "turned around with a mark too many": ([SHOWN, spoken(("gpt", "<image>?"), ("human", "!"))], OWN, 1),
    "a role of others": ([SHOWN, spoken(("user", "?"), ("gpt", "!"))], OWN, 1),
    "roles of others alone": ([spoken(("user", "?"), ("gpt", "!"))], OWN, None),
    "a question alone": ([SHOWN, spoken(("human", "?"))], OWN, 1),
    "no turns": ([SHOWN, spoken()], OWN, 1),
    "system in between": ([SHOWN, spoken(("human", "?"), ("system", "s"), ("gpt", "!"))], OWN, 1),
    "tools": ([SHOWN, spoken(("human", "?"), CALL, ("observation", "o"), ("gpt", "!"))], OWN, 2),
    "tools under other tags": ([SHOWN, spoken(("human", "?"), CALL, ("observation", "o"), ("gpt", "!"))], BARE, 1),
    "no role": ([SHOWN, spoken((None, "?"), ("gpt", "!"))], OWN, 1),
    "no text": ([SHOWN, spoken(("human", "?"), ("gpt", None))], OWN, None),
    "text of a number": ([SHOWN, spoken(("human", "?"), ("gpt", 3))], OWN, None),
    "turns that are null": ([SHOWN, {"id": "2", "images": [], "conversations": None}], OWN, None),
    "turns missing": ([SHOWN, {"id": "2", "images": []}], OWN, None),
    "ids of text and numbers": ([SHOWN, TEXT | {"id": 2}], OWN, None),
    "ids of numbers and text": ([SHOWN | {"id": 2}, TEXT], OWN, None),
    "ids of two kinds of numbers": ([SHOWN | {"id": 2.5}, TEXT | {"id": 2}], OWN, 2),
    "ids that are lists": ([SHOWN | {"id": [2]}], OWN, 1),
    "ids missing": ([SHOWN, {"images": [], "conversations": TEXT["conversations"]}], OWN, 2),
    "a number that is none": ([SHOWN | {"more": float("nan")}, TEXT], OWN, 2),
    "half a character": ([SHOWN | {"id": "\ud800"}], OWN, 1),
    "image 1,000th": ([asked(f"{i}?", images=[]) for i in range(999)] + [SHOWN], OWN, 1000),
    "image 1,001st": ([asked(f"{i}?", images=None) for i in range(1000)] + [SHOWN], OWN, None),
    "1,001 texts": ([asked(f"{i}?", images=[]) for i in range(1001)], OWN, 1001),
    "not an object": ([SHOWN, 5], OWN, None),
    "messages": ([CHAT, said(("system", "s"), ("user", "?"), ("assistant", "!"), images=None)], MESSAGES, 2),
    "messages of openai": ([CHAT], MESSAGES | {"formatting": "openai"}, 1),
    "an unknown role of openai": (
        [CHAT, said(("x", "?"), ("assistant", "!"), images=[])],
        MESSAGES | {"formatting": "openai"},
        None,
    ),
    "no column of messages": ([CHAT], MESSAGES | {"columns": {"images": "images"}}, None),
    "not all tags": ([CHAT], MESSAGES | {"tags": {"role_tag": "role", "content_tag": "content"}}, None),
    "no tag for the system": (
        [CHAT, said(("system", "s"), ("user", "?"), ("assistant", "!"), images=[])],
        MESSAGES | {"tags": {tag: name for tag, name in MESSAGES["tags"].items() if tag != "system_tag"}},
        1,
    ),
    "a column for the system": (
        [SHOWN | {"sys": "be"}, TEXT | {"sys": None}],
        OWN | {"columns": OWN["columns"] | {"system": "sys"}},
        2,
    ),
    "a column for the system in no record": ([SHOWN], OWN | {"columns": OWN["columns"] | {"system": "sys"}}, None),
    "image under another name": (
        [{"conversations": SHOWN["conversations"], "image": "a.png"}],
        OWN | {"columns": {"messages": "conversations", "images": "image"}},
        1,
    ),
    "instructions": ([TASK, TASK | {"input": "", "images": ["a.png"]}], ALPACA, 2),
    "instructions by default": ([{"instruction": "Where?", "input": None, "output": "out"}], {}, 1),
    "instructions by default without an input": ([{"instruction": "Where?", "output": "out"}], {}, None),
    "instruction without an answer": ([TASK, TASK | {"output": None}], ALPACA, 1),
    "instruction of a number": ([TASK | {"instruction": 3, "images": None}], ALPACA, None),
    "instructions with a history": (
        [TASK | {"history": [["<image>q", "a"]], "instruction": "z"}, TASK | {"history": None}],
        {"columns": COLUMNS | {"history": "history"}},
        2,
    ),
    "half a history": ([TASK | {"history": [["a"]]}], {"columns": COLUMNS | {"history": "history"}}, None),
    "instructions with a system": ([TASK | {"s": "be"}], {"columns": COLUMNS | {"system": "s"}}, 1),
    "columns of null": ([SHOWN], OWN | {"columns": None}, None),
    "another formatting": ([SHOWN], OWN | {"formatting": "llava"}, None),
    "for preferences": ([SHOWN], OWN | {"ranking": True}, None),
}
NO_MIX = {"ids that are lists"}
"""What no mix takes, as it could not stand beside other ids."""
STOPS = {"record", "mixed", "late_images", "image_count", "media_mark", "missing"}
"""Kinds of findings at which LLaMA-Factory stops, as their fixes say; it says so itself of an entry."""

LOAD = """
import json, logging, os, sys
from pathlib import Path
root, model = Path(sys.argv[1]), sys.argv[2]
import datasets
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
datasets.disable_progress_bars()
logging.disable(logging.CRITICAL)
out = (root / "taken.jsonl").open("w")
for folder in sorted(one for one in root.iterdir() if (one / "dataset_info.json").exists()):
    try:
        settings = {"model_name_or_path": model, "stage": "sft", "do_train": True, "finetuning_type": "full"}
        settings |= {"dataset": "x", "dataset_dir": str(folder), "media_dir": str(root), "template": "qwen2_vl"}
        models, data, training, _, _ = get_train_args(settings | {"output_dir": str(folder / "out"), "use_cpu": True})
        tokenizer = load_tokenizer(models)
        template = get_template_and_fix_tokenizer(tokenizer["tokenizer"], data)
        found = get_dataset(template, models, data, training, stage="sft", **tokenizer)["train_dataset"]
        taken = sorted(tokenizer["tokenizer"].decode(ids) for ids in found["input_ids"])
    except (Exception, SystemExit) as error:
        taken = None
    print(json.dumps([folder.name, taken]), file=out)
"""


def write(folder: Path, records: Any, entry: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "x.json").write_text(json.dumps(records))
    (folder / "dataset_info.json").write_text(json.dumps({"x": entry | {"file_name": "x.json"}}))
    return folder / "x.json"


def loaded(root: Path, model: Path, llamafactory: Parent) -> dict[str, list[str] | None]:
    """By the name of each folder, the texts that LLaMA-Factory trains on, None where it stops."""
    Image.new("RGB", (64, 64)).save(root / "a.png")
    done = llamafactory.run(LOAD, root, model, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(line) for line in (root / "taken.jsonl").read_text().splitlines())


@pytest.fixture(scope="module")
def theirs(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, llamafactory: Parent
) -> dict[str, list[str] | None]:
    root = tmp_path_factory.mktemp("cases")
    for name, (records, entry, _) in CASES.items():
        write(root / name, records, entry)
    return loaded(root, tiny_folder, llamafactory)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "media" / "a.png")
    return tmp_path / "media"


@pytest.mark.parametrize("name", CASES)
def test_llamafactory_takes_skips_and_stops_as_the_table_says(name: str, theirs: dict[str, list[str] | None]) -> None:
    taken = theirs[name]
    assert (None if taken is None else len(taken)) == CASES[name][2]


@pytest.mark.parametrize("name", CASES)
def test_check_says_what_llamafactory_does(name: str, tmp_path: Path, media: Path) -> None:
    records, entry, taken = CASES[name]
    file = write(tmp_path / "d", records, entry)
    found = {one.kind: one for one in check(file.parent, CheckOptions(media_dir=media)).findings}
    entry_faults = found["info"].places if "info" in found else []
    says_stop = found.keys() & STOPS or any("stops" in place.value for place in entry_faults)
    problems = {kind for kind, one in found.items() if one.severity == "problem"}
    if taken is None:
        assert problems
        return
    assert not says_stop, found
    skipped = len(records) - taken
    assert problems - {"special_token", "media_mark", "empty_text"} == ({"roles"} if skipped else set()), found
    assert not skipped or found["roles"].count == skipped


def test_what_is_mixed_is_taken_as_it_was(
    tmp_path: Path, tiny_folder: Path, theirs: dict[str, list[str] | None], llamafactory: Parent
) -> None:
    """Every file that LLaMA-Factory takes whole, each mixed by itself, and all of them together."""
    whole = {
        name: taken
        for name, taken in theirs.items()
        if taken is not None and len(taken) == len(CASES[name][0]) and len(taken) < 900 and name not in NO_MIX
    }
    assert len(whole) > 20
    parts = {}
    for name, taken in whole.items():
        source = write(tmp_path / "sources" / name, *CASES[name][:2])
        parts[name] = MixFile(source, len(taken))
        (tmp_path / "mixes" / name).mkdir(parents=True)
        mix({"x": MixFile(source, 1)}, tmp_path / "mixes" / name / "x.json", len(taken))
        add_dataset(tmp_path / "mixes" / name / "x.json")
    (tmp_path / "mixes" / "all").mkdir()
    count = sum(map(len, whole.values()))
    mix(parts, tmp_path / "mixes" / "all" / "x.jsonl", count)
    add_dataset(tmp_path / "mixes" / "all" / "x.jsonl")
    found = loaded(tmp_path / "mixes", tiny_folder, llamafactory)
    # openai's own addition to the system's text stays behind.
    expected = {name: [text.replace("detailed thinking off", "") for text in taken] for name, taken in whole.items()}
    expected["messages of openai"] = found["messages of openai"] or []
    assert {name: found[name] for name in whole} == expected
    assert found["all"] == sorted(text for taken in expected.values() for text in taken)


def test_a_mix_of_texts_and_images_in_every_form_is_one_list_of_samples(tmp_path: Path) -> None:
    source = write(tmp_path / "a", [CHAT, said(("user", "?"), ("assistant", "!"), id=7)], MESSAGES)
    mix({"a": MixFile(source, 1)}, tmp_path / "m.json", 2)
    mixed = sorted(json.loads((tmp_path / "m.json").read_text()), key=lambda one: one["id"])
    assert [(one["id"], one["images"], one["type"]) for one in mixed] == [("7", [], "x"), ("x-0", ["a.png"], "x")]
    assert mixed[0]["conversations"] == turns(("human", "?"), ("gpt", "!"))


@pytest.mark.parametrize(
    ("records", "entry", "said"),
    [
        ([spoken(("robot", "?"))], OWN, "record 0 is not a sample: a turn is from 'robot', expected human, gpt"),
        ([SHOWN | {"tools": "[]"}], OWN | {"columns": OWN["columns"] | {"tools": "tools"}}, "record 0 has tools"),
        ([SHOWN | {"id": [1]}], OWN, "its id is [1], not text"),
    ],
)
def test_what_no_mix_can_hold(tmp_path: Path, records: Any, entry: dict[str, Any], said: str) -> None:
    source = write(tmp_path / "a", records, entry)
    with pytest.raises(UserError) as caught:
        mix({"a": MixFile(source, 1)}, tmp_path / "m.json", 1)
    assert said in str(caught.value) and not (tmp_path / "m.json").exists()


@pytest.mark.parametrize(
    ("content", "turns_", "images"),
    [
        (SHOWN, [("human", "<image>Where?"), ("gpt", "There")], ["a.png"]),
        (CHAT, [("human", "<image>Where?"), ("gpt", "There")], ["a.png"]),
        (TASK, [("human", "<image>Where?\nin"), ("gpt", "out")], ["a.png"]),
        ({"instruction": "?", "output": "!"}, [("human", "?"), ("gpt", "!")], []),
        ({"conversations": [{"from": "user", "value": "?"}], "image": "b.png"}, [("human", "?")], ["b.png"]),
        ({"conversations": [{"role": "human", "content": "?"}]}, [("human", "?")], []),
    ],
)
def test_without_an_entry_the_first_record_tells(content: Any, turns_: list[Any], images: list[str]) -> None:
    record = LayoutReader().read(json.dumps(content).encode())
    assert [(turn.from_, turn.value) for turn in record.conversations] == turns_ and record.images == images


def test_the_entry_of_a_file_is_found_beside_it_and_a_folder_up(tmp_path: Path) -> None:
    file = write(tmp_path / "d", [CHAT], MESSAGES)
    assert layout_beside(file) == layout_of(MESSAGES | {"file_name": "x.json"})
    (tmp_path / "d" / "more").mkdir()
    assert layout_beside(tmp_path / "d" / "more" / "y.json") is None
    info = {"y": ALPACA | {"file_name": "more"}}
    (tmp_path / "d" / "dataset_info.json").write_text(json.dumps(info))
    assert layout_beside(tmp_path / "d" / "more" / "y.json") == layout_of(info["y"])


@pytest.mark.parametrize("more", [{"hf_hub_url": "a/b"}, {"columns": {"messages": "m", "videos": "videos"}}])
def test_what_is_not_looked_into(more: dict[str, Any]) -> None:
    with pytest.raises(NotRead):
        layout_of(OWN | more)


def test_the_page_the_export_and_the_converter_read_messages_too(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the train extra has it")
    file = write(tmp_path / "d", [CHAT, said(("user", "?"), ("assistant", "!"))], MESSAGES)
    Image.new("RGB", (64, 64)).save(file.parent / "a.png")
    page = write_dataset_page(file.parent, tmp_path / "page").read_text()
    assert '"name":"x-0"' in page.replace('": "', '":"') and '"faults":[]' in page.replace('": [', '":[')
    assert export(file.parent, tmp_path / "parquet").samples == {"x": 2}
    command = ["data", "convert", "llava", "--from", str(file.parent), "--images", str(file.parent)]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "d" / "made.json")])
    assert done.exit_code == 0, done.output
    made = json.loads((tmp_path / "d" / "made.json").read_text())
    assert [one["conversations"][0]["value"] for one in made] == ["<image>Where?", "?"]


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400"])
@pytest.mark.parametrize("record", [SHOWN, CHAT])
def test_numbers_that_are_none_are_read_past(number: str, record: dict[str, Any]) -> None:
    content = json.dumps(record | {"more": "?"}).replace('"?"', number).encode()
    assert LayoutReader().read(content).images == ["a.png"]


def test_what_is_read_is_remembered_by_kind() -> None:
    reader = LayoutReader(layout_of(OWN))
    for number, one in enumerate([TEXT, asked(images="a.png"), TEXT | {"id": 5}]):
        assert isinstance(reader.read(json.dumps(one).encode(), number), Record)
    assert reader.mixed() == [("images", ["list", "text"], 1), ("id", ["text", "number"], 2)]
    assert reader.missing() == []
