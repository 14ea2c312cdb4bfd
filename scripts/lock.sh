#!/usr/bin/env bash
# Write constraints.txt from the environment in .venv. Run it after the tests passed there.
set -euo pipefail
cd "$(dirname "$0")/.."
{
  echo "# Every version that a full installation takes (Python 3.11 and 3.12, Linux), made by"
  echo "# scripts/lock.sh from an environment in which all tests passed. scripts/setup.sh installs under it."
  .venv/bin/python -m pip list --format=freeze | grep -v -i -E '^(pip|setuptools|wheel|migician)==' | LC_ALL=C sort -f
} > constraints.txt.part
mv constraints.txt.part constraints.txt
