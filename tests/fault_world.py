"""A small sound thing of every kind that a verb reads, and the ways to spoil it, for `test_faults`."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from foreign import picture
from hub_stand_in import COMMIT
from PIL import Image
from test_refcoco import dataset, ref
from test_resume_training import checkpoint
from test_training_log import logged

from migician.samples.dataset_info import dataset_entry

NAMES = ("MIG-Bench/images/a.png", "MIG-Bench/images/b.png")
_FORMAT = "Format:<|box_start|>(x1,y1),(x2,y2)<|box_end|>. Don't generate additional words."
"""What Qwen2-VL is asked for behind a question."""
BOX = "<|box_start|>(100,100),(500,500)<|box_end|>"

CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "0xFF": b"\xff" * 64,
    "deep list": b"[" * 1_500,
    "deep object": b'{"a":' * 1_500,
    "[]": b"[]",
    "{}": b"{}",
    "null": b"null",
    "1": b"1",
    "[null]": b"[null]",
    "[{}]": b"[{}]",
    '{"a": 1}': b'{"a": 1}',
}
"""What stands in a file where another content is meant."""


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _lines(*rows: Any) -> bytes:
    return b"".join(_json(row) + b"\n" for row in rows)


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _sample(number: int) -> dict[str, Any]:
    turns = [("human", f"Image-1: <image>\nImage-2: <image>\nWhere is {number}?"), ("gpt", BOX)]
    said = [{"from": role, "value": text} for role, text in turns]
    return {"id": f"s-{number}", "images": list(NAMES), "conversations": said, "type": "t"}


def _bench(root: Path) -> None:
    tasks = ("diff", "diff", "region", "reasoning")  # a radar takes three
    question = "Find it in the second image."
    rows = [
        {"task": task, "images": list(NAMES), "question": f"{question} {at}", "answer": [0.1, 0.1, 0.5, 0.5]}
        for at, task in enumerate(tasks)
    ]
    _write(root / "MIG_data.json", _json(rows))
    _write(root / "answers.jsonl", _lines(*({"index": at, "response": BOX} for at in range(len(rows)))))
    asked = [f"{row['question']} {_FORMAT}" for row in rows]
    _write(root / "script.jsonl", _lines(*({"prompt": one, "reply": BOX} for one in asked)))
    choice = {"task": "t", "input_image_path": list(NAMES), "question": "Which?", "options": "A: a\nB: b"}
    _write(root / "mmiu.json", _json([{**choice, "context": "Select: A: a\nB: b", "output": "A"}]))
    differs = {"task": "subtle_difference", "image": list(NAMES), "question": "Which?", "options": ["a", "b"]}
    _write(root / "mibench.json", _json([{**differs, "answer": "a"}]))
    row = {"image": NAMES[0], "sent": "the dog", "bbox": [1, 1, 20, 20], "width": 64, "height": 48}
    _write(root / "refcoco.jsonl", _lines(row))
    shot = {**rows[0], "task": "common_object", "images": [*NAMES, *NAMES]}
    _write(root / "one-shot.json", _json([shot]))
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), "red").save(root / name)


def _run(folder: Path, root: Path, command: Callable[..., Any]) -> None:
    bench = ["--data", root / "MIG_data.json", "--images", root]
    command("eval", "mig-bench", "--model", "constant:100,100,500,500", *bench, "--out", folder)


def _dataset(folder: Path) -> None:
    _write(folder / "set.json", _json([_sample(0), _sample(1)]))
    _write(folder / "dataset_info.json", _json({"set": dataset_entry("set.json")}))
    part = {"task": "difference", "source": "coco", "asked": 2, "made": 2, "left_out": {}, "refused": {}}
    card = {"name": "d", "samples": 2, "seed": 0, "parts": [part], "stored": "embedded"}
    more = {"versions": {}, "warnings": [], "look": {"samples": 0, "unreadable": 0}, "links": {}}
    _write(folder / "card.json", _json({**card, **more, "mig_bench": {"sentence": "Left out."}}))
    _write(folder / "README.md", b"# d\n")
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), "red").save(folder / name)


def _weights(folder: Path, seed: int) -> None:
    header = _json({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})
    content = struct.pack("<Q", len(header)) + header + struct.pack("<4f", *(seed + one for one in range(4)))
    name = "model-00001-of-00001.safetensors"
    _write(folder / name, content)
    _write(folder / "model.safetensors.index.json", _json({"metadata": {}, "weight_map": {"a": name}}))
    _write(folder / "config.json", _json({"model_type": "qwen2_vl"}))
    words = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    _write(folder / "tokenizer.json", _json({"version": "1.0", "added_tokens": [], "model": words}))
    _write(folder / "train_results.json", _json({"epoch": 1.0, "train_loss": 0.5, "train_runtime": 60.0}))
    _write(folder / "trainer_state.json", _json({"global_step": 10}))
    part = {"path": "stage-1", "weight": 1.0, "fingerprint": "0" * 64}
    _write(folder / "merge.json", _json({"formula": "", "checkpoints": [part]}))


def _training(folder: Path) -> None:
    checkpoint(folder, 10, processes=2)
    _write(folder / "checkpoint-10/latest_universal", b"global_step10_universal")
    _write(folder / "trainer_log.jsonl", logged(1, 30, begun=0).encode())


def _settings(home: Path) -> None:
    recipe = {"seed": 0, "tasks": {"common_object": {"sources": {"coco": 1}}}}
    _write(home / "recipe.yaml", yaml.safe_dump(recipe).encode())
    part = {"share": 1, "files": {str(home / "data/set.json"): 1}}
    _write(home / "mix.yaml", yaml.safe_dump({"count": 1, "parts": {"all": part}}).encode())
    _write(home / "zero.json", _json({"zero_optimization": {"stage": 3}}))
    stage = {
        "model_name_or_path": str(home / "model"),
        "stage": "sft",
        "dataset_dir": str(home / "data"),
        "dataset": "set",
        "template": "qwen2_vl",
        "output_dir": str(home / "saves"),
        "deepspeed": str(home / "zero.json"),
    }
    _write(home / "stage.yaml", yaml.safe_dump(stage).encode())


def _foreign(home: Path) -> None:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dog."}]
    _write(home / "llava.json", _json([{"id": "1", "image": NAMES[0], "conversations": turns}]))
    said = [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "A dog.", "boxes_seq": []}]
    record = {"file_name": NAMES[0], "width": 64, "height": 48, "boxes": [], "conversation": said}
    _write(home / "groma.json", _json([record]))


def _coco(root: Path) -> None:
    """As many dogs as a group takes, each beside another animal."""
    images: list[dict[str, Any]] = [{"id": at, "file_name": f"{at}.jpg", "width": 100, "height": 50} for at in range(8)]
    boxes = [
        {
            "id": 2 * at + kind,
            "image_id": at,
            "category_id": kind * (at + 1),
            "bbox": [10 + 40 * kind, 5, 30, 20],
            "iscrowd": 0,
        }
        for at in range(8)
        for kind in (0, 1)
    ]
    names = ("dog", "cat", "cow", "pig", "hen", "fox", "bear", "goat", "sheep")
    kinds = [{"id": number, "name": name} for number, name in enumerate(names)]
    _write(
        root / "annotations/instances_train2017.json",
        _json({"images": images, "annotations": boxes, "categories": kinds}),
    )
    for image in images:
        picture(root / "train2017" / image["file_name"], (100, 50))


def make_world(home: Path, command: Callable[..., Any]) -> dict[str, Path]:
    """One of each by name; `command` runs a verb, as the run is an evaluation's own."""
    _bench(home)
    _run(home / "run", home, command)
    _dataset(home / "data")
    mmiu = ["--data", home / "mmiu.json"]
    command("dev", "baseline", "mmiu", *mmiu, "--out", home / "choices")
    for seed, name in enumerate(("model", "other")):
        _weights(home / name, seed)
    _training(home / "saves")
    _settings(home)
    _foreign(home)
    state = {"dataset": "mgrounding-630k", "repository": "Michael4933/MGrounding-630k", "revision": COMMIT}
    _write(home / "fetched/MGrounding-630k/fetched.json", _json({**state, "date": "", "files": {}}))
    refs = [ref(1, 1, "left man"), ref(2, 2, "cup", split="val")]
    dataset(home / "refer", "refcoco", refs, {1: [10, 10, 20, 20], 2: [50, 0, 50, 25]})
    for number in (1, 2):
        picture(home / f"train2014/COCO_train2014_{number:012d}.jpg")
    _coco(home / "coco")
    command("dev", "index", f"coco={home / 'coco'}", "--out", home / "coco-index")
    files = {
        "bench": "MIG_data.json",
        "samples": "data/set.json",
        "info": "data/dataset_info.json",
        "image": NAMES[0],
        "recipe": "recipe.yaml",
        "mixture": "mix.yaml",
        "stage": "stage.yaml",
        "zero": "zero.json",
        **{name: f"{name}.jsonl" for name in ("answers", "script", "refcoco")},
        **{name: f"{name}.json" for name in ("mmiu", "mibench", "one-shot", "llava", "groma")},
    }
    folders = ("run", "choices", "data", "model", "other", "saves", "coco", "coco-index", "fetched", "refer")
    return {
        **{name: home / place for name, place in files.items()},
        **{name: home / name for name in folders},
        "phrases": home / "refer/refcoco",
        "images": home,
    }


