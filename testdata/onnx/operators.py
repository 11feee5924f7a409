"""Writes operators/*.onnx: one tiny policy for each allowed operator and each way of using it that changes a shape.

    python operators.py               # onnx, numpy

Each takes `observation` [N, 4], applies the operator, and answers with everything it made as floats [N, width].
`tests/interop/onnx/parity.py` holds the shapes that the program infers against those that onnxruntime makes.
"""
import pathlib

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

HERE = pathlib.Path(__file__).resolve().parent / "operators"
F = np.float32


def policy(name, nodes, result, opset=18, outs=T.FLOAT, **constants):
    """`nodes` compute `result` [N, ...]; it becomes floats [N, width]."""
    tail = [
        h.make_node("Cast", [result], ["tail_f"], to=T.FLOAT),
        h.make_node("Flatten", ["tail_f"], ["logits"], axis=1),
    ]
    inits = [nh.from_array(np.asarray(v), k) for k, v in constants.items()]
    g = h.make_graph(
        nodes + tail, "g", [h.make_tensor_value_info("observation", T.FLOAT, ["N", 4])],
        [h.make_tensor_value_info("logits", T.FLOAT, ["N", None])], inits,
    )
    m = h.make_model(g, opset_imports=[h.make_opsetid("", opset)])
    m.ir_version = 8
    path = HERE / f"{name}-{opset}.onnx"
    path.write_bytes(m.SerializeToString())


def n(op, inputs, outputs=("y",), **attributes):
    return h.make_node(op, inputs, list(outputs), **attributes)


CUBE = n("Reshape", ["observation", "cube"], ["c"])  # [N, 2, 2]
CUBE_SHAPE = dict(cube=np.array([0, 2, 2]))


