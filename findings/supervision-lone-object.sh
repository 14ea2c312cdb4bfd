#!/usr/bin/env bash
# supervision finds no box, and says nothing, in replies of Qwen2.5-VL and Qwen3-VL that are not one list with labels.
#
# Detections.from_vlm for both families wants a JSON list whose objects have "bbox_2d" and "label". An object by itself,
# the form that the finetuning guide in QwenLM/Qwen3-VL gives for one target, is read as nothing; so is a list without
# labels, and so are two lists in one reply, as an answer over two images has them. The result is an empty Detections, not
# an error: a scorer counts a miss.
#
# It matters here because records are converted for these families, and what users read replies with is often this
# library. So converted answers are one list, each object has a label, and boxes of several images are in one list that
# names the image in a field of its own.
#
# Seen with supervision 0.31.2, Python 3.11. Needs pip and 400 MB; takes a minute.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  "${PYTHON:-python3.11}" -m venv "$work/venv"
  "$work/venv/bin/python" -m pip install --quiet supervision==0.31.2 numpy==2.2.6
  python="$work/venv/bin/python"
fi
"$python" -W ignore - << 'END'
import sys

import supervision

box, other = '"bbox_2d": [100, 200, 300, 400]', '"bbox_2d": [500, 600, 700, 800]'
replies = {
    "a list with labels": (f'[{{{box}, "label": "dog"}}]', 1),
    "a list with labels, within a sentence": (f'It is here: [{{{box}, "label": "dog"}}].', 1),
    "an object by itself": (f'{{{box}, "label": "dog"}}', 0),
    "a list without labels": (f"[{{{box}}}]", 0),
    "two lists": (f'Image-1: [{{{box}, "label": "dog"}}]\nImage-2: [{{{other}, "label": "dog"}}]', 0),
    "one list, an image in each object": (
        f'[{{"image": 1, {box}, "label": "dog"}}, {{"image": 2, {other}, "label": "dog"}}]',
        2,
    ),
}
print("supervision", supervision.__version__)
changed = False
for what, (reply, expected) in replies.items():
    found = len(supervision.Detections.from_vlm(supervision.VLM.QWEN_3_VL, reply, resolution_wh=(640, 480)))
    print(f"boxes of {what}: {found}")
    changed |= found != expected
sys.exit(1 if changed else 0)
END
echo "as described"
