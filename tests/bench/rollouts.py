#!/usr/bin/env python3
"""Steps per second, inference included, of `waag bench rollouts` and of its rivals, on one core, in the same run.

Two kinds of rival, all with the same 64x64 tanh policy:

1. What a validator would write: gymnasium with `reset(seed=k)` for each episode, the policy in onnxruntime; one
   environment at a time, and `SyncVectorEnv`. Required: 20 times as fast.
2. The strongest vectorised forms, which give up a seed for each episode: gymnasium's own `CartPoleVectorEnv` with 512
   environments and onnxruntime, and environments and policy written in numpy at 512. Required: as fast; goal: 1.5.

Everything is measured several times in turn, and each keeps its fastest, so that a disturbance hits all alike.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import gymnasium
import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "interop" / "gym"))
import make_policies  # noqa: E402

ENVIRONMENTS = ["CartPole-v1", "Pendulum-v1"]
WIDE = 512
SYNC = 64


def write_policies(folder):
    """The two policies: a controller in one hidden unit, small noise in the others."""
    shapes = {"CartPole-v1": ([0.1, 0.3, 3, 1], [-3, 3]), "Pendulum-v1": ([0, -2, -0.5], [2])}
    for name, (controller, rows) in shapes.items():
        graph = make_policies.Graph(8)
        first = make_policies.first(graph, controller, 1)
        x = graph.node("Tanh", graph.gemm("observation", first, graph.noise(make_policies.WIDTH)))
        x = graph.node("Tanh", graph.gemm(x, make_policies.hidden(graph), graph.noise(make_policies.WIDTH)))
        graph.gemm(x, make_policies.head(graph, rows), np.zeros(len(rows)))
        graph.save(folder / f"{name}.onnx", len(controller), len(rows))


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def is_discrete(name):
    return name == "CartPole-v1"


def for_seconds(seconds, play):
    """Calls `play` (which returns how many steps it played) until the time is over; steps per second."""
    start, steps = time.perf_counter(), 0
    while True:
        steps += play()
        elapsed = time.perf_counter() - start
        if elapsed > seconds:
            return steps / elapsed


def single(name, path, seconds):
    """gymnasium, one environment, a seed for each episode, onnxruntime."""
    env, runtime, seeds = gymnasium.make(name), session(path), iter(range(10**9))

    def episode():
        observation, _info = env.reset(seed=next(seeds))
        steps, done = 0, False
        while not done:
            answer = runtime.run(None, {"observation": observation[None]})[0][0]
            action = int(answer.argmax()) if is_discrete(name) else answer
            observation, _reward, terminated, truncated, _info = env.step(action)
            done = terminated or truncated
            steps += 1
        return steps

    return for_seconds(seconds, episode)


def sync_vector(name, path, seconds):
    """gymnasium's SyncVectorEnv, a seed for each episode, onnxruntime on the whole batch."""
    mode = gymnasium.vector.AutoresetMode.DISABLED
    env = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(name)] * SYNC, autoreset_mode=mode)
    runtime, seeds = session(path), iter(range(10**9))
    observations, _info = env.reset(seed=[next(seeds) for _ in range(SYNC)])
    state = {"observations": observations}

    def steps():
        answer = runtime.run(None, {"observation": state["observations"]})[0]
        actions = answer.argmax(axis=1) if is_discrete(name) else answer
        observations, _rewards, terminated, truncated, _info = env.step(actions)
        done = terminated | truncated
        if done.any():
            fresh = [next(seeds) if ended else None for ended in done]
            observations, _info = env.reset(seed=fresh, options={"reset_mask": done})
        state["observations"] = observations
        return SYNC

    return for_seconds(seconds, steps)


def cart_pole_vector(_name, path, seconds):
    """gymnasium's own vectorised CartPole at 512, onnxruntime on the whole batch; no seed for an episode."""
    env = gymnasium.make_vec("CartPole-v1", num_envs=WIDE, vectorization_mode="vector_entry_point")
    runtime = session(path)
    observations, _info = env.reset(seed=1)
    state = {"observations": observations}

    def steps():
        answer = runtime.run(None, {"observation": state["observations"]})[0]
        state["observations"] = env.step(answer.argmax(axis=1))[0]
        return WIDE

    return for_seconds(seconds, steps)


