"""The checks for `bittensor` 10.x, in the order in which they build on each other."""

import importlib

import bittensor
import bittensor_drand
from bittensor.core.extrinsics.pallets import Balances, SubtensorModule
from bittensor_wallet import Keypair, Wallet

import known_round
from devnet import Devnet
from known_round import ROUND, SIGNATURE, TODAY

NETUID = 1
TEMPO = 30
RAO = 1_000_000_000
FULL = 65_535
# What is opened is kept with its length in front. This SDK takes such bytes for text when they happen to be UTF-8, and
# then fails; a length of 32 to 63 makes a first byte that no text begins with, on any chain.
SEALED = "a sealed word, long enough to read"

# What the chain's newest answer about hyperparameters has no more; the SDK still has fields for them.
GONE = {"rho", "min_difficulty", "max_difficulty", "adjustment_interval", "adjustment_alpha", "difficulty"}


class World:
    """What the checks share: the devnet, the SDK's client, and wallets of well-known keys."""

    def __init__(self, devnet: Devnet, home: str):
        self.devnet = devnet
        self.home = home
        self.subtensor = bittensor.Subtensor(network=devnet.url)
        self.alice = self.wallet("//Alice", "//Alice")
        # Validates in the subnet; its coldkey owns nothing there.
        self.bob = self.wallet("//Bob", "//Bob//hotkey")
        # Registers by itself, and mines.
        self.charlie = self.wallet("//Charlie", "//Charlie//hotkey")
        # Is never registered.
        self.dave = self.wallet("//Dave", "//Dave//hotkey")

    def wallet(self, coldkey: str, hotkey: str) -> Wallet:
        wallet = Wallet(name=coldkey.strip("/"), hotkey=hotkey.replace("/", ""), path=self.home)
        wallet.set_coldkey(Keypair.create_from_uri(coldkey), encrypt=False, overwrite=True)
        wallet.set_coldkeypub(Keypair.create_from_uri(coldkey), overwrite=True)
        wallet.set_hotkey(Keypair.create_from_uri(hotkey), encrypt=False, overwrite=True)
        return wallet

    def hyperparameter(self, name: str, value, netuid: int = NETUID) -> None:
        self.devnet.call("dev_setHyperparameter", netuid, name, value)

    def next_epoch(self) -> None:
        """Makes blocks until one epoch more has run."""
        before = self.subtensor.get_subnet_epoch_index(NETUID)
        while self.subtensor.get_subnet_epoch_index(NETUID) == before:
            self.devnet.blocks(1)

    def row(self, uid: int) -> dict:
        return {int(to): int(value) for of, row in self.subtensor.weights(NETUID) if of == uid for to, value in row}

    def uid(self, wallet: Wallet) -> int:
        return self.subtensor.get_uid_for_hotkey_on_subnet(wallet.hotkey.ss58_address, NETUID)

    def close(self) -> None:
        self.subtensor.close()


def done(response):
    """The SDK says that what was asked for has happened."""
    assert response.success, f"{response.message} {response.error}"
    return response


def refused(response, *words: str) -> None:
    """The SDK says that it has not happened, for this reason."""
    assert not response.success, "was accepted"
    told = f"{response.message} {response.error}"
    assert any(word in told for word in words), f"refused for another reason: {told}"


def to_known_round(module: str, name: str):
    """Replaces an SDK's sealing function by one that seals to the known round; gives the way back."""
    target = importlib.import_module(module)
    original = getattr(target, name)

    def commitment(data, _blocks, _block_time):
        return known_round.sealed(bittensor_drand.encrypt_at_round, known_round.text(data))

    def weights(**given):
        plaintext = known_round.weights(given["hotkey"], given["uids"], given["weights"], given["version_key"])
        return known_round.sealed(bittensor_drand.encrypt_at_round, plaintext)

    setattr(target, name, commitment if name == "get_encrypted_commitment" else weights)
    return lambda: setattr(target, name, original)


def connect(world: World):
    """The SDK connects, and blocks go on."""
    first = world.subtensor.block
    world.devnet.until("a new block", lambda: world.subtensor.block > first)
    head = world.subtensor.block
    assert world.subtensor.get_block_hash(head).startswith("0x")
    assert world.subtensor.get_block_hash(0) == world.devnet.call("chain_getBlockHash", 0)
    world.subtensor.wait_for_block(head + 2)
    assert world.subtensor.get_timestamp().year >= 2023


