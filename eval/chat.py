"""Converse with a model about several images in the terminal; the same as `migician chat --terminal`.

python eval/chat.py --model Michael4933/Migician a.jpg b.jpg
"""

from __future__ import annotations

import sys

from migician.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["chat", "--terminal"]
    main()
