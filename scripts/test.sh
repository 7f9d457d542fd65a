#!/usr/bin/env bash
# All tests, then one line that says how many passed.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc node npm python3
# What the tests run is fetched while the lints are made. What is missing is said where it is needed.
{
  scripts/python.sh || true
  scripts/opensearch.sh fetch || true
  scripts/trino.sh fetch || true
} > /dev/null 2>&1 &
scripts/check.sh
wait
SLUICE_TEST_PYTHON=$(scripts/python.sh)
export SLUICE_TEST_PYTHON
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=
# A part that fails does not keep the others from running, and is named at the end.
part() {
  local name=$1
  shift
  "$@" 2>&1 | tee -a "$log" || failed="$failed${failed:+, }$name"
}
echo "Building and running the tests."
export NO_COLOR=1
part "web application" npm --prefix web test --silent
cargo build --locked --workspace --bins
part "workspace" cargo test --locked --workspace --no-fail-fast
# The pages in a real browser, served by the program that was built.
if CHROMIUM=$(scripts/chromium.sh); then
  export CHROMIUM
  SLUICE_BIN=../target/debug/sluice part "pages in a browser" npm --prefix web run --silent e2e
else
  echo "SKIPPED the pages in a browser: there is no Chromium" | tee -a "$log"
  [ -z "${CI:-}" ] || failed="$failed${failed:+, }pages in a browser"
fi
# Of cargo, of Vitest, and of Playwright.
awk '/^test result:/ { passed += $4; failed += $6; skipped += $8 } /^SKIPPED/ { print; said++ }
  /^ *Tests +[0-9]/ || /^ +[0-9]+ (passed|failed|skipped)( \(|$)/ {
    for (i = 2; i <= NF; i++) { n = $(i - 1) + 0; if ($i ~ /^passed/) passed += n; if ($i ~ /^failed/) failed += n; if ($i ~ /^skipped/) skipped += n }
  }
  END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped + said }' "$log"
if [ -n "$failed" ]; then
  echo "FAILED: $failed" >&2
  exit 1
fi
