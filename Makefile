# Each target sets itself up: .venv, pip, editable installs of core and of every plugin. Needs Python 3.11 or 3.12 and make.

SHELL := /bin/bash
PLUGINS := $(sort $(patsubst %/pyproject.toml,%,$(wildcard plugins/crema-*/pyproject.toml)))
BIN := .venv/bin
# One thread per process: the tests run two processes, and tiny models are slower on many threads.
SINGLE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: install demo test test-slow lint bench tables docs wheels clean

install: .venv/.installed

.venv/bin/python:
	@for python in $(PYTHON) python3.12 python3.11 python3; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then \
	    echo "making .venv with $$($$python --version)"; \
	    $$python -m venv .venv && exit 0; \
	    rm -rf .venv; \
	    echo "$$python -m venv failed (above). On Debian and Ubuntu: apt install python3-venv." >&2; exit 1; \
	  fi; \
	done; \
	echo "no Python 3.11 or 3.12 found (tried: $(PYTHON) python3.12 python3.11 python3)." >&2; \
	echo "Install one, or name it: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3.12" >&2; exit 1

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt $(addsuffix /pyproject.toml,$(PLUGINS))
	@echo "installing core and $(words $(PLUGINS)) plugins (a few minutes the first time)"
	@rm -rf *.egg-info plugins/*/*.egg-info # metadata of an earlier layout would be found beside the new
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[test,lint]' $(addprefix -e ./,$(PLUGINS:plugins/crema-audio=plugins/crema-audio[kaldi]))
	@touch $@

demo: install
	$(BIN)/crema demo --out runs/demo

test: install
	$(SINGLE_THREAD) $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-slow: install
	$(SINGLE_THREAD) $(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m tests.docs.test_typed_blocks

bench: install
	@names="sequential joint answering stacked startup growth flops limit cache_formats encoding reading questions kernels"; \
	if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then names="$$names full_size"; fi; \
	for name in $$names; do $(BIN)/python -W ignore -m benchmarks.$$name || exit 1; done

tables: install
	$(BIN)/python -m benchmarks.tables

docs: install
	@$(BIN)/python -c 'import material, mkdocs' >/dev/null 2>&1 || $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@for page in reference options api; do $(BIN)/python docs/$$page.py || exit 1; done
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html; with search: $(BIN)/python -m http.server --directory build/site"

# Every package, built from a copy of what git tracks. With REPOSITORY_URL links of READMEs become whole (docs/links.py).
wheels: .venv/bin/python
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt build setuptools twine
	rm -rf build/release dist
	git checkout-index --all --prefix=build/release/
	$(BIN)/python docs/links.py build/release
	@for package in . $(PLUGINS); do $(BIN)/python -m build --no-isolation --outdir dist build/release/$$package >build/release/log 2>&1 \
	  || { cat build/release/log; exit 1; }; done
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf .venv build dist *.egg-info plugins/*/build plugins/*/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
