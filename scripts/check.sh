#!/usr/bin/env bash
# Format and lints.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo
cargo fmt --all --check
cargo clippy --locked --workspace --all-targets -- -D warnings
