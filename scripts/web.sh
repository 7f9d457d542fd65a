#!/usr/bin/env bash
# Builds the web application into web/dist, where what it is made of has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh node npm
stamps=target/web
mkdir -p "$stamps"
sum() { find "$@" -type f -exec sha256sum {} + | LC_ALL=C sort | sha256sum; }
if [ ! -d web/node_modules ] || [ "$(sum web/package-lock.json)" != "$(cat "$stamps/packages" 2>/dev/null)" ]; then
  echo "Getting what the web application is built with."
  (cd web && npm ci --silent)
  sum web/package-lock.json > "$stamps/packages"
fi
made_of=$(sum web/src web/sdk web/public web/index.html web/*.ts web/*.json web/scripts)
if [ ! -f web/dist/index.html ] || [ "$made_of" != "$(cat "$stamps/made-of" 2>/dev/null)" ]; then
  (cd web && npm run --silent build)
  echo "$made_of" > "$stamps/made-of"
fi
