#!/bin/sh
# Run every check of the project with the environment that comes first in PATH.
# `make test` makes the environment and calls this script. pre-commit runs the first
# three checks.
set -eu
cd "$(dirname "$0")/../.."
# Types depend on the versions, so another stack is only tested.
if [ -z "${STACK:-}" ]; then
    ruff check
    ruff format --check
    mypy mmcast
fi
# One thread per process: the two workers share the machine's cores.
OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 \
    python -m pytest -q -n 2 --dist worksteal --durations=10 "$@"
