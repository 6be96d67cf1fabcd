# One command per chore. Everything is installed into .venv; nothing else on the machine is touched.
PYTHON ?= python3
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
SHARED ?= ../shared
ROOM_PORT ?= 8080
SUDO ?= $(if $(filter 0,$(shell id -u)),,sudo)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo room browser test-browser test test-all test-dicom test-validators test-node chaos check bench bench-room bench-masses compare docs clean install

demo: .venv/installed
	$(BIN)/lungscreen phantom --out demo/studies --patients 2 --size small --seed 7 --overwrite
	$(BIN)/lungscreen screen demo/studies --out demo/results
	@echo "Reports: $(CURDIR)/demo/results/worklist.html"

# A reading room on phantoms: prints its address and a first login, and answers until Ctrl+C.
room: .venv/installed-room
	@test -d room/results || { $(BIN)/lungscreen phantom --out room/studies --patients 2 --size small --seed 7 --overwrite \
		&& $(BIN)/lungscreen screen room/studies --out room/results --outputs json,page,room; }
	@test -f room/login || { printf 'phantom-%s' "$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(12))')" > room/login \
		&& $(BIN)/lungscreen room user add reader --role reader --password-stdin --results room/results < room/login; }
	@echo "Sign in as: reader   Password: $$(cat room/login)"
	$(BIN)/lungscreen room serve room/results --port $(ROOM_PORT)

install: .venv/installed

# make test COVERAGE=95 is what CI runs: the same tests, slower, with branch coverage and its bar.
COVERAGE ?=
test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow" \
		$(if $(COVERAGE),--cov --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE))

test-all: .venv/installed-ray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# What reads our DICOM objects and PDFs beside the packages of PyPI: DCMTK and poppler, from Debian or Ubuntu.
test-dicom: .venv/installed-dev
	@command -v dsrdump >/dev/null && command -v pdftotext >/dev/null || $(SUDO) apt-get install --yes dcmtk poppler-utils
	$(BIN)/python -m pytest tests/test_outputs_dicom.py tests/test_outputs_pdf.py tests/test_outputs_fhir.py \
		tests/test_export.py tests/test_deidentify.py

# Results of real studies and phantoms before validators: those of PyPI, PixelMed from Debian, FHIR.js from npm.
test-validators: .venv/installed-dev
	@command -v dsrdump >/dev/null && test -e /usr/share/java/pixelmed.jar && command -v java >/dev/null || { $(SUDO) apt-get update && \
		$(SUDO) apt-get install --yes --no-install-recommends dcmtk libpixelmed-java default-jre-headless; }
	@test -d .venv/validators/node_modules/fhir || npm install --silent --no-fund --no-audit --prefix .venv/validators fhir@4.12.0
	$(BIN)/python -m pytest tests/test_outputs_validators.py

# The node beside a real PACS: Orthanc with its DICOMweb plugin, from Debian or Ubuntu.
test-node: .venv/installed-dev
	@command -v Orthanc >/dev/null && test -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so || \
		{ $(SUDO) apt-get update && $(SUDO) apt-get install --yes --no-install-recommends orthanc orthanc-dicomweb; }
	$(BIN)/python -m pytest tests/test_node.py tests/test_node_orthanc.py

# The reading room in a real browser: Chromium from Debian. Without it these tests skip and say so.
browser:
	@command -v chromium >/dev/null || { $(SUDO) apt-get update && \
		$(SUDO) apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=120 chromium; }

test-browser: .venv/installed-browser browser
	$(BIN)/python -m pytest tests/test_room_viewer.py tests/test_room_pages.py tests/test_room_linked.py \
		tests/test_room_offices.py tests/test_room_complaints.py tests/test_room_serving.py \
		tests/test_room_schema.py

chaos: .venv/installed-dev
	$(BIN)/python -m pytest -s tests/test_batch_kill.py tests/test_batch_hostile.py tests/test_batch_numbers.py \
		tests/test_room_service.py

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed-dev
	$(BIN)/python -m tests.write_docs

# Two results folders, where a change of the structure must change nothing: make compare BEFORE=... AFTER=...
compare: .venv/installed-dev
	$(BIN)/python tests/compare_results.py $(BEFORE) $(AFTER)

# The viewer's times in a browser; then fifty readers scroll, type and mark for two minutes.
bench-room: .venv/installed-dev
	$(BIN)/python -m tests.bench_room

# Thirty masses set into real lungs: found, and measured how large. The second look has not learned from these scans.
bench-masses: .venv/installed-dev
	$(BIN)/python -m tests.bench_masses --shared $(SHARED) --work bench

bench: .venv/installed-dev
	$(BIN)/python -m tests.bench --shared $(SHARED) --out bench

# PyTorch comes first, from its CPU index where that can be reached: PyPI's Linux build brings several GB of CUDA.
.venv/torch: constraints.txt
	$(PYTHON) -m venv .venv
	@if $(BIN)/python -c "import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + '/torch/', timeout=5)" $(TORCH_INDEX) 2>/dev/null; \
	then $(PIP) --index-url $(TORCH_INDEX) torch; else $(PIP) torch; fi
	@touch $@

.venv/installed: .venv/torch setup.cfg pyproject.toml
	$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable ".[dev]"
	@touch $@

.venv/installed-room: .venv/installed
	$(PIP) --editable ".[room]"
	@touch $@

.venv/installed-browser: .venv/installed-dev
	$(PIP) --editable ".[dev,browser]"
	@touch $@

# The tests on a Ray cluster run where it is installed: 240 MB that the default tests do without.
.venv/installed-ray: .venv/installed-dev
	$(PIP) --editable ".[dev,ray]"
	@touch $@

clean:
	rm -rf .venv build dist demo room bench .coverage htmlcov *.egg-info
