#!/usr/bin/env python3
"""How long it takes to read a subnet of 256 neurons over a line of 50 ms, and how much memory that takes.

One devnet, one relay that holds every byte back for 25 ms in each direction, and two clients in their turn: `waag
metagraph` and the public SDK's `Subtensor.metagraph`. Whole processes are compared, from their start to their end; then
what a client that is already running waits: to connect and read, and to read the newest block once more. Both must name
the same hotkeys. `waag` keeps a runtime's metadata in the user's cache; the very first run, which finds nothing there,
is told apart.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

NETUID = 1
NEURONS = 256
# One way; the round trip is twice this.
DELAY_S = 0.025
ROUNDS = 5
# Whole processes must be this much faster than the SDK's.
GOAL = 10

SDK = """
import json, resource, sys, time
begun = time.perf_counter()
import bittensor
imported = time.perf_counter()
subtensor = bittensor.Subtensor(network=sys.argv[1])
metagraph = subtensor.metagraph(int(sys.argv[2]))
first = time.perf_counter()
again = []
for _ in range(3):
    start = time.perf_counter()
    subtensor.metagraph(int(sys.argv[2]))
    again.append(time.perf_counter() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("REPORT " + json.dumps({
    "version": bittensor.__version__, "import": imported - begun, "first": first - imported, "again": min(again),
    "hotkeys": list(metagraph.hotkeys), "peak_kib": peak,
}))
"""


async def carry(reader, writer):
    """Passes bytes on after a while, without slowing the flow down."""
    loop, held = asyncio.get_running_loop(), asyncio.Queue()

    async def pass_on():
        while (item := await held.get()) is not None:
            due, data = item
            await asyncio.sleep(max(0.0, due - loop.time()))
            writer.write(data)
            await writer.drain()
        writer.close()

    passing = asyncio.create_task(pass_on())
    try:
        while data := await reader.read(65536):
            held.put_nowait((loop.time() + DELAY_S, data))
    except ConnectionError:
        pass
    held.put_nowait(None)
    try:
        await passing
    except ConnectionError:
        pass


def relay(port, node, ready):
    async def serve():
        async def accept(reader, writer):
            # A client waits a round trip for its connection as well.
            await asyncio.sleep(2 * DELAY_S)
            upstream, downstream = await asyncio.open_connection("127.0.0.1", node)
            await asyncio.gather(carry(reader, downstream), carry(upstream, writer))

        server = await asyncio.start_server(accept, "127.0.0.1", port, limit=1 << 20)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def control(url, method, params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        said = json.load(answer)
    if "error" in said:
        sys.exit(f"{method}: {said['error']}")
    return said["result"]


def fill(url):
    """A subnet with as many neurons as there can be. Any 32 bytes are an account."""
    owner = "0x" + "d4" * 32
    control(url, "dev_createSubnet", [{"netuid": NETUID, "owner": ss58(bytes.fromhex(owner[2:])), "tempo": 100}])
    for neuron in range(1, NEURONS):
        account = ss58(neuron.to_bytes(2, "big") * 16)
        control(url, "dev_register", [NETUID, account, account])
        if neuron % 4 == 0:
            control(url, "dev_setPermit", [NETUID, account, True, neuron * 10**9])
    control(url, "dev_newBlock", [205])


def ss58(account):
    """An account as Bittensor writes it."""
    import hashlib

    payload = bytes([42]) + account
    check = hashlib.blake2b(b"SS58PRE" + payload).digest()[:2]
    number, text = int.from_bytes(payload + check, "big"), ""
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    while number:
        number, digit = divmod(number, 58)
        text = alphabet[digit] + text
    return text


def run(args, folder):
    """Output, wall seconds and peak KiB of a process."""
    begun = time.perf_counter()
    env = dict(os.environ, HOME=str(folder))
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=env, text=True)
    out, err = process.stdout, process.stderr
    said = out.read()
    complaint = err.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    if status != 0:
        sys.exit(f"{args[0]} ended with {status}: {said}\n{complaint[-3000:]}")
    return said, seconds, usage.ru_maxrss


def measure(waag, url, folder):
    ours, theirs = [], []
    _, cold, _ = run([waag, "metagraph", "--json", "--network", url, "--netuid", str(NETUID)], folder)
    for _ in range(ROUNDS):
        said, seconds, peak = run([waag, "metagraph", "--json", "--network", url, "--netuid", str(NETUID)], folder)
        hotkeys = [neuron["hotkey"] for neuron in json.loads(said)["neurons"]]
        ours.append({"seconds": seconds, "peak_kib": peak, "hotkeys": hotkeys})
        said, seconds, peak = run([sys.executable, "-c", SDK, url, str(NETUID)], folder)
        report = json.loads(next(line for line in said.splitlines() if line.startswith("REPORT "))[7:])
        # Three further reads are only made to time one.
        report["seconds"] = seconds - 3 * report["again"]
        theirs.append(report)
        if hotkeys != report["hotkeys"] or len(hotkeys) != NEURONS:
            sys.exit("they do not name the same hotkeys")
    said, _, _ = run([waag, "bench", "metagraph", "--json", "--network", url, "--netuid", str(NETUID)], folder)
    return ours, theirs, json.loads(said), cold


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def report(ours, theirs, inner, cold):
    rows = [
        ("the whole program", median(ours, "seconds"), median(theirs, "seconds")),
        ("its very first run", cold, median(theirs, "seconds")),
        ("connect and read", (inner["connect_ns"] + inner["first_ns"]) / 1e9, median(theirs, "first")),
        ("read once more", inner["again_ns"] / 1e9, median(theirs, "again")),
    ]
    memory = median(ours, "peak_kib"), median(theirs, "peak_kib")
    print(f"{NEURONS} neurons, {2 * DELAY_S * 1000:.0f} ms round trip, bittensor {theirs[0]['version']}, median of {ROUNDS}")
    for what, mine, sdk in rows:
        print(f"{what:<20} waag {mine:8.3f} s   sdk {sdk:8.3f} s")
    print(f"{'of which imports':<20} {'':<15} sdk {median(theirs, 'import'):8.3f} s")
    print(f"{'peak memory':<20} waag {memory[0] / 1024:6.1f} MiB   sdk {memory[1] / 1024:6.1f} MiB")
    for what, mine, sdk in rows:
        print(f"ratio {sdk / mine:.1f} {what}: the SDK's time against ours")
    print(f"ratio {memory[1] / memory[0]:.1f} peak memory: the SDK's against ours")
    return rows[0][2] / rows[0][1] >= GOAL


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waag", required=True, type=pathlib.Path)
    waag = str(parser.parse_args().waag.resolve())
    with tempfile.TemporaryDirectory() as folder:
        args = [waag, "devnet", "--manual", "--bare", "--listen", "127.0.0.1:0", "--json", "--log", "error"]
        devnet = subprocess.Popen(args, stdout=subprocess.PIPE, cwd=folder, env={"HOME": folder}, text=True)
        ready = multiprocessing.Queue()
        line = None
        try:
            said = ""
            while not said.rstrip().endswith("}"):
                said += devnet.stdout.readline() or sys.exit("the devnet ended early")
            node = json.loads(said)["url"]
            fill(node.replace("ws://", "http://"))
            line = multiprocessing.Process(target=relay, args=(0, int(node.rsplit(":", 1)[1]), ready), daemon=True)
            line.start()
            ours, theirs, inner, cold = measure(waag, f"ws://127.0.0.1:{ready.get(timeout=30)}", folder)
        finally:
            devnet.terminate()
            if line:
                line.terminate()
    sys.exit(0 if report(ours, theirs, inner, cold) else 1)


if __name__ == "__main__":
    main()
