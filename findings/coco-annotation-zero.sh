#!/usr/bin/env bash
# A true box whose annotation id is 0 can never be found: pycocotools counts its match as a false alarm.
#
# COCOeval writes the id of the matched truth into `dtMatches`, and takes 0 there for "unmatched". Files numbered from 0, as `enumerate` numbers
# them, lose their first box, and the detection that found it becomes a false positive at the head of the ranking, so that the loss is more than
# one box's share. MC-Bench's own annotation file begins with id 0: over 744 of its boxes AP50 is 55.86 in place of 56.33. Here annotations are
# numbered from 1 (migician/benchmarks/scoring/average_precision.py).
#
# Seen with pycocotools 2.0.11, numpy 2.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  python3 -m venv "$folder/venv"
  python="$folder/venv/bin/python"
  "$python" -m pip install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy
fi
cd "$folder"
"$python" - << 'END'
import contextlib
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def ap50(first_id):
    """Of two images with a box each, both found exactly; truths are numbered from `first_id`."""
    box = {"category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
    truths = [{"id": first_id + at, "image_id": at + 1, **box} for at in range(2)]
    sides = []
    for boxes in (truths, [{**one, "id": at + 1, "score": 1.0} for at, one in enumerate(truths)]):
        coco = COCO()
        images = [{"id": 1, "width": 99, "height": 99}, {"id": 2, "width": 99, "height": 99}]
        coco.dataset = {"images": images, "annotations": boxes, "categories": [{"id": 1}]}
        coco.createIndex()
        sides.append(coco)
    evaluation = COCOeval(*sides, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[1])


with contextlib.redirect_stdout(io.StringIO()):
    from_one, from_zero = ap50(1), ap50(0)
print(f"two of two boxes found: AP50 {from_one:.3f} where annotations are numbered from 1, {from_zero:.3f} from 0")
assert from_one > 0.999 and from_zero < 0.6, "an annotation with id 0 counts like any other now"
END
