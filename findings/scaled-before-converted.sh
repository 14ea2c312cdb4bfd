#!/usr/bin/env bash
# LLaMA-Factory scales an image before it converts it to RGB, so a large one trains on pixels that nobody sees.
#
# One would guess that it opens a file, converts it, and scales it. It scales first, whatever the mode, where an image has
# more than image_max_pixels (768 x 768) or fewer than image_min_pixels (32 x 32), and Pillow scales by the mode:
# - RGBA: multiplied by alpha and divided again, so what is fully transparent loses its colour. White that is hidden
#   under alpha 0, as many programs save it, stays white at 700 x 700 and turns black at 800 x 800. The same file, laid on
#   white by the processor of transformers 5.24 or by qwen-vl-utils, is white at inference.
# - a palette (PNG of 256 colours, GIF) or 1 bit: by the nearest pixel, whatever filter is asked for. The result has the
#   colours of the palette alone, with stairs in every letter and edge; as RGB it is smoothed.
# So save training images as RGB, transparency on white.
#
# Seen with llamafactory 0.9.5, pillow 11.3.0, transformers 5.5.4, Python 3.11. Takes 6 GB and some minutes; with
# FINDINGS_PYTHON half a minute.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  "${PYTHON:-python3.11}" -m venv "$work/venv"
  python="$work/venv/bin/python"
  "$python" -m pip install --quiet torch==2.11.0 torchvision==0.26.0 torchaudio==2.11.0 transformers==5.5.4 \
    llamafactory==0.9.5 pillow==11.3.0
fi
export HF_HUB_OFFLINE=1 DISABLE_VERSION_CHECK=1
cd "$work"
"$python" - <<'END'
import sys

import numpy as np
from llamafactory.data.mm_plugin import get_mm_plugin
from PIL import Image

plugin = get_mm_plugin("qwen2_vl", image_token="<|image_pad|>", video_token="<|video_pad|>")


def trained(file):
    limits = {"image_max_pixels": 768 * 768, "image_min_pixels": 32 * 32}
    return plugin._regularize_images([file], **limits)["images"][0]


seen = {}
for side in (700, 800):
    Image.new("RGBA", (side, side), (255, 255, 255, 0)).save(f"hidden{side}.png")
    seen[side] = trained(f"hidden{side}.png").getpixel((9, 9))
    print(f"white under alpha 0, {side} x {side}: {seen[side]}")
slope = np.linspace(0, 255, 1000 * 1000).reshape(1000, 1000).astype(np.uint8)
palette = Image.fromarray(np.stack([slope, slope.T, slope[::-1]], axis=2)).quantize(16)
palette.save("palette.png")
palette.convert("RGB").save("rgb.png")
colours = {file: len(trained(file).getcolors(1 << 24)) for file in ("palette.png", "rgb.png")}
print(f"colours of a picture of 16, scaled from 1000 x 1000: {colours}")
if seen != {700: (255, 255, 255), 800: (0, 0, 0)} or colours["palette.png"] > 16 or colours["rgb.png"] < 100:
    sys.exit("this has changed: see the top of the script")
print("as described")
END
