# A convenience; everything here is one command that you may type yourself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help venv demo test format check ci lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/ruff:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[test]'

venv: $(BIN)/ruff ## Make .venv with everything that tests and checks need

demo: venv ## Play the story of the README against the sandbox
	$(BIN)/linksub demo

test: venv ## Run all tests
	$(BIN)/pytest -n auto

format: venv ## Format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

check: venv ## Format, lint, types and import rules, as CI does
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit/test_architecture.py

ci: ## The README's two commands in fresh clones, then all checks
	.ci/run

lock: ## Renew constraints.txt (needs uv)
	@{ sed -n '/^#/p;/^#/!q' constraints.txt; uv pip compile -q --generate-hashes --no-emit-index-url --universal \
	  --python-version 3.11 --all-extras --no-header --no-annotate pyproject.toml; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## Remove caches and build output (not .venv, not state)
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
