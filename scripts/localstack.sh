#!/usr/bin/env bash
# LocalStack and OpenSearch in Docker, and the stack deployed there. `docker compose -f infra/localstack/compose.yaml down` ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh cargo docker
PATH="$(dirname "$(scripts/python.sh)"):$PATH"
docker compose -f infra/localstack/compose.yaml up --detach --wait
export AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
export SAM_CLI_TELEMETRY=0
machine=$(uname -m)
[ "$machine" = x86_64 ] || machine=arm64
# Functions see the other container under its own name.
overrides="Architecture=$machine Search=endpoint SearchEndpoint=http://opensearch:9200 SearchSign=none CreateMailIdentity=yes"
sam build --config-env dev --parameter-overrides "$overrides"
sam deploy --config-env dev --parameter-overrides "$overrides"
echo "The stack is up. AWS's tools and the tests of the adapters go there with:"
echo "  export AWS_ENDPOINT_URL=$AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=us-east-1"
echo "  cargo test --locked --workspace --test aws_contract"
