"""Evaluate a model on MIG-Bench by chain of thought: describe, then locate; options as of `migician eval mig-bench`.

python eval/MIG_bench_cot.py --cot multi --model Michael4933/Migician --data MIG_data.json --images . --out outputs/x
"""

from __future__ import annotations

import sys

from migician.cli import main

if __name__ == "__main__":
    given = sys.argv[1:]
    mode = [] if any(one.startswith("--cot") for one in given) else ["--cot", "single"]
    sys.argv[1:] = ["eval", "mig-bench", *mode, *given]
    main()
