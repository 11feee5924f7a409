"""A devnet to test against: started here or elsewhere, and its controls over plain HTTP.

Knows nothing of any SDK, so that what it says about the chain does not depend on what is tested.
"""

import json
import subprocess
import time
import urllib.request


class Devnet:
    """The controls of a devnet: its `dev_*` methods and the few plain ones that a test waits with."""

    def __init__(self, url: str, process: subprocess.Popen | None = None):
        self.url = url
        self.process = process
        self.count = 0

    @classmethod
    def start(cls, waag: str, *arguments: str) -> "Devnet":
        """Starts `waag devnet` on a free port; it prints its address as soon as it listens."""
        command = [waag, "devnet", "--json", "--bare", "--listen", "127.0.0.1:0", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said = ""
        for line in process.stdout:
            said += line
            try:
                return cls(json.loads(said)["url"], process)
            except json.JSONDecodeError:
                continue
        raise RuntimeError(f"the devnet ended with status {process.wait()}: {said}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=10)

    def call(self, method: str, *params):
        """One JSON-RPC call; an error answer is a RuntimeError."""
        self.count += 1
        body = json.dumps({"jsonrpc": "2.0", "id": self.count, "method": method, "params": list(params)}).encode()
        address = self.url.replace("ws://", "http://")
        request = urllib.request.Request(address, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            said = json.load(answer)
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']}")
        return said["result"]

    def height(self) -> int:
        return int(self.call("chain_getHeader")["number"], 16)

    def blocks(self, count: int) -> None:
        """Makes blocks at once, whatever the devnet's own pace."""
        self.call("dev_newBlock", count)

    def until(self, what: str, condition, seconds: float = 30):
        """Waits until something is so, and returns what it found; blocks come by themselves meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"did not happen within {seconds} s: {what}")
