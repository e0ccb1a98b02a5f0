# Set up and go: `make benchmark`, `make test`. See README.md.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= all
BIN := .venv/bin
SETUP := .venv/.installed

.PHONY: benchmark smoke studies restore test test-system lint format schemas lock clean

benchmark: $(SETUP)
	$(BIN)/snakemake --logger weakseg --cores $(CORES)
	@echo "page  results/report.html"

smoke: $(SETUP)
	$(BIN)/snakemake --logger weakseg --cores $(CORES) --configfile config/smoke.yaml

studies: $(SETUP)
	$(BIN)/snakemake --logger weakseg --cores $(CORES) studies

# What others published with DVC, in a clone of their repository. See docs/how-to/restore.md.
restore: $(SETUP)
	$(BIN)/dvc pull
	$(BIN)/dvc status --quiet || { $(BIN)/dvc status; false; }
	$(BIN)/weakseg verify
	@echo
	@echo "leaderboard  results/tables/leaderboard.md"
	@echo "all files    results/README.md"

test: $(SETUP)
	$(BIN)/python -m pytest -m "not system"

# Needs root; what it needs from the system it installs itself.
test-system: $(SETUP)
	$(BIN)/python -m pytest -m system tests/system

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint

format: $(SETUP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

# The JSON schema, the references of keys and methods, and the versions' hashes, from the code.
schemas: $(SETUP)
	$(BIN)/python -m weakseg schema > schemas/config.schema.json
	sed -i '/^| key | default/,$$d' config/README.md
	$(BIN)/python -m weakseg schema --reference >> config/README.md
	$(BIN)/python -m weakseg schema --methods > docs/reference/methods.md
	$(BIN)/python -m weakseg record-versions

# After a change of dependencies in pyproject.toml.
lock:
	$(PYTHON) envs/lock.py

# Torch first and pinned: an open range would bring another build with gigabytes of CUDA.
$(SETUP): envs/requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' envs/requirements.lock)
	$(BIN)/python -m pip install --quiet --requirement envs/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# Results and environment; raw data and tracked files stay.
clean:
	rm -rf .venv .snakemake data/phantoms .pytest_cache .ruff_cache .mypy_cache
	find results -mindepth 1 -not -path results/README.md -delete
