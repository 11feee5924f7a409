"""The checks for `bittensor` 11.x, in the order in which they build on each other.

This SDK registers by an extrinsic that is encrypted for the block's author; the devnet has no such thing, so the plain
call is submitted instead. It has no intent for commitments either, here too the call itself is submitted.
"""

import hashlib
from types import SimpleNamespace

import bittensor
import bittensor.intents.weights
import bittensor_core
from bittensor import calls
from bittensor.keyfiles import Keypair

import known_round
from devnet import Devnet
from known_round import ROUND, SIGNATURE, TODAY

NETUID = 1
TEMPO = 30
RAO = 1_000_000_000
FULL = 65_535


class World:
    """What the checks share: the devnet, the SDK's client, and wallets of well-known keys."""

    def __init__(self, devnet: Devnet, _home: str):
        self.devnet = devnet
        self.client = bittensor.Subtensor(devnet.url)
        self.alice = self.wallet("//Alice", "//Alice")
        self.bob = self.wallet("//Bob", "//Bob//hotkey")
        self.charlie = self.wallet("//Charlie", "//Charlie//hotkey")
        self.dave = self.wallet("//Dave", "//Dave//hotkey")

    def wallet(self, coldkey: str, hotkey: str):
        cold = Keypair.create_from_uri(coldkey)
        return SimpleNamespace(coldkey=cold, coldkeypub=cold, hotkey=Keypair.create_from_uri(hotkey))

    def hyperparameter(self, name: str, value) -> None:
        self.devnet.call("dev_setHyperparameter", NETUID, name, value)

    def epochs(self) -> int:
        return int(self.client.query(bittensor.storage.SubtensorModule.SubnetEpochIndex, [NETUID]))

    def next_epoch(self) -> None:
        """Makes blocks until one epoch more has run."""
        before = self.epochs()
        while self.epochs() == before:
            self.devnet.blocks(1)

    def by_hotkey(self, call, wallet):
        """Submits a call that the hotkey signs."""
        return self.client.submit_call(call, wallet.hotkey)

    def by_coldkey(self, call, wallet):
        """Submits a call that the coldkey signs."""
        return self.client.submit_call(call, wallet.coldkey)

    def close(self) -> None:
        self.client.close()


def done(result):
    """The SDK says that what was asked for has happened."""
    assert result.success, f"{result.message} {result.error}"
    return result


def refused(act, *words: str) -> None:
    """The SDK says, by a result or an exception, that it has not happened, for this reason."""
    try:
        result = act()
    except bittensor.BittensorError as error:
        told = f"{error!r} {getattr(error, 'code', '')} {getattr(error, 'name', '')}"
    else:
        assert not result.success, "was accepted"
        told = f"{result.message} {result.error!r} {getattr(result.error, 'name', '')}"
    assert any(word.lower() in told.lower() for word in words), f"refused for another reason: {told}"


def commitment(text: bytes):
    return calls.Commitments.set_commitment(netuid=NETUID, info={"fields": [[{f"Raw{len(text)}": text}]]})


def connect(world: World):
    """The SDK connects, and blocks go on."""
    first = world.client.block
    world.devnet.until("a new block", lambda: world.client.block > first)
    assert world.client.spec_version in (439, 461)
    world.client.wait_for_block(world.client.block + 2, timeout=30)
    assert world.client.block_info(1) is not None


def balances(world: World):
    """Balances are what the chain's first block gave."""
    assert world.client.balances.get(world.alice.coldkey.ss58_address).rao == 1_000_000 * RAO
    assert world.client.balances.get(Keypair.create_from_uri("//Nobody").ss58_address).rao == 0
    assert world.client.balances.existential_deposit().rao == 500


def transfer(world: World):
    """A transfer arrives, and one that is not covered is refused."""
    to = Keypair.create_from_uri("//Nobody").ss58_address
    done(world.by_coldkey(calls.Balances.transfer_keep_alive(dest=to, value=10 * RAO), world.bob))
    assert world.client.balances.get(to).rao == 10 * RAO
    too_much = calls.Balances.transfer_keep_alive(dest=to, value=10**18)
    refused(lambda: world.by_coldkey(too_much, world.bob), "FundsUnavailable", "insufficient", "balance")


def subnet(world: World):
    """A subnet and its hyperparameters are there."""
    wanted = {
        "netuid": NETUID,
        "owner": world.alice.coldkey.ss58_address,
        "tempo": TEMPO,
        "weights_set_rate_limit": 0,
        "commit_reveal": False,
        "burn": RAO,
        "min_burn": RAO // 2,
    }
    world.devnet.call("dev_createSubnet", wanted)
    assert [info.netuid for info in world.client.subnets.all()] == [0, NETUID]
    hyperparameters = world.client.subnets.subnet_hyperparameters(NETUID)
    assert hyperparameters["tempo"] == TEMPO, hyperparameters
    assert hyperparameters["commit_reveal_weights_enabled"] is False, hyperparameters
    # An empty answer is taken without complaint.
    assert len(hyperparameters) >= 30 and None not in hyperparameters.values(), hyperparameters
    assert (hyperparameters["activity_cutoff_factor"], hyperparameters["max_validators"]) == (13_889, 128)
    assert world.client.subnets.commit_reveal_enabled(NETUID) is False


