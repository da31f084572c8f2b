# SPDX-License-Identifier: GPL-2.0-or-later
# Two commands do all the set-up by themselves: `make demo` and `make test`.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
REPORTS := build/reports
# Guest tests run in this many workers: by default as many as there are cores, and memory for guests.
JOBS ?= auto
# The kernel that the guests of `make guest` run: any that --kernel takes, such as debian-6.12, debian-7.2 or 7.3-debug.
KERNEL ?= 7.3-base
# Debian's kernels are fetched; others are built, which takes a compiler.
BUILD_TOOLS := $(if $(filter debian-%,$(KERNEL)),,.ci/install-build-tools)
# There is no packaged kernel with SIOV.
SIOV := $(if $(filter debian-%,$(KERNEL)),,siov)

.PHONY: help setup demo test lint unit device kernel guest siov overlay wheel bench fuzz qemu clean

help:  ## show this
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: $(READY)  ## make .venv with the `harness` command in it

$(READY): requirements.lock pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "iov-harness needs Python 3.11 or later" >&2; exit 3; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || .ci/install-venv
	rm -rf $(VENV)
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(READY)  ## start two guests with SR-IOV devices and check what must hold
	$(BIN)/harness demo

lint: $(READY)  ## ruff, mypy --strict, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(READY)  ## tests without QEMU
	@$(BUILD_TOOLS)
	@.ci/install-build-tools browser || true
	$(BIN)/python -m pytest tests/unit -q -n $(JOBS) --junitxml=$(REPORTS)/unit.xml

# Device models through QEMU's qtest, with no guest: seconds, so that what is wrong with a device is known before one boots.
device: $(READY)  ## tests of device models through QEMU, with no guest (QEMU=overlay-sanitized: on that QEMU)
	@$(if $(filter overlay%,$(QEMU)),.ci/install-build-tools qemu)
	$(BIN)/python -m pytest tests/device $(if $(QEMU),--qemu $(QEMU)) --junitxml=$(REPORTS)/device.xml

kernel: $(READY)  ## build the kernel that the tests run, or fetch it (KERNEL=7.3-base)
	@$(BUILD_TOOLS)
	$(BIN)/harness provision --kernel $(KERNEL)

qemu: $(READY)  ## build the QEMU with the configuration-space overlay
	@.ci/install-build-tools qemu
	$(BIN)/harness provision qemu --overlay

guest: kernel  ## tests in guests (JOBS=2: in two workers; KERNEL=debian-6.12: on that kernel)
	$(BIN)/harness test tests/guest --kernel $(KERNEL) -n $(JOBS) --junit $(REPORTS)/guest.xml

siov: $(READY)  ## tests of SIOV in the kernel, in guests with 7.3-siov
	@.ci/install-build-tools
	$(BIN)/harness test $(sort $(wildcard tests/guest/siov/test_kernel_*.py)) --kernel 7.3-siov -n $(JOBS) --junit $(REPORTS)/siov.xml

# On the kernel with SIOV, where there is one to build: it shows all that others do, and more.
overlay: qemu  ## tests that overlay configuration space, on the QEMU that can
	@$(BUILD_TOOLS)
	$(BIN)/python -m pytest tests/device --qemu overlay --junitxml=$(REPORTS)/device-overlay.xml
	$(BIN)/harness test $(addprefix tests/guest/harness/,test_guest_clock.py test_moving_bars.py test_prompts.py) $(sort $(wildcard tests/guest/*/test_overlaid_*.py)) --qemu overlay --kernel $(if $(SIOV),7.3-siov,$(KERNEL)) -n $(JOBS) --junit $(REPORTS)/overlay.xml

# The wheel, installed into a venv of its own outside the checkout, runs one guest test from what it carries.
wheel: $(READY)  ## a test from the wheel, installed elsewhere
	rm -rf build/wheel
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . >/dev/null
	elsewhere=$$(mktemp -d) && trap 'rm -rf "$$elsewhere"' EXIT && \
	python3 -m venv "$$elsewhere/venv" && \
	"$$elsewhere/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	"$$elsewhere/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps build/wheel/*.whl && \
	reports=$$PWD/$(REPORTS) && cd "$$elsewhere" && \
	venv/bin/harness test "tests/guest/sriov/test_attributes.py::test_a_pf_has_every_sriov_attribute" -k igb --junit "$$reports/wheel.xml"

test: lint unit device guest $(SIOV) overlay wheel  ## lint, then all tests

# FUZZ_MESSAGES says how many, FUZZ_SEED repeats a run; messages and client are those of the unit tests.
fuzz: $(READY)  ## say 100,000 random and spoiled messages to the server of Python devices
	PYTHONPATH=tests/unit/device $(BIN)/python tests/fuzz/fuzz_vfio.py

bench: $(READY)  ## measure what boots, clones and the SR-IOV suite cost
	$(BIN)/harness bench --suite

clean:  ## remove what was made in the checkout; the cache stays (harness cache prune)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
