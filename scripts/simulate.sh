#!/usr/bin/env bash
# Random schedules of the pipeline: RUNS of them (1,000,000 by default) from SEED on (from another one each time where none is given).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc
cargo run --locked --profile bench -q -p sluice-simulation --bin simulate -- "${SEED:-$(date +%s)000000}" "${RUNS:-1000000}"
