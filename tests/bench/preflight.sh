#!/bin/sh
# A bad model of 70 GB behind a line of 50 ms, refused by Waag and by Python's `requests` from the same registry.
#
#   tests/bench/preflight.sh [PYTHON] [WAAG]
#
# PYTHON has requests (from PyPI); WAAG is a release build. The last lines are
# `ratio <number> <what against what>`; the status is 1 if a promised one is missed.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${1:-python3}
waag=${2:-"$root/target/release/waag"}
exec "$python" "$root/tests/bench/preflight.py" --waag "$waag"
