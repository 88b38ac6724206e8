#!/bin/bash
# Runs a Python test of the runfiles tree with the repository's root on the module path.
set -euo pipefail
export PYTHONPATH=$PWD PYTHONDONTWRITEBYTECODE=1
python=python3
if [ "$1" = --clients ]; then
  shift
  # Files of the runfiles tree are links into the source tree, where tools/setup has made it.
  python=$(dirname "$(readlink -f "$1")")/../../.build/venv/bin/python3
  [ -x "$python" ] || { echo "no $python: run tools/setup" >&2 && exit 1; }
fi
exec "$python" "$@"
