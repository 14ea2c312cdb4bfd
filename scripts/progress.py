"""Say in one line how far a LLaMA-Factory run is: python scripts/progress.py OUTPUT_DIR/trainer_log.jsonl"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    lines = Path(sys.argv[1]).read_text().splitlines()
    steps = [one for one in map(_decoded, lines) if one.get("loss") is not None]
    if not steps:
        return
    last = steps[-1]
    line = (
        f"step {last['current_steps']}/{last['total_steps']}, loss {last['loss']:.3f}, "
        f"{last['elapsed_time']} gone, {last['remaining_time']} left"
    )
    # A terminal shows one line that changes; a log gets one every tenth of the way.
    if sys.stdout.isatty() or sys.stderr.isatty():
        print(f"\r{line}   ", end="", flush=True)
    elif last["current_steps"] % (last["total_steps"] // 10 or 1) == 0:
        print(line)


def _decoded(line: str) -> dict[str, float]:
    try:
        return json.loads(line)  # type: ignore[no-any-return]
    except json.JSONDecodeError:
        return {}  # the last line may be half-written


if __name__ == "__main__":
    main()
