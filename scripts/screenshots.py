"""Take the pictures of pages in docs/ from what the quickstart left: report-page.png, dataset-page.png, chat.png.

python scripts/screenshots.py --quickstart outputs/quickstart
python scripts/screenshots.py --only report-page --out /tmp/pictures

A new picture is one function here and one line in PICTURES.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from migician.chat.page import serve
from migician.chat.session import OfferedModels
from migician.errors import writing
from migician.reports.page.dataset import write_dataset_page
from migician.reports.page.runs import write_page

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from browser import browser

WIDTH, HEIGHT = 1280, 730
LARGEST = 300_000
"""Bytes of a picture: what a README can carry."""
_CORES = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quickstart", type=Path, default=Path("outputs/quickstart"), help="what quickstart.sh wrote")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--only", choices=PICTURES, action="append", help="may be repeated; else all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, browser() as opened:
        for name in options.only or PICTURES:
            tab = opened.new_page(
                viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", reduced_motion="reduce"
            )
            picture = reduced(PICTURES[name](tab, options.quickstart, Path(scratch)))
            tab.close()
            if len(picture) > LARGEST:
                raise SystemExit(f"{name}.png would have {len(picture):,} bytes, more than {LARGEST:,}")
            with writing(options.out / f"{name}.png") as stream:
                stream.write(picture)
            print(f"written: {options.out / name}.png, {len(picture):,} bytes")


def report_page(tab: Any, quickstart: Path, scratch: Path) -> Image.Image:
    """Two runs compared, and below it a question that only one of them gets right."""
    runs = [quickstart / "scores" / name for name in ("stage-1", "merged")]
    page = write_page(runs, [run.name for run in runs], quickstart / "world", scratch / "report", processes=_CORES)
    tab.goto(page.as_uri())
    overview = shot(tab)
    tab.goto(f"{page.as_uri()}#task=group_grounding&right=only-B")
    tab.locator(".card").first.click()
    tab.set_viewport_size({"width": WIDTH, "height": 520})
    return stacked([overview, shot(tab)])


def dataset_page(tab: Any, quickstart: Path, scratch: Path) -> Image.Image:
    """Samples of the training set that the quickstart builds."""
    page = write_dataset_page(quickstart / "data", scratch / "dataset", count=120, processes=_CORES)
    tab.goto(page.as_uri())
    tab.locator("#samples").scroll_into_view_if_needed()
    tab.locator("#samples").evaluate("one => one.scrollIntoView()")
    return shot(tab)


def chat(tab: Any, quickstart: Path, scratch: Path) -> Image.Image:
    """An example that the page offers, asked of the merged model; the answer is its own."""
    server = serve(OfferedModels([str(quickstart / "merged")]), port=0)
    try:
        tab.goto(server.address)
        tab.get_by_role("button", name="Spot the difference").click()
        tab.wait_for_selector(".mg-shot[data-number='2'] img")
        tab.locator("#mg-send").click()
        tab.locator("#mg-transcript figure img").first.wait_for()
        return shot(tab)
    finally:
        server.stop()


PICTURES: dict[str, Callable[[Any, Path, Path], Image.Image]] = {
    "report-page": report_page,
    "dataset-page": dataset_page,
    "chat": chat,
}
"""Name in docs/ -> what takes it, given a browser's page, the quickstart's folder and one to write into."""


def shot(tab: Any) -> Image.Image:
    """What the viewport shows, once all images in it are there."""
    seen = "all.filter((one) => one.getBoundingClientRect().top < innerHeight)"
    tab.locator("img").evaluate_all(f"all => Promise.all({seen}.map((one) => one.decode()))")
    return Image.open(io.BytesIO(tab.screenshot(animations="disabled", caret="hide"))).convert("RGB")


def stacked(pictures: list[Image.Image]) -> Image.Image:
    """One below the other, a thin line between."""
    sheet = Image.new("RGB", (WIDTH, sum(one.height for one in pictures) + 2 * (len(pictures) - 1)), "#CBD2D9")
    top = 0
    for one in pictures:
        sheet.paste(one, (0, top))
        top += one.height + 2
    return sheet


def reduced(picture: Image.Image) -> bytes:
    """As a PNG of the 256 colours that cover what is there, rare ones too; without dithering, which would speckle."""
    written = io.BytesIO()
    few = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    few.save(written, "PNG", optimize=True)
    return written.getvalue()


if __name__ == "__main__":
    main()
