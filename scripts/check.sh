#!/usr/bin/env bash
# Format, lints, types, and that no schema file changes what was released of it.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo node npm
cargo fmt --all --check
cargo clippy --locked --workspace --all-targets -- -D warnings
cargo test --locked --workspace --quiet --test columns_lock
scripts/web.sh
(cd web && npm run --silent check)
