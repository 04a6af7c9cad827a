# make figures   set up, train the demo study offline, draw the paper's two figures into demo/
# make test      set up, then ruff, mypy and pytest
# make fuzz      200,000 mutated adapters and run directories, where the tests take 12,000; MSPLORA_FUZZ_SEED for others
# make calibration  how often the statistical tests reject in 4,000 simulated studies without an effect
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

export HF_HUB_OFFLINE = 1

.PHONY: figures test fuzz lint bench calibration clean

figures: $(VENV)/ready
	$(BIN)/msplora-analyze demo --out demo

test: $(VENV)/ready lint
	$(BIN)/python -m pytest -q

fuzz: $(VENV)/ready
	MSPLORA_FUZZ=200000 $(BIN)/python -m pytest -q tests/fuzz

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	mkdir -p build/typing && ln -sfn ../../cli build/typing/msplora_cli
	$(BIN)/mypy -p msplora_cli

bench: $(VENV)/ready
	$(BIN)/python -m benchmarks

calibration: $(VENV)/ready
	$(BIN)/python -m benchmarks.calibration

$(VENV)/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
