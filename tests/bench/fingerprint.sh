#!/bin/sh
# The one pass over a model's weights beside a plain read, numpy in chunks and `openssl sha256`.
#
#   tests/bench/fingerprint.sh [WAAG] [DIR] [BYTES]
#
# WAAG is a release build. DIR has room for BYTES (4 GiB unless said), in memory (/dev/shm, the default) or on a disk;
# only on a disk are there cold figures. Needs Python with numpy, and openssl. The model is made by
# `waag bench fingerprint --generate` and removed. The last lines are `ratio <number> <what against what>`.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
waag=${1:-"$root/target/release/waag"}
exec "${PYTHON:-python3}" "$root/tests/bench/fingerprint.py" "$waag" "${2:-/dev/shm}" "${3:-4294967296}"
