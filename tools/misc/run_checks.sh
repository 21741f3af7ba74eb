#!/bin/sh
# Every check of the project, on the environment whose programs come first in PATH.
# `make test` sets that up and calls this; pre-commit runs the first three.
set -eu
cd "$(dirname "$0")/../.."
ruff check
ruff format --check
mypy mmcast
# One thread a process: the two workers share the machine's cores.
OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 \
    python -m pytest -q -n 2 --dist worksteal --durations=10 "$@"
