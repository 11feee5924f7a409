#!/bin/sh
# How soon an appliance answers, how much memory it takes when idle, and how large the program is.
#
#   tests/bench/startup.sh [WAAG] [DIR]
#
# WAAG is a release build. DIR is a data directory of an appliance that has worked, of netuid 7 as the demo's; without
# it the demo makes one first. Needs Python's standard library only. The last lines are `ratio <number> <limit against
# what was measured>`; the status is 1 if one of them is below 1.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
waag=${1:-"$root/target/release/waag"}
exec python3 "$root/tests/bench/startup.py" --waag "$waag" ${2:+--dir "$2"}
