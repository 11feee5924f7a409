"""Writes honest/torch-*.onnx: small policies by PyTorch's own exporters, the old (TorchScript) and the new (dynamo).

    python torch_export.py            # torch, onnx, onnxscript, numpy

Folders of the machine are cut out of the stack traces that the new exporter writes into the metadata; nothing else is
changed. Weights come from a fixed seed, so a second run differs only where another version of torch writes differently.
"""
import pathlib
import re

import onnx
import torch
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent / "honest"


class Normalised(nn.Module):
    """Observation statistics in buffers, clamped, then a network: what most training libraries export."""

    def __init__(self, obs, out):
        super().__init__()
        self.register_buffer("mean", torch.randn(obs))
        self.register_buffer("var", torch.rand(obs) + 0.5)
        self.net = nn.Sequential(nn.Linear(obs, 8), nn.ReLU(), nn.Linear(8, out))

    def forward(self, x):
        x = torch.clamp((x - self.mean) / torch.sqrt(self.var + 1e-8), -10.0, 10.0)
        return self.net(x)


class Residual(nn.Module):
    """Layer normalisation, a skip connection and GELU."""

    def __init__(self, obs, out):
        super().__init__()
        self.first = nn.Linear(obs, 8)
        self.norm = nn.LayerNorm(8)
        self.second = nn.Linear(8, 8)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, out)

    def forward(self, x):
        x = self.first(x)
        x = x + self.drop(torch.nn.functional.gelu(self.second(self.norm(x))))
        return self.head(x)


class Chooser(nn.Module):
    """Answers with the number of the action."""

    def __init__(self, obs, out):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(obs, 8), nn.Tanh(), nn.Linear(8, out))

    def forward(self, x):
        return self.net(x).argmax(dim=1)


class Actor(nn.Module):
    """Two heads: the action and a value estimate that nobody needs. The action is squashed and scaled."""

    def __init__(self, obs, out):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(obs, 8), nn.SiLU())
        self.pi = nn.Linear(8, out)
        self.v = nn.Linear(8, 1)

    def forward(self, x):
        h = self.trunk(x)
        return 2.0 * torch.tanh(self.pi(h)), self.v(h)


class Tokens(nn.Module):
    """Each number of the observation as a token, attention among them, mean over tokens: views and permutations."""

    def __init__(self, obs, out):
        super().__init__()
        self.embed = nn.Linear(1, 8)
        self.place = nn.Parameter(torch.randn(obs, 8) * 0.1)
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(8, out)

    def forward(self, x):
        h = self.embed(x.unsqueeze(-1)) + self.place
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        q, k, v = (t.view(t.shape[0], t.shape[1], 2, 4).transpose(1, 2) for t in (q, k, v))
        a = torch.softmax(q @ k.transpose(-1, -2) / 2.0, dim=-1)
        h = (a @ v).transpose(1, 2).reshape(x.shape[0], -1, 8)
        return self.head(h.mean(dim=1))


def mlp(obs, out):
    return nn.Sequential(nn.Linear(obs, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, out))


MODELS = {
    "mlp": (mlp, 4, 2, ["logits"], [12, 17, 20]),
    "normalised": (Normalised, 2, 3, ["logits"], [13, 18, 23]),
    "residual": (Residual, 6, 3, ["logits"], [17, 20, 22]),
    "chooser": (Chooser, 4, 2, ["action"], [11, 18]),
    "actor": (Actor, 3, 1, ["action", "value"], [14, 18]),
    "tokens": (Tokens, 4, 2, ["logits"], [16, 18, 21]),
}


def scrub(path):
    model = onnx.load(path)
    for node in model.graph.node:
        for entry in node.metadata_props:
            entry.value = re.sub(r'File "[^"]*/', 'File "', entry.value)
    text = model.SerializeToString()
    assert b"/tmp/" not in text and b"/home/" not in text, path
    path.write_bytes(text)


def main():
    HERE.mkdir(exist_ok=True)
    for name, (make, obs, out, outputs, opsets) in MODELS.items():
        for opset in opsets:
            for exporter in ("old", "new"):
                if exporter == "new" and opset < 18:
                    continue
                if exporter == "old" and opset > 20:
                    continue
                torch.manual_seed(7)
                model = make(obs, out).eval()
                path = HERE / f"torch-{exporter}-{name}-{opset}.onnx"
                common = dict(opset_version=opset, input_names=["observation"], output_names=outputs)
                if exporter == "old":
                    axes = {"observation": {0: "batch"}, **{o: {0: "batch"} for o in outputs}}
                    torch.onnx.export(model, torch.zeros(2, obs), path, dynamo=False, dynamic_axes=axes, **common)
                else:
                    shapes = ({0: torch.export.Dim("batch")},)
                    torch.onnx.export(
                        model, (torch.zeros(2, obs),), path, dynamo=True, dynamic_shapes=shapes, external_data=False, **common
                    )
                scrub(path)
                print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
