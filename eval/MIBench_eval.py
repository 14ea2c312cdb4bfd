"""Evaluate a model on MIBench; the same as `migician eval mibench`, with the same options.

python eval/MIBench_eval.py --model Michael4933/Migician --data MIBench --images MIBench --out outputs/x
"""

from __future__ import annotations

import sys

from migician.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["eval", "mibench"]
    main()
