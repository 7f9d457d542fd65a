#!/usr/bin/env bash
# Benchmarks. SLUICE_BENCH_EVENTS sets how many events the whole path takes (1,000,000 by default).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc python3
python=$(scripts/python.sh)
# Peers that only the benchmarks need: pandas and Polars, about 340 MB.
"$python" -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt
cargo build --locked --profile bench -p sluice -p sluice-bench
cargo run --locked --profile bench -q -p sluice-bench -- "${SLUICE_BENCH_EVENTS:-1000000}"
cargo run --locked --profile bench -q -p sluice-bench --bin sluice-bench-convert
cargo bench --locked -p sluice-columnar -p sluice-stages --bench encode --bench ingest --bench index
scripts/functions.sh
events=$(mktemp)
trap 'rm -f "$events"' EXIT
cargo run --locked --profile bench -q -p sluice-bench -- --print 100000 > "$events"
"$python" bench/functions.py start target/functions/lambda
"$python" bench/functions.py convert target/functions/lambda "$events"
