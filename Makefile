# `make` alone lists the targets.  They set up what they need: Python 3.10 or newer is enough to start.

PYTHON ?= python3
VENV := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run run-image run-local image image-size lock sbom wheel test test-gpu test-podman test-pull test-variant \
    lint bench bench-containers clean

help:  ## List the targets
	@$(PYTHON) -c 'import re; [print(f"  make {n:<16} {t}") for n, t in re.findall(r"^([\w-]+):.*?## (.*)", open("Makefile").read(), re.M)]'

run:  ## Start it: in a container where a Docker Engine answers, else on this machine
	@exec $(PYTHON) -m tools.run

run-image:  ## Start it in a container
	@exec $(PYTHON) -m tools.run image

run-local:  ## Start it on this machine
	@exec $(PYTHON) -m tools.run local

image:  ## Build the image pytorch-cuda:v2.6 (VARIANT=slim|cpu|latest|devel: others; TORCH=…, BASE_IMAGE=…, IMAGE=…)
	@$(PYTHON) -m tools.image

image-size:  ## Print what the image adds on top of its base and PyTorch, by part
	@$(PYTHON) -m tools.image_size

lock:  ## Move the locked versions of what the image installs with pip, and show what moved
	@$(PYTHON) -m tools.venv test
	@$(VENV)/python -m tools.lock

sbom:  ## List what is in the image, as CycloneDX and SPDX, in build/sbom
	@$(PYTHON) -m tools.venv test
	@$(VENV)/python -m tools.sbom

wheel:  ## Build the launcher as a package, for an image of your own: dist/*.whl
	@$(PYTHON) -m tools.venv test
	@rm -rf dist build/lib build/bdist.* && $(VENV)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir dist .

test:  ## Run every test that needs no GPU (SKIP_CONTAINERS=1: none in containers; ARGS=…: some)
	@$(PYTHON) -m tools.venv test
	@$(VENV)/python -m tools.run_tests $(ARGS)

test-gpu:  ## Test on this machine's GPU, without a container (WHEELHOUSE=…: without network)
	@$(PYTHON) -m tools.test_gpu $(ARGS)

test-pull:  ## Push the image to a registry of its own, pull it into an empty engine, run the README's line (20 GB of disk)
	@$(PYTHON) -m tools.venv test
	@$(PYTHON) -m tools.system_packages containers registry
	@$(VENV)/python -m pytest -q tests/container/pull_and_run.py

test-podman:  ## Start boxes by Podman, play the pods of deploy/kubernetes, make a service of the quadlet
	@$(PYTHON) -m tools.venv test
	@$(PYTHON) -m tools.system_packages containers podman
	@$(VENV)/python -m pytest -q tests/container/with_podman.py

test-variant:  ## Build an image of the family and use it (VARIANT=slim|cpu|latest|devel; TORCH=…, BASE_IMAGE=…)
	@$(PYTHON) -m tools.venv test
	@$(PYTHON) -m tools.system_packages containers
	@$(VENV)/python -m pytest -q -rP tests/container/variant.py

lint:  ## Check style and types: ruff, mypy, hadolint, shellcheck, actionlint, zizmor
	@$(PYTHON) -m tools.venv test
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy --package launcher --package tools --package testing --package sim
	$(VENV)/hadolint Dockerfile
	$(VENV)/shellcheck .ci/run $(filter-out image/build/constrain-torch,$(wildcard image/build/*)) image/ours/prepare-folders image/ours/jupyter-notebook image/rootfs/usr/local/bin/pip \
	    image/ours/bash.bashrc image/rootfs/etc/profile.d/*
	$(VENV)/python -m tools.workflows

bench:  ## Measure start, stop and memory beside the stock tools
	@$(PYTHON) -m tools.venv test
	$(VENV)/python -m bench

bench-containers:  ## Measure whole containers beside jupyter lab alone and two usual start scripts
	@$(PYTHON) -m tools.venv test
	$(VENV)/python -m bench containers --rounds 7

clean:  ## Remove what the targets made: .venv, .launcher, caches, the container tests' engine
	rm -rf .venv .launcher build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache
	@$(PYTHON) -m testing.container.engine remove