def balances(world: World):
    """Balances are what the chain's first block gave."""
    assert world.subtensor.get_balance(world.alice.coldkeypub.ss58_address).rao == 1_000_000 * RAO
    assert world.subtensor.get_balance(Keypair.create_from_uri("//Nobody").ss58_address).rao == 0
    assert world.subtensor.get_existential_deposit().rao == 500
    assert world.subtensor.last_drand_round() >= 1


def transfer(world: World):
    """A transfer arrives, costs the fee that was foretold, and one that is not covered is refused."""
    to = Keypair.create_from_uri("//Nobody").ss58_address
    amount = bittensor.Balance.from_tao(10)
    foretold = world.subtensor.get_transfer_fee(world.alice, to, amount)
    before = world.subtensor.get_balance(world.bob.coldkeypub.ss58_address).rao
    done(world.subtensor.transfer(world.bob, to, amount))
    assert world.subtensor.get_balance(to).rao == 10 * RAO
    paid = before - world.subtensor.get_balance(world.bob.coldkeypub.ss58_address).rao - 10 * RAO
    assert abs(paid - foretold.rao) < 10_000, f"foretold {foretold.rao}, paid {paid}"
    refused(world.subtensor.transfer(world.bob, to, bittensor.Balance.from_tao(10_000_000)), "alance")


