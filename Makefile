# Thin commands only; what they do stands in scripts/ and in cargo.

.PHONY: run test check simulate fuzz bench soak build fmt deploy invoke localstack

STAGE ?= dev

run: ## Build everything, start it on this machine, print where to look
	@scripts/run.sh

test: ## All tests
	@scripts/test.sh

check: ## Format, lints, types, changes of schemas that tables cannot follow
	@scripts/check.sh

simulate: ## Millions of random schedules of exactly-once: make simulate SEED=1 RUNS=5000000
	@SEED=$(SEED) RUNS=$(RUNS) scripts/simulate.sh

fuzz: ## Random bytes for the readers of what others send: make fuzz MINUTES=5 (each target; needs nightly)
	@MINUTES=$(MINUTES) scripts/fuzz.sh

bench: ## Benchmarks beside what a user would pick instead; one of them: make bench PART=parts
	@scripts/bench.sh $(PART)

soak: ## Ten million events while the server is killed every few seconds, with memory, disk and queues over time
	@scripts/soak.sh

build: ## The fully optimized binary: target/release/sluice
	@scripts/need.sh cargo && cargo build --release --locked -p sluice

deploy: ## Build the functions and deploy the stack: make deploy STAGE=dev
	@scripts/deploy.sh $(STAGE)

invoke: ## Run one function on a sample event, on this machine: make invoke FUNCTION=convert EVENT=two-messages
	@scripts/invoke.sh $(FUNCTION) $(EVENT)

localstack: ## AWS on this machine by Docker: LocalStack, OpenSearch and the stack in them
	@scripts/localstack.sh

fmt:
	@cargo fmt --all
