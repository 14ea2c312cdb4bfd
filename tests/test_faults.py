"""Every verb is given every kind of thing that is not what it reads: status 2, one line, and nothing left behind."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

from migician import cli

LINES: dict[str, tuple[str, ...]] = {
    "fetch": ("mig-bench --to {out}",),
    "build": (
        "common_object --source coco={coco} --config {recipe} --workers 1 --out {out}",
        "common_object --source coco={coco-index} --mig-bench {bench} --mig-bench-images {images} --workers 1 --out {out}",
    ),
    "index": ("coco={coco} --out {out}",),
    "synthesise": (
        "--source coco={coco} --vision-model v --text-model t --count 1 --cache {out} --out {out} --dry-run "
        "--mig-bench {bench} --mig-bench-images {images}",
    ),
    "convert": (
        "llava --from {llava} --images {images} --out {out.json}",
        "groma --from {groma} --images {images} --out {out.json}",
        "refcoco --from {coco} --images {images} --out {out.json}",
    ),
    "mix": ("--part {samples}=1 --count 1 --out {out.json}", "--config {mixture} --out {out.json}"),
    "check": (
        "{samples} --out {out.json}",
        "{data} --workers 1 --mig-bench {bench} --images {images}",
        "{info} --workers 1",
        "{data} --workers 1 --tokenizer {model}",
        "{stage} --workers 1 --set deepspeed={zero}",
    ),
    "export": ("{data} --to {out}", "{samples} --media-dir {data} --to {out}", "{run} --coco --images {images} --to {out}"),
    "push": ("{data} --repo user/name --dry-run",),
    "resume": ("{saves} --processes 4 --deepspeed {zero}",),
    "progress": ("{saves}",),
    "curves": ("{saves} --out {out.png}",),
    "watch": ("{saves} --data {bench} --images {images} --out {out} --once",),
    "merge": ("{model} {other} --out {out}",),
    "card": ("{model} --report {run} --dataset {data}",),
    "setting": ("{stage} output_dir",),
    "eval": (
        "mig-bench --model scripted:{script} --data {bench} --images {images} --out {out}",
        "mig-bench --model {model} --data {bench} --images {images} --out {out}",
        "mmiu --model constant:1,1,2,2 --data {mmiu} --images {images} --out {out}",
        "mibench --model constant:1,1,2,2 --data {mibench} --images {images} --out {out}",
        "refcoco --model constant:1,1,2,2 --data {refcoco} --images {images} --out {out}",
        "mig-bench-one-shot --model constant:1,1,2,2 --data {one-shot} --images {images} --out {out}",
    ),
    "score": ("mig-bench --data {bench} --answers {answers} --out {out}",),
    "baseline": ("mig-bench --data {bench} --out {out}",),
    "compare": ("{run} {run} --out {out}",),
    "report": (
        "{run} --images {images} --out {out} --workers 1",
        "{run} --parquet {out.parquet}",
        "{data} --out {out} --workers 1",
        "{samples} --images {data} --out {out} --workers 1",
    ),
    "table": ("{run}",),
    "plot": ("{run} {run} --out {out}",),
    "chat": ("--model {model} --terminal", "{image} --model constant:1,1,2,2 --terminal"),
    "miniature": ("--out {out}",),
    "tiny": ("--texts {samples} --out {out}",),
}
"""Verb: lines of its arguments, on which it is tried with each thing in braces spoiled in every way."""


def command(*words: Any) -> tuple[int, str]:
    """The status of a verb, and what it wrote to stderr; what it raises is the status -1."""
    error, before = io.TextIOWrapper(io.BytesIO(), "utf-8"), sys.argv
    sys.argv = ["migician", *map(str, words)]
    try:
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")):
            try:
                cli.main()
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            except BaseException as fault:
                status, fault_ = -1, fault
                error.write(f"{type(fault_).__name__}: {fault_}"[:300])
    finally:
        sys.argv = before
    error.flush()
    return status, error.buffer.getvalue().decode()
