#!/usr/bin/env bash
# Make .venv and install everything this machine can use. Safe to run again: it does nothing if
# nothing changed.
#
#   bash scripts/setup.sh          all of it: models, training, tests (and GPU kernels where there is a GPU)
#   bash scripts/setup.sh base     only what scores, draws and builds datasets (no torch)
#
# PYTHON=python3.12 chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

what="${1:-all}"
case "$what" in
  base) extras="data,dev";       cost="0.4 GB and about half a minute" ;;
  all)  extras="train,page,ray,serving,dev"; cost="6 GB and 3 to 6 minutes" ;;
  *) echo "setup.sh: '$what' is unknown; use all (the default) or base" >&2; exit 2 ;;
esac

python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "setup.sh: $python is missing or older than 3.11; install Python 3.11 or newer, or set PYTHON" >&2
  exit 2
fi

# The stamp names all that decides what gets installed.
stamp=".venv/.installed"
wanted="$what $(cat pyproject.toml constraints.txt scripts/setup.sh | sha256sum | cut -d' ' -f1)"
if [ -f "$stamp" ] && { [ "$(cat "$stamp")" = "$wanted" ] || [ "$(cat "$stamp")" = "${wanted/#$what/all}" ]; }; then
  exit 0
fi

free_gb=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
if [ "$what" = all ] && [ "$free_gb" -lt 8 ]; then
  echo "setup.sh: only $free_gb GB free here, and .venv takes 6 GB; free some space, or run: bash scripts/setup.sh base" >&2
  exit 2
fi
echo "setup: installing '$what' into .venv with $("$python" --version); takes $cost" >&2
SECONDS=0
[ -x .venv/bin/python ] || "$python" -m venv .venv
install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }
install --constraint constraints.txt --editable ".[$extras]"
if [ "$what" = all ] && command -v nvidia-smi > /dev/null && nvidia-smi > /dev/null 2>&1; then
  echo "setup: found a GPU; adding flash-attn and liger-kernel (compiles, some minutes)" >&2
  install --no-build-isolation --constraint constraints.txt --editable ".[gpu]" ||
    echo "setup: flash-attn or liger-kernel could not be installed (they need the CUDA toolkit); models run without them" >&2
fi
echo "$wanted" > "$stamp"
echo "setup: done in ${SECONDS} s. Next: source .venv/bin/activate" >&2
