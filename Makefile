# make demo | make test | make lab: each prepares .venv by itself. Override: PYTHON, EPOCHS, JOBS.
PYTHON ?= python3
EPOCHS ?=
JOBS ?= 2
BIN := .venv/bin
export KERAS_BACKEND := tensorflow
export TF_CPP_MIN_LOG_LEVEL := 3

# An unpacked offline bundle brings its packages and its data along.
ifneq ($(wildcard wheels),)
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := $(CURDIR)/wheels
endif
ifneq ($(wildcard tensorflow_datasets),)
export TFDS_DATA_DIR ?= $(CURDIR)/tensorflow_datasets
endif

# Two to three minutes of training with the full set, and a third of that with the small sample.
export DEMO_EPOCHS := from vae_lib import load_data; print(20 if load_data("mnist").source == "tfds" else 80)

.PHONY: demo test test-slow test-notebooks coverage torture large test-browser bench pretrain numbers gallery explorers site cheat-sheet notebooks handouts offline-bundle lab lint catalogue requirements clean

demo: .venv/ready
	@epochs=$(EPOCHS); \
	if [ -z "$$epochs" ]; then epochs=$$($(BIN)/python -c "$$DEMO_EPOCHS" 2>/dev/null || echo 20); fi; \
	set -x; $(BIN)/python train_VAE.py --data mnist --epochs $$epochs --latent-dimensions 2 --out pickles/demo --overwrite
	$(BIN)/vae manifold pickles/demo --out img/demo.png
	$(BIN)/vae animate pickles/demo --out img/demo.gif
	@echo "The run is in pickles/demo, its manifold in img/demo.png, its spiral in img/demo.gif."

# The tests, JOBS at a time, but for those that take long or need a browser. COVERAGE: further options.
test: .venv/ready
	$(BIN)/python -m pytest tests -n $(JOBS) $(COVERAGE)
	@echo "Left out: make test-slow, make test-notebooks, make torture, make large and make test-browser."

# The tests that train or evaluate for many seconds, or start many processes and wait for them.
test-slow: .venv/ready
	$(BIN)/python -m pytest tests -m slow -n 3

# The notebooks, executed again: what they print and draw is compared with what is stored.
test-notebooks: .venv/ready
	$(BIN)/python -m pytest notebooks -n 2 --dist loadfile

# make test, and the lines and branches of the package that it reaches: 95 % where the full data sets are.
coverage:
	mkdir -p build/coverage
	$(MAKE) test JOBS=3 COVERAGE="--cov --cov-report=term-missing:skip-covered --cov-fail-under=95"

# Trainings killed at random moments, full disks, several workers, fuzzing, real installations.
torture: .venv/ready
	$(BIN)/python -m pytest tests -m "torture and not large" -n 3 --dist loadgroup

# A set larger than the memory, a class of thirty, each notebook alone in an empty folder, all in JupyterLab,
# the compressors on whole test sets, more kills and damaged runs than torture has. More than an hour.
large: .venv/ready
	$(BIN)/python -m pytest tests -m large -s

# JupyterLab and the exported pages in a headless Chromium, which must be installed; screenshots in build/.
test-browser: .venv/ready
	$(BIN)/python -m pytest tests/browser/test_site.py -m "browser and not large" -n 2
	$(BIN)/python -m pytest tests/browser -m "browser and not large" -s --ignore tests/browser/test_site.py

# Everything in benchmarks/RESULTS.md; prepares .venv-bench with the peers.
bench: .venv-bench/ready
	.venv-bench/bin/python -m benchmarks.run

# The runs that the project ships, and their numbers. Hours; needs the full data. Goes on where it was interrupted.
RECORD := $(BIN)/python -m tools.record
RUNS := mnist_2 mnist_2_exact fashion_mnist_2 faces_2 faces_6 faces_10 mnist_dynamic_2 mnist_dynamic_2_exact mnist_dynamic_20
pretrain: .venv/ready
	$(BIN)/python -m tools.pretrain $(RUNS)
	$(BIN)/python -m tools.halve $(filter-out faces_2,$(RUNS))
	$(MAKE) numbers

