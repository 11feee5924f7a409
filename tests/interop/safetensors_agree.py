"""Do we and the public `safetensors` package take the same files?

    python safetensors_agree.py WAAG            200 valid files, and 400 that are broken at a seeded place

Valid files, written by the package in every type and many shapes, must be taken by both. A broken file that the package
refuses must be refused by us too; one that it takes may be refused by us, because our limits are narrower and names
that stand twice are not taken, and such files are counted by their reason.
"""

import collections
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

import numpy
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"]
PROFILE = """
format = 1
slug = "models"
title = "Models"
share = 1.0
[artifact]
kind = "model"
bytes_max = 1_000_000_000
[artifact.options]
source = { plain = "https://models.example" }
dtypes = ["F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"]
[artifact.options.files]
required_any = ["*.safetensors"]
[intake]
door = "commitment"
source = "plain"
pattern = "v1|{repo:path}|{digest:sha256}"
[ranking]
rule = "king"
"""
# What we refuse and the package takes, by the words that say it.
NARROWER = ["stands twice", "unknown field", "duplicate field", "dimensions", "more than can be counted"]


def valid(chance: random.Random) -> bytes:
    """A file of the package's own making."""
    tensors = {}
    for number in range(chance.randint(0, 12)):
        shape = [chance.randint(0, 5) for _ in range(chance.randint(0, 4))]
        name = chance.choice(["layer", "ü.weight", "a/b", "x" * 200, 'quo"te']) + f".{number}"
        tensors[name] = numpy.zeros(shape, dtype=chance.choice(DTYPES))
    metadata = {"format": "np", "é": "ü"} if chance.random() < 0.5 else None
    return save(tensors, metadata)


def broken(chance: random.Random) -> bytes:
    """A valid file with one thing wrong, most of it in the header."""
    whole = bytearray(valid(chance))
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    how = chance.randrange(5)
    if how == 0:
        whole[chance.randrange(header)] = chance.randrange(256)
    elif how == 1:
        del whole[chance.randrange(len(whole)) :]
    elif how == 2:
        whole += b"\0" * chance.randint(1, 9)
    elif how == 3:
        digits = [place for place in range(8, header) if chr(whole[place]).isdigit()]
        if digits:
            whole[chance.choice(digits)] = ord(chance.choice("0123456789"))
    else:
        place = chance.randrange(8, header)
        whole[place:place] = chance.choice([b" ", b"0", b",", b"{", b'"', b"-", b"\n"])
    return bytes(whole)


def ours(waag: str, home: str, data: bytes) -> tuple[bool, str]:
    with open(os.path.join(home, "model", "model.safetensors"), "wb") as file:
        file.write(data)
    said = subprocess.run(
        [waag, "check", "--path", "model", "--json"], cwd=home, env={"HOME": home}, capture_output=True, text=True, timeout=30
    )
    document = json.loads(said.stdout)
    if said.returncode == 0:
        return True, ""
    assert said.returncode == 3, said.stdout
    return False, document["fault"]["fault_message"]


def theirs(data: bytes) -> bool:
    try:
        deserialize(data)
        return True
    except (SafetensorError, ValueError):
        return False


def main() -> int:
    waag = os.path.abspath(sys.argv[1])
    chance = random.Random(20260101)
    counts, wrong = collections.Counter(), []
    with tempfile.TemporaryDirectory() as home:
        os.mkdir(os.path.join(home, "model"))
        with open(os.path.join(home, "models.toml"), "w") as file:
            file.write(PROFILE)
        with open(os.path.join(home, "waag.toml"), "w") as file:
            file.write('challenges = ["models.toml"]\n')
        for make, count in [(valid, 200), (broken, 400)]:
            for number in range(count):
                data = make(chance)
                (we, why), they = ours(waag, home, data), theirs(data)
                counts[f"{make.__name__}: they {'take' if they else 'refuse'}, we {'take' if we else 'refuse'}"] += 1
                if make is valid and not (we and they):
                    wrong.append(f"valid file {number}: we {we} ({why}), they {they}")
                if we and not they:
                    wrong.append(f"broken file {number}: they refuse it and we take it")
                if they and not we and not any(words in why for words in NARROWER):
                    wrong.append(f"broken file {number}: they take it and we say {why}")
    for line, count in sorted(counts.items()):
        print(f"{count:5} {line}")
    print("\n".join(wrong) or "agreed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
