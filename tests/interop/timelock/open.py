"""Opens with the public tool what this program has sealed.

    python -m venv venv && venv/bin/pip install bittensor-drand==2.0.0
    venv/bin/python tests/interop/timelock/open.py testdata/chain/timelock-ours.json

The file holds ciphertexts for rounds of the real beacon whose signatures are published; a test of the program's own
makes sure that they are what it seals today. The other way, what the public tool seals, is testdata/chain/timelock.json.
"""

import json
import pathlib
import sys

from bittensor_drand import decrypt_with_signature


def wrapped(ciphertext: bytes, round_number: int) -> bytes:
    """The form of the tool's general helper: a compact length in front and the round behind; the chain has neither."""
    length = len(ciphertext)
    prefix = length << 2 | 1
    assert 64 <= length < 1 << 14, "a length of two bytes"
    return prefix.to_bytes(2, "little") + ciphertext + round_number.to_bytes(8, "little")


def main() -> int:
    sealed = json.loads(pathlib.Path(sys.argv[1]).read_text())["sealed"]
    signatures = {one["round"]: one["signature"] for one in sealed}
    assert len(sealed) >= 8 and len(signatures) == 2, "two rounds with some ciphertexts each"
    for one in sealed:
        given = wrapped(bytes.fromhex(one["ciphertext"]), one["round"])
        found = bytes(decrypt_with_signature(given, one["signature"]))
        assert found == bytes.fromhex(one["plaintext"]), f"round {one['round']}: {found.hex()}"
        other = next(signature for number, signature in signatures.items() if number != one["round"])
        try:
            opened = decrypt_with_signature(given, other)
        except Exception:  # The tool has a type of its own for each way to fail.
            continue
        raise AssertionError(f"round {one['round']} opens with another round's signature: {bytes(opened).hex()}")
    print(f"ok: {len(sealed)} ciphertexts of ours are opened by the public tool, each by its round alone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
