#!/bin/sh
# Rollouts beside their rivals on one core, in one run: gymnasium, its vectorised forms, and numpy.
#
#   tests/bench/rollouts.sh [PYTHON] [WAAG]
#
# PYTHON has numpy, gymnasium, onnx and onnxruntime (all from PyPI); WAAG is a release build. The last lines are
# `ratio <number> <what against what>`; the status is 1 if one of the required ratios is missed.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${1:-python3}
waag=${2:-"$root/target/release/waag"}
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
exec "$python" "$root/tests/bench/rollouts.py" --waag "$waag"
