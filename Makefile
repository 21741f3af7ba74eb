# Two commands, each with all of its own set-up (a bare Debian machine with Python 3.10
# to 3.12, gcc and g++ will do):
#
#   make quickstart   a method's stages on a small data set that it generates
#   make test         lint, types and tests
#
# METHOD=guided Guided Distillation in place of CAST
# VENV=path     another environment than .venv; one that has the stack is used as it is
# PYTHON=path   another Python to make the environment with
# ARGS=...      passed on to tools/misc/quickstart.py or to pytest

VENV ?= .venv
PYTHON ?=
ARGS ?=
METHOD ?= cast

.PHONY: help quickstart test
help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,10p'

quickstart:
	@sh tools/misc/setup_env.sh '$(VENV)' '$(PYTHON)'
	@PATH="$(abspath $(VENV))/bin:$$PATH" '$(VENV)/bin/python' tools/misc/quickstart.py --method '$(METHOD)' $(ARGS)

test:
	@sh tools/misc/setup_env.sh '$(VENV)' '$(PYTHON)' --tests
	@PATH="$(abspath $(VENV))/bin:$$PATH" sh tools/misc/run_checks.sh $(ARGS)