def burn_cost(world: World):
    """The prices of a subnet and of a place in one are there."""
    assert world.client.subnets.subnet_registration_cost().rao > 0
    assert RAO // 2 <= world.client.subnets.burn(NETUID).rao <= RAO


def burned_register(world: World):
    """Hotkeys register by the plain call and get the next uids."""
    for uid, wallet in ((1, world.charlie), (2, world.bob)):
        call = calls.SubtensorModule.burned_register(netuid=NETUID, hotkey=wallet.hotkey.ss58_address)
        done(world.by_coldkey(call, wallet))
        assert world.client.neurons.uid(wallet.hotkey.ss58_address, NETUID) == uid
    world.devnet.call("dev_setPermit", NETUID, world.bob.hotkey.ss58_address, True)
    again = calls.SubtensorModule.burned_register(netuid=NETUID, hotkey=world.bob.hotkey.ss58_address)
    refused(lambda: world.by_coldkey(again, world.bob), "HotKeyAlreadyRegisteredInSubNet", "already registered")


def metagraph(world: World):
    """The metagraph and the neurons show who is registered."""
    metagraph = world.client.subnets.metagraph(NETUID)
    hotkeys = [wallet.hotkey.ss58_address for wallet in (world.alice, world.charlie, world.bob)]
    assert [neuron.hotkey for neuron in metagraph.neurons] == hotkeys
    assert [neuron.hotkey for neuron in world.client.neurons.all(NETUID)] == hotkeys


def commitments(world: World):
    """A commitment is written and read back; a stranger's is refused."""
    done(world.by_hotkey(commitment(b"hf/model@1"), world.charlie))
    found = world.client.identity.commitment(NETUID, world.charlie.hotkey.ss58_address)
    assert "hf/model@1" in str(found), found
    listed = world.client.identity.commitments(NETUID)
    assert [row["uid"] for row in listed] == [1], listed
    refused(lambda: world.by_hotkey(commitment(b"x"), world.dave), "AccountNotAllowedCommit", "not allowed")


def commitment_space(world: World):
    """Too many commitments in one epoch are refused by their name, and the next epoch has room again."""
    world.next_epoch()
    world.hyperparameter("tempo", 10_000)
    for at in range(31):
        done(world.by_hotkey(commitment(f"number {at}".encode()), world.bob))
    refused(lambda: world.by_hotkey(commitment(b"one more"), world.bob), "SpaceLimitExceeded", "space")
    world.hyperparameter("tempo", TEMPO)
    world.next_epoch()
    done(world.by_hotkey(commitment(b"room again"), world.bob))


def set_weights(world: World):
    """Plain weights are set and read back as they were scaled."""
    intent = bittensor.SetWeights(netuid=NETUID, weights={0: 0.25, 1: 0.75})
    done(world.client.execute(intent, world.bob))
    row = world.client.weights.weights(NETUID)[2]
    assert abs(row[0] * 3 - row[1]) < 0.001, row
    world.next_epoch()


def set_weights_refusals(world: World):
    """Weights without a permit, of a stranger and too soon are refused, each for its reason."""
    intent = bittensor.SetWeights(netuid=NETUID, weights={0: 0.5, 2: 0.5})
    refused(lambda: world.client.execute(intent, world.charlie), "NeuronNoValidatorPermit", "permit")
    refused(lambda: world.client.execute(intent, world.dave), "not registered", "NOT_REGISTERED")
    world.hyperparameter("weights_set_rate_limit", 1000)
    refused(lambda: world.client.execute(intent, world.bob), "rate limit", "RATE_LIMITED")
    call = calls.SubtensorModule.set_mechanism_weights(netuid=NETUID, mecid=0, dests=[0, 1], weights=[1, 1], version_key=0)
    refused(lambda: world.by_hotkey(call, world.bob), "Custom error: 6", "rate")
    world.hyperparameter("weights_set_rate_limit", 0)


def commit_reveal_by_hash(world: World):
    """Weights are committed as a hash that was made here, and shown in the next epoch."""
    world.hyperparameter("commit_reveal_weights_enabled", True)
    list_of = lambda values: bytes([len(values) << 2]) + b"".join(value.to_bytes(2, "little") for value in values)
    shown = list_of([0, 1]) + list_of([FULL, FULL]) + list_of([7, 8, 9]) + (0).to_bytes(8, "little")
    content = bytes(world.bob.hotkey.public_key) + NETUID.to_bytes(2, "little") + shown
    digest = hashlib.blake2b(content, digest_size=32).hexdigest()
    done(world.by_hotkey(calls.SubtensorModule.commit_weights(netuid=NETUID, commit_hash="0x" + digest), world.bob))
    reveal = bittensor.RevealWeights(netuid=NETUID, uids=[0, 1], weights=[0.5, 0.5], salt=[7, 8, 9])
    refused(lambda: world.client.execute(reveal, world.bob), "Custom error: 17", "RevealTooEarly", "reveal")
    world.next_epoch()
    done(world.client.execute(reveal, world.bob))
    row = world.client.weights.weights(NETUID)[2]
    assert abs(row[0] - row[1]) < 1e-6, row


