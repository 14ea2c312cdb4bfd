#!/usr/bin/env bash
# Pillow reports a picture as saved that a full disk has cut.
#
# Given a path or an opened file, Image.save hands the pieces of the encoder to the system's write() on the file's number,
# and takes every result that is not an error for success. A disk with room for a part of a piece takes that part and
# says how much: Pillow does not look. Only the next piece would fail, and the last piece, up to 64 KiB, has no next. So
# save() returns, and the file is cut. A stream without a number, such as io.BytesIO, does not have the fault: encode
# into memory, and let Python's file write the bytes, which asks again for the rest and raises.
#
# It matters here because crops of a dataset, pictures of a page and of a card are written so, and a cut crop would be
# trained on: a JPEG is read as far as it goes by those who tolerate cut files.
#
# A limit of the process on the size of files stands for the full disk. Seen with Pillow 11.3.0 and 13.0.0, Python 3.11,
# Linux. Takes half a minute.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
for version in 11.3.0 13.0.0; do
  "${PYTHON:-python3.11}" -m venv "$work/$version"
  "$work/$version/bin/python" -m pip install --quiet "pillow==$version"
  "$work/$version/bin/python" - "$work" << 'END'
import io
import os
import resource
import signal
import sys

import PIL
from PIL import Image

file = f"{sys.argv[1]}/picture.jpg"
picture = Image.effect_noise((400, 400), 60)
stream = io.BytesIO()
picture.save(stream, "JPEG")
whole = len(stream.getvalue())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails instead of ending the process
resource.setrlimit(resource.RLIMIT_FSIZE, (whole - 100, resource.RLIM_INFINITY))

with open(file, "wb") as opened:
    picture.save(opened, "JPEG")  # no error
written = os.path.getsize(file)
print(f"Pillow {PIL.__version__}: save() returned; {written:,} of {whole:,} bytes are in the file")

try:
    with open(file, "wb") as opened:
        opened.write(stream.getvalue())
    refused = ""
except OSError as error:
    refused = str(error)
print(f"Python's own write of the same bytes: {refused}")
sys.exit(not (written == whole - 100 and refused))
END
done
