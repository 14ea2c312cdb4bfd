"""Measure the chat page under load; prints a table in Markdown.

python scripts/benchmark_chat.py --visitors 200

One visitor after the other brings a conversation's worth of pictures and never closes the page; the first and every
tenth ask a question. Each also sends a picture that no page asks for, and begins an upload that is cut. The model is a
constant, so that only the page is measured. The server listens on 127.0.0.1; it is stopped early where it takes more
than `--stop-mb`.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from chat_client import Running, running


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=200)
    parser.add_argument("--images", type=int, default=24, help="per visitor")
    parser.add_argument("--side", type=int, default=2048, help="pixels of an image's sides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop-mb", type=float, default=6000)
    options = parser.parse_args()
    pictures = [picture(options.side, options.seed + number) for number in range(options.images)]
    with tempfile.TemporaryDirectory() as place:
        measure(Path(place), pictures, options.visitors, options.stop_mb)


def measure(folder: Path, pictures: list[bytes], visitors: int, stop_mb: float) -> None:
    """Print what a server whose temporary files lie in `folder` uses over that number of visitors."""
    with running(folder, "--model", "constant:100,100,900,900") as server:
        began, started = server.memory_mb(), time.perf_counter()
        most_disk, most_folders = 0, 0
        print("| visitors | memory, MB | most so far, MB | temporary files, MB | files | folders | s |")
        print("|---|---|---|---|---|---|---|")
        for number in range(1, visitors + 1):
            visit(server, pictures, number)
            used, files, folders = server.disk()
            most_disk, most_folders = max(most_disk, used), max(most_folders, folders)
            memory = server.memory_mb()
            if number in (1, 2, 5, 10, 20, 50, 100, 200, visitors) or memory > stop_mb:
                seconds = time.perf_counter() - started
                cells = [number, f"{memory - began:,.0f}", f"{server.memory_mb('VmHWM') - began:,.0f}",
                         f"{used / 1e6:,.1f}", files, folders, f"{seconds:.0f}"]  # fmt: skip
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
            if memory > stop_mb:
                print(f"\nstopped: more than {stop_mb:,.0f} MB")
                break
    print(f"\nsent per visitor: {sum(map(len, pictures)) / 1e6:.1f} MB; memory is beyond the {began:.0f} MB of an idle")
    print(f"server; most on the disk {most_disk / 1e6:.1f} MB and {most_folders} folders; ended by SIGTERM")
    print(f"with {server.process.returncode}; left behind: {len(list(folder.rglob('*')))} files and folders")


def picture(side: int, seed: int) -> bytes:
    """A JPEG as large as a photo's: coarse shapes with a little noise."""
    rng = np.random.default_rng(seed)
    shapes = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize((side, side))
    noisy = np.asarray(shapes, np.int16) + rng.integers(-9, 10, (side, side, 1), dtype=np.int16)
    stream = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def visit(server: Running, pictures: list[bytes], number: int) -> None:
    """What one visitor does; no two have the same bytes."""
    own = [(f"{place}.jpg", content + f"{number}".encode()) for place, content in enumerate(pictures)]
    session = f"visitor{number}"
    server.bring(server.upload(own), session)
    if number % 10 == 0 or number == 1:
        server.call("mg-send", ["Where is it in Image-1?", server.model(), None], session)
    server.upload(own[:1])
    server.cut_upload(10_000_000, 5_000_000)


if __name__ == "__main__":
    main()
