"""Measure merging against copying the same files; prints a table in Markdown.

python scripts/benchmark_merge.py --folder /tmp/merge               a pair of 2 GB, 6 GB of disk
python scripts/benchmark_merge.py --folder /tmp/merge --gb 16       the size of a 7B pair, 64 GB of disk

Writes two bf16 checkpoints of random values in shards of 4 GB, copies one of them (`cp`, with its bytes
flushed to disk: the floor), merges the two, and says seconds, CPU seconds and peak memory of each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SHARD_BYTES = 4 << 30
LARGEST_TENSOR_BYTES = 1 << 30  # the embedding of Qwen2-VL-7B: 152,064 x 3,584 in two bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder; removed at the end")
    parser.add_argument("--gb", type=float, default=2.0, help="of each checkpoint")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    pair = [options.folder / name for name in ("a", "b")]
    for seed, folder in enumerate(pair):
        write_checkpoint(folder, int(options.gb * 1e9), seed)
    print(f"{options.gb:g} GB each, {len(os.sched_getaffinity(0))} cores\n")
    print("| what | seconds | CPU seconds | peak memory |")
    print("|---|---|---|---|")
    copied, merged = options.folder / "copied", options.folder / "merged"
    floor = measured("copying one of them", ["sh", "-c", f"cp -r {pair[0]} {copied} && sync {copied}/*"])
    shutil.rmtree(copied)
    line = [sys.executable, "-m", "migician.cli", "merge", *map(str, pair), "--out", str(merged)]
    ours = measured("merging both", line)
    imports = [sys.executable, "-c", "import torch, migician.cli.checkpoints"]
    measured("of which importing torch", imports)
    print(f"\nmerging takes {ours / floor:.1f} times as long as copying")
    shutil.rmtree(options.folder)


def write_checkpoint(folder: Path, size: int, seed: int) -> None:
    """A checkpoint of `size` bytes in tensors like a language model's, in shards."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2_vl"}')
    # One block of values again and again: what they are does not change the work.
    values = np.random.default_rng(seed).standard_normal(1 << 22, np.float32)
    block = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()  # cut to bf16
    places: dict[str, str] = {}
    left = size
    for number in range(-(-size // SHARD_BYTES)):
        name, shard = f"model-{number + 1:05}.safetensors", min(SHARD_BYTES, left)
        sizes = [min(LARGEST_TENSOR_BYTES, shard - at) for at in range(0, shard, LARGEST_TENSOR_BYTES)]
        header, at = {}, 0
        for index, length in enumerate(sizes):
            length -= length % 2
            tensor = f"layers.{number}.{index}.weight"
            header[tensor] = {"dtype": "BF16", "shape": [length // 2], "data_offsets": [at, at + length]}
            places[tensor] = name
            at += length
        text = json.dumps(header).encode()
        with (folder / name).open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            while at:
                at -= stream.write(block[: min(len(block), at)])
        left -= shard
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    subprocess.run(["sync", *map(str, folder.iterdir())], check=True)


def measured(what: str, line: list[str]) -> float:
    """Run a command, print its row, give its seconds."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        sys.exit(f"{' '.join(line)}: status {process.returncode}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"| {what} | {seconds:.1f} | {cpu:.1f} | {used.ru_maxrss / 1024:,.0f} MiB |", flush=True)
    return seconds


if __name__ == "__main__":
    main()
