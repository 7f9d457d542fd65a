#!/usr/bin/env bash
# Builds and starts Sluice on this machine. Arguments go to `sluice up`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo cc
if [ ! -x target/debug/sluice ]; then
  echo "Building Sluice. The first build takes some minutes (5 on 2 cores, measured); later ones take seconds."
fi
scripts/web.sh
cargo build --locked -p sluice
exec target/debug/sluice up "$@"