def spoiled(sound: Path, inside: Sequence[str], home: Path) -> Iterator[tuple[str, Path]]:
    """Every way in which `sound`, or a file in it, can be another thing: what it is, and where, made one by one."""
    target = home / sound.name
    for what, make in _wrong(sound.is_dir()).items():
        make(target)
        yield what, target
        remove(target)
    for inner in inside:
        for what, make in _wrong(False).items():
            shutil.copytree(sound, target, symlinks=True)
            remove(target / inner)
            make(target / inner)
            yield f"{inner}: {what}", target
            remove(target)


def occupied(name: str, home: Path) -> Iterator[tuple[str, Path]]:
    """Where nothing can be written: what stands there, and the place; a name with an ending is a file's."""
    file, folder = home / "file", home / f"folder{Path(name).suffix}"
    file.write_bytes(b"kept")
    yield "below a file", file / name
    if Path(name).suffix:
        (folder / "kept").mkdir(parents=True)
        yield "a folder", folder
        remove(folder)
    else:
        yield "a file", file
    remove(file)


def _wrong(is_folder: bool) -> dict[str, Callable[[Path], Any]]:
    def filled(content: bytes) -> Callable[[Path], Any]:
        return lambda file: _write(file, content)

    contents = {"empty": b"", "0xFF": CONTENTS["0xFF"]} if is_folder else CONTENTS
    files = {f"a file, {what}" if is_folder else what: filled(content) for what, content in contents.items()}
    folder = {"an empty folder" if is_folder else "a folder": lambda path: path.mkdir(parents=True)}
    return {**files, **folder, "missing": lambda path: None}


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
