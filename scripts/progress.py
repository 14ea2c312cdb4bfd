"""Say in one line how far a LLaMA-Factory run is: python scripts/progress.py OUTPUT_DIR/trainer_log.jsonl"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

STEPS_A_LINE = 10  # logging_steps of the quickstart's YAML


def main() -> None:
    file = Path(sys.argv[1])
    lines = file.read_text().splitlines() if file.exists() else []
    steps = [one for one in map(_decoded, lines) if one.get("loss") is not None]
    if not sys.stderr.isatty():  # a log gets a line every tenth of the way, a terminal one that changes
        steps = [one for one in steps if 10 * one["current_steps"] % one["total_steps"] < 10 * STEPS_A_LINE]
    if steps:
        last = steps[-1]
        print(
            f"step {last['current_steps']} of {last['total_steps']}, loss {last['loss']:.3f}, "
            f"{last['elapsed_time']} gone, {last['remaining_time']} left"
        )


def _decoded(line: str) -> dict[str, Any]:
    try:
        return json.loads(line)  # type: ignore[no-any-return]
    except json.JSONDecodeError:
        return {}  # the last line may be half-written


if __name__ == "__main__":
    main()
