#!/usr/bin/env bash
# destroy_process_group leaves threads running where torch.distributed.nn was imported after the group was made.
#
# Ten functions of torch.distributed.nn.functional have `group=group.WORLD` as a default argument. That is the default
# group at the time of the import: None before init_process_group, afterwards the group itself, which these functions
# then keep for as long as Python runs. destroy_process_group raises nothing and is_initialized() is False, but the
# threads of gloo go on. Any import can bring the module in: transformers does, when a model is loaded.
#
# It matters here because a thread of gloo frees the tensors of the last operation a little after that has returned.
# Where Python ends meanwhile, as on a busy machine, the thread ends the process with SIGABRT, "terminate called without
# an active exception", after all work is done. So the module is imported before the processes of an evaluation meet.
#
# Seen with torch 2.11.0, Python 3.11, Linux. Takes 6 GB and some minutes; with FINDINGS_PYTHON ten seconds.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  "${PYTHON:-python3.11}" -m venv "$work/venv"
  python="$work/venv/bin/python"
  "$python" -m pip install --quiet torch==2.11.0
fi
for when in never before after; do
  "$python" - "$when" << 'END'
import sys
from pathlib import Path

import torch
from torch import distributed

when = sys.argv[1]
if when == "before":
    import torch.distributed.nn.functional
distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
if when == "after":
    import torch.distributed.nn.functional
distributed.barrier()
distributed.destroy_process_group()
assert not distributed.is_initialized()
left = sum("gloo" in file.read_text() for file in Path("/proc/self/task").glob("*/comm"))
print(f"torch {torch.__version__}, torch.distributed.nn imported {when}: {left} threads of gloo are left")
sys.exit((left > 0) != (when == "after"))
END
done
