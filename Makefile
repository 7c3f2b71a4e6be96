# Every target makes the environment first if it is not there; nothing but Python >= 3.11, make and a C library is needed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

CASES ?= 2000
FAULTS := tests/faults tests/runs/test_resume.py

.PHONY: demo test test-thorough test-slow test-ray test-gpu check docs format faults fuzz bench bench-kmeans bench-report bench-decode bench-train bench-scale real-media environment clean help

help:                ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/ \t/' | expand -t 16

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

environment: $(READY) ## make .venv with the pinned versions

demo: $(READY)       ## show on synthetic videos that the method works (minutes)
	$(BIN)/seehear demo

test: $(READY)       ## the test suite, under five minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile

test-thorough: $(READY) ## tests of whole commands and of many processes: some minutes more
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m thorough

test-slow: $(READY)  ## tests that take minutes each
	$(BIN)/python -m pytest -m slow

test-ray: $(READY)   ## Ray as an engine, with a node of a cluster killed; installs the extra ray
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ray]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu" tests/data/test_ray.py

test-gpu: $(READY)   ## tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

check: $(READY)      ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/promises/test_layers.py

docs: $(READY)       ## the documentation as a site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(READY)     ## put files into the format that check wants
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: $(READY)     ## kills, lost ranks, two nodes, full disks, in full; root for two nodes and small disks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -m "not gpu" $(FAULTS)

fuzz: $(READY)       ## mutilated videos and files of data: make fuzz CASES=10000
	PYTHONPATH=tests/helpers $(BIN)/python -m fuzz --cases $(CASES)

bench-kmeans: $(READY) ## k-means against faiss and scikit-learn
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/kmeans.py

bench-report: $(READY) ## the report of runs of 100,000 and 1,000,000 rows
	$(BIN)/python benchmarks/report.py

bench-decode: $(READY) ## decoding against torchcodec, decord and OpenCV, and what a run costs by it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/cost.py

bench-train: $(READY) ## a round against its parts, the step by shape, 1 to 4 ranks
	$(BIN)/python benchmarks/train.py

# Reduced sizes, in a copy, so that the recorded results stay. Left out: report and search, whose sizes are the question,
# finetune_demo, which needs the runs of a demo, and contrastive, which trains as long as one.
bench: $(READY)      ## all benchmarks that fit into 15 minutes, at reduced sizes; results in .bench/results
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	rm -rf .bench && mkdir -p .bench/results && cp benchmarks/*.py .bench/
	$(BIN)/python .bench/kmeans.py --rows 50000 --clusters 64 256 --turns 1
	$(BIN)/python .bench/decode.py --clips 12 --sets packed,long,gop30
	$(BIN)/python .bench/cost.py
	$(BIN)/python .bench/train.py --videos 64 --seconds 3 --turns 2 --batch 2

bench-scale: $(READY) ## index, orders and labels of 100,000 to 65,000,000 rows, without media
	$(BIN)/python benchmarks/scale.py

real-media: $(READY) ## fetch real videos into .cache/real-media, for the tests that use them
	$(BIN)/python tests/real_media/fetch.py

clean:               ## remove the environment and caches, never runs
	rm -rf .venv .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis
