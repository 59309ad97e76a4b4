# make demo | make test | make lab: each prepares .venv by itself. Override: PYTHON, EPOCHS.
PYTHON ?= python3
EPOCHS ?=
BIN := .venv/bin
export KERAS_BACKEND := tensorflow
export TF_CPP_MIN_LOG_LEVEL := 3

# About two minutes of training with the full set, and a quarter of that with the small sample.
export DEMO_EPOCHS := from vae_lib import load_data; print(20 if load_data("mnist").source == "tfds" else 80)

.PHONY: demo test torture bench lab lint requirements clean

demo: .venv/ready
	@epochs=$(EPOCHS); \
	if [ -z "$$epochs" ]; then epochs=$$($(BIN)/python -c "$$DEMO_EPOCHS" 2>/dev/null || echo 20); fi; \
	set -x; $(BIN)/python train_VAE.py --data mnist --epochs $$epochs --latent-dimensions 2 --out pickles/demo --overwrite
	$(BIN)/python -m vae_lib manifold pickles/demo --out img/demo.png
	$(BIN)/python -m vae_lib animate pickles/demo --out img/demo.gif
	@echo "The run is in pickles/demo, its manifold in img/demo.png, its spiral in img/demo.gif."

test: .venv/ready
	$(BIN)/python -m pytest

# Trainings killed at random moments, and several workers: minutes.
torture: .venv/ready
	$(BIN)/python -m pytest tests -m torture -s

# Everything in benchmarks/RESULTS.md; prepares .venv-bench with the peers.
bench: .venv-bench/ready
	.venv-bench/bin/python -m benchmarks.run

lab: .venv/ready
	$(BIN)/jupyter lab --notebook-dir=notebooks

lint: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

# The pins, from the bounds in pyproject.toml; needs uv.
requirements:
	uv pip compile pyproject.toml --extra dev --universal --fork-strategy fewest --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade -o requirements.txt

.venv-bench/ready: .venv/ready benchmarks/requirements.txt
	$(PYTHON) -m venv --clear .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

.venv/ready: requirements.txt
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing);" \
	    "name one that you have, for example: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c "import venv, ensurepip" 2>/dev/null || { \
	  echo "'$(PYTHON)' lacks its venv module: install it (on Debian and Ubuntu the package python3-venv)." >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf .venv