def main():
    HERE.mkdir(exist_ok=True)
    for old in HERE.glob("*.onnx"):
        old.unlink()
    x = "observation"
    unary = """Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish Hardmax
        Identity IsInf IsNaN LeakyRelu Log LogSoftmax LpNormalization Mish Neg Reciprocal Relu Round Selu Sigmoid Sign Sin
        Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Clip Dropout""".split()
    for op in unary:
        policy(op, [n(op, [x])], "y")
    policy("Gelu", [n("Gelu", [x])], "y", 20)
    policy("Softmax", [n("Softmax", [x])], "y", 12)
    policy("Softmax-deep", [CUBE, n("Softmax", ["c"], axis=1)], "y", 12, **CUBE_SHAPE)
    policy("Softmax-axis", [CUBE, n("Softmax", ["c"], axis=1)], "y", **CUBE_SHAPE)
    policy("Clip-bounds", [n("Clip", [x, "lo", "hi"])], "y", lo=F(-0.5), hi=F(0.5))
    policy("Clip-one-bound", [n("Clip", [x, "", "hi"])], "y", hi=F(0.5))
    row = np.linspace(0.5, 2, 4).astype(F)
    for op in "Add Sub Mul Div Pow Max Min Mean Sum Equal Greater GreaterOrEqual Less LessOrEqual PRelu".split():
        policy(op, [n(op, [x, "r"])], "y", r=row)
    policy("Add-wider", [n("Unsqueeze", [x, "two"], ["u"]), n("Add", ["u", "r"])], "y", r=row, two=np.array([2]))
    policy("Mod", [n("Mod", [x, "r"], fmod=1)], "y", r=row)
    policy("Max-many", [n("Max", [x, "r", "s"])], "y", r=row, s=F(0.1))
    for op in "And Or Xor".split():
        policy(op, [n("Greater", [x, "r"], ["a"]), n("Less", [x, "r"], ["b"]), n(op, ["a", "b"])], "y", r=row)
    policy("Not", [n("Greater", [x, "r"], ["a"]), n("Not", ["a"])], "y", r=row)
    policy("Where", [n("Greater", [x, "r"], ["a"]), n("Where", ["a", x, "r"])], "y", r=row)
    w = np.arange(12).reshape(4, 3).astype(F) / 7
    policy("Gemm", [n("Gemm", [x, "w"])], "y", w=w)
    policy("Gemm-all", [n("Gemm", [x, "w", "b"], transB=1, alpha=0.5, beta=2.0)], "y", w=w.T.copy(), b=F([[1, 2, 3]]))
    policy("Gemm-turned", [n("Transpose", [x], ["t"]), n("Gemm", ["t", "w"], transA=1)], "y", w=w)
    policy("MatMul", [n("MatMul", [x, "w"])], "y", w=w)
    policy("MatMul-cube", [CUBE, n("MatMul", ["c", "w"])], "y", w=np.ones((2, 5), F), **CUBE_SHAPE)
    policy("MatMul-rows", [CUBE, n("MatMul", ["c", "c"])], "y", **CUBE_SHAPE)
    policy("MatMul-left", [CUBE, n("MatMul", ["w", "c"])], "y", w=np.ones((3, 2), F), **CUBE_SHAPE)
    policy("LayerNormalization", [n("LayerNormalization", [x, "s", "b"])], "y", s=row, b=row)
    policy("LayerNormalization-deep", [CUBE, n("LayerNormalization", ["c", "s"], axis=1)], "y", s=np.ones((2, 2), F), **CUBE_SHAPE)
    policy("RMSNormalization", [n("RMSNormalization", [x, "s"])], "y", 23, s=row)
    policy("BatchNormalization", [n("BatchNormalization", [x, "s", "s", "s", "s"])], "y", s=row)
    policy("BatchNormalization-deep", [CUBE, n("BatchNormalization", ["c", "s", "s", "s", "s"])], "y", s=row[:2], **CUBE_SHAPE)
    policy("CumSum", [n("CumSum", [x, "one"])], "y", one=np.array(1))
    for op in "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare".split():
        policy(op, [n(op, [x, "one"])], "y", one=np.array([1]))
    policy("ReduceMean", [n("ReduceMean", [x], axes=[1])], "y", 13)
    policy("ReduceMean-drop", [CUBE, n("ReduceMean", ["c", "axes"], keepdims=0)], "y", axes=np.array([-1]), **CUBE_SHAPE)
    policy("ReduceSum", [n("ReduceSum", [x, "one"])], "y", 13, one=np.array([-1]))
    policy("ReduceSum", [n("ReduceSum", [x], axes=[1])], "y", 12)
    policy("ReduceSum-nothing", [n("ReduceSum", [x], noop_with_empty_axes=1)], "y", 13)
    for op in ("ArgMax", "ArgMin"):
        policy(op, [n(op, [x], axis=1)], "y")
    policy("ArgMax-drop", [CUBE, n("ArgMax", ["c"], axis=-1, keepdims=0)], "y", **CUBE_SHAPE)
    policy("Reshape", [n("Reshape", [x, "s"])], "y", s=np.array([-1, 2, 2]))
    policy("Reshape-from-shape", [
        n("Shape", [x], ["sh"]), n("Gather", ["sh", "zero"], ["rows"]), n("Unsqueeze", ["rows", "axis"], ["r1"]),
        n("Concat", ["r1", "rest"], ["s"], axis=0), n("Reshape", [x, "s"])], "y",
        zero=np.array(0), axis=np.array([0]), rest=np.array([2, 2]))
    policy("Shape-part", [n("Shape", [x], ["sh"], start=0, end=1), n("Concat", ["sh", "rest"], ["s"], axis=0),
        n("Expand", ["k", "s"], ["e"]), n("Unsqueeze", [x, "one"], ["u"]), n("Add", ["u", "e"])], "y",
        rest=np.array([2, 4]), k=row, one=np.array([1]))
    policy("Expand-minus-one", [n("Shape", ["k"], ["ks"]), n("ConstantOfShape", ["len"], ["ones"], value=nh.from_array(np.array([1]))),
        n("Mul", ["ones", "minus"], ["m"]), n("Equal", ["want", "m"], ["eq"]), n("Where", ["eq", "ones", "want"], ["s"]),
        n("Unsqueeze", [x, "one"], ["u"]), n("Expand", ["u", "s"])], "y",
        k=row, len=np.array([3]), minus=np.array(-1), want=np.array([-1, 3, 4]), one=np.array([1]))
    policy("ConstantOfShape", [n("Shape", [x], ["s"]), n("ConstantOfShape", ["s"], ["z"]), n("Add", [x, "z"])], "y")
    policy("Range", [n("Range", ["a", "b", "d"], ["r"]), n("Gather", [x, "r"], axis=1)], "y", a=np.array(3), b=np.array(-1), d=np.array(-2))
    policy("Flatten", [CUBE, n("Flatten", ["c"])], "y", **CUBE_SHAPE)
    policy("Transpose", [CUBE, n("Transpose", ["c"], perm=[0, 2, 1])], "y", **CUBE_SHAPE)
    policy("Squeeze", [n("Unsqueeze", [x, "axes"], ["u"]), n("Squeeze", ["u", "axes"])], "y", axes=np.array([1]))
    policy("Squeeze", [n("Unsqueeze", [x], ["u"], axes=[1, 3]), n("Squeeze", ["u"], axes=[-1])], "y", 12)
    policy("Concat", [n("Concat", [x, x, x], axis=1)], "y")
    policy("Split", [n("Split", [x, "s"], ["p", "q"], axis=1), n("Concat", ["q", "p"], axis=-1)], "y", s=np.array([1, 3]))
    policy("Split", [n("Split", [x], ["p", "q"], axis=1, split=[1, 3])], "q", 12)
    policy("Split-even", [n("Gather", [x, "i"], ["g"], axis=1), n("Split", ["g"], ["p", "q"], axis=1, num_outputs=2),
        n("Concat", ["q", "p"], axis=1)], "y", 18, i=np.array([0, 1, 3]))
    policy("Split-even", [n("Split", [x], ["p", "q"], axis=1)], "q", 13)
    slices = {"plain": (1, 3, 1), "back": (-1, -(2**40), -1), "step": (0, 2**40, 3), "clamped": (-9, 99, 2), "short": (3, 1, -1)}
    for name, (start, end, step) in slices.items():
        policy(f"Slice-{name}", [n("Slice", [x, "a", "b", "axis", "step"])], "y",
               a=np.array([start]), b=np.array([end]), axis=np.array([1]), step=np.array([step]))
    policy("Slice-all-rows", [n("Slice", [x, "a", "b"])], "y", a=np.array([0, 1]), b=np.array([2**62, 4]))
    policy("Gather", [n("Gather", [x, "i"], axis=1)], "y", i=np.array([[3, -1], [0, 0]]))
    policy("Gather-scalar", [n("Gather", [x, "i"], ["g"], axis=1), n("Unsqueeze", ["g", "one"])], "y", i=np.array(2), one=np.array([1]))
    policy("Gather-table", [n("ArgMax", [x], ["i"], axis=1, keepdims=0), n("Gather", ["table", "i"])], "y", table=np.eye(4, 6, dtype=F))
    policy("Tile", [n("Tile", [x, "r"])], "y", r=np.array([1, 3]))
    policy("Pad", [n("Pad", [x, "p", "v"])], "y", p=np.array([0, 1, 0, 2]), v=F(0.5))
    policy("Pad-axes", [n("Pad", [x, "p", "", "axes"])], "y", p=np.array([1, 2]), axes=np.array([1]))
    policy("Cast", [n("Cast", [x], ["i"], to=T.INT64), n("Cast", ["i"], to=T.FLOAT)], "y")
    policy("CastLike", [n("CastLike", [x, "k"])], "y", k=np.array(1))
    policy("Half", [n("Cast", [x], ["i"], to=T.FLOAT16), n("MatMul", ["i", "w"])], "y", w=w.astype(np.float16))


if __name__ == "__main__":
    main()
