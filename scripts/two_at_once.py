"""Two `merge` and two `export` on one target, at the same time and a second apart: one result, whole.

    python scripts/two_at_once.py [--times 20] [--seed 0]

Each time the target must be what an undisturbed run makes, byte for byte; one process has made it, and the other says
in one line that another writes it or that it is done. Prints a line per command; status 1 where anything else was seen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

CLI = [sys.executable, "-m", "migician.cli"]
SHAPE = (1024, 1024)
SAMPLES = 4000


def checkpoint(folder: Path, seed: int) -> Path:
    """A model of 24 tensors, of which a merge takes longer than a second process needs to start."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    chance = torch.Generator().manual_seed(seed)
    tensors = {f"layer.{number}": torch.randn(SHAPE, generator=chance) for number in range(24)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text('{"model_type": "qwen2_vl"}')
    return folder


def dataset(folder: Path, seed: int) -> Path:
    """Samples over 40 pictures of noise, in one file."""
    folder.mkdir()
    chance = np.random.default_rng(seed)
    for number in range(40):
        pixels = chance.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    turns = [{"from": "human", "value": "<image>\nWhere is it?"}, {"from": "gpt", "value": "Here."}]
    records = [
        {"id": str(one), "images": [f"{one % 40}.png"], "conversations": turns, "type": "x"} for one in range(SAMPLES)
    ]
    (folder / "all.json").write_text(json.dumps(records))
    return folder / "all.json"


def contents(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def at_once(words: list[str], target: Path, pause_s: float) -> list[tuple[int, str]]:
    """Status and words of two processes of one command, the second started so much later."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen([*CLI, *words, str(target)], **pipes)  # type: ignore[call-overload]
    time.sleep(pause_s)
    second = subprocess.Popen([*CLI, *words, str(target)], **pipes)  # type: ignore[call-overload]
    said = [one.communicate()[1] for one in (first, second)]
    return [(one.returncode, text) for one, text in zip((first, second), said, strict=True)]


def outcome(status: int, said: str) -> str:
    """What one of the two did, in a word; empty for what none may do."""
    last = said.strip().splitlines()[-1] if said.strip() else ""
    if "Traceback" in said:
        return ""
    if status == 2:
        return "refused" if "another process is writing it" in last else ""
    return "done already" if "done already" in last else "made" if status == 0 else ""


def faults(words: list[str], place: Path, whole: dict[str, str], pause_s: float, seen: Counter[str]) -> list[str]:
    """What is wrong after one time; what the two did is added to `seen`."""
    target = place / "out"
    done = at_once(words, target, pause_s)
    did = sorted(outcome(*one) for one in done)
    seen[" and ".join(did)] += 1
    wrong = [] if did.count("made") == 1 and all(did) else [f"{pause_s} s apart: {done}"]
    wrong += [] if contents(target) == whole else [f"{pause_s} s apart: the result is not that of an undisturbed run"]
    wrong += [f"left behind: {one.name}" for one in place.iterdir() if one.name != "out"]
    shutil.rmtree(target)
    return wrong


def main() -> int:
    """Status 0 where everything held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, failed = Random(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        commands = {
            "merge": ["merge", str(checkpoint(root / "a", 1)), str(checkpoint(root / "b", 2)), "--out"],
            "export": ["data", "export", str(dataset(root / "data", 3)), "--to"],
        }
        for name, words in commands.items():
            at_rest, place, seen = root / f"{name}-whole", root / name, Counter[str]()
            subprocess.run([*CLI, *words, str(at_rest)], check=True, capture_output=True)
            place.mkdir()
            wrong = []
            for number in range(options.times):
                pause_s = (0.0, 1.0, chance.random())[number % 3] if options.times > 2 else float(number)
                wrong += faults(words, place, contents(at_rest), pause_s, seen)
            failed += len(wrong)
            print(f"{name}: {options.times} times, {len(wrong)} faults; {dict(seen)}")
            print(*wrong[:5], sep="\n", end="\n" if wrong else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
