# Three commands; each does its own set-up. A bare Debian machine with Python 3.10 to
# 3.12, gcc and g++ is enough.
#
#   make quickstart   run a method's stages on a small data set that it generates
#   make test         check lint, types and tests (tests alone with STACK)
#   make docs         build the site: build/docs/docs/index.html
#
# METHOD=...    run another method than cast: guided (Guided Distillation) or swinmtl
# STACK=onedl   use the maintained forks of OpenMMLab's packages, in .venv-onedl
# VENV=path     use another environment than .venv; a complete one stays as it is
# PYTHON=path   make the environment with another Python
# ARGS=...      pass options to tools/benchmarks/quickstart.py or to pytest

STACK ?=
VENV ?= .venv$(addprefix -,$(STACK))
PYTHON ?=
ARGS ?=
METHOD ?= cast
SETUP = sh tools/misc/setup_env.sh '$(VENV)' '$(PYTHON)' $(addprefix --stack ,$(STACK))

.PHONY: help quickstart test docs
help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,12p'

quickstart:
	@$(SETUP)
	@PATH="$(abspath $(VENV))/bin:$$PATH" '$(VENV)/bin/python' tools/benchmarks/quickstart.py --method '$(METHOD)' $(ARGS)

test:
	@$(SETUP) --tests
	@PATH="$(abspath $(VENV))/bin:$$PATH" STACK='$(STACK)' sh tools/misc/run_checks.sh $(ARGS)

docs:
	@$(SETUP) --tests
	@'$(VENV)/bin/python' -m sphinx -W --keep-going -q -b html -c docs . build/docs
	@echo 'the site is build/docs/docs/index.html'