# Every number in the runs' metrics.json that training did not write, and the scoreboard.
numbers: .venv/ready
	$(RECORD) mnist_2 --samples 50 --refine 20
	$(RECORD) mnist_2_exact --samples 50
	$(RECORD) mnist_dynamic_2 --samples 50
	$(RECORD) mnist_dynamic_2_exact --samples 50
	for run in $(filter-out mnist%,$(RUNS)); do $(RECORD) $$run --samples 50 --no-exact || exit 1; done
	$(RECORD) mnist_dynamic_20 --samples 50 500
	for run in $(RUNS); do $(RECORD) $$run --samples 50 --no-exact --images 1000 || exit 1; done
	for run in $(RUNS); do $(RECORD) $$run --samples 50 --no-exact --source sample || exit 1; done
	$(BIN)/python -m tools.plain_recipe $(filter-out mnist%,$(RUNS))
	$(BIN)/python -m tools.compressors vae_lib/compressors.json
	$(BIN)/python -m tools.scoreboard docs/scoreboard.md
	$(BIN)/python -m tools.cards docs/cards

# The pictures in img/, from the shipped runs. Photographs of people are shown from the sample only.
gallery: .venv/ready
	for run in $(filter-out mnist_dynamic%,$(RUNS)); do \
	  name=vae_$$run; case $$run in *mnist_2) name=$${name%_2};; esac; \
	  $(BIN)/vae manifold $$run --out img/$$name.png || exit 1; \
	  case $$run in *exact) ;; *) $(BIN)/vae animate $$run --out img/$$name.gif || exit 1;; esac; \
	done
	for run in $(RUNS); do \
	  case $$run in faces*) source=sample;; *) source=auto;; esac; \
	  $(BIN)/vae reconstruct $$run --count 60 --source $$source || exit 1; \
	  $(BIN)/vae samples $$run --count 60 || exit 1; \
	done

# The pages kept in docs/, which open from disk: the lab, and the explorer of one run. The site has those of five.
EXPLORERS := $(filter-out mnist_dynamic% %exact,$(RUNS))
explorers: .venv/ready
	$(BIN)/python -m tools.build_site docs mnist_2

# The notebooks, the pages and the reference as a site in build/site; no notebook is executed.
site: .venv/ready .venv-site/ready
	$(BIN)/python -m tools.site.stage build/site-source
	$(BIN)/python -m tools.build_site build/site-source/pages/docs $(EXPLORERS)
	rm -rf build/site
	.venv-site/bin/python -m sphinx -q -W --keep-going -b html build/site-source build/site
	$(BIN)/python -m tools.site.slides build/slides-source
	.venv-site/bin/python -m sphinx -q -W --keep-going -d build/slides-doctrees -b revealjs build/slides-source build/site/slides
	$(BIN)/python -m tools.site.check build/site

# The cheat sheet as one page to print; needs Chromium.
cheat-sheet: site
	$(BIN)/python -m tools.cheat_sheet build/site docs/cheat_sheet.pdf

.venv-site/ready: tools/site/requirements.txt
	$(PYTHON) -m venv --clear .venv-site
	.venv-site/bin/python -m pip install --quiet --disable-pip-version-check -r tools/site/requirements.txt
	@touch $@

# Execute the notebooks and save them with their outputs.
notebooks: .venv/ready
	$(BIN)/python -m tools.execute_notebooks

# The notebooks for a class, with and without solutions, in build/handouts.
handouts: .venv/ready
	$(BIN)/python -m tools.handouts build/handouts

# The project, its packages and the prepared data sets in one file, for machines without a network.
offline-bundle: .venv/ready
	$(BIN)/python -m tools.offline_bundle build/offline

lab: .venv/ready
	$(BIN)/jupyter lab --config=tools/jupyter_config.py --notebook-dir=notebooks --LabApp.default_url=/lab/tree/00_quickstart.ipynb

lint: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# docs/bad-input.md: every bad input and damaged run with its answer; docs/commands.md: what --help says.
catalogue: .venv/ready
	$(BIN)/python -m tests.faults.catalogue
	$(BIN)/python -m tools.commands docs/commands.md

# The pins, from the bounds in pyproject.toml; needs uv.
requirements:
	uv pip compile pyproject.toml --extra dev --universal --fork-strategy fewest --python-version 3.11 \
	  --generate-hashes --no-strip-extras --no-emit-index-url --no-header --no-annotate --upgrade -o requirements.txt

.venv-bench/ready: .venv/ready benchmarks/requirements.txt
	$(PYTHON) -m venv --clear .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

.venv/ready: requirements.txt pyproject.toml
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
