#!/usr/bin/env python3
"""Wallets of the public library are opened by waag, and waag's by the library; both sign and check for each other.

    venv/bin/python tests/interop/wallet/both_ways.py --waag target/debug/waag [--core PYTHON]

Needs bittensor-wallet 4.1.1. With --core a Python that has bittensor-core 0.1.5, the newer library, checks as well.
Ends with 0 and a line for each group, or with 1 and what differed. Every key is made anew and thrown away.
"""

import argparse
import json
import os
import pathlib
import pty
import select
import subprocess
import sys
import tempfile
import time

from bittensor_wallet import Keyfile, Keypair, Wallet
from bittensor_wallet.keyfile import (
    decrypt_keyfile_data,
    legacy_encrypt_keyfile_data,
    serialized_keypair_to_keyfile_data,
)

PASSWORD = "correct horse, bättery €"
MESSAGE = "who signs this holds the key, ümlaut and all"
RUN_S = 120

# What the newer library is asked: one JSON document in, one out.
CORE = """
import json, sys
import bittensor_core as core
asked = json.load(sys.stdin)
open_file = lambda path: core.deserialize_keypair_from_keyfile_data(
    core.decrypt_keyfile_data(data, asked["password"]) if core.keyfile_data_is_encrypted(data := open(path, "rb").read()) else data)
found = {path: open_file(path).ss58_address for path in asked["files"]}
alice = core.Keypair.from_uri("//Alice")
plain = core.serialized_keypair_to_keyfile_data(alice)
open(asked["plain"], "wb").write(plain)
open(asked["sealed"], "wb").write(core.encrypt_keyfile_data(plain, asked["password"]))
json.dump({"addresses": found, "alice": alice.ss58_address}, sys.stdout)
"""


def expect(what: str, found, wanted) -> None:
    if found != wanted:
        sys.exit(f"{what}: {found!r} instead of {wanted!r}")


class Waag:
    """The program with a home of its own."""

    def __init__(self, program: str, home: pathlib.Path) -> None:
        self.program = program
        self.home = home
        self.wallets = home / ".bittensor" / "wallets"

    def env(self, **more: str) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], **more}

    def run(self, *args: str, exit_code: int = 0, **env: str) -> dict:
        ran = subprocess.run(
            [self.program, "wallet", *args, "--json"],
            cwd=self.home, env=self.env(**env), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_S,
        )
        expect(f"exit code of {args}, which said {ran.stdout}{ran.stderr}", ran.returncode, exit_code)
        return json.loads(ran.stdout)

    def on_terminal(self, answers: list[str], *args: str) -> str:
        """The same on a terminal, on which each answer is typed after a question. Returns what was seen there."""
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(self.home)
            os.execve(self.program, [self.program, "wallet", *args], self.env())
        seen = b""
        asked = 0
        ends = time.monotonic() + RUN_S
        while time.monotonic() < ends:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                chunk = os.read(terminal, 4096)
            except OSError:
                break  # The other end is closed.
            if not chunk:
                break
            seen += chunk
            while asked < len(answers) and seen.count(b": ") > asked and seen.endswith(b": "):
                os.write(terminal, answers[asked].encode() + b"\n")
                asked += 1
                break
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text = seen.decode(errors="replace")
        expect(f"exit code on a terminal that showed {text!r}", status, 0)
        return text


def plain_keys() -> dict[str, Keypair]:
    return {
        "uri": Keypair.create_from_uri("//Alice"),
        "path": Keypair.create_from_uri(Keypair.generate_mnemonic(12) + "//hard/soft"),
        "seed": Keypair.create_from_seed("0x" + os.urandom(31).hex() + "ff"),
        "text": Keypair.create_from_seed("0x" + b"thirty-two bytes, all of a text!".hex()),
        "words-12": Keypair.create_from_mnemonic(Keypair.generate_mnemonic(12)),
        "words-24": Keypair.create_from_mnemonic(Keypair.generate_mnemonic(24)),
    }


