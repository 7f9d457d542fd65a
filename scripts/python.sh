#!/usr/bin/env bash
# Makes the project's own Python environment (.venv) from the lock file, once per lock file. Prints the interpreter's path.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh python3
lock=tests/requirements.txt
stamp=.venv/.lock-$(cksum < "$lock" | tr ' ' '-')
if [ ! -f "$stamp" ]; then
  echo "Preparing .venv (about 1 GB: DuckDB and pyarrow, an emulator of AWS, and the tools that build and deploy the functions)." >&2
  python3 -m venv .venv >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$lock" >&2
  touch "$stamp"
fi
echo "$PWD/.venv/bin/python"
