"""Drives a devnet with the public Python SDK and says, check by check, what works.

    python check.py --waag target/debug/waag             starts a devnet of its own
    python check.py --url ws://127.0.0.1:9944 --json     uses one that runs; it must be a fresh one
    python check.py --waag … set_weights axon            only the checks whose names contain one of these words

The SDK is whichever `bittensor` this Python has: 10.5.0 and 11.1.0 are known. One line per check; exit status 0 when
all of them passed. A check that needs an earlier one fails together with it.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import sys
import tempfile
import time
import traceback

# The SDKs read the command line and the home directory by themselves unless they are told not to.
os.environ.setdefault("BT_NO_PARSE_CLI_ARGS", "1")

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from devnet import Devnet  # noqa: E402


def checks_for(version: str):
    """The module with the checks for this version of the SDK."""
    if version.startswith("10."):
        import sdk10

        return sdk10
    if version.startswith("11."):
        import sdk11

        return sdk11
    raise SystemExit(f"there are no checks for bittensor {version}")


def run(module, devnet: Devnet, words: list[str], home: str, say) -> list[dict]:
    """Runs the checks in the order of the module and reports each."""
    with contextlib.redirect_stdout(sys.stderr):
        world = module.World(devnet, home)
    results = []
    for check in module.CHECKS:
        name = check.__name__
        if words and not any(word in name for word in words):
            continue
        began = time.monotonic()
        error = None
        try:
            # The SDKs print; stdout belongs to the report.
            with contextlib.redirect_stdout(sys.stderr):
                check(world)
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            traceback.print_exc(file=sys.stderr)
        seconds = time.monotonic() - began
        results.append({"check": name, "says": check.__doc__, "passed": error is None, "error": error, "seconds": seconds})
        say(f"{'ok  ' if error is None else 'FAIL'} {name} ({seconds:.1f} s){'' if error is None else ': ' + error}")
    world.close()
    return results


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = arguments.add_mutually_exclusive_group(required=True)
    where.add_argument("--waag", help="the waag binary to start a devnet with")
    where.add_argument("--url", help="ws://host:port of a devnet that runs")
    arguments.add_argument("--metadata", default="439", help="which runtime the devnet started here shows (default 439)")
    arguments.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    arguments.add_argument("words", nargs="*", help="only checks whose names contain one of these")
    given = arguments.parse_args()
    version = importlib.metadata.version("bittensor")
    module = checks_for(version)
    if given.waag:
        devnet = Devnet.start(given.waag, "--block-ms", "100", "--metadata", given.metadata)
    else:
        devnet = Devnet(given.url)
    say = (lambda line: None) if given.json else (lambda line: print(line, flush=True))
    try:
        with tempfile.TemporaryDirectory() as home:
            results = run(module, devnet, given.words, home, say)
    finally:
        devnet.stop()
    passed = sum(result["passed"] for result in results)
    if given.json:
        print(json.dumps({"bittensor": version, "passed": passed, "of": len(results), "checks": results}, indent=2))
    else:
        print(f"bittensor {version}: {passed} of {len(results)} checks passed")
    return 0 if results and passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
