#!/usr/bin/env python3
"""Makes the small ONNX policies of testdata/gym/policies and what onnxruntime says they answer.

Each is written the way another exporter writes (Gemm or MatMul + Add, Flatten, normalisation, ArgMax, Clip), and each
plays its environment passably: a known controller sits in one hidden unit, the other units add a little noise.

    python tests/interop/gym/make_policies.py testdata/gym/policies
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WIDTH = 64
OPSET = 17


class Graph:
    """Collects nodes and weights under fresh names."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def constant(self, value, dtype=np.float32):
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def node(self, op, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def noise(self, *shape, scale=0.02):
        return self.random.normal(0, scale, shape)

    def gemm(self, x, weight, bias):
        """`torch.nn.Linear` as PyTorch writes it: weights of shape [outputs, inputs]."""
        return self.node("Gemm", x, self.constant(weight), self.constant(bias), transB=1)

    def matmul(self, x, weight, bias):
        """The same as Keras and the newer exporters write it."""
        product = self.node("MatMul", x, self.constant(weight.T))
        return self.node("Add", product, self.constant(bias))

    def save(self, path, obs_dim, out_dim, input_name="observation", batch="N", out_type=TensorProto.FLOAT):
        self.nodes[-1].output[0] = "action"
        shape = [batch] if out_type == TensorProto.INT64 else [batch, out_dim]
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [batch, obs_dim])],
            [helper.make_tensor_value_info("action", out_type, shape)],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString())


def first(graph, controller, gain):
    """Weights of a first layer whose unit 0 computes the controller."""
    weight = graph.noise(WIDTH, len(controller), scale=0.3)
    weight[0] = np.array(controller) * gain
    return weight


def hidden(graph):
    weight = graph.noise(WIDTH, WIDTH)
    weight[0] = 0
    weight[0, 0] = 2
    return weight


def head(graph, rows):
    weight = graph.noise(len(rows), WIDTH, scale=0.002)
    weight[:, 0] = rows
    return weight


def cart_pole(folder):
    graph = Graph(1)
    x = graph.node("Tanh", graph.gemm("observation", first(graph, [0.1, 0.3, 3, 1], 1), graph.noise(WIDTH)))
    x = graph.node("Tanh", graph.gemm(x, hidden(graph), graph.noise(WIDTH)))
    graph.gemm(x, head(graph, [-3, 3]), np.zeros(2))
    graph.save(folder / "CartPole-v1.onnx", 4, 2)


def acrobot(folder):
    graph = Graph(2)
    x = graph.node("Flatten", "observation", axis=1)
    x = graph.node("Tanh", graph.matmul(x, first(graph, [0, 0, 0, 0, -1, 0], 3), graph.noise(WIDTH)))
    x = graph.node("Tanh", graph.matmul(x, hidden(graph), graph.noise(WIDTH)))
    graph.matmul(x, head(graph, [-3, 0, 3]), np.zeros(3))
    graph.save(folder / "Acrobot-v1.onnx", 6, 3)


def mountain_car(folder):
    graph = Graph(3)
    x = graph.node("Sub", "obs", graph.constant([-0.3, 0.0]))
    x = graph.node("Div", x, graph.constant([[0.9, 0.07]]))
    x = graph.node("Relu", graph.gemm(x, first(graph, [0, 1], 30), graph.noise(WIDTH)))
    x = graph.node("Relu", graph.gemm(x, hidden(graph), graph.noise(WIDTH)))
    x = graph.gemm(x, head(graph, [-3, 0, 3]), np.array([0.5, -9, 0]))
    graph.node("ArgMax", x, axis=-1, keepdims=0)
    graph.save(folder / "MountainCar-v0.onnx", 2, 3, input_name="obs", out_type=TensorProto.INT64)


def mountain_car_continuous(folder):
    graph = Graph(4)
    x = graph.node("Identity", "anything")
    x = graph.node("Tanh", graph.gemm(x, first(graph, [0, 1], 100), graph.noise(WIDTH)))
    x = graph.node("Tanh", graph.gemm(x, hidden(graph), graph.noise(WIDTH)))
    x = graph.node("Tanh", graph.gemm(x, head(graph, [2]), np.zeros(1)))
    graph.node("Mul", x, graph.constant(1.25))
    graph.save(folder / "MountainCarContinuous-v0.onnx", 2, 1, input_name="anything")


