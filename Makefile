# make test: lint, types, tests.  make quick: of these, in two minutes on two cores, what needs neither
# Ray nor a browser nor the site, without the tests that are marked slow.
# make demo: the jobs on a small bucket of their own.
# make docs: the site in site/; python -m http.server --directory site shows it with its search.
# make reference: the tables of docs/ that are made from the code.
# make readers: docs/readers.md and docs/publishing.md, by every engine they name (four to nine
#   minutes; needs Java and Node).
# make screenshots: the pictures of docs/report.md (minutes; a small model scores 840 images).
# make small-model: its weights, from nothing (six hours on two cores; what a stop leaves is used).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# Or every process, of which Ray starts many, would compile the package again.
export PYTHONDONTWRITEBYTECODE =
# Tests run in two processes, each with a Ray, on perhaps two cores: threads of PyTorch that wait for
# one another by spinning take them from the rest, which made two runs side by side 1.6 times as long.
unit quick: export OMP_WAIT_POLICY = PASSIVE

.PHONY: test quick demo docs reference readers screenshots small-model lint types unit browser clean

test: lint types unit

NOT_QUICK := tests/benchmark tests/browser tests/commands tests/distributed tests/faults \
	tests/integration tests/test_security.py tests/docs/test_notebook.py tests/docs/test_site.py

quick: lint
	@echo "make quick: without the tests that are marked slow and $(NOT_QUICK)"
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow" $(addprefix --ignore=,$(NOT_QUICK))

demo: $(INSTALLED)
	$(BIN)/python -m jobs.demo

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

reference: $(INSTALLED)
	$(BIN)/python -m infra.docs.reference

readers: $(INSTALLED)
	$(BIN)/python -m infra.docs.readers
	$(BIN)/python -m infra.docs.published
	$(BIN)/python -m infra.docs.reference

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(INSTALLED)
	$(BIN)/mypy

unit: $(INSTALLED) browser
	$(BIN)/python -m pytest --numprocesses 2

browser:
	@sh tests/browser/install.sh

screenshots: $(INSTALLED) browser
	$(BIN)/python -m tests.browser.screenshots

MAKE_SMALL_MODEL := $(BIN)/python -m jobs.make_small_model
GO_ON := $(MAKE_SMALL_MODEL) --go-on-from pipeline/models/small

small-model: $(INSTALLED)
	$(MAKE_SMALL_MODEL)
	$(GO_ON) --work small-model/2 --seed 100000 --image-minutes 85
	$(GO_ON) --work small-model/3 --seed 200000 --image-minutes 70
	$(GO_ON) --work small-model/4 --seed 300000 --image-minutes 72

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv demo-output site
