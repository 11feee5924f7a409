#!/bin/sh
# Blocks per second of the devnet and of Chopsticks, which executes a real runtime of subtensor, in one run.
#
#   tests/bench/chopsticks.sh CHOPSTICKS CHAINSPEC [WAAG]
#
# CHOPSTICKS is the program of the npm package @acala-network/chopsticks 1.5.1: `npm install @acala-network/chopsticks`
# puts it at `node_modules/.bin/chopsticks`. CHAINSPEC is `scripts/specs/raonet.json` of opentensor/subtensor, a whole
# genesis with a runtime in it, of spec version 218. Both run offline. WAAG is a release build. Needs Python's standard
# library only. The last line is `ratio <number> <what against what>`; the status is 1 if it is below the goal.
#
# Chopsticks cannot be pointed at the devnet with `--endpoint`: it executes the code that it finds under `:code`, and the
# devnet has none ("No wasm found").
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
chopsticks=${1:?the program chopsticks}
spec=${2:?a chain specification with a runtime in it}
waag=${3:-"$root/target/release/waag"}
exec python3 "$root/tests/bench/chopsticks.py" --chopsticks "$chopsticks" --spec "$spec" --waag "$waag"
