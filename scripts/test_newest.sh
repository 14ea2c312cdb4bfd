#!/usr/bin/env bash
# The tests on the newest libraries (transformers, torch, datasets, pillow and the rest), which LLaMA-Factory and
# Gradio do not take yet. scripts/test.sh runs on the pins of .venv; this is the other end.
#
#   bash scripts/test_newest.sh                    everything that applies (5 to 20 minutes on two cores)
#   bash scripts/test_newest.sh tests/models -k x  arguments go to pytest alone
#   NEWEST=FOLDER bash scripts/test_newest.sh      its environment, else .venv-newest (7 GB, 3 to 10 minutes, once)
#
# Tests of what is not installed here (LLaMA-Factory, DeepSpeed, Gradio) skip themselves and say so. PYTHON=python3.12
# chooses the interpreter. Versions are in scripts/newest.txt; a change of it installs again.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
  sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' scripts/test_newest.sh
  exit 0
fi

pins=scripts/newest.txt
venv="${NEWEST:-.venv-newest}"
wanted="$(sha256sum < "$pins")"
if [ "$(cat "$venv/.installed" 2> /dev/null)" != "$wanted" ]; then
  python="${PYTHON:-python3}"
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
    echo "test_newest.sh: $python is missing or older than 3.11; install Python 3.11 or newer, or set PYTHON" >&2
    exit 2
  fi
  mkdir -p "$venv"
  free_gb=$(df -Pk "$venv" | awk 'NR == 2 {print int($4 / 1048576)}')
  if [ "$free_gb" -lt 9 ]; then
    echo "test_newest.sh: only $free_gb GB free here, and $venv takes 7 GB; free some space, or set NEWEST to a folder elsewhere" >&2
    exit 2
  fi
  echo "test_newest: installing the newest libraries into $venv: 7 GB and 3 to 10 minutes" >&2
  rm -f "$venv/.installed"
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$@"; }
  install --requirement "$pins"
  install --editable . # for the command
  echo "$wanted" > "$venv/.installed"
fi

# PYTHONPATH: this checkout, whichever made the environment.
export PATH="$(cd "$venv" && pwd)/bin:$PATH" PYTHONPATH="$PWD" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
cores=$(nproc) # before OMP_NUM_THREADS is set: nproc obeys it
export OMP_NUM_THREADS=1
[ $# -gt 0 ] || set -- --numprocesses $((cores < 4 ? cores : 4)) --dist loadfile
status=0
python -m pytest "$@" < /dev/null || status=$?
python - << 'EOF'
import platform
from importlib.metadata import version

names = "transformers torch torchvision datasets pillow huggingface_hub accelerate numpy".split()
print("ran on Python", platform.python_version() + ",", ", ".join(f"{name} {version(name)}" for name in names))
EOF
exit "$status"
