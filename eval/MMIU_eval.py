"""Evaluate a model on MMIU; the same as `migician eval mmiu`, with the same options.

python eval/MMIU_eval.py --model Michael4933/Migician --data MMIU/all.parquet --images MMIU --out outputs/x
"""

from __future__ import annotations

import sys

from migician.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["eval", "mmiu"]
    main()
