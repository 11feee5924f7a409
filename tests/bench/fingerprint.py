"""Measures `waag bench fingerprint` and its rivals on one generated model, all in one run: see fingerprint.sh."""

import json
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CHUNK = 256 * 1024  # elements that numpy takes at a time: whole tensors are five times slower
ROUNDS = 3


def waag(program, folder, *flags):
    said = subprocess.run([program, "bench", "fingerprint", str(folder), "--json", *flags], capture_output=True, text=True)
    if said.returncode:
        sys.exit(said.stderr)
    return json.loads(said.stdout)


def fastest(work):
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return min(took)


def norms(folder):
    """The norm of every tensor, as the compatible rule has it."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(length))
            for name, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
                left, total = (tensor["data_offsets"][1] - tensor["data_offsets"][0]) // 2, 0.0
                while left:
                    raw = np.frombuffer(file.read(2 * min(left, CHUNK)), dtype="<u2")
                    values = (raw.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
                    total += float(values @ values)
                    left -= len(raw)
                found[name] = total**0.5
    return found


def main():
    program, room, size = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    first = waag(program, room, "--generate", size, "--keep")
    folder = Path(first["folder"])
    try:
        gigabytes = first["bytes"] / 1e9
        files = [str(path) for path in sorted(folder.glob("*.safetensors"))]
        plain = waag(program, folder)
        hashed = waag(program, folder, "--sha256")
        with_numpy = gigabytes / fastest(lambda: norms(folder))
        command = ["openssl", "dgst", "-sha256", *files]
        openssl = gigabytes / fastest(lambda: subprocess.run(command, check=True, capture_output=True))
        cold = None if str(folder).startswith("/dev/shm") else waag(program, folder, "--cold")
    finally:
        shutil.rmtree(folder)
    print(f"{first['bytes']} bytes in {first['files']} files, {first['threads']} threads")
    print(f"pass {plain['gb_per_s']:.2f} GB/s, with SHA-256 {hashed['gb_per_s']:.2f} GB/s")
    print(f"plain read {plain['plain_read_gb_per_s']:.2f} GB/s, numpy {with_numpy:.2f} GB/s, openssl {openssl:.2f} GB/s")
    print(f"peak memory added {plain['peak_added_kib'] // 1024} MiB")
    print(f"ratio {plain['gb_per_s'] / with_numpy:.2f} the pass against numpy in chunks (goal 3)")
    print(f"ratio {plain['ratio']:.2f} the pass against a plain read (goal 0.75)")
    print(f"ratio {hashed['gb_per_s'] / openssl:.2f} the pass with SHA-256 against openssl alone (goal 1.5)")
    if cold:
        print(f"ratio {cold['ratio']:.2f} the pass against a plain read, both cold (goal 0.9)")


main()
