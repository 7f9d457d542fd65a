#!/usr/bin/env bash
# Builds and deploys one stage of samconfig.toml. Further arguments go to `sam deploy`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo
PATH="$(dirname "$(scripts/python.sh)"):$PATH"
export SAM_CLI_TELEMETRY=0
stage=$1
shift
sam build --config-env "$stage"
sam deploy --config-env "$stage" "$@"
