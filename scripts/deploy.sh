#!/usr/bin/env bash
# Builds and deploys one stage of samconfig.toml, and where it has a console (`Console=yes`) its pages. Further arguments go to `sam deploy`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo
PATH="$(dirname "$(scripts/python.sh)"):$PATH"
export SAM_CLI_TELEMETRY=0
stage=$1
shift
sam build --config-env "$stage"
sam deploy --config-env "$stage" "$@"
stack=$(python -c 'import sys, tomlkit; print(tomlkit.load(open("samconfig.toml"))[sys.argv[1]]["global"]["parameters"]["stack_name"])' "$stage")
if [ "$(python infra/upload_console.py --stack "$stack" --has-console)" = yes ]; then
  scripts/web.sh
  python infra/upload_console.py --stack "$stack"
fi
