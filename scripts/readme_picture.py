"""Draw docs/answer.png: a held-out question of the miniature world, the true box and a model's own answer.

python scripts/readme_picture.py --model outputs/quickstart/merged --world outputs/quickstart/world
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from migician.benchmarks import mig_bench
from migician.benchmarks.images import resolve_images
from migician.benchmarks.scoring.scoring import Answer, Reading
from migician.boxes import Box
from migician.draw import contact_sheet, prediction, truth
from migician.evaluation.records import score
from migician.models import load_model
from migician.models.protocol import Request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--world", type=Path, required=True)
    parser.add_argument("--task", default="group_grounding")
    parser.add_argument("--out", type=Path, default=Path("docs/answer.png"))
    options = parser.parse_args()
    bench = mig_bench.load(options.world / "MIG-Bench/MIG_data.json")
    model = load_model(options.model)
    reading = Reading("strict", model.box_style)
    # The first question of the task that the model answers rightly: the picture says what an answer looks like,
    # the table beside it how often it is right.
    for question in (one for one in bench.questions if one.task == options.task):
        paths = resolve_images(question, options.world)
        reply = model.answer([Request(tuple(paths), mig_bench.prompt(question))])[0]
        record = score(bench, {question.index: Answer(question.index, reply)}, reading, partial=True)[0]
        if record.outcome == "correct" and question.target is not None:
            break
    else:
        raise SystemExit(f"{options.model} answers no question of {options.task} rightly")
    marks = [[] for _ in paths]
    marks[question.target] = [truth(question.truth), prediction(Box(*record.boxes[0]))]
    sheet = contact_sheet(
        [Image.open(path) for path in paths],
        marks,
        [f"Image-{number}" for number in range(1, len(paths) + 1)],
        title=_plain(question.text),
        note=f"{_plain(reply)}   (IoU {record.iou:.2f})",
    )
    sheet.save(options.out)
    print(f"written: {options.out}, row {question.index}")


def _plain(text: str) -> str:
    """Without Qwen2-VL's tokens, for human eyes."""
    for token in ("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"):
        text = text.replace(token, "")
    return text.strip()


if __name__ == "__main__":
    main()
