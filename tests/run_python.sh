#!/bin/bash
# Runs a Python test of the runfiles tree with the repository's root on the module path.
set -euo pipefail
export PYTHONPATH=$PWD PYTHONDONTWRITEBYTECODE=1
exec python3 "$@"
