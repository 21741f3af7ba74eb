#!/bin/sh
# Find a Python that can run the set-up, and call setup_env.py with it.
#
#   setup_env.sh VENV PYTHON [--tests] [--stack NAME]
#
# If PYTHON is empty, the script takes the first Python below that really runs. (A name
# in PATH may not run: pyenv leaves shims for versions that are not active.)
set -u
cd "$(dirname "$0")/../.."
venv=$1
python=$2
shift 2

runs_and_fits() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
        >/dev/null 2>&1
}

if [ -n "$python" ]; then
    if ! runs_and_fits "$python"; then
        echo "error: PYTHON=$python does not run or is not Python 3.10, 3.11 or 3.12;" \
            "give another (make PYTHON=/path/to/python3.11 ...)" >&2
        exit 1
    fi
elif runs_and_fits "$venv/bin/python"; then
    python=$venv/bin/python
else
    for candidate in python3.12 python3.11 python3.10 python3; do
        if runs_and_fits "$candidate"; then
            python=$candidate
            break
        fi
    done
fi
if [ -z "$python" ]; then
    echo "error: no Python 3.10, 3.11 or 3.12 found: apt-get install python3" \
        "python3-dev python3-venv, or give one (make PYTHON=/path/to/python3.11 ...)" >&2
    exit 1
fi
exec "$python" tools/misc/setup_env.py "$venv" "$@"
