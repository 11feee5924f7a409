#!/bin/sh
# The metagraph of 256 neurons over a line of 50 ms, read by Waag and by the public Python SDK from the same devnet.
#
#   tests/bench/metagraph.sh [PYTHON] [WAAG]
#
# PYTHON has bittensor 10.5.0 (from PyPI); WAAG is a release build. The last lines are
# `ratio <number> <what against what>`; the status is 1 if the promised ones are missed.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${1:-python3}
waag=${2:-"$root/target/release/waag"}
exec "$python" "$root/tests/bench/metagraph.py" --waag "$waag"
