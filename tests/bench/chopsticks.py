#!/usr/bin/env python3
"""How many empty blocks a second `waag devnet` makes, and Chopsticks with a real runtime of subtensor.

Both are asked over HTTP for one block after another, each made before the next is asked for, by the same client on the
same machine. Chopsticks executes the runtime's own code; the devnet has rules of its own that were written after it, so
the ratio says how much sooner a test is over, not that one does the same work faster. The runtime in the public chain
specification is of spec version 218 and has two subnets; the devnet has two as well.
"""

import argparse
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

# Blocks that are timed; Chopsticks needs a few seconds for them, the devnet is asked for more.
CHOPSTICKS_BLOCKS = 20
DEVNET_BLOCKS = 2000
# What Chopsticks must be outdone by: 300 blocks a second against the 3.4 that it was once measured at.
GOAL = 300 / 3.4
# How long Chopsticks may take to begin: it compiles the runtime.
PATIENCE_S = 180
# Its clock may cross a slot while it makes the first block, which it does not survive.
STARTS = 5


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url, method, params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        said = json.load(answer)
    if "error" in said:
        sys.exit(f"{method}: {said['error']}")
    return said["result"]


def head(url):
    return int(ask(url, "chain_getHeader", [])["number"], 16)


def blocks_per_second(url, param, count):
    ask(url, "dev_newBlock", [param])
    first = head(url)
    begun = time.perf_counter()
    for _ in range(count):
        ask(url, "dev_newBlock", [param])
    seconds = time.perf_counter() - begun
    if head(url) != first + count:
        sys.exit(f"{url} made {head(url) - first} blocks, not {count}")
    return count / seconds


def chopsticks(program, spec, folder):
    """Starts it; answers the process and its address."""
    for _ in range(STARTS):
        port = free_port()
        config = folder / "chopsticks.yml"
        config.write_text(
            f"genesis: {spec}\nbuild-block-mode: Manual\nmock-signature-host: false\nhost: 127.0.0.1\nport: {port}\n"
        )
        log = (folder / "chopsticks.log").open("w")
        process = subprocess.Popen([program, "--config", str(config)], cwd=folder, stdout=log, stderr=log)
        url, begun = f"http://127.0.0.1:{port}", time.monotonic()
        while process.poll() is None and time.monotonic() - begun < PATIENCE_S:
            try:
                head(url)
                return process, url
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        process.kill()
    sys.exit((folder / "chopsticks.log").read_text()[-3000:])


def devnet(waag, folder):
    args = [waag, "devnet", "--manual", "--bare", "--listen", "127.0.0.1:0", "--json", "--log", "error"]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, cwd=folder, env={"HOME": str(folder)}, text=True)
    said = ""
    while not said.rstrip().endswith("}"):
        said += process.stdout.readline() or sys.exit("the devnet ended early")
    url = json.loads(said)["url"].replace("ws://", "http://")
    owner = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
    for netuid in (1, 2):
        ask(url, "dev_createSubnet", [{"netuid": netuid, "owner": owner}])
    return process, url


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chopsticks", required=True, type=pathlib.Path)
    parser.add_argument("--spec", required=True, type=pathlib.Path)
    parser.add_argument("--waag", required=True, type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        theirs, url = chopsticks(str(args.chopsticks.resolve()), args.spec.resolve(), folder)
        try:
            version = ask(url, "state_getRuntimeVersion", [])["specVersion"]
            slow = blocks_per_second(url, {"count": 1}, CHOPSTICKS_BLOCKS)
        finally:
            theirs.terminate()
        ours, url = devnet(str(args.waag.resolve()), folder)
        try:
            fast = blocks_per_second(url, 1, DEVNET_BLOCKS)
        finally:
            ours.terminate()
    print("empty blocks, one asked for after another")
    print(f"chopsticks, runtime {version}: {slow:8.1f} blocks/s")
    print(f"devnet                    : {fast:8.1f} blocks/s")
    print(f"ratio {fast / slow:.0f} devnet against chopsticks")
    sys.exit(0 if fast / slow >= GOAL else 1)


if __name__ == "__main__":
    main()
