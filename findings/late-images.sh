#!/usr/bin/env bash
# LLaMA-Factory stops at the first image of a file where the 1,000 samples before it have none.
#
# Text and images in one file are fine, whichever comes first, up to a point that nothing documents. LLaMA-Factory maps
# each record to a column of images, None for a text; `datasets` decides what a column holds by the first 1,000 rows it
# writes, "null" here, and cannot cast a list of paths to that: TypeError, after minutes of reading. 999 texts before
# the image are taken, 1,000 are not, and a file of texts alone is taken whatever its length. With
# preprocessing_num_workers each process counts from the start of its own part. Shuffle such a file.
#
# Seen with llamafactory 0.9.5, datasets 4.0.0, transformers 5.5.4, Python 3.11. Takes 6 GB and some minutes; with
# FINDINGS_PYTHON half a minute.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  "${PYTHON:-python3.11}" -m venv "$work/venv"
  python="$work/venv/bin/python"
  "$python" -m pip install --quiet torch==2.11.0 torchvision==0.26.0 torchaudio==2.11.0 transformers==5.5.4 \
    llamafactory==0.9.5 datasets==4.0.0
fi
export HF_HUB_OFFLINE=1 HF_DATASETS_CACHE="$work/cache" DISABLE_VERSION_CHECK=1
"$python" - "$work" <<'END'
import json
import sys
from pathlib import Path

from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams import DataArguments, ModelArguments
from llamafactory.hparams.training_args import TrainingArguments

root = Path(sys.argv[1])
turns = [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "There."}]
shown = [{"from": "human", "value": "<image>Where?"}, turns[1]]
files = {
    "image 1,000th": [{"images": [], "conversations": turns}] * 999 + [{"images": ["a.png"], "conversations": shown}],
    "image 1,001st": [{"images": [], "conversations": turns}] * 1000 + [{"images": ["a.png"], "conversations": shown}],
    "2,000 texts": [{"images": [], "conversations": turns}] * 2000,
}
seen = {}
for number, (name, records) in enumerate(files.items()):
    folder = root / str(number)
    folder.mkdir()
    (folder / "x.json").write_text(json.dumps(records))
    entry = {"file_name": "x.json", "formatting": "sharegpt", "columns": {"messages": "conversations", "images": "images"}}
    (folder / "dataset_info.json").write_text(json.dumps({"x": entry}))
    data = DataArguments(dataset="x", dataset_dir=str(folder), media_dir=str(folder), template="qwen2_vl")
    training = TrainingArguments(output_dir=str(folder / "out"), use_cpu=True)
    (attributes,) = get_dataset_list(["x"], str(folder))
    try:
        seen[name] = len(_load_single_dataset(attributes, ModelArguments(model_name_or_path="none"), data, training))
    except TypeError as error:
        seen[name] = str(error)
    print(f"{name}: {seen[name]}")
if (seen["image 1,000th"], seen["2,000 texts"]) != (1000, 2000) or "to null" not in str(seen["image 1,001st"]):
    sys.exit("this has changed: see the top of the script")
print("as described")
END
