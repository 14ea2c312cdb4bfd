"""Evaluate a model on MIG-Bench; the same as `migician eval mig-bench`, with the same options.

python eval/MIG_bench_eval.py --model Michael4933/Migician --data MIG-Bench/MIG_data.json --images . --out outputs/x
"""

from __future__ import annotations

import sys

from migician.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["eval", "mig-bench"]
    main()
