#!/usr/bin/env bash
# Benchmarks. SLUICE_BENCH_EVENTS sets how many events the whole path takes (1,000,000 by default).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc python3
scripts/python.sh >/dev/null
cargo build --locked --profile bench -p sluice -p sluice-bench
cargo run --locked --profile bench -q -p sluice-bench -- "${SLUICE_BENCH_EVENTS:-1000000}"
cargo bench --locked -p sluice-columnar -p sluice-stages --bench encode --bench ingest