def theirs_plain(waag: Waag) -> str:
    keys = plain_keys()
    for name, keypair in keys.items():
        file = Wallet(name="theirs", hotkey=name, path=str(waag.wallets)).hotkey_file
        file.set_keypair(keypair, encrypt=False, overwrite=False)
    shown = {key["name"]: key for key in waag.run("show", "theirs")["hotkeys"]}
    for name, keypair in keys.items():
        found = shown[name]
        expect(f"address of {name}", found["address"], keypair.ss58_address)
        expect(f"proof of {name}", (found["proved"], found["secret"], found["kind"]), (True, "plain", "sr25519"))
        signed = waag.run("sign", "--message", MESSAGE, "--wallet.name", "theirs", "--wallet.hotkey", name)
        expect(f"signer of {name}", signed["address"], keypair.ss58_address)
        public = Keypair(ss58_address=keypair.ss58_address)
        expect(f"their verdict of ours, {name}", public.verify(MESSAGE.encode(), signed["signature"]), True)
        expect(f"their verdict of a change, {name}", public.verify(b"other", signed["signature"]), False)
        theirs = "0x" + keypair.sign(MESSAGE.encode()).hex()
        waag.run("verify", keypair.ss58_address, theirs, "--message", MESSAGE)
        waag.run("verify", keypair.ss58_address, theirs, "--message", "other", exit_code=1)
    return f"{len(keys)} plain hotkeys of theirs are read, and sign as theirs do"


def theirs_encrypted(waag: Waag, password_file: str) -> str:
    keypair = Keypair.create_from_mnemonic(Keypair.generate_mnemonic(24))
    wallet = Wallet(name="sealed", hotkey="none", path=str(waag.wallets))
    wallet.coldkey_file.set_keypair(keypair, encrypt=True, overwrite=False, password=PASSWORD)
    wallet.coldkeypub_file.set_keypair(Keypair(ss58_address=keypair.ss58_address), encrypt=False, overwrite=False)
    found = waag.run("show", "sealed")["coldkey"]
    expect("a sealed coldkey", (found["secret"], found["proved"]), ("nacl", False))
    expect("its address", found["address"], keypair.ss58_address)
    found = waag.run("show", "sealed", "--unlock", "--password-file", password_file)["coldkey"]
    expect("the same by a file", (found["proved"], found["address"]), (True, keypair.ss58_address))
    # The library writes the variable itself, into the environment of its own process.
    hidden = wallet.coldkey_file.save_password_to_env(PASSWORD)
    name = wallet.coldkey_file.env_var_name()
    for value in (hidden, PASSWORD):
        found = waag.run("show", "sealed", "--unlock", **{name: value})["coldkey"]
        expect("the same by a variable", (found["proved"], found["address"]), (True, keypair.ss58_address))
    seen = waag.on_terminal([PASSWORD], "sign", "--coldkey", "--message", MESSAGE, "--wallet.name", "sealed")
    signature = next(line.strip() for line in seen.splitlines() if line.startswith("0x"))
    expect("signed on a terminal", Keypair(ss58_address=keypair.ss58_address).verify(MESSAGE.encode(), signature), True)
    expect("the password on the terminal", PASSWORD in seen, False)
    waag.run("show", "sealed", "--unlock", exit_code=4, **{name: "wrong"})

    wallet = Wallet(name="vault", hotkey="none", path=str(waag.wallets))
    wallet.coldkey_file.make_dirs()
    vault = legacy_encrypt_keyfile_data(serialized_keypair_to_keyfile_data(keypair), PASSWORD)
    pathlib.Path(wallet.coldkey_file.path).write_bytes(vault)
    found = waag.run("show", "vault", "--unlock", "--password-file", password_file)["coldkey"]
    expect("a vault", (found["secret"], found["address"]), ("ansible_vault", keypair.ss58_address))
    return "encrypted coldkeys of theirs are opened by file, variable and terminal"


def theirs_other_kinds(waag: Waag) -> str:
    keypair = Keypair.create_from_mnemonic(Keypair.generate_mnemonic(12), crypto_type=0)
    file = Wallet(name="other", hotkey="ed25519", path=str(waag.wallets)).hotkey_file
    file.set_keypair(keypair, encrypt=False, overwrite=False)
    found = waag.run("show", "other", exit_code=4)
    expect("the address of an ed25519 key", found["hotkeys"][0]["address"], keypair.ss58_address)
    expect("its code", found["error"]["code"], "wallet_ed25519")
    return "an ed25519 key of theirs is shown, and refused by name"


