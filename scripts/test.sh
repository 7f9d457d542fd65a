#!/usr/bin/env bash
# All tests, then one line that says how many passed.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc python3
SLUICE_TEST_PYTHON=$(scripts/python.sh)
export SLUICE_TEST_PYTHON
scripts/check.sh
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Building and running the tests."
status=0
cargo build --locked --workspace --bins || exit 1
cargo test --locked --workspace --no-fail-fast 2>&1 | tee "$log" || status=$?
awk '/^test result:/ { passed += $4; failed += $6; skipped += $8 } /^SKIPPED/ { print; said++ }
  END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped + said }' "$log"
exit $status