def pendulum(folder):
    graph = Graph(5)
    x = graph.node("Reshape", "observation", graph.constant([-1, 3], np.int64))
    x = graph.node("Tanh", graph.gemm(x, first(graph, [0, -6, -1.5], 0.3), graph.noise(WIDTH)))
    x = graph.node("Sigmoid", graph.gemm(x, hidden(graph), graph.noise(WIDTH)))
    x = graph.gemm(x, head(graph, [9]), np.array([-4.5]))
    graph.node("Clip", x, graph.constant(-2.0), graph.constant(2.0))
    graph.save(folder / "Pendulum-v1.onnx", 3, 1, batch=1)


def layer_norm(folder):
    """Not a plain network: runs on the general backend, many rows at once."""
    graph = Graph(6)
    x = graph.gemm("observation", first(graph, [0.1, 0.3, 3, 1], 1)[:8], graph.noise(8))
    x = graph.node("LayerNormalization", x, graph.constant(np.ones(8)), graph.constant(np.zeros(8)), axis=-1)
    graph.gemm(x, graph.noise(2, 8, scale=0.5), np.zeros(2))
    graph.save(folder / "layer-norm.onnx", 4, 2)


def across_rows(folder):
    """Looks at the whole batch: must be run row by row to be one policy at every batch size."""
    graph = Graph(7)
    x = graph.gemm("observation", graph.noise(2, 4, scale=1), graph.noise(2))
    mean = graph.node("ReduceMean", x, axes=[0], keepdims=1)
    x = graph.node("Mul", graph.node("Sub", x, mean), graph.constant([3.0]))
    graph.node("Add", x, graph.gemm("observation", graph.noise(2, 4, scale=1), graph.noise(2)))
    graph.save(folder / "across-rows.onnx", 4, 2)


def torch_exports(folder):
    """The same small network as PyTorch's old and new exporter write it."""
    import torch

    class Policy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            layers = torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
            self.net = torch.nn.Sequential(*layers)

        def forward(self, observation):
            return self.net(observation)

    torch.manual_seed(1)
    policy, example = Policy(), (torch.zeros(1, 4),)
    names = {"input_names": ["observation"], "output_names": ["action"]}
    batch = {"observation": {0: "N"}}
    old = folder / "torch-old.onnx"
    torch.onnx.export(policy, example, old, dynamo=False, dynamic_axes=batch | {"action": {0: "N"}}, **names)
    shapes = {"observation": {0: torch.export.Dim("N")}}
    new = folder / "torch-new.onnx"
    torch.onnx.export(policy, example, new, dynamo=True, dynamic_shapes=shapes, external_data=False, **names)
    # The new exporter records the source lines of the machine it ran on; they are no part of the computation.
    model = onnx.load(new)
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, new)


def answers(path):
    """Sixty-four observations and what onnxruntime makes of them, one row at a time."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    width = session.get_inputs()[0].shape[1]
    rows = np.random.default_rng(99).normal(0, 1, (64, width)).astype(np.float32)
    outputs = np.concatenate([session.run(None, {name: row[None]})[0].reshape(1, -1) for row in rows])
    return {
        "observations": rows.tobytes().hex(),
        "outputs": outputs.astype(np.float32).tobytes().hex(),
        "width": outputs.shape[1],
    }


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "testdata/gym/policies")
    folder.mkdir(parents=True, exist_ok=True)
    for make in (cart_pole, acrobot, mountain_car, mountain_car_continuous, pendulum, layer_norm, across_rows, torch_exports):
        make(folder)
    record = {
        "provenance": {
            "script": "tests/interop/gym/make_policies.py",
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
        },
        "policies": {path.stem: answers(path) for path in sorted(folder.glob("*.onnx"))},
    }
    (folder / "answers.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