def subnet(world: World):
    """A subnet and its hyperparameters are there."""
    wanted = {
        "netuid": NETUID,
        "owner": world.alice.coldkeypub.ss58_address,
        "tempo": TEMPO,
        "weights_set_rate_limit": 0,
        "commit_reveal": False,
        "burn": RAO,
        "min_burn": RAO // 2,
    }
    world.devnet.call("dev_createSubnet", wanted)
    assert world.subtensor.subnet_exists(NETUID) and not world.subtensor.subnet_exists(77)
    assert list(world.subtensor.get_all_subnets_netuid()) == [0, NETUID]
    hyperparameters = world.subtensor.get_subnet_hyperparameters(NETUID)
    # An empty answer is taken without complaint, and every field is then none.
    missing = {name for name, value in vars(hyperparameters).items() if value is None}
    assert missing == GONE, f"hyperparameters without a value: {missing}"
    assert (hyperparameters.min_burn, hyperparameters.immunity_period) == (RAO // 2, 4096), hyperparameters
    assert (hyperparameters.tempo, hyperparameters.weights_rate_limit) == (TEMPO, 0)
    assert hyperparameters.commit_reveal_weights_enabled is False
    assert world.subtensor.tempo(NETUID) == TEMPO
    assert world.subtensor.get_mechanism_count(NETUID) == 1
    assert [info.netuid for info in world.subtensor.get_all_subnets_info()] == [0, NETUID]
    assert world.subtensor.get_subnet_owner_hotkey(NETUID) == world.alice.coldkeypub.ss58_address
    assert world.subtensor.get_next_epoch_start_block(NETUID) > world.subtensor.block


def burn_cost(world: World):
    """The prices of a subnet and of a place in one are there."""
    assert world.subtensor.get_subnet_burn_cost().rao > 0
    assert RAO // 2 <= world.subtensor.recycle(NETUID).rao <= RAO


def burned_register(world: World):
    """A hotkey registers, pays, gets a uid, and makes the next place dearer."""
    before = world.subtensor.get_balance(world.charlie.coldkeypub.ss58_address).rao
    price = world.subtensor.recycle(NETUID).rao
    done(world.subtensor.burned_register(world.charlie, NETUID))
    assert world.uid(world.charlie) == 1
    assert world.subtensor.is_hotkey_registered(world.charlie.hotkey.ss58_address, NETUID)
    paid = before - world.subtensor.get_balance(world.charlie.coldkeypub.ss58_address).rao
    assert price * 0.9 < paid < price * 1.1, f"price {price}, paid {paid}"
    assert world.subtensor.recycle(NETUID).rao > price
    done(world.subtensor.burned_register(world.bob, NETUID))
    # The SDK says that all is well without sending anything; the chain is asked for the call alone.
    call = SubtensorModule(world.subtensor).burned_register(netuid=NETUID, hotkey=world.bob.hotkey.ss58_address)
    refused(world.subtensor.sign_and_send_extrinsic(call, world.bob), "HotKeyAlreadyRegisteredInSubNet")
    world.devnet.call("dev_setPermit", NETUID, world.bob.hotkey.ss58_address, True)


def metagraph(world: World):
    """The metagraph shows who is registered, both in full and in short."""
    for lite in (True, False):
        metagraph = world.subtensor.metagraph(NETUID, lite=lite)
        hotkeys = [wallet.hotkey.ss58_address for wallet in (world.alice, world.charlie, world.bob)]
        assert list(metagraph.hotkeys) == hotkeys and int(metagraph.n) == 3
        assert [bool(permit) for permit in metagraph.validator_permit] == [False, False, True]
        assert int(metagraph.tempo) == TEMPO
    neuron = world.subtensor.neuron_for_uid(2, NETUID)
    assert neuron.coldkey == world.bob.coldkeypub.ss58_address and neuron.stake.tao == 1000
    assert len(world.subtensor.get_metagraph_info(NETUID).hotkeys) == 3


def commitments(world: World):
    """A commitment is written and read back, alone and with all others."""
    done(world.subtensor.set_commitment(world.charlie, NETUID, "hf/model@1"))
    done(world.subtensor.set_commitment(world.bob, NETUID, "x" * 128))
    assert world.subtensor.get_commitment(NETUID, 1) == "hf/model@1"
    expected = {world.charlie.hotkey.ss58_address: "hf/model@1", world.bob.hotkey.ss58_address: "x" * 128}
    assert world.subtensor.get_all_commitments(NETUID) == expected
    done(world.subtensor.set_commitment(world.charlie, NETUID, "hf/model@2"))
    assert world.subtensor.get_commitment(NETUID, 1) == "hf/model@2"


def commitment_space(world: World):
    """Too many commitments in one epoch are refused by their name, and so is a stranger's."""
    world.next_epoch()
    world.hyperparameter("tempo", 10_000)
    for at in range(31):
        done(world.subtensor.set_commitment(world.charlie, NETUID, f"number {at}", wait_for_finalization=False))
    refused(world.subtensor.set_commitment(world.charlie, NETUID, "one more"), "SpaceLimitExceeded")
    refused(world.subtensor.set_commitment(world.dave, NETUID, "a stranger"), "AccountNotAllowedCommit")
    world.hyperparameter("tempo", TEMPO)
    world.next_epoch()


def reveal_commitment(world: World):
    """A timelocked commitment waits for its round and is opened by a real pulse."""
    response = done(world.subtensor.set_reveal_commitment(world.bob, NETUID, "much later", blocks_until_reveal=100))
    assert response.data["reveal_round"] > TODAY
    undo = to_known_round("bittensor.core.subtensor", "get_encrypted_commitment")
    try:
        response = done(world.subtensor.set_reveal_commitment(world.charlie, NETUID, SEALED))
    finally:
        undo()
    assert response.data["reveal_round"] == ROUND
    # The devnet's own beacon must not have come to this round by itself, or the test shows nothing.
    assert world.subtensor.last_drand_round() < ROUND
    assert world.subtensor.get_all_revealed_commitments(NETUID) == {}
    wrong = "00" * 48
    try:
        world.devnet.call("dev_injectPulse", ROUND, wrong)
        raise AssertionError("a false pulse was taken")
    except RuntimeError as error:
        assert "quicknet" in str(error)
    world.devnet.call("dev_injectPulse", ROUND, SIGNATURE)
    world.devnet.blocks(1)
    revealed = world.subtensor.get_all_revealed_commitments(NETUID)
    assert list(revealed) == [world.charlie.hotkey.ss58_address], revealed
    assert revealed[world.charlie.hotkey.ss58_address][0][1] == SEALED
    assert world.subtensor.get_revealed_commitment(NETUID, 1)[0][1] == SEALED


def set_weights(world: World):
    """Plain weights are set and read back as they were scaled."""
    done(world.subtensor.set_weights(world.bob, NETUID, [0, 1], [0.25, 0.75]))
    assert world.row(2) == {0: round(FULL / 3), 1: FULL}
    world.next_epoch()
    metagraph = world.subtensor.metagraph(NETUID)
    assert abs(float(metagraph.I[1]) - 0.75) < 0.01, metagraph.I


def set_weights_refusals(world: World):
    """Weights too soon, without a permit and of a stranger are refused, each for its reason."""
    refused(world.subtensor.set_weights(world.charlie, NETUID, [0, 2], [0.5, 0.5]), "NeuronNoValidatorPermit")
    refused(world.subtensor.set_weights(world.dave, NETUID, [0], [1.0]), "not registered")
    world.hyperparameter("weights_set_rate_limit", 1000)
    # The SDK itself does not even try: it must be asked for the call alone.
    response = world.subtensor.set_weights(world.bob, NETUID, [0, 1], [0.5, 0.5])
    assert not response.success
    from bittensor.core.extrinsics.weights import set_weights_extrinsic

    response = set_weights_extrinsic(world.subtensor, world.bob, NETUID, 0, [0, 1], [0.5, 0.5], version_key=0)
    refused(response, "Custom error: 6", "RateLimit", "too fast", "rate limit")
    world.hyperparameter("weights_set_rate_limit", 0)


def commit_reveal_by_hash(world: World):
    """Weights are committed as a hash, and shown in the next epoch."""
    world.hyperparameter("commit_reveal_weights_enabled", True)
    # The SDK hashes them as they are, and scales them only when it reveals.
    given = {"netuid": NETUID, "uids": [0, 1], "weights": [FULL, FULL], "salt": [7, 8, 9]}
    done(world.subtensor.commit_weights(world.bob, **given, wait_for_inclusion=True, wait_for_finalization=True))
    early = {**given, "wait_for_inclusion": True, "max_attempts": 1, "raise_error": False}
    refused(world.subtensor.reveal_weights(world.bob, **early), "Custom error: 17", "RevealTooEarly")
    world.next_epoch()
    done(world.subtensor.reveal_weights(world.bob, **given, wait_for_inclusion=True, wait_for_finalization=True))
    assert world.row(2) == {0: FULL, 1: FULL}


def set_weights_timelocked(world: World):
    """The SDK commits timelocked weights; what it seals to the known round is opened by a real pulse in its epoch."""
    world.hyperparameter("commit_reveal_weights_enabled", True)
    world.next_epoch()
    done(world.subtensor.set_weights(world.bob, NETUID, [0, 1], [0.1, 0.9]))
    commits = world.subtensor.get_timelocked_weight_commits(NETUID)
    assert len(commits) == 1 and commits[0][0] == world.bob.hotkey.ss58_address, commits
    assert commits[0][3] > TODAY, commits
    assert world.subtensor.last_drand_round() < ROUND, "the devnet's own beacon has passed the known round"
    undo = to_known_round("bittensor.core.extrinsics.weights", "get_encrypted_commit_v2")
    try:
        done(world.subtensor.set_weights(world.bob, NETUID, [0, 1], [1.0, 0.5]))
    finally:
        undo()
    world.devnet.call("dev_injectPulse", ROUND, SIGNATURE)
    before = world.row(2)
    world.next_epoch()
    world.devnet.blocks(1)
    assert world.row(2) == {0: FULL, 1: FULL // 2 + 1}, (before, world.row(2))
    # The one for a round that never comes waits for its epoch and is then forgotten.
    world.next_epoch()
    assert world.subtensor.get_timelocked_weight_commits(NETUID) == []
    world.hyperparameter("commit_reveal_weights_enabled", False)


def serve_axon(world: World):
    """An axon is served and read back; a second one too soon is refused."""
    axon = bittensor.Axon(wallet=world.charlie, ip="1.2.3.4", port=8091, external_ip="1.2.3.4", external_port=8091)
    done(world.subtensor.serve_axon(NETUID, axon))
    served = world.subtensor.metagraph(NETUID).axons[1]
    assert (served.ip, served.port) == ("1.2.3.4", 8091), served
    other = bittensor.Axon(wallet=world.charlie, ip="1.2.3.4", port=8092, external_ip="1.2.3.4", external_port=8092)
    refused(world.subtensor.serve_axon(NETUID, other), "Custom error: 12", "ServingRateLimitExceeded", "rate limit")


def mechanisms(world: World):
    """A subnet with two mechanisms keeps a row of weights for each."""
    world.hyperparameter("mechanism_count", 2)
    done(world.subtensor.set_weights(world.bob, NETUID, [0], [1.0], mechid=1))
    assert [int(uid) for uid, row in world.subtensor.weights(NETUID, mechid=1) if row] == [2]
    world.hyperparameter("mechanism_count", 1)


def failed_calls(world: World):
    """A call that fails within a block costs its fee and is undone."""
    before = world.subtensor.get_balance(world.dave.coldkeypub.ss58_address).rao
    call = Balances(world.subtensor).transfer_keep_alive(dest=world.alice.coldkeypub.ss58_address, value=before)
    response = world.subtensor.sign_and_send_extrinsic(call, world.dave, wait_for_finalization=True)
    assert not response.success
    after = world.subtensor.get_balance(world.dave.coldkeypub.ss58_address).rao
    assert 0 <= before - after < RAO, (before, after)


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
    mechanisms,
    failed_calls,
]
