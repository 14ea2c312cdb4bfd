"""Small benchmark files of the forms in which they are released: parquet with images inside, TSV, JSON lines."""

from __future__ import annotations

import base64
import csv
import importlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from migician.models.family import QWEN2_VL


def picture(shade: int, kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    """An image of one grey; equal for equal arguments."""
    content = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(content, kind)
    return content.getvalue()


def inside(shade: int, kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> dict[str, Any]:
    """An image as a parquet file of the Hub holds it."""
    return {"bytes": picture(shade, kind, size), "path": "image.png"}


def write_parquet(path: Path, rows: list[dict[str, Any]], rows_a_group: int = 4) -> Path:
    parquet, arrow = (importlib.import_module(name) for name in ("pyarrow.parquet", "pyarrow"))
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=rows_a_group)
    return path


def write_tsv(path: Path, rows: list[dict[str, Any]]) -> Path:
    """With images in base64, as VLMEvalKit has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t")
        writer.writeheader()
        for row in rows:
            image = row["image"]
            writer.writerow({**row, "image": base64.b64encode(image).decode() if isinstance(image, bytes) else image})
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def script_of(path: Path, bench: Any, reply: Callable[[Any], str]) -> str:
    """The name of a model that answers each question of a benchmark with what `reply` gives for it."""
    prompts = [bench.prompt(question, "corrected", QWEN2_VL, None) for question in bench.questions]
    lines = [{"prompt": prompt, "reply": reply(one)} for prompt, one in zip(prompts, bench.questions, strict=True)]
    return f"scripted:{write_lines(path, lines)}"


def muir_row(task: str = "Counting", answer: str = "B", **fields: Any) -> dict[str, Any]:
    return {
        "idx": "7",
        "task": task,
        "image_relation": "Multiview",
        "image_type": "Photography",
        "image_list": [inside(10), inside(20)],
        "question": "How many hats are in <image> and <image> together?",
        "options": ["one", "two", "None of the choices provided"],
        "answer": answer,
    } | fields


def blink_row(
    number: int = 1, task: str = "Art_Style", answer: str = "(A)", split: str = "val", **fields: Any
) -> dict[str, Any]:
    return {
        "idx": f"{split}_{task}_{number}",
        "question": "Which image is in the style of the first?",
        "sub_task": task,
        "image_1": inside(30, "JPEG"),
        "image_2": inside(40 + number, "JPEG"),
        "image_3": None,
        "image_4": None,
        "choices": ["the second image", "the third image"],
        "answer": answer,
        "prompt": "Which image is in the style of the first?\nSelect from the following choices.\n"
        "(A) the second image\n(B) the third image",
    } | fields


def mantis_row(answer: Any = "A", **fields: Any) -> dict[str, Any]:
    return {
        "id": "mantis_eval_3",
        "question_type": "multi-choice",
        "question": "Is the dog of <image> in <image>?",
        "images": [inside(50), inside(60)],
        "options": ["(A) Yes", "(B) No"],
        "answer": answer,
    } | fields


def short_row(answer: Any = "three", **fields: Any) -> dict[str, Any]:
    return (
        mantis_row(answer, question_type="short-answer", question="How many dogs? <image> <image>", options=[]) | fields
    )


def vstar_row(category: str = "direct_attributes", label: str = "A", **fields: Any) -> dict[str, Any]:
    return {
        "question_id": 0,
        "image": f"{category}/sa_1.jpg",
        "text": "What is the material of the glove?\n(A) rubber\n(B) cotton\n(C) kevlar\n(D) leather\n"
        "Answer with the option's letter from the given choices directly.",
        "category": category,
        "label": label,
    } | fields