class NumpyCartPole:
    def __init__(self, random):
        self.random, self.steps = random, np.zeros(WIDE, np.int32)
        self.state = random.uniform(-0.05, 0.05, (4, WIDE))

    def step(self, answer):
        x, x_dot, theta, theta_dot = self.state
        force = np.where(answer.argmax(axis=1) == 1, 10.0, -10.0)
        cosine, sine = np.cos(theta), np.sin(theta)
        pull = (force + 0.05 * theta_dot * theta_dot * sine) / 1.1
        spin = (9.8 * sine - cosine * pull) / (0.5 * (4.0 / 3.0 - 0.1 * cosine * cosine / 1.1))
        push = pull - 0.05 * spin * cosine / 1.1
        self.state = np.stack(
            (x + 0.02 * x_dot, x_dot + 0.02 * push, theta + 0.02 * theta_dot, theta_dot + 0.02 * spin)
        )
        self.steps += 1
        done = (np.abs(self.state[0]) > 2.4) | (np.abs(self.state[2]) > 0.20943951) | (self.steps >= 500)
        if done.any():
            self.state[:, done] = self.random.uniform(-0.05, 0.05, (4, done.sum()))
            self.steps[done] = 0

    def observe(self):
        return self.state.T.astype(np.float32)


class NumpyPendulum:
    def __init__(self, random):
        self.random, self.steps = random, 0
        self.reset()

    def reset(self):
        self.theta = self.random.uniform(-np.pi, np.pi, WIDE)
        self.speed = self.random.uniform(-1, 1, WIDE)

    def step(self, answer):
        torque = np.clip(answer[:, 0], -2, 2)
        angle = (self.theta + np.pi) % (2 * np.pi) - np.pi
        self.cost = angle * angle + 0.1 * self.speed * self.speed + 0.001 * torque * torque
        self.speed = np.clip(self.speed + (15 * np.sin(self.theta) + 3 * torque) * 0.05, -8, 8)
        self.theta = self.theta + self.speed * 0.05
        self.steps += 1
        if self.steps % 200 == 0:
            self.reset()

    def observe(self):
        return np.stack((np.cos(self.theta), np.sin(self.theta), self.speed), axis=1).astype(np.float32)


def numpy_all(name, path, seconds):
    """Environments and policy in numpy at 512; no seed for an episode."""
    weights = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    first, first_bias, second, second_bias, third, third_bias = weights
    first, second, third = (np.ascontiguousarray(matrix.T) for matrix in (first, second, third))
    env = (NumpyCartPole if is_discrete(name) else NumpyPendulum)(np.random.default_rng(1))

    def steps():
        hidden = np.tanh(env.observe() @ first + first_bias)
        hidden = np.tanh(hidden @ second + second_bias)
        env.step(hidden @ third + third_bias)
        return WIDE

    return for_seconds(seconds, steps)


def waag(binary, folder, name):
    """Our own stage function: ONNX bytes in, episode records out, a seed for each episode."""
    command = [binary, "bench", "rollouts", "--policy", f"{name}={folder / name}.onnx", "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    measured = json.loads(done.stdout)["rollouts"][0]
    assert measured["environment"] == name and measured["runtime"]["name"] == "fused", measured
    return measured["steps_per_second"]


RIVALS = [
    (1, "gymnasium single environment + onnxruntime", single, ENVIRONMENTS),
    (1, "gymnasium SyncVectorEnv + onnxruntime", sync_vector, ENVIRONMENTS),
    (2, "gymnasium CartPoleVectorEnv at 512 + onnxruntime", cart_pole_vector, ["CartPole-v1"]),
    (2, "numpy environments and policy at 512", numpy_all, ENVIRONMENTS),
]
REQUIRED = {1: 20.0, 2: 1.0}


def cpu():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waag", required=True)
    parser.add_argument("--seconds", type=float, default=1.0, help="each rival's time in each round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    best = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        write_policies(folder)
        for _round in range(arguments.rounds):
            for name in ENVIRONMENTS:
                rate = waag(arguments.waag, folder, name)
                best[name, "waag"] = max(rate, best.get((name, "waag"), 0))
                for _kind, what, measure, environments in RIVALS:
                    if name in environments:
                        rate = measure(name, folder / f"{name}.onnx", arguments.seconds)
                        best[name, what] = max(rate, best.get((name, what), 0))
    print(f"one core of {cpu()}; numpy {np.__version__}, gymnasium {gymnasium.__version__},", end=" ")
    print(f"onnxruntime {onnxruntime.__version__}; steps per second, best of {arguments.rounds}")
    for (name, what), rate in best.items():
        print(f"{rate:14,.0f}  {name}  {what}")
    missed = False
    for kind, what, _measure, environments in RIVALS:
        for name in environments:
            ratio = best[name, "waag"] / best[name, what]
            missed |= ratio < REQUIRED[kind]
            print(f"ratio {ratio:.2f} waag bench rollouts against {what}, {name}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
