#!/usr/bin/env python3
"""Replays episodes of `waag check BUNDLE --seeds A..B --json` live in gymnasium, and says where the two differ.

    python tests/interop/gym/replay.py --bundle UNPACKED_FOLDER --json CHECK.json [--min-episodes 200] [--out REPORT.json]

The folder holds `policy.toml` and the ONNX files (or one `<environment>.onnx` each); the JSON holds `environments`, a
map from each to {episodes: [{seed, return, length, outcome, success}]}, or a list of these with `environment`.
Policies run in onnxruntime, so scores may
differ from ours in their last bits. An episode that differs is listed with the first step at which two actions were
nearly tied; it counts as a failure unless there was such a near tie before it could have differed.
"""

import argparse
import json
import pathlib
import sys
import tomllib

import gymnasium
import numpy as np
import onnxruntime

# Two scores closer than this may be ordered differently by two correct runtimes; see the near-tie band in the tests
# of `src/gym/policy`. Relative to the larger score, at least absolute.
NEAR_TIE = 2e-5
# Continuous actions differ in their last bits between runtimes and environments amplify that. The return and the length
# must agree to this much, relative to the return.
RETURN_TOLERANCE = 1e-3


def model_of(bundle, environment):
    """The ONNX file for an environment."""
    manifest = bundle / "policy.toml"
    if manifest.exists():
        files = tomllib.loads(manifest.read_text()).get("environments", {})
        if environment in files:
            return bundle / files[environment]
    return bundle / f"{environment}.onnx"


class Policy:
    """A policy under onnxruntime, and how near a tie each decision was."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        names = [output.name for output in self.session.get_outputs()]
        wanted = [name for name in ("action", "actions", "logits") if name in names]
        self.output = names[0] if len(names) == 1 else wanted[0]

    def act(self, observation, space):
        """The action, and the lead of the best score over the second (None where it cannot be seen)."""
        answer = self.session.run([self.output], {self.input: observation[None].astype(np.float32)})[0]
        if isinstance(space, gymnasium.spaces.Box):
            return answer.reshape(-1).astype(np.float32), None
        if answer.dtype != np.float32:
            return int(answer.reshape(-1)[0]), None
        scores = answer.reshape(-1)
        order = np.sort(scores)
        scale = max(1.0, abs(float(order[-1])))
        return int(np.argmax(scores)), float(order[-1] - order[-2]) / scale


def play(env, policy, seed):
    """One episode: its record, and the first near tie."""
    observation, _info = env.reset(seed=seed)
    total, length, first_tie = 0.0, 0, None
    terminated = truncated = False
    while not (terminated or truncated):
        action, lead = policy.act(observation, env.action_space)
        if lead is not None and lead < NEAR_TIE and first_tie is None:
            first_tie = {"step": length, "lead": lead}
        observation, reward, terminated, truncated, _info = env.step(action)
        total += float(reward)
        length += 1
    return {"return": total, "length": length, "outcome": "terminated" if terminated else "truncated"}, first_tie


def compare(ours, theirs, continuous):
    """The fields in which two records differ."""
    tolerance = RETURN_TOLERANCE * max(1.0, abs(theirs["return"])) if continuous else 1e-6
    differing = [key for key in ("length", "outcome") if ours[key] != theirs[key]]
    if abs(ours["return"] - theirs["return"]) > tolerance:
        differing.append("return")
    return differing


def replay(bundle, block):
    """Replays one environment and returns its part of the report."""
    name = block["environment"]
    env = gymnasium.make(name)
    policy = Policy(model_of(bundle, name))
    continuous = isinstance(env.action_space, gymnasium.spaces.Box)
    differing, ties, worst = [], [], 0.0
    for ours in block["episodes"]:
        theirs, first_tie = play(env, policy, ours["seed"])
        worst = max(worst, abs(ours["return"] - theirs["return"]))
        fields = compare(ours, theirs, continuous)
        if first_tie is not None:
            ties.append({"seed": ours["seed"], **first_tie})
        if fields:
            excused = first_tie is not None
            entry = {"seed": ours["seed"], "fields": fields, "ours": ours, "gymnasium": theirs}
            differing.append(entry | {"near_tie": first_tie, "excused": excused})
    return {
        "environment": name,
        "episodes": len(block["episodes"]),
        "differing": differing,
        "near_ties": ties,
        "largest_return_difference": worst,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=pathlib.Path, required=True)
    parser.add_argument("--json", type=pathlib.Path, required=True)
    parser.add_argument("--min-episodes", type=int, default=200)
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    checked = json.loads(arguments.json.read_text())
    played = checked["environments"]
    if isinstance(played, dict):
        played = [{"environment": name, **block} for name, block in played.items()]
    report = [replay(arguments.bundle, block) for block in played]
    failed = not report
    for part in report:
        unexcused = [entry for entry in part["differing"] if not entry["excused"]]
        short = part["episodes"] < arguments.min_episodes
        failed |= bool(unexcused) or short
        print(
            f"{part['environment']}: {part['episodes']} episodes, {len(part['differing'])} differ"
            f" ({len(unexcused)} without a near tie), {len(part['near_ties'])} met a near tie,"
            f" largest difference of returns {part['largest_return_difference']:.3g}"
            + (f"; at least {arguments.min_episodes} episodes are wanted" if short else "")
        )
        for entry in part["differing"]:
            print(f"  seed {entry['seed']}: {', '.join(entry['fields'])} differ", end="")
            print(f"; near tie at step {entry['near_tie']['step']}" if entry["near_tie"] else "")
    if arguments.out:
        versions = {"gymnasium": gymnasium.__version__, "onnxruntime": onnxruntime.__version__}
        arguments.out.write_text(json.dumps({"versions": versions, "report": report}, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
