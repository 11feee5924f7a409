"""A round of the real beacon whose signature was published long ago: nobody can sign any other for a test.

The SDKs seal with their own libraries and for the real beacon's key; only which round they seal to is chosen here.
"""

ROUND = 1000
SIGNATURE = "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"
# Rounds of today have numbers above this.
TODAY = 30_000_000


def compact(number: int) -> bytes:
    """A length as SCALE writes it."""
    return bytes([number << 2]) if number < 64 else (number << 2 | 1).to_bytes(2, "little")


def text(words: str) -> bytes:
    """The plaintext of a commitment."""
    return compact(len(words.encode())) + words.encode()


def weights(hotkey: bytes, uids, values, version_key: int) -> bytes:
    """The plaintext of weights."""
    numbers = lambda items: compact(len(items)) + b"".join(int(item).to_bytes(2, "little") for item in items)
    return compact(len(hotkey)) + bytes(hotkey) + numbers(uids) + numbers(values) + version_key.to_bytes(8, "little")


def sealed(encrypt_at_round, plaintext: bytes) -> tuple[bytes, int]:
    """What an SDK's library seals to the known round, without the wrapper of its general helper.

    The wrapper is a compact length in front and the round behind; neither belongs on chain.
    """
    wrapped, round_number = encrypt_at_round(plaintext, ROUND)
    assert round_number == ROUND and wrapped[-8:] == ROUND.to_bytes(8, "little")
    prefix = {0: 1, 1: 2, 2: 4}[wrapped[0] & 3]
    return wrapped[prefix:-8], ROUND
