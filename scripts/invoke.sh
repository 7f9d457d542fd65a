#!/usr/bin/env bash
# Runs one function on one sample event against an emulator of AWS, without Docker. Usage: invoke.sh convert two-messages
# An emulator that runs already is used if AWS_ENDPOINT_URL says where; else one is started for this call.
set -euo pipefail
cd "$(dirname "$0")/.."
function=$1
event=events/$function/$2.json
if [ ! -f "$event" ]; then
  echo "There is no \`$event\`. There are: $(cd "events/$function" 2>/dev/null && ls | sed 's/\.json$//' | tr '\n' ' ')" >&2
  exit 1
fi
scripts/need.sh cargo curl
python=$(scripts/python.sh)
PATH=$(dirname "$python"):$PATH
log=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; rm -rf "$log"' EXIT
export AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-test} AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-test} AWS_REGION=us-east-1
export AWS_DEFAULT_REGION=$AWS_REGION
# Waits until an address answers.
wait_for() {
  for _ in $(seq 600); do
    curl --silent --output /dev/null "$1" && return
    sleep 0.1
  done
  echo "Nothing answers at $1:" >&2
  tail -20 "$log"/* >&2
  exit 1
}
if [ -z "${AWS_ENDPOINT_URL:-}" ]; then
  export AWS_ENDPOINT_URL=http://127.0.0.1:4566
  MINISTACK_HOST=localhost GATEWAY_PORT=4566 BIND_HOST=127.0.0.1 IOT_MTLS_ENABLED=0 ministack > "$log/emulator" 2>&1 &
  started+=($!)
  wait_for "$AWS_ENDPOINT_URL/_ministack/health"
fi
python infra/local_resources.py
while IFS= read -r line; do export "${line?}"; done < <(python - "$function" <<'PYTHON'
import json, sys
for name, value in json.load(open("infra/local-env.json"))[sys.argv[1].capitalize() + "Function"].items():
    if name.startswith("SLUICE_"):
        print(f"{name}={value}")
PYTHON
)
cargo build --locked --package "$function"
(cd "functions/$function" && exec cargo lambda watch --invoke-port 9100 --ignore-changes) > "$log/function" 2>&1 &
started+=($!)
wait_for http://127.0.0.1:9100
cargo lambda invoke "$function" --invoke-port 9100 --data-file "$event"
