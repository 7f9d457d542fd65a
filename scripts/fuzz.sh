#!/usr/bin/env bash
# Looks for inputs of which what shared/fuzz says does not hold: MINUTES (5 by default) for each of TARGETS (all by default).
# What is found lies in fuzz/artifacts, and `cargo +nightly fuzz run TARGET FILE` in .tools/bin shows it again. What reached new code is
# added to fuzz/corpus; MINIMISE=1 then keeps as few of those as reach the same.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo c++
if ! cargo +nightly --version >/dev/null 2>&1; then
  echo "Rust's nightly is missing: \`rustup toolchain install nightly --profile minimal\` installs it." >&2
  exit 1
fi
fuzz=.tools/bin/cargo-fuzz
version=0.13.2
if ! "$fuzz" fuzz --version 2>/dev/null | grep -qF "$version"; then
  cargo install --quiet --locked --root .tools "cargo-fuzz@$version"
fi
# What cargo-fuzz calls is a cargo too.
export RUSTUP_TOOLCHAIN=nightly
for target in ${TARGETS:-decoder envelope message statement}; do
  echo "fuzz: $target, ${MINUTES:-5} min"
  features=()
  if [ "$target" = decoder ]; then
    features=(--features decoder)
  fi
  "$fuzz" fuzz run "${features[@]}" "$target" -- -max_total_time=$((${MINUTES:-5} * 60)) -timeout=10 -max_len=8192 -print_final_stats=1
  if [ "${MINIMISE:-}" = 1 ]; then
    "$fuzz" fuzz cmin "${features[@]}" "$target" -- -max_len=8192
  fi
done
