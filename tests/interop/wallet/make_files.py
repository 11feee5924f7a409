#!/usr/bin/env python3
"""Writes the key files of testdata/wallet with the public wallet library. Every key in them is for tests alone.

    python -m venv venv && venv/bin/pip install bittensor-wallet==4.1.1 cryptography==50.0.2
    venv/bin/python tests/interop/wallet/make_files.py testdata/wallet

Encrypted files get a new nonce, salt or time at each run, so the bytes of those differ; what is in them does not.
Fernet is the form of the library's first versions. No present version can write or read it, so it is written here as
those versions did: the key is PBKDF2-SHA256 of the password, ten million rounds, with the salt below.
"""

import base64
import json
import pathlib
import sys

from bittensor_wallet import Keyfile, Keypair
from bittensor_wallet.keyfile import (
    encrypt_keyfile_data,
    legacy_encrypt_keyfile_data,
    serialized_keypair_to_keyfile_data,
)
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

PASSWORD = "correct horse, bättery"
WORDS_12 = "bottom drive obey lake curtain smoke basket hold race lonely fit walk"
WORDS_24 = (
    "vanish response sauce pulp yard start hire crystal volcano grab short chimney "
    "witness breeze wrestle lake hundred erosion caution caught force boss recipe typical"
)
FERNET_SALT = b"Iguesscyborgslikemyselfhaveatendencytobeparanoidaboutourorigins"
FERNET_ROUNDS = 10_000_000


def fernet(data: bytes) -> bytes:
    kdf = PBKDF2HMAC(algorithm=hashes.SHA256(), salt=FERNET_SALT, length=32, iterations=FERNET_ROUNDS)
    return Fernet(base64.urlsafe_b64encode(kdf.derive(PASSWORD.encode()))).encrypt(data)


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    alice = Keypair.create_from_uri("//Alice")
    plain = {
        "private-key-only": alice,
        "seed": Keypair.create_from_seed("0x" + "a5" * 32),
        "seed-as-text": Keypair.create_from_seed("0x" + "5a" * 32),
        "words-12": Keypair.create_from_mnemonic(WORDS_12),
        "words-24": Keypair.create_from_mnemonic(WORDS_24),
        "ed25519": Keypair.create_from_mnemonic(WORDS_12, crypto_type=0),
        "address-only": Keypair(ss58_address=alice.ss58_address),
    }
    for name, keypair in plain.items():
        Keyfile(str(folder / name)).set_keypair(keypair, encrypt=False, overwrite=True)
    secret = serialized_keypair_to_keyfile_data(plain["words-24"])
    (folder / "nacl").write_bytes(encrypt_keyfile_data(secret, PASSWORD))
    (folder / "ansible-vault").write_bytes(legacy_encrypt_keyfile_data(secret, PASSWORD))
    (folder / "fernet").write_bytes(fernet(secret))
    addresses = {name: keypair.ss58_address for name, keypair in plain.items()}
    addresses.update(dict.fromkeys(["nacl", "ansible-vault", "fernet"], plain["words-24"].ss58_address))
    (folder / "addresses.json").write_text(json.dumps(addresses, indent=1) + "\n")


if __name__ == "__main__":
    main()
