"""Writes testdata/torch: one small CartPole policy as PyTorch's own exporters write it.

    python tests/interop/cast/torch_export.py

`ten_lines.py` is the text that the handbook shows; it is run here as it stands, with a fixed seed,
in a scratch folder, and makes `new/`. The same policy is then exported by the old exporter (`old/`)
and by the new one with its weights beside the file (`external/`, `testdata/cast/external.onnx`).
That policy never fails, so `brief/` is the same text with hardly any training: its returns differ
from seed to seed.
Needs torch, onnx, onnxscript and gymnasium.

The new exporter notes in the file where its modules lie: run this from an environment whose path
may be public.
"""

import hashlib
import json
import os
import platform
import re
import runpy
import tempfile
from pathlib import Path

import gymnasium
import onnx
import onnxscript
import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
OUT = ROOT / "testdata/torch"
SEEDS = range(100)
FILE = "CartPole-v1.onnx"
BRIEF_UPDATES = 2


def played(policy):
    """Return of each seed and the smallest lead of the chosen action over the other one."""
    env, returns, lead = gymnasium.make("CartPole-v1"), [], float("inf")
    for seed in SEEDS:
        obs, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            with torch.no_grad():
                logits = policy(torch.as_tensor(obs)[None])[0]
            lead = min(lead, float((logits[0] - logits[1]).abs()))
            obs, reward, terminated, truncated, _ = env.step(int(logits.argmax()))
            total, over = total + reward, terminated or truncated
        returns.append(int(total))
    return returns, lead


def export(policy, path, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    names = {"input_names": ["observation"], "output_names": ["logits"]}
    # A bare file name: the location of external weights is taken from it.
    os.chdir(path.parent)
    torch.onnx.export(policy, (torch.zeros(2, 4),), path.name, **names, **how)


def ten_lines(folder, updates):
    """Runs the handbook's text with that many updates and keeps the file that it writes."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        text = (HERE / "ten_lines.py").read_text()
        Path(scratch, "ten_lines.py").write_text(text.replace("range(500)", f"range({updates})"))
        os.chdir(scratch)
        policy = runpy.run_path("ten_lines.py")["policy"]
        written = Path(FILE).read_bytes()
        os.chdir(ROOT)
    (OUT / folder).mkdir(parents=True, exist_ok=True)
    (OUT / folder / FILE).write_bytes(written)
    return policy


def main():
    torch.set_num_threads(1)
    policy, brief = ten_lines("new", 500), ten_lines("brief", BRIEF_UPDATES)
    free_batch = {"dynamic_shapes": ({0: "batch"},)}
    export(policy, OUT / "old" / FILE, dynamo=False, dynamic_axes={"observation": {0: "batch"}, "logits": {0: "batch"}})
    export(policy, OUT / "external" / FILE, dynamo=True, external_data=True, **free_batch)
    export(policy, ROOT / "testdata/cast/external.onnx", dynamo=True, external_data=True, **free_batch)
    returns, lead = played(policy)
    brief_returns, brief_lead = played(brief)
    modules = (torch, onnx, onnxscript, gymnasium)
    record = {
        "script": "tests/interop/cast/torch_export.py",
        "versions": {m.__name__: m.__version__ for m in modules} | {"python": platform.python_version()},
        "machine": platform.machine(),
        "environment": "CartPole-v1",
        "seeds": [SEEDS[0], SEEDS[-1]],
        "files": {
            str(p.relative_to(OUT)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(OUT.rglob("*.onnx*"))
        },
        # The smallest lead of the chosen action over the other tells how near a tie any decision was.
        "policies": [
            {"folders": ["new", "old", "external"], "smallest_lead": float(f"{lead:.3g}"), "returns": returns},
            {"folders": ["brief"], "smallest_lead": float(f"{brief_lead:.3g}"), "returns": brief_returns},
        ],
    }
    text = json.dumps(record, indent=1)
    text = re.sub(r"\[[\d\s,]+\]", lambda m: re.sub(r"\s", "", m[0]), text)
    (OUT / "returns.json").write_text(text + "\n")
    print("means", sum(returns) / len(returns), sum(brief_returns) / len(brief_returns), "leads", lead, brief_lead)


if __name__ == "__main__":
    main()
