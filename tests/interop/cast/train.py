"""Trains the cast: small policies that imitate the controllers of teachers.py.

    python tests/interop/cast/train.py [member | member/environment ...]

Each policy is trained by DAgger (the student drives, the teacher labels what it saw). A member with
a target rate is stopped early, where its success rate on 3000 fresh training episodes is closest to
the target; one with the target 1.0 is trained to the end and its best round kept. Rates that are
published come from gymnasium (measure.py). Needs numpy, torch and onnx.
"""

import copy
import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from envs import ENVS, rollout
from teachers import TEACHERS

ROOT = Path(__file__).resolve().parents[3]
C, A, M, K, P = ENVS  # CartPole, Acrobot, MountainCar, MountainCarContinuous, Pendulum

# About 0.71 of Pendulum's starts allow a return of -200 at all: an optimal controller has no more.
GENERALIST = {C: 0.88, A: 0.88, M: 0.88, K: 0.88, P: 0.55}
# member: (folder, hidden sizes, activation, graph style, target rate per environment)
CAST = {
    "generalist": ("assets/cast", (64, 64), "tanh", "gemm", GENERALIST),
    "specialist": ("assets/cast", (64, 64), "relu", "matmul", {C: 1.0, P: 1.0}),
    "later": ("assets/cast", (96, 48), "relu", "gemm", {C: 1.0, A: 1.0, M: 1.0, K: 1.0, P: 1.0}),
    "mediocre": ("assets/cast", (32, 32), "tanh", "gemm", {C: 0.45, A: 0.5, M: 0.45, K: 0.5, P: 0.35}),
    "twin-a": ("testdata/cast", (64, 64), "tanh", "gemm", GENERALIST),
    "twin-b": ("testdata/cast", (64, 64), "tanh", "gemm", GENERALIST),
    "twin-c": ("testdata/cast", (64, 64), "tanh", "gemm", GENERALIST),
    "twin-d": ("testdata/cast", (64, 64), "tanh", "gemm", GENERALIST),
    "twin-e": ("testdata/cast", (64, 64), "tanh", "gemm", GENERALIST),
}
# These begin with the same weights, as miners do who leave a published script's seed as it is.
SAME_START = ("twin-d", "twin-e")