def reveal_commitment(world: World):
    """A timelocked commitment waits for its round and is opened by a real pulse."""
    ciphertext, _ = known_round.sealed(bittensor_core.encrypt_at_round, known_round.text("a sealed word"))
    field = {"TimelockEncrypted": {"encrypted": ciphertext, "reveal_round": ROUND}}
    info = {"fields": [[field]]}
    done(world.by_hotkey(calls.Commitments.set_commitment(netuid=NETUID, info=info), world.charlie))
    rows = world.client.identity.commitments(NETUID)
    assert [row["is_revealed"] for row in rows] == [False], rows
    world.devnet.call("dev_injectPulse", ROUND, SIGNATURE)
    world.devnet.blocks(1)
    revealed = world.client.identity.revealed_commitment(NETUID, world.charlie.hotkey.ss58_address)
    assert "a sealed word" in str(revealed), revealed


def set_weights_timelocked(world: World):
    """The SDK commits timelocked weights; what it seals to the known round is opened by a real pulse in its epoch."""
    world.hyperparameter("commit_reveal_weights_enabled", True)
    world.next_epoch()
    result = done(world.client.execute(bittensor.SetWeights(netuid=NETUID, weights={0: 0.1, 1: 0.9}), world.bob))
    assert result.data["reveal_round"] > TODAY, result.data
    commits = world.client.weights.timelocked_weight_commits(NETUID)
    assert sum(len(rows) for rows in commits.values()) == 1, commits

    def to_known_round(**given):
        plaintext = known_round.weights(given["hotkey"], given["uids"], given["weights"], given["version_key"])
        return known_round.sealed(bittensor_core.encrypt_at_round, plaintext)

    room = bittensor.intents.weights
    room._core = SimpleNamespace(get_encrypted_commit_v2=to_known_round)
    try:
        done(world.client.execute(bittensor.SetWeights(netuid=NETUID, weights={0: 1.0, 1: 0.5}), world.bob))
    finally:
        room._core = bittensor_core
    world.next_epoch()
    world.devnet.blocks(1)
    row = world.client.weights.weights(NETUID)[2]
    assert abs(row[0] / row[1] - 2) < 0.001, row
    # The one for a round that never comes waits for its epoch and is then forgotten.
    world.next_epoch()
    assert not world.client.weights.timelocked_weight_commits(NETUID)
    world.hyperparameter("commit_reveal_weights_enabled", False)


def serve_axon(world: World):
    """An axon is served and read back; a second one too soon is refused."""
    intent = bittensor.ServeAxon(netuid=NETUID, ip="1.2.3.4", port=8091)
    done(world.client.execute(intent, world.charlie))
    served = world.client.query(bittensor.storage.SubtensorModule.Axons, [NETUID, world.charlie.hotkey.ss58_address])
    assert served["port"] == 8091, served
    refused(lambda: world.client.execute(intent, world.charlie), "Custom error: 12", "ServingRateLimitExceeded", "rate")


def stake(world: World):
    """Stake is added and taken back."""
    hotkey = world.bob.hotkey.ss58_address
    done(world.by_coldkey(calls.SubtensorModule.add_stake(hotkey=hotkey, netuid=NETUID, amount_staked=5 * RAO), world.dave))
    call = calls.SubtensorModule.remove_stake(hotkey=hotkey, netuid=NETUID, amount_unstaked=5 * RAO)
    done(world.by_coldkey(call, world.dave))
    refused(lambda: world.by_coldkey(call, world.dave), "NotEnoughStakeToWithdraw", "stake")


def proxies(world: World):
    """A proxy acts for another account, as far as its kind goes."""
    done(world.by_coldkey(calls.Proxy.add_proxy(delegate=world.dave.coldkey.ss58_address, proxy_type="Any", delay=0), world.bob))
    to = Keypair.create_from_uri("//Somebody").ss58_address
    inner = world.client.compose(calls.Balances.transfer_keep_alive(dest=to, value=RAO))
    call = calls.Proxy.proxy(real=world.bob.coldkey.ss58_address, force_proxy_type=None, call=inner)
    done(world.by_coldkey(call, world.dave))
    assert world.client.balances.get(to).rao == RAO


CHECKS = [
    connect,
    balances,
    transfer,
    subnet,
    burn_cost,
    burned_register,
    metagraph,
    reveal_commitment,
    commitments,
    commitment_space,
    set_weights,
    set_weights_refusals,
    commit_reveal_by_hash,
    set_weights_timelocked,
    serve_axon,
    stake,
    proxies,
]
