"""Runs every stored policy and the plain file made of it in onnxruntime: same answers, row by row, whatever the batch.

    python tests/interop/onnx/parity.py        # onnx, onnxruntime, numpy; from the root of the repository

The plain files are written by `cargo test --lib the_plain_form`, which this calls first.
Exits with 1 if any answer differs.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

ROOT = pathlib.Path(__file__).resolve().parents[3]


def session(path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main():
    with tempfile.TemporaryDirectory() as folder:
        command = ["cargo", "test", "--quiet", "--lib", "the_plain_form"]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "WAAG_PLAIN_FILES": folder})
        return compare(pathlib.Path(folder))


def compare(folder):
    wrong = checked = 0
    for path in sorted((ROOT / "testdata/onnx").glob("*/*.onnx")):
        if path.parent.name == "hostile":
            continue
        plain_path = folder / path.name
        onnx.checker.check_model(onnx.load(plain_path), full_check=True)
        original, plain = session(path), session(plain_path)
        assert [i.name for i in plain.get_inputs()] == ["observation"], path
        assert [o.name for o in plain.get_outputs()] == ["action"], path
        names = [o.name for o in original.get_outputs()]
        wanted = names[0] if len(names) == 1 else next(n for n in names if n in ("logits", "action", "actions", "output"))
        feed = original.get_inputs()[0]
        rows = np.random.default_rng(3).normal(size=(64, feed.shape[1])).astype("f4")
        given = original.run([wanted], {feed.name: rows})[0]
        answer = plain.run(None, {"observation": rows})[0]
        single = np.concatenate([plain.run(None, {"observation": row[None]})[0] for row in rows])
        checked += 1
        declared = plain.get_outputs()[0].shape
        if [declared[0], *answer.shape[1:]] != ["N", *declared[1:]] or answer.shape[0] != 64:
            print(f"{path.name}: {answer.shape} where {declared} was inferred")
            wrong += 1
        if given.tobytes() != answer.tobytes() or not np.allclose(answer, single, rtol=1e-5, atol=1e-6, equal_nan=True):
            print(f"{path.name}: answers differ by {np.abs(given - answer).max()}, by rows {np.abs(answer - single).max()}")
            wrong += 1
    print(f"{checked} policies, {wrong} differ")
    return 1 if wrong or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
