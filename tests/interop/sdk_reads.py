"""Reads a subnet with the public Python SDK (PyPI `bittensor` 10.5.0) and prints what it saw as one JSON document.

    python sdk_reads.py --url ws://127.0.0.1:9944 --netuid 1

Only reads: an independent witness of what a chain holds. Exit status 0 when everything could be read.
"""

import argparse
import contextlib
import json
import os
import sys

# The SDK reads the command line by itself unless it is told not to.
os.environ.setdefault("BT_NO_PARSE_CLI_ARGS", "1")


def read(url: str, netuid: int, mecid: int) -> dict:
    import bittensor

    with contextlib.closing(bittensor.Subtensor(network=url)) as subtensor:
        metagraph = subtensor.metagraph(netuid, mechid=mecid, lite=False)
        hyperparameters = subtensor.get_subnet_hyperparameters(netuid)
        weights = subtensor.weights(netuid, mechid=mecid)
        neurons = [
            {
                "uid": int(neuron.uid),
                "hotkey": neuron.hotkey,
                "coldkey": neuron.coldkey,
                "validator_permit": bool(neuron.validator_permit),
                "last_update": int(neuron.last_update),
                "stake_rao": int(neuron.total_stake.rao),
                "incentive": float(neuron.incentive),
                "axon": f"{neuron.axon_info.ip}:{neuron.axon_info.port}",
            }
            for neuron in metagraph.neurons
        ]
        return {
            "block": int(subtensor.block),
            "subnets": [int(subnet) for subnet in subtensor.get_all_subnets_netuid()],
            "netuid": int(metagraph.netuid),
            "metagraph_block": int(metagraph.block),
            "registration_blocks": [int(block) for block in getattr(metagraph, "block_at_registration", [])],
            "tempo": int(hyperparameters.tempo),
            "weights_rate_limit": int(hyperparameters.weights_rate_limit),
            "commit_reveal": bool(hyperparameters.commit_reveal_weights_enabled),
            "neurons": neurons,
            "weights": {int(uid): [[int(to), int(value)] for to, value in row] for uid, row in weights},
            "commitments": subtensor.get_all_commitments(netuid),
        }


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--url", required=True, help="ws://host:port of the chain")
    arguments.add_argument("--netuid", type=int, required=True)
    arguments.add_argument("--mecid", type=int, default=0)
    given = arguments.parse_args()
    # The SDK prints to stdout; stdout is the document alone.
    with contextlib.redirect_stdout(sys.stderr):
        document = read(given.url, given.netuid, given.mecid)
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
