#!/usr/bin/env bash
# Benchmarks: all of them, or those that are named (path, convert, lake, parts, paint, functions). SLUICE_BENCH_EVENTS sets how many events the whole path takes
# (1,000,000 by default). `functions` builds them as they are deployed, which takes the better part of an hour.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc python3
python=$(scripts/python.sh)
# Peers that only the benchmarks need: pandas and Polars, about 340 MB.
"$python" -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt
path() {
  cargo build --locked --profile bench -p sluice -p sluice-bench
  cargo run --locked --profile bench -q -p sluice-bench -- "${SLUICE_BENCH_EVENTS:-1000000}"
}
convert() {
  cargo run --locked --profile bench -q -p sluice-bench --bin sluice-bench-convert
}
lake() {
  cargo bench --locked -p sluice-bench --bench lake
}
parts() {
  cargo bench --locked -p sluice-columnar -p sluice-stages --bench encode --bench ingest --bench index
}
functions() {
  scripts/functions.sh
  events=$(mktemp)
  trap 'rm -f "$events"' EXIT
  cargo run --locked --profile bench -q -p sluice-bench -- --print 100000 > "$events"
  "$python" bench/functions.py start target/functions/lambda
  "$python" bench/functions.py convert target/functions/lambda "$events"
}
paint() {
  scripts/web.sh
  cargo build --locked --profile bench -p sluice
  CHROMIUM=$(scripts/chromium.sh)
  export CHROMIUM
  (cd web && SLUICE_BIN=../target/release/sluice npm run --silent paint)
}
for part in ${*:-path convert lake parts paint functions}; do
  case $part in
    path | convert | lake | parts | paint | functions) "$part" ;;
    *) echo "There is no benchmark \`$part\`: path, convert, lake, parts, paint, functions." >&2 && exit 1 ;;
  esac
done