def words_of(file: Keyfile) -> str:
    content = decrypt_keyfile_data(file.data, PASSWORD) if file.is_encrypted() else file.data
    return json.loads(content)["secretPhrase"]


def ours(waag: Waag, password_file: str) -> tuple[str, list[str]]:
    names = ["--wallet.name", "ours", "--wallet.hotkey", "h1"]
    made = waag.run("create", *names, "--password-file", password_file)["made"]
    addresses = {key["name"]: key["address"] for key in made}
    wallet = Wallet(name="ours", hotkey="h1", path=str(waag.wallets))
    expect("our coldkey is encrypted", wallet.coldkey_file.is_encrypted(), True)
    expect("our hotkey is not", wallet.hotkey_file.is_encrypted(), False)
    opened = {"coldkey": wallet.get_coldkey(PASSWORD), "hotkey": wallet.get_hotkey()}
    for name, keypair in opened.items():
        expect(f"our {name} there", keypair.ss58_address, addresses[name])
        words = words_of(wallet.coldkey_file if name == "coldkey" else wallet.hotkey_file)
        expect(f"the words of our {name}", Keypair.create_from_mnemonic(words).ss58_address, addresses[name])
    expect("our public half", wallet.get_coldkeypub().ss58_address, addresses["coldkey"])
    try:
        Keyfile(wallet.coldkey_file.path).get_keypair("wrong")
    except Exception as error:  # The library has a type of its own for each version.
        expect("their refusal", "assword" in str(error) or "ecrypt" in str(error), True)
    else:
        sys.exit("our coldkey opens with any password")
    for path in pathlib.Path(waag.wallets, "ours").rglob("*"):
        expect(f"mode of {path}", oct(path.stat().st_mode & 0o777), "0o700" if path.is_dir() else "0o600")
    # The same on a terminal, where the words are shown once and the password never.
    seen = waag.on_terminal([PASSWORD, PASSWORD], "create", "--wallet.name", "typed")
    wallet = Wallet(name="typed", hotkey="default", path=str(waag.wallets))
    expect("the words shown", words_of(wallet.coldkey_file) in " ".join(seen.split()), True)
    expect("the password on the terminal", PASSWORD in seen, False)
    files = [Wallet(name="ours", hotkey="h1", path=str(waag.wallets)).hotkey_file.path, wallet.coldkey_file.path]
    return "wallets of ours are opened by theirs, made by file and on a terminal", files


def newer(waag: Waag, core: str, files: list[str], password_file: str) -> str:
    folder = waag.wallets / "newer"
    (folder / "hotkeys").mkdir(parents=True)
    asked = {
        "files": files,
        "password": PASSWORD,
        "plain": str(folder / "hotkeys" / "h1"),
        "sealed": str(folder / "coldkey"),
    }
    ran = subprocess.run([core, "-c", CORE], input=json.dumps(asked), capture_output=True, text=True, timeout=RUN_S)
    expect(f"exit code of the newer library, which said {ran.stderr}", ran.returncode, 0)
    told = json.loads(ran.stdout[ran.stdout.index("{"):])
    hotkey = waag.run("show", "ours")["hotkeys"][0]["address"]
    coldkey = waag.run("show", "typed")["coldkey"]["address"]
    expect("ours in the newer library", list(told["addresses"].values()), [hotkey, coldkey])
    found = waag.run("show", "newer", "--unlock", "--password-file", password_file)
    expect("its files", [found["coldkey"]["address"], found["hotkeys"][0]["address"]], [told["alice"]] * 2)
    return "the newer library opens ours, and its files are opened"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waag", required=True, help="the program")
    parser.add_argument("--core", help="a Python with bittensor-core")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        waag = Waag(str(pathlib.Path(args.waag).resolve()), pathlib.Path(home).resolve())
        password_file = str(waag.home / "password")
        pathlib.Path(password_file).write_text(PASSWORD + "\n")
        os.chmod(password_file, 0o600)
        groups = [theirs_plain(waag), theirs_encrypted(waag, password_file), theirs_other_kinds(waag)]
        said, files = ours(waag, password_file)
        groups.append(said)
        if args.core:
            groups.append(newer(waag, args.core, files, password_file))
    for group in groups:
        print(f"ok: {group}")


if __name__ == "__main__":
    main()
