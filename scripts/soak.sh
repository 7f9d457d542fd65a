#!/usr/bin/env bash
# Ten million events through the optimized binary, which is killed every few seconds; SLUICE_SOAK_EVENTS says how many.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc python3
SLUICE_TEST_PYTHON=$(scripts/python.sh)
export SLUICE_TEST_PYTHON
export SLUICE_SOAK_EVENTS=${SLUICE_SOAK_EVENTS:-10000000}
cargo build --locked --profile bench -p sluice
SLUICE_TEST_BINARY=$PWD/target/release/sluice cargo test --locked -p sluice-tests --test soak -- --nocapture
