# Thin commands only; what they do stands in scripts/ and in cargo.

.PHONY: run test check bench build fmt

run: ## Build everything, start it on this machine, print where to look
	@scripts/run.sh

test: ## All tests
	@scripts/test.sh

check: ## Format, lints, dependency rules
	@scripts/check.sh

bench: ## Benchmarks beside what a user would pick instead
	@scripts/bench.sh

build: ## The fully optimized binary: target/release/sluice
	@scripts/need.sh cargo && cargo build --release --locked -p sluice

fmt:
	@cargo fmt --all
