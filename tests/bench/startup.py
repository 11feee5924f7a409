#!/usr/bin/env python3
"""The promises of `specification.md` about a start: 300 ms to the first answer, 100 MB idle, 80 MB of program.

An appliance is started on a data directory in which a whole demo was played, as `waag up` (whose chain is not there,
which it outlives) and as `waag up --dev` (which brings its chain along and restores it). A start is timed from the
moment before the program is executed until `/v1/health` has answered 200, over and over, each form in its turn, so
that a disturbance hits both. Memory is what the kernel counts as resident of the process after it has worked for a
while on nothing.
"""

import argparse
import http.client
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

LIMITS = {"ms": 300, "memory": 100, "program": 80}
MB = 1_000_000
# How long an appliance is left alone before its memory is read, in seconds: a few blocks, looks and weight settings.
SETTLE_S = 10
# How long a start may take before it counts as failed, in seconds.
PATIENCE_S = 30
FORMS = {"up": ["up"], "up --dev": ["up", "--dev"]}


def processor():
    """The name of this machine's CPU."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def play_demo(waag, folder):
    """A data directory that is no empty one."""
    said = subprocess.run([waag, "demo", "--fast", "--json", "--data-dir", folder], stdout=subprocess.DEVNULL)
    if said.returncode != 0:
        sys.exit(f"the demo ended with {said.returncode}")
    return folder / "data"


def is_healthy(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/v1/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Appliance:
    """One that runs, and how many milliseconds its first answer took."""

    def __init__(self, waag, data, form):
        port, chain = free_port(), free_port()
        environment = {
            "HOME": str(data),
            "WAAG__DEVNET__LISTEN": f"127.0.0.1:{chain}",
            "WAAG__NETWORK__NETUID": "7",
            "WAAG__NETWORK__NAME": "devnet",
        }
        line = [waag, *FORMS[form], "--listen", f"127.0.0.1:{port}", "--data-dir", data, "--log", "error"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        began = time.perf_counter()
        self.process = subprocess.Popen(line, env=environment, cwd=data, **quiet)
        while not is_healthy(port):
            if self.process.poll() is not None or time.perf_counter() - began > PATIENCE_S:
                self.stop()
                sys.exit(f"`waag {form}` does not answer")
            time.sleep(0.0005)
        self.ms = (time.perf_counter() - began) * 1000

    def resident_mb(self):
        """What the kernel counts, and the most it ever was."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status if ":" in line)
        return [int(fields[name].split()[0]) * 1024 / MB for name in ("VmRSS", "VmHWM")]

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE_S)


def measure(waag, data, runs):
    times = {form: [] for form in FORMS}
    for _ in range(runs):
        for form in FORMS:
            appliance = Appliance(waag, data, form)
            appliance.stop()
            times[form].append(appliance.ms)
    memory = {}
    for form in FORMS:
        appliance = Appliance(waag, data, form)
        time.sleep(SETTLE_S)
        memory[form] = appliance.resident_mb()
        appliance.stop()
    return times, memory


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--waag", type=pathlib.Path, required=True)
    parser.add_argument("--dir", type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    waag = arguments.waag.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        # A copy: a start writes into it.
        data = scratch / "data"
        shutil.copytree(arguments.dir or play_demo(waag, scratch / "demo"), data)
        times, memory = measure(waag, data, arguments.runs)
    program = waag.stat().st_size / MB
    print(f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {arguments.runs} starts of each form")
    for form in FORMS:
        fastest, slowest = min(times[form]), max(times[form])
        resident, most = memory[form]
        print(f"waag {form}: {statistics.median(times[form]):.0f} ms to the first answer ({fastest:.0f} to {slowest:.0f}),", end=" ")
        print(f"{resident:.1f} MB resident when idle, {most:.1f} MB at most")
    print(f"program: {program:.1f} MB")
    ratios = []
    for form in FORMS:
        took = statistics.median(times[form])
        ratios.append((LIMITS["ms"] / took, f"the limit of {LIMITS['ms']} ms against `waag {form}` until its first answer"))
        ratios.append((LIMITS["memory"] / memory[form][0], f"the limit of {LIMITS['memory']} MB against idle `waag {form}`"))
    ratios.append((LIMITS["program"] / program, f"the limit of {LIMITS['program']} MB against the program's size"))
    for number, words in ratios:
        print(f"ratio {number:.2f} {words}")
    sys.exit(0 if all(number >= 1 for number, _ in ratios) else 1)


if __name__ == "__main__":
    main()
