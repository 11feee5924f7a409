#!/usr/bin/env python3
"""Checks the document of `waag demo --json`, and what another client read from the same chain.

    python tests/interop/demo_check.py DEMO.json [--sdk SDK_READS.json]

What every member of the cast deserves is written down here a second time, on purpose: the program's own list decides
its exit status, and this one does not know it. Of the document this reads (order and further fields do not matter):

    ok         true
    netuid     the subnet
    members    twelve of {name, uid, hotkey, commit_block, submission, status, fault, chain_refused, door_refused,
               results: {environment: {rate, low, high}}, points, weight_computed, weight_read_back, reason}
    weights    {validator_uid, computed: [[uid, weight]], read_back: [[uid, weight]], equal}
    evidence   {digest, file, verified}

With --sdk, the weights that the public Python SDK read (tests/interop/sdk_reads.py) are compared with the read-back.
Standard library only. Exit status 0 when everything is as it must be; every difference is a line on stderr.
"""

import argparse
import json
import pathlib
import sys

FULL = 65535
ENVIRONMENTS = {"CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"}
# What each member deserves: the status of its submission, the code of its fault, and what chain and door refused it.
DESERVES = {
    "specialist": ("ranked", None, None, None),
    "generalist": ("lost", None, None, None),
    "echo": ("rejected", "artifact_missing", None, "commitment_mismatch"),
    "mediocre": ("lost", None, None, None),
    "later": ("ranked", None, None, None),
    "parrot": ("rejected", "duplicate_bytes", None, None),
    "whisper": ("rejected", "near_copy", None, None),
    "broken": ("rejected", "onnx_malformed", None, None),
    "remote": ("rejected", "onnx_external_data", None, None),
    "giant": ("rejected", "upload_too_large", None, "upload_too_large"),
    "silent": ("rejected", "artifact_missing", None, None),
    "stranger": (None, None, "chain_commit_not_allowed", "hotkey_unregistered"),
}
PLAYED = ("ranked", "lost")

problems = []


def expect(condition, words):
    """Notes a difference."""
    if not condition:
        problems.append(words)


def row(vector):
    """A vector as uid → weight, without the zeros that pad it."""
    uids = [uid for uid, _ in vector]
    expect(len(set(uids)) == len(uids), f"a vector names a uid twice: {vector}")
    return {int(uid): int(weight) for uid, weight in vector if weight}


def code(fault):
    """The code of a fault, where there is one."""
    return fault["code"] if fault else None


def check_member(member, computed):
    """One member of the cast."""
    name, status, fault = member["name"], member["status"], member["fault"]
    found = (status, code(fault), code(member["chain_refused"]), code(member["door_refused"]))
    expect(found == DESERVES[name], f"{name}: {found}, deserved is {DESERVES[name]}")
    expect(fault is None or fault["class"] == "miner", f"{name}: {fault}")
    is_stranger = name == "stranger"
    for key in ("uid", "submission", "commit_block"):
        expect((member[key] is None) == is_stranger, f"{name}: {key} is {member[key]}")
    expect(status not in PLAYED or bool(member["reason"]), f"{name}: no reason in words")
    weight = computed.get(member["uid"], 0)
    for key in ("weight_computed", "weight_read_back"):
        expect(member[key] == weight, f"{name}: {key} is {member[key]}, the vector says {weight}")
    expect(status == "ranked" or weight == 0, f"{name}: {status} and paid {weight}")
    expect(status != "ranked" or (weight > 0 and member["points"] > 0), f"{name}: ranked and not paid")
    for environment, result in member["results"].items():
        fits = 0 <= result["low"] <= result["rate"] <= result["high"] <= 1
        expect(fits and environment in ENVIRONMENTS, f"{name}: {environment}: {result}")
    if name in ("generalist", "later", "mediocre"):
        expect(set(member["results"]) == ENVIRONMENTS, f"{name}: played {sorted(member['results'])}")


def check_demo(demo):
    """The document alone."""
    expect(demo["ok"] is True, "the demo does not say that it is in order")
    weights = demo["weights"]
    computed, read_back = row(weights["computed"]), row(weights["read_back"])
    expect(weights["equal"] is True and computed == read_back, f"computed {computed}, read back {read_back}")
    expect(bool(computed) and max(computed.values()) == FULL, f"the largest weight is not {FULL}: {computed}")
    expect(demo["evidence"]["verified"] is True, "the evidence does not give the weights again")
    names = sorted(member["name"] for member in demo["members"])
    expect(names == sorted(DESERVES), f"the cast is {names}")
    members = [member for member in demo["members"] if member["name"] in DESERVES]
    for member in members:
        check_member(member, computed)
    for key in ("hotkey", "uid"):
        values = [member[key] for member in members]
        expect(len(set(values)) == len(values), f"two members have one {key}")
    specialist, later = ({m["name"]: m for m in members}[name] for name in ("specialist", "later"))
    expect(specialist["commit_block"] <= later["commit_block"], "the later one came first")


def check_sdk(demo, seen):
    """What another client read from the same chain."""
    expect(seen["netuid"] == demo["netuid"], f"the SDK read subnet {seen['netuid']}")
    # JSON has no whole numbers as keys.
    theirs = row(seen["weights"].get(str(demo["weights"]["validator_uid"]), []))
    ours = row(demo["weights"]["read_back"])
    expect(theirs == ours, f"the SDK read the weights {theirs}, the demo {ours}")
    neurons = {neuron["uid"]: neuron["hotkey"] for neuron in seen["neurons"]}
    for member in demo["members"]:
        if member["uid"] is not None:
            found = neurons.get(member["uid"])
            expect(found == member["hotkey"], f"{member['name']}: uid {member['uid']} is {found} to the SDK")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=pathlib.Path)
    parser.add_argument("--sdk", type=pathlib.Path)
    arguments = parser.parse_args()
    demo = json.loads(arguments.demo.read_text())
    check_demo(demo)
    if arguments.sdk:
        check_sdk(demo, json.loads(arguments.sdk.read_text()))
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        members = len(demo["members"])
        print(f"{members} members as they deserve; read-back equals computed", end="")
        print("; the SDK read the same weights" if arguments.sdk else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
