"""Plays every member of the cast in gymnasium with onnxruntime and records each episode.

    python tests/interop/cast/measure.py

Writes testdata/cast/expected.json (seeds 0..199, `env.reset(seed=k)`, one fresh episode each) and
assets/cast/README.md. Discrete actions are the argmax of the logits; a continuous action goes to
`step` as float32, unclipped.
"""

import hashlib
import json
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import gymnasium
import numpy as np
import onnx
import onnxruntime

ROOT = Path(__file__).resolve().parents[3]
SEEDS = range(200)
SUCCESS = {
    "CartPole-v1": lambda ret, length, terminated: length == 500,
    "Acrobot-v1": lambda ret, length, terminated: terminated,
    "MountainCar-v0": lambda ret, length, terminated: terminated,
    "MountainCarContinuous-v0": lambda ret, length, terminated: terminated,
    "Pendulum-v1": lambda ret, length, terminated: ret >= -200,
}


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def episode(env, policy, seed):
    """Return, length, terminated, and the smallest lead of the chosen action over the next."""
    obs, _ = env.reset(seed=seed)
    ret, length, lead, over = 0.0, 0, float("inf"), False
    while not over:
        (out,) = policy.run(None, {policy.get_inputs()[0].name: np.asarray(obs, np.float32)[None]})
        if isinstance(env.action_space, gymnasium.spaces.Discrete):
            action = int(out[0].argmax())
            ranked = np.sort(out[0])
            lead = min(lead, float(ranked[-1] - ranked[-2]))
        else:
            action = out[0].astype(np.float32)
        obs, reward, terminated, truncated, _ = env.step(action)
        ret, length, over = ret + float(reward), length + 1, terminated or truncated
    return ret, length, bool(terminated), lead


def measure(path):
    name = path.stem
    env, policy = gymnasium.make(name), session(path)
    rows = [episode(env, policy, seed) for seed in SEEDS]
    won = [SUCCESS[name](*row[:3]) for row in rows]
    record = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "successes": sum(won),
        "success": "".join("1" if w else "0" for w in won),
        "length": [row[1] for row in rows],
    }
    if isinstance(env.action_space, gymnasium.spaces.Box):
        record["return"] = [round(row[0], 6) for row in rows]
    else:
        record["return"] = [int(row[0]) for row in rows]
        # How near a tie any decision was: a backend that rounds otherwise may differ only there.
        record["smallest_lead"] = float(f"{min(row[3] for row in rows):.3g}")
    return record


def main():
    folders = [p for base in ("assets/cast", "testdata/cast") for p in sorted((ROOT / base).iterdir()) if p.is_dir()]
    paths = [p for folder in folders for p in sorted(folder.glob("*.onnx"))]
    with ProcessPoolExecutor(min(2, os.cpu_count())) as pool:
        records = list(pool.map(measure, paths))
    versions = {m.__name__: m.__version__ for m in (gymnasium, onnxruntime, onnx, np)}
    versions["python"] = platform.python_version()
    members = {}
    for path, record in zip(paths, records):
        members.setdefault(path.parent.name, {})[path.stem] = record
        print(f"{path.parent.name:11} {path.stem:25} {record['successes'] / 200:.3f}")
    out = {"script": "tests/interop/cast/measure.py", "versions": versions, "seeds": [0, 199]}
    out["machine"], out["members"] = platform.machine(), members
    text = json.dumps(out, indent=1)
    # One line per episode list, so that a difference is readable and the file stays small.
    for kind in ("length", "return"):
        for per_env in members.values():
            for record in per_env.values():
                text = text.replace(json.dumps(record[kind], indent=1).replace("\n", "\n    "), json.dumps(record[kind], separators=(",", ":")))
    (ROOT / "testdata/cast/expected.json").write_text(text + "\n")
    write_readme(members, folders, versions)


def write_readme(members, folders, versions):
    names = list(SUCCESS)
    template = (Path(__file__).parent / "readme.template.md").read_text()
    table = ["| member | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for folder in folders:
        record = members[folder.name]
        cells = [f"{record[n]['successes'] / 200:.3f}" if n in record else "–" for n in names]
        table.append(f"| `{folder.relative_to(ROOT)}` | " + " | ".join(cells) + " |")
    said = ", ".join(f"{k} {v}" for k, v in versions.items())
    text = template.replace("{table}", "\n".join(table)).replace("{versions}", said)
    (ROOT / "assets/cast/README.md").write_text(text)


if __name__ == "__main__":
    main()
