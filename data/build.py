"""Build an MGrounding-style dataset; the same as `migician build`, with the same options.

python data/build.py all --source got10k=/data/GOT-10k --source objects365=/data/Objects365 --out data/MGrounding
"""

from __future__ import annotations

import sys

from migician.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["build"]
    main()