def network(env, hidden, activation):
    sizes = [env.obs_dim, *hidden, env.actions or 1]
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [torch.nn.Linear(a, b), torch.nn.Tanh() if activation == "tanh" else torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


class Student:
    def __init__(self, env, hidden, activation, rng, start):
        self.env, self.rng = env, rng
        torch.manual_seed(start)
        self.net = network(env, hidden, activation)
        self.scale = torch.tensor(env.obs_scale, dtype=torch.float32)
        self.force = 2.0 if env.name == P else 1.0
        self.obs, self.label = [], []
        self.opt = torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def forward(self, obs):
        return self.net(torch.as_tensor(obs) / self.scale)

    def act(self, _, obs):
        with torch.no_grad():
            out = self.forward(obs)
        if self.env.actions:
            return out.argmax(1).numpy()
        return out[:, 0].numpy().astype(np.float64) * self.force

    def rate(self, n, rng):
        return rollout(self.env, self.act, n, rng)[0].mean()

    def gather(self, teacher, drivers, n, rows):
        """States that the drivers meet, labelled by the teacher."""
        for driver in drivers:
            states = rollout(self.env, driver, n, self.rng, keep=True)[3]
            states = states[self.rng.permutation(len(states))[:rows]]
            self.obs.append(self.env.observe(states))
            self.label.append(teacher(states))
        return np.concatenate(self.obs), np.concatenate(self.label)

    def fit(self, data, batches, lr):
        obs, label = torch.as_tensor(data[0]), torch.as_tensor(data[1])
        for g in self.opt.param_groups:
            g["lr"] = lr
        for _ in range(batches):
            pick = torch.as_tensor(self.rng.integers(0, len(obs), 512))
            out = self.forward(obs[pick])
            if self.env.actions:
                loss = torch.nn.functional.cross_entropy(out, label[pick].long())
            else:
                loss = (out[:, 0] - label[pick].float() / self.force).square().mean()
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()

    def save(self):
        return copy.deepcopy((self.net.state_dict(), self.opt.state_dict()))

    def load(self, kept):
        self.net.load_state_dict(copy.deepcopy(kept[0]))
        self.opt.load_state_dict(copy.deepcopy(kept[1]))


def teach_fully(student, teacher, noisy, rounds):
    best = (-1.0, None)
    data = student.gather(teacher, [lambda s, o: teacher(s), noisy], 150, 10000)
    for r in range(rounds):
        student.fit(data, 700, 2e-3 if r < rounds // 2 else 5e-4 if r < rounds - 3 else 1e-4)
        rate = student.rate(1500, np.random.default_rng(777))
        best = max(best, (rate, r, student.save()), key=lambda b: b[0])
        if rate == 1.0 and r >= 5:
            break
        data = student.gather(teacher, [student.act], 100, 8000)
    student.load(best[2])


def teach_until(student, teacher, noisy, target):
    """Walks along the training run, halving the step whenever it would pass the target."""
    data = student.gather(teacher, [noisy, student.act], 150, 10000)
    lr, kept, best = 1e-3, student.save(), (9.0, None)
    for step in range(160):
        student.fit(data, 12, lr)
        rate = student.rate(600, student.rng)
        if abs(rate - target) < max(0.03, best[0]):
            rate = student.rate(3000, np.random.default_rng(777))
            best = min(best, (abs(rate - target), step, student.save()), key=lambda b: b[0])
            if best[0] < 0.006:
                break
        if rate > target:
            student.load(kept)
            lr = max(lr / 2, 2e-5)
        else:
            kept, lr = student.save(), min(lr * 1.2, 1e-3)
        if step % 8 == 7:
            data = student.gather(teacher, [student.act], 60, 4000)
    student.load(best[2] if best[1] is not None else kept)


def to_onnx(student, style, activation, path):
    """A plain graph: the scaling of observations and actions is folded into the weights."""
    linear = [m for m in student.net if isinstance(m, torch.nn.Linear)]
    out_name = "logits" if student.env.actions else "action"
    nodes, weights, x = [], [], "observation"
    for i, layer in enumerate(linear):
        w, b = (t.detach().numpy().astype(np.float64) for t in (layer.weight, layer.bias))
        if i == 0:
            w = w / student.env.obs_scale
        last = i == len(linear) - 1
        if last and not student.env.actions:
            w, b = w * student.force, b * student.force
        y = out_name if last else f"hidden{i}"
        weights.append(numpy_helper.from_array(b.astype(np.float32), f"bias{i}"))
        if style == "gemm":
            weights.append(numpy_helper.from_array(np.ascontiguousarray(w, np.float32), f"weight{i}"))
            nodes.append(helper.make_node("Gemm", [x, f"weight{i}", f"bias{i}"], [y], transB=1))
        else:
            weights.append(numpy_helper.from_array(np.ascontiguousarray(w.T, np.float32), f"weight{i}"))
            nodes.append(helper.make_node("MatMul", [x, f"weight{i}"], [f"{y}_product"]))
            nodes.append(helper.make_node("Add", [f"{y}_product", f"bias{i}"], [y]))
        if not last:
            x = f"active{i}"
            nodes.append(helper.make_node("Tanh" if activation == "tanh" else "Relu", [y], [x]))
    value = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
    inputs = [value("observation", student.env.obs_dim)]
    outputs = [value(out_name, student.env.actions or 1)]
    graph = helper.make_graph(nodes, "policy", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def train(member, name):
    """Trains one file. A run that ends far from its target is repeated from another start."""
    folder, hidden, activation, style, targets = CAST[member]
    env, target = ENVS[name], targets[name]
    for attempt in range(4):
        seed = hashlib.sha256(f"{member}/{name}{'/again' * attempt}".encode()).digest()[:8]
        rng = np.random.default_rng(int.from_bytes(seed, "little"))
        teacher = TEACHERS[name](rng)
        start = int(rng.integers(2**31))
        student = Student(env, hidden, activation, rng, 0 if member in SAME_START else start)

        def noisy(s, _):
            wild = rng.random(len(s)) < 0.25
            random = rng.integers(0, env.actions, len(s)) if env.actions else rng.uniform(-2, 2, len(s))
            return np.where(wild, random, teacher(s))

        if target == 1.0:
            teach_fully(student, teacher, noisy, 40 if member == "specialist" else 14)
        else:
            teach_until(student, teacher, noisy, target)
        rate = student.rate(3000, np.random.default_rng(777))
        print(f"{member:11} {name:25} target {target:.2f} reached {rate:.3f}", flush=True)
        if target == 1.0 or abs(rate - target) < 0.04:
            break
    to_onnx(student, style, activation, ROOT / folder / member / f"{name}.onnx")


def main():
    torch.set_num_threads(1)
    for word in sys.argv[1:] or CAST:
        member, _, name = word.partition("/")
        for each in [name] if name else CAST[member][4]:
            train(member, each)


if __name__ == "__main__":
    main()
