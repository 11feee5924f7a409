"""Drives a devnet with the public command line `btcli` and says, check by check, what works.

    python check.py --waag target/debug/waag             starts a devnet of its own
    python check.py --url ws://127.0.0.1:9944 --json     uses one that runs; it must be a fresh one

`btcli` is the one beside this Python, of the package bittensor-cli; 9.23.2 is known. It makes its own wallets and signs
everything itself; the devnet's controls give funds and nothing else. One line per check; exit status 0 when all passed.
What it cannot do against a devnet stands in `refusals`, with the words in which it is told.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "sdk"))
from devnet import Devnet  # noqa: E402

NETUID = 1
RAO = 1_000_000_000
# TAO for each wallet: enough for a subnet.
FUNDS = 5000
# An account that nobody else uses.
NOBODY = "5FQzhS8MRMGNZfCxVJaWu4n4Q6jt53zv2hxYguM4Y5fVkcHZ"
# Long enough for a busy machine; each of these takes about two seconds.
RUN_S = 90
# A subnet's owner must say all this, or is asked for it.
IDENTITY = {
    "--github-repo": "https://github.com/owner/repository",
    "--subnet-contact": "owner@example.com",
    "--subnet-url": "https://example.com",
    "--discord-handle": "owner",
    "--description": "a subnet",
    "--logo-url": "https://example.com/logo.png",
    "--additional-info": "none",
}


class World:
    """What the checks share: the devnet, the program, and two wallets of its own making."""

    def __init__(self, devnet: Devnet, btcli: str, home: str):
        self.devnet = devnet
        self.btcli = btcli
        self.home = home
        self.wallets = os.path.join(home, "wallets")
        self.coldkeys: dict[str, str] = {}
        self.hotkeys: dict[str, str] = {}

    def text(self, *arguments: str, wallet: str | None = None, chain: bool = True) -> str:
        """What the program prints; it is asked nothing and decides nothing."""
        command = [self.btcli, *arguments]
        if chain:
            command += ["--network", self.devnet.url]
        if wallet is not None:
            command += ["--wallet-path", self.wallets, "--wallet-name", wallet]
        # A terminal wide enough that no word is broken.
        environment = {**os.environ, "HOME": self.home, "COLUMNS": "400", "NO_COLOR": "1"}
        ran = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_S
        )
        print(f"$ {' '.join(command)}\n{ran.stdout}{ran.stderr}", file=sys.stderr)
        return ran.stdout + ran.stderr

    def run(self, *arguments: str, **options):
        """The document that the program prints, without what it says around it."""
        said = self.text(*arguments, "--json-output", **options)
        begin = re.search(r"^[\[{]", said, re.MULTILINE)
        assert begin, f"no document: {said[-400:]}"
        # Long lines are broken where there was a space.
        return json.JSONDecoder(strict=False).raw_decode(said[begin.start() :].replace("\n", " "))[0]

    def act(self, *arguments: str, wallet: str, hotkey: bool = False):
        """As `run`, for what signs."""
        named = ("--hotkey", "default") if hotkey else ()
        return self.run(*arguments, *named, "--no-prompt", wallet=wallet)

    def free(self, wallet: str) -> float:
        """What a wallet has that is not staked, in TAO."""
        return self.run("wallet", "balance", wallet=wallet)["totals"]["free"]


def wallets(world: World):
    """It makes wallets and lists them."""
    for name in ("owner", "miner"):
        made = world.text(
            "wallet", "create", "--hotkey", "default", "--n-words", "12", "--no-use-password", wallet=name, chain=False
        )
        assert "mnemonic to the new coldkey" in made and "mnemonic to the new hotkey" in made, "no words are shown"
    for wallet in world.run("wallet", "list", "--wallet-path", world.wallets, chain=False)["wallets"]:
        world.coldkeys[wallet["name"]] = wallet["ss58_address"]
        world.hotkeys[wallet["name"]] = wallet["hotkeys"][0]["ss58_address"]
    assert sorted(world.coldkeys) == ["miner", "owner"], world.coldkeys


def balance(world: World):
    """It sees what an account has."""
    for coldkey in world.coldkeys.values():
        world.devnet.call("dev_fund", coldkey, FUNDS * RAO)
    assert world.free("owner") == FUNDS


def subnet_create(world: World):
    """A subnet is bought at its price, and started."""
    assert world.run("subnets", "burn-cost")["burn_cost"]["rao"] == 1000 * RAO
    said = [word for pair in IDENTITY.items() for word in pair]
    made = world.act("subnets", "create", "--subnet-name", "weigh", *said, "--no-mev-protection", wallet="owner", hotkey=True)
    assert made["success"] and made["netuid"] == NETUID, made
    said = world.text("subnets", "start", "--netuid", "1", "--hotkey", "default", "--no-prompt", wallet="owner")
    assert "Successfully started subnet 1" in said, said


def subnet_list(world: World):
    """It lists the subnets, their prices and what their owners say."""
    listed = world.run("subnets", "list")["subnets"]
    assert sorted(listed) == ["0", "1"] and listed["1"]["price"] == 1.0, listed
    assert world.run("subnets", "mechanisms", "count", "--netuid", "1")["count"] == 1
    assert world.run("subnets", "get-identity", "--netuid", "1")["subnet_name"] == "weigh"


def hyperparameters(world: World):
    """It shows the hyperparameters; their owner changes those that an owner may."""
    def shown() -> dict:
        return {row["hyperparameter"]: row["value"] for row in world.run("subnets", "hyperparameters", "--netuid", "1")}

    def set_one(name: str, value: int) -> dict:
        given = ("--netuid", "1", "--param", name, "--value", str(value))
        return world.act("sudo", "set", *given, wallet="owner")

    before = shown()
    assert len(before) >= 30 and None not in before.values(), before
    assert (before["max_validators"], before["commit_reveal_period"]) == (64, 1), before
    assert set_one("serving_rate_limit", 7)["success"]
    assert int(shown()["serving_rate_limit"]) == 7
    told = set_one("weights_rate_limit", 7)
    assert not told["success"] and "RequireSudo" in told["err_msg"], told


def register(world: World):
    """A hotkey registers once, at the price of the day."""
    made = world.act("subnets", "register", "--netuid", "1", wallet="miner", hotkey=True)
    assert made["success"] and "UID 1" in made["msg"], made
    assert 0 < FUNDS - world.free("miner") < 1
    said = world.text("subnets", "register", "--netuid", "1", "--hotkey", "default", "--no-prompt", wallet="miner")
    assert "Already Registered" in said, said


def metagraph(world: World):
    """It shows who is in the subnet."""
    shown = world.run("subnets", "metagraph", "--netuid", "1", "--no-prompt")
    assert [row["hotkey"] for row in shown["uids"]] == [world.hotkeys["owner"], world.hotkeys["miner"]], shown
    assert shown["owner"] == world.coldkeys["owner"], shown


def axon(world: World):
    """An axon is set, and shown with its neuron."""
    given = ("--netuid", "1", "--ip", "1.2.3.4", "--port", "8091", "--hotkey", "default", "--yes")
    assert "Axon set successfully to 1.2.3.4:8091" in world.text("axon", "set", *given, wallet="miner")
    neurons = world.run("wallet", "overview", wallet="miner")["subnets"][0]["neurons"]
    seen = [(neuron["uid"], neuron["hotkey_ss58"], neuron["axon"]) for neuron in neurons]
    assert seen == [(1, world.hotkeys["miner"], "1.2.3.4:8091")], neurons


def stake(world: World):
    """Stake is added, plainly and at a limit, listed, and taken back."""
    behind = ("--netuid", "1", "--hotkey-ss58-address", world.hotkeys["miner"], "--no-mev-protection")
    world.act("stake", "add", "--amount", "5", *behind, "--unsafe", wallet="miner")
    world.act("stake", "add", "--amount", "4", *behind, "--safe", "--tolerance", "0.05", wallet="miner")
    taken = world.act("stake", "remove", "--amount", "2", *behind, "--unsafe", wallet="miner")
    assert taken[0]["success"], taken
    listed = world.run("stake", "list", "--no-prompt", wallet="miner")["stake_info"]
    assert [row["value"] for row in listed[world.hotkeys["miner"]]] == [7], listed


def transfer(world: World):
    """Funds are sent."""
    sent = world.act("wallet", "transfer", "--destination", NOBODY, "--amount", "3", wallet="owner")
    assert sent["success"], sent
    seen = world.run("wallet", "balance", "--ss58", NOBODY)
    assert seen["totals"]["free"] == 3, seen


def owner(world: World):
    """The owner sets off an epoch once weights are no secret, and adds a proxy."""
    set_one = ("sudo", "set", "--netuid", "1", "--param", "commit_reveal_weights_enabled", "--value", "false")
    assert world.act(*set_one, wallet="owner")["success"]
    # Just before an epoch of its own the chain takes no order for one: it is told to try again after that.
    for _ in range(10):
        set_off = world.act("sudo", "trigger-epoch", "--netuid", "1", wallet="owner")
        if set_off["success"] or "AutoEpochAlreadyImminent" not in set_off["message"]:
            break
    assert set_off["success"], set_off
    added = ("--delegate", world.coldkeys["miner"], "--delay", "0", "--proxy-type", "Any")
    assert world.act("proxy", "add", *added, wallet="owner")["success"]


def refusals(world: World):
    """What there is not is refused by its name."""
    child = ("stake", "child", "set", "--netuid", "1", "--children", world.hotkeys["owner"], "--proportions", "0.5")
    said = world.text(*child, "--hotkey", "default", "--no-prompt", wallet="miner")
    assert "does not implement the call SubtensorModule.set_children" in said, said
    # It asks for an item that is not in the metadata of either runtime.
    commit = ("weights", "commit", "--netuid", "1", "--uids", "0,1", "--weights", "0.5,0.5", "--salt", "1,2,3")
    said = world.text(*commit, "--hotkey", "default", "--no-prompt", wallet="miner")
    assert 'Storage function "SubtensorModule.get_commit_reveal_weights_enabled" not found' in said, said


CHECKS = [
    wallets,
    balance,
    subnet_create,
    subnet_list,
    hyperparameters,
    register,
    metagraph,
    axon,
    stake,
    transfer,
    owner,
    refusals,
]


def run(world: World, words: list[str], say) -> list[dict]:
    """Runs the checks in order and reports each."""
    results = []
    for check in CHECKS:
        if words and not any(word in check.__name__ for word in words):
            continue
        began = time.monotonic()
        error = None
        try:
            check(world)
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        seconds = time.monotonic() - began
        name = check.__name__
        results.append({"check": name, "says": check.__doc__, "passed": error is None, "error": error, "seconds": seconds})
        say(f"{'ok  ' if error is None else 'FAIL'} {name} ({seconds:.1f} s){'' if error is None else ': ' + error}")
    return results


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = arguments.add_mutually_exclusive_group(required=True)
    where.add_argument("--waag", help="the waag binary to start a devnet with")
    where.add_argument("--url", help="ws://host:port of a devnet that runs")
    arguments.add_argument("--btcli", default=str(pathlib.Path(sys.executable).parent / "btcli"), help="the program")
    arguments.add_argument("--metadata", default="439", help="which runtime the devnet started here shows (default 439)")
    arguments.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    arguments.add_argument("words", nargs="*", help="only checks whose names contain one of these")
    given = arguments.parse_args()
    if given.waag:
        devnet = Devnet.start(given.waag, "--block-ms", "100", "--metadata", given.metadata)
    else:
        devnet = Devnet(given.url)
    say = (lambda line: None) if given.json else (lambda line: print(line, flush=True))
    try:
        with tempfile.TemporaryDirectory() as home:
            results = run(World(devnet, given.btcli, home), given.words, say)
    finally:
        devnet.stop()
    passed = sum(result["passed"] for result in results)
    if given.json:
        print(json.dumps({"passed": passed, "of": len(results), "checks": results}, indent=2))
    else:
        print(f"btcli: {passed} of {len(results)} checks passed")
    return 0 if results and passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
