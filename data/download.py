"""Download a released dataset; the same as `migician fetch`, with the same options.

python data/download.py mgrounding-630k --to data/downloads --only Difference
"""

from __future__ import annotations

import sys

from migician.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["fetch"]
    main()
