"""Two small scored runs and a dataset, with hostile texts, for the tests of pages."""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from migician.cli import app

HOSTILE = (
    '<script>document.title = "taken"</script><img src=x onerror="document.title=\'taken\'">'
    "</script><!-- \u2028 & {{data}} (100,100),(500,500)"
)
NAMES = ["./MIG-Bench/images/wide.png", "./MIG-Bench/images/<img src=x onerror=alert(1)>.png"]
SIZES = [(900, 300), (64, 128)]
TRUTH = [0.1, 0.2, 0.5, 0.6]
TASKS = ["diff", "region", "reasoning"]


def make_images(root: Path) -> None:
    for name, size in zip(NAMES, SIZES, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.effect_mandelbrot(size, (-2, -1, 1, 1), 40).convert("RGB").save(root / name)


def make_runs(root: Path, count: int = 90) -> list[Path]:
    """Two runs, `first` and `second`, over `count` questions; row 0 of the first has a hostile reply."""
    make_images(root)
    rows = [
        {
            "task": TASKS[at % 3],
            "images": NAMES,
            "question": f"Find <b>it</b> in the {1 + at % 2}th image, number {at}.",
            "answer": TRUTH,
        }
        for at in range(count)
    ]
    (root / "data.json").write_text(json.dumps(rows))
    dice = random.Random(0)
    folders = []
    for name in ("first", "second"):
        replies = [reply(dice) for _ in rows]
        if name == "first":
            replies[0] = HOSTILE
        lines = [json.dumps({"index": at, "response": text}) + "\n" for at, text in enumerate(replies)]
        (root / f"{name}.jsonl").write_text("".join(lines))
        command = ["score", "mig-bench", "--data", root / "data.json", "--answers", root / f"{name}.jsonl"]
        CliRunner().invoke(app, [*map(str, command), "--out", str(root / name)], catch_exceptions=False)
        folders.append(root / name)
    return folders


def reply(dice: random.Random) -> str:
    """A box near the true one, one far off, or none."""
    kind = dice.randrange(3)
    if kind == 0:
        return "There is no such thing."
    x, y = (100 + dice.randrange(60), 200 + dice.randrange(60)) if kind == 1 else (450, 550)
    return f"It is at ({x},{y}),({x + 380},{y + 390})"


def make_dataset(root: Path) -> Path:
    """A folder of two files: 30 samples of one type, 3 of another, and a record that is none."""
    make_images(root)
    names = [name.replace("./MIG-Bench/", "./") for name in NAMES]
    box = "<|box_start|>({},{}),({},{})<|box_end|>"
    given, answer = box.format(100, 200, 300, 400), box.format(500, 100, 900, 800)
    question = f"Image-1: <image>\nImage-2: <image>\nIn Image-1, {given}: what is it? {HOSTILE}"
    for kind, count in (("diff_train", 30), ("free", 3)):
        samples = [
            {
                "id": f"{kind}-{at}",
                "images": names,
                "conversations": [
                    {"from": "human", "value": question},
                    {"from": "gpt", "value": f"The lamp, and in Image-2 {answer}"},
                ],
                "type": kind,
            }
            for at in range(count)
        ]
        lines = [json.dumps(sample) for sample in samples]
        if kind == "free":
            lines.append('{"id": 1, "images": "none"}')
        (root / "MIG-Bench" / f"{kind}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    return root / "MIG-Bench"
