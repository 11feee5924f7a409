#!/usr/bin/env python3
"""How fast a bad model of 70 GB is refused by the headers of its weight files, over a line of 50 ms.

One registry, `waag bench preflight --serve`, and two clients in their turn: Waag's own preflight, as the same verb
measures it, and the known way in Python: a token, the manifest, then of one weight file after the other its length and
its header by `requests`, in one session that keeps its connection. Both must name the same file and the same type.
"""

import argparse
import json
import struct
import subprocess
import sys
import time

import requests

TAKEN = {"F16", "BF16"}
TITLE = "org.opencontainers.image.title"
# What is promised: milliseconds, and bytes beyond the headers.
MS_MAX = 500
BEYOND_MAX = 2_000_000


def known_way(url, repo, digest):
    """The first weight file, by name, with a type that is not taken."""
    session = requests.Session()
    asked = session.get(f"{url}/v2/{repo}/manifests/{digest}", timeout=60)
    assert asked.status_code == 401, asked.status_code
    token = session.get(f"{url}/token", params={"service": "bench", "scope": f"repository:{repo}:pull"}, timeout=60)
    session.headers["Authorization"] = f"Bearer {token.json()['token']}"
    manifest = session.get(f"{url}/v2/{repo}/manifests/{digest}", timeout=60).json()
    shards = {layer["annotations"][TITLE]: layer["digest"] for layer in manifest["layers"]}

    def part(blob, first, last):
        answer = session.get(f"{url}/v2/{repo}/blobs/{blob}", headers={"Range": f"bytes={first}-{last}"}, timeout=60)
        assert answer.status_code == 206, answer.status_code
        return answer.content

    for name in sorted(name for name in shards if name.endswith(".safetensors")):
        (length,) = struct.unpack("<Q", part(shards[name], 0, 7))
        header = json.loads(part(shards[name], 8, 7 + length))
        bad = {tensor["dtype"] for key, tensor in header.items() if key != "__metadata__"} - TAKEN
        if bad:
            return name, sorted(bad)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waag", required=True)
    waag = parser.parse_args().waag
    ours = json.loads(subprocess.run([waag, "bench", "preflight", "--json"], check=True, capture_output=True).stdout)
    server = subprocess.Popen([waag, "bench", "preflight", "--serve", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        told, depth = "", 0
        for line in server.stdout:
            told += line
            depth += line.count("{") - line.count("}")
            if depth == 0:
                break
        where = json.loads(told)
        begun = time.perf_counter()
        found = known_way(where["url"], where["repo"], where["digest"])
        theirs_ms = (time.perf_counter() - begun) * 1000
    finally:
        server.terminate()
        server.wait()
    assert found is not None, "the known way found nothing"
    name, types = found
    assert name in ours["preflight"]["verdict"] and all(one in ours["preflight"]["verdict"] for one in types), (ours, found)
    ours_ms = ours["preflight"]["ns"] / 1e6
    print(ours["preflight"]["verdict"])
    print(f"waag      {ours_ms:8.1f} ms  {ours['preflight']['moved_bytes']} bytes moved, "
          f"{ours['beyond_headers_bytes']} beyond the headers")
    print(f"requests  {theirs_ms:8.1f} ms")
    print(f"ratio {ours['ratio_moved_to_headers']:.3f} bytes that Waag moves, against those of the headers alone")
    print(f"ratio {theirs_ms / ours_ms:.1f} time of the known way with requests {requests.__version__}, against Waag")
    sys.exit(0 if ours_ms < MS_MAX and ours["beyond_headers_bytes"] < BEYOND_MAX else 1)


if __name__ == "__main__":
    main()
