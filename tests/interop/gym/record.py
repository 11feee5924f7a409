#!/usr/bin/env python3
"""Records golden trajectories of gymnasium's classic control environments.

Writes testdata/gym/<environment>.json: for each environment the observations after `reset(seed=k)` for many seeds,
and a few full episodes played by scripted policies (part controller, part pseudo-random, so that the episodes are
long and visit much of the state space). Floats are little-endian bytes in hex, so nothing is lost in printing.

    python tests/interop/gym/record.py testdata/gym
"""

import json
import math
import pathlib
import platform
import sys

import gymnasium
import numpy as np

# Edges of the seed encoding (one word, two words) besides ordinary seeds.
RESET_SEEDS = list(range(40)) + [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**63 - 1, 2**64 - 1]


def pseudo_random(state):
    """A linear congruential generator: the same numbers in every version of every library."""
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield (state >> 40) / 2**24


def cart_pole(obs, noise):
    if noise < 0.1:
        return int(noise < 0.05)
    return int(0.1 * obs[0] + 0.3 * obs[1] + 3 * obs[2] + obs[3] > 0)


def acrobot(obs, noise):
    if noise < 0.3:
        return int(noise * 10)
    return 2 if obs[4] < 0 else 0


def mountain_car(obs, noise):
    if noise < 0.15:
        return int(noise * 20)
    return 2 if obs[1] >= 0 else 0


def mountain_car_continuous(obs, noise):
    push = 1.0 if obs[1] >= 0 else -1.0
    return np.array([push * (0.2 + 1.6 * noise)], dtype=np.float32)


def pendulum(obs, noise):
    cosine, sine, speed = (float(value) for value in obs)
    if cosine > 0.7:
        torque = -(12 * sine + 3 * speed)
    else:
        torque = 2.0 * math.copysign(1.0, speed) if noise > 0.2 else 5 * (noise * 10 - 1)
    return np.array([torque + noise - 0.5], dtype=np.float32)


def anything(space):
    """A policy that looks at nothing."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return lambda _obs, noise: int(noise * space.n)
    return lambda _obs, noise: np.array([6 * noise - 3], dtype=np.float32)


ENVIRONMENTS = {
    "CartPole-v1": cart_pole,
    "Acrobot-v1": acrobot,
    "MountainCar-v0": mountain_car,
    "MountainCarContinuous-v0": mountain_car_continuous,
    "Pendulum-v1": pendulum,
}


def total(rewards):
    """Adds in order: `sum` compensates rounding errors from Python 3.12 on."""
    result = 0.0
    for reward in rewards:
        result += reward
    return result


def episode(env, seed, policy):
    """Plays one episode and returns it in the form of the golden file."""
    noise = pseudo_random(seed + 1)
    obs, _info = env.reset(seed=seed)
    observations, actions, rewards = [obs.tobytes()], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = policy(obs, next(noise))
        obs, reward, terminated, truncated, _info = env.step(action)
        assert obs.dtype == np.float32
        observations.append(obs.tobytes())
        rewards.append(np.float64(reward).tobytes())
        actions.append(action if isinstance(action, int) else action.tobytes().hex())
    return {
        "seed": seed,
        "actions": "".join(map(str, actions)),
        "observations": b"".join(observations).hex(),
        "rewards": b"".join(rewards).hex() if len(set(rewards)) > 2 else None,
        "return": total(np.frombuffer(b"".join(rewards), dtype=np.float64).tolist()),
        "length": len(rewards),
        "terminated": bool(terminated),
        "truncated": bool(truncated),
    }


def record(name, policy):
    env = gymnasium.make(name)
    resets = {str(seed): env.reset(seed=seed)[0].tobytes().hex() for seed in RESET_SEEDS}
    plays = [(seed, policy) for seed in (3, 1009, 2**31 - 1)] + [(7, anything(env.action_space))]
    return {
        "environment": name,
        "provenance": {
            "script": "tests/interop/gym/record.py",
            "gymnasium": gymnasium.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "libc": " ".join(platform.libc_ver()),
            "machine": platform.machine(),
            "licence": "trajectories computed by gymnasium (MIT); no source code is copied",
        },
        "resets": resets,
        "episodes": [episode(env, seed, play) for seed, play in plays],
    }


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "testdata/gym")
    for name, policy in ENVIRONMENTS.items():
        golden = record(name, policy)
        (folder / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")
        lengths = [(play["length"], play["terminated"], round(play["return"], 2)) for play in golden["episodes"]]
        print(name, lengths, file=sys.stderr)


if __name__ == "__main__":
    main()
