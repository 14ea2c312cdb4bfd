#!/usr/bin/env bash
# Streamed batches are cut: of all tensors only as many rows are kept as the batch has samples.
#
# For an iterable dataset accelerate prepares a dispatching loader by default (`dispatch_batches`), in a single process too. It takes
# the first tensor's rows as the size of the batch and cuts every tensor to it. A vision model's batch has other tensors than one row
# a sample: Qwen2-VL's pixel_values have one row a patch, hundreds for each image. They are cut to the batch size without a word, and the
# model fails later on sizes that do not fit. LLaMA-Factory's `streaming: true` with images stops so, unless the YAML has
# `accelerator_config: {dispatch_batches: false}`. Here: `migician check` says so.
#
# Seen with accelerate 1.11.0, torch 2.11.0. Takes some 2 GB and two minutes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  python3 -m venv "$folder/venv"
  python="$folder/venv/bin/python"
  "$python" -m pip install --quiet --disable-pip-version-check accelerate==1.11.0 torch==2.11.0
fi
cd "$folder"
CUDA_VISIBLE_DEVICES="" "$python" - << 'END'
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration


class Samples(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from range(6)


def collated(samples):  # two images a sample, ten patches an image
    return {"input_ids": torch.zeros(len(samples), 5), "pixel_values": torch.zeros(len(samples) * 20, 3)}


def rows(dispatch):
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=dispatch))
    loader = torch.utils.data.DataLoader(Samples(), batch_size=2, collate_fn=collated)
    batch = next(iter(accelerator.prepare_data_loader(loader)))
    return {name: len(tensor) for name, tensor in batch.items()}


by_default, kept = rows(None), rows(False)
print("by default:             ", by_default)
print("dispatch_batches=False: ", kept)
assert kept["pixel_values"] == 40
assert by_default["pixel_values"] == 2, "changed: pixel_values are no longer cut to the size of the batch"
END
