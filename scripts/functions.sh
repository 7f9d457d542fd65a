#!/usr/bin/env bash
# Builds the functions as `sam build` does, and the empty one that they are held against: target/functions/lambda/NAME/bootstrap, for this
# machine's processor. Link-time optimization of all of them takes the better part of an hour on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo
PATH="$(dirname "$(scripts/python.sh)"):$PATH"
export CARGO_TARGET_DIR=$PWD/target/functions
case $(uname -m) in aarch64 | arm64) processor=--arm64 ;; *) processor=--x86-64 ;; esac
for package in sluice-bench-hello ingest convert commit compact index detect notify quarantine api; do
  cargo lambda build --quiet --locked --release "$processor" --package "$package" --lambda-dir "$CARGO_TARGET_DIR/lambda" >&2
done
rm -rf "$CARGO_TARGET_DIR/lambda/hello"
mv "$CARGO_TARGET_DIR/lambda/sluice-bench-hello" "$CARGO_TARGET_DIR/lambda/hello"
