"""Writes same/*.onnx (one network in many forms: one content digest) and hostile/CODE--NAME.onnx (each refused with CODE).

    python hand_made.py               # onnx, numpy

The reference checker accepts most of the hostile files; that is why they are here.
"""
import pathlib

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

HERE = pathlib.Path(__file__).resolve().parent
RNG = np.random.default_rng(11)
W1, B1 = RNG.normal(size=(4, 8)).astype("f4"), RNG.normal(size=8).astype("f4")
W2, B2 = RNG.normal(size=(8, 2)).astype("f4"), RNG.normal(size=2).astype("f4")


def vi(name, shape, kind=T.FLOAT):
    return h.make_tensor_value_info(name, kind, shape)


def init(**arrays):
    return [nh.from_array(value, name) for name, value in arrays.items()]


def model(nodes, inits=(), inputs=None, outputs=None, opset=20, ir=10, functions=(), extra=(), **graph):
    g = h.make_graph(
        list(nodes), "g", [vi("observation", ["N", 4])] if inputs is None else inputs, outputs or [vi("logits", ["N", 2])], list(inits), **graph
    )
    imports = [h.make_opsetid("", opset), *(h.make_opsetid(d, 1) for d in extra)]
    m = h.make_model(g, opset_imports=imports, functions=list(functions))
    m.ir_version = ir
    return m


def save(folder, name, m):
    path = HERE / folder / f"{name}.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(m if isinstance(m, bytes) else m.SerializeToString())


def n(op, inputs, outputs, **attributes):
    return h.make_node(op, inputs, outputs, **attributes)


GEMM = [n("Gemm", ["observation", "w1", "b1"], ["a"]), n("Tanh", ["a"], ["t"]), n("Gemm", ["t", "w2", "b2"], ["logits"])]
WEIGHTS = dict(w1=W1, b1=B1, w2=W2, b2=B2)


def same():
    base = model(GEMM, init(**WEIGHTS))
    save("same", "gemm", base)
    turned = [
        n("Gemm", ["observation", "w1", "b1"], ["a"], transB=1),
        n("Tanh", ["a"], ["t"]),
        n("Gemm", ["t", "w2", "b2"], ["logits"], transB=1, alpha=1.0, beta=1.0),
    ]
    save("same", "gemm-turned", model(turned, init(w1=W1.T.copy(), b1=B1, w2=W2.T.copy(), b2=B2), opset=13, ir=7))
    product = [
        n("MatMul", ["observation", "w1"], ["m"]),
        n("Add", ["b1", "m"], ["a"]),
        n("Tanh", ["a"], ["t"]),
        n("MatMul", ["t", "w2"], ["p"]),
        n("Add", ["p", "b2"], ["logits"]),
    ]
    save("same", "matmul-add", model(product, init(w1=W1, b1=B1.reshape(1, 8), w2=W2, b2=B2), opset=18))
    renamed = [
        n("Identity", ["obs"], ["o2"]),
        n("Constant", [], ["k"], value=nh.from_array(W1)),
        n("Gemm", ["o2", "k", "zz"], ["x/1"]),
        n("Tanh", ["x/1"], ["x/2"]),
        n("Dropout", ["x/2"], ["x/3"]),
        n("Gemm", ["x/3", "yy", "xx"], ["answer"]),
    ]
    m = model(renamed, init(zz=B1, yy=W2, xx=B2, unused=W1), [vi("obs", [None, 4])], [vi("answer", [None, 2])])
    m.graph.doc_string = "documentation"
    m.producer_name = "somebody"
    h.set_model_props(m, {"author": "x"})
    save("same", "renamed", m)
    dead = [n("Relu", ["observation"], ["dead"]), *GEMM, n("Sigmoid", ["logits"], ["dead2"])]
    save("same", "dead-nodes", model(dead, init(**WEIGHTS)))
    lists = [h.make_tensor(k, T.FLOAT, v.shape, v.flatten().tolist()) for k, v in WEIGHTS.items()]
    save("same", "float-data", model(GEMM, lists))
    late = [n("Transpose", ["w1t"], ["w1"], perm=[1, 0]), n("Unsqueeze", ["b1", "zero"], ["b1u"]),
            n("Gemm", ["observation", "w1", "b1u"], ["a"]), *GEMM[1:]]
    rest = {k: v for k, v in WEIGHTS.items() if k != "w1"}
    save("same", "turned-late", model(late, init(w1t=W1.T.copy(), zero=np.array([0]), **rest)))
    inputs = [vi("observation", ["N", 4]), *(vi(k, v.shape) for k, v in WEIGHTS.items())]
    save("same", "weights-as-inputs", model(GEMM, init(**WEIGHTS), inputs, opset=11, ir=4))
    layer = h.make_function("my", "Layer", ["x", "w", "b"], ["y"], [n("Gemm", ["x", "w", "b"], ["z"]),
                            n("Identity", ["z"], ["y"])], [h.make_opsetid("", 20)])
    call = [n("Layer", ["observation", "w1", "b1"], ["a"], domain="my"), n("Tanh", ["a"], ["t"]),
            n("Layer", ["t", "w2", "b2"], ["logits"], domain="my")]
    save("same", "functions", model(call, init(**WEIGHTS), functions=[layer], extra=["my"]))
    # Not the same: half precision rounds, and one weight moved.
    halves = [n("Cast", ["h1"], ["w1"], to=T.FLOAT), *GEMM]
    save("different", "half", model(halves, init(h1=W1.astype("f2"), b1=B1, w2=W2, b2=B2)))
    moved = W1.copy()
    moved[0, 0] = np.nextafter(moved[0, 0], np.float32(9))
    save("different", "moved", model(GEMM, init(w1=moved, b1=B1, w2=W2, b2=B2)))
    relu = [GEMM[0], n("Relu", ["a"], ["t"]), GEMM[2]]
    save("different", "relu", model(relu, init(**WEIGHTS)))


def external(tensor, location="x.bin"):
    tensor.ClearField("raw_data")
    tensor.data_location = T.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def hostile():
    def bad(code, name, *args, **kwargs):
        m = args[0] if args and isinstance(args[0], (bytes, onnx.ModelProto)) else model(*args, **kwargs)
        save("hostile", f"{code}--{name}", m)

    w = init(**WEIGHTS)
    good = model(GEMM, w).SerializeToString()

    bad("onnx_external_data", "initialiser", GEMM, [external(nh.from_array(W1, "w1")), *w[1:]])
    hidden = h.make_node("Constant", [], ["w1"])
    hidden.attribute.append(h.make_attribute("value", external(nh.from_array(W1), "/etc/passwd")))
    bad("onnx_external_data", "attribute", [hidden, *GEMM], w[1:])
    sparse = h.make_sparse_tensor(external(nh.from_array(B1, "s")), nh.from_array(np.arange(8)), [8])
    bad("onnx_external_data", "sparse", GEMM, w, sparse_initializer=[sparse])
    sub = h.make_graph([n("Identity", ["k"], ["y"])], "s", [], [vi("y", [4, 8])], [external(nh.from_array(W1, "k"))])
    branch = n("If", ["c"], ["w1"], then_branch=sub, else_branch=sub)
    bad("onnx_external_data", "nested", [branch, *GEMM], [*w[1:], nh.from_array(np.array(True), "c")])
    body = h.make_function("my", "F", ["x"], ["y"], [hidden, n("Add", ["x", "w1"], ["y"])], [h.make_opsetid("", 20)])
    bad("onnx_external_data", "unused-function", GEMM, w, functions=[body], extra=["my"])
    only = h.make_sparse_tensor(nh.from_array(B1, "s"), nh.from_array(np.arange(8)), [8])
    bad("onnx_part", "sparse", GEMM, w, sparse_initializer=[only])
    trained = model(GEMM, w)
    trained.training_info.add().algorithm.name = "t"
    bad("onnx_part", "training", trained)

    sub = h.make_graph([n("Identity", ["t"], ["y"])], "s", [], [vi("y", ["N", 2])])
    bad("onnx_control_flow", "if", [*GEMM[:2], n("If", ["c"], ["logits"], then_branch=sub, else_branch=sub)],
        [*w, nh.from_array(np.array(True), "c")])
    loop = h.make_graph([n("Identity", ["c"], ["c2"]), n("Tanh", ["v"], ["v2"])], "b",
                        [vi("i", [], T.INT64), vi("c", [], T.BOOL), vi("v", ["N", 2])],
                        [vi("c2", [], T.BOOL), vi("v2", ["N", 2])])
    bad("onnx_control_flow", "giant-loop", [*GEMM[:2], n("Gemm", ["t", "w2", "b2"], ["p"]),
        n("Loop", ["trips", "", "p"], ["logits"], body=loop)], [*w, nh.from_array(np.array(2**62), "trips")])

    bad("onnx_custom_domain", "microsoft", [*GEMM[:2], n("FusedGemm", ["t", "w2", "b2"], ["logits"], domain="com.microsoft")],
        w, extra=["com.microsoft"])
    bad("onnx_custom_domain", "classical", [n("Scaler", ["observation"], ["o"], domain="ai.onnx.ml"), *GEMM], w,
        extra=["ai.onnx.ml"])
    bad("onnx_operator", "random", [*GEMM[:2], n("RandomUniformLike", ["t"], ["r"]), n("Gemm", ["r", "w2", "b2"], ["logits"])], w)
    bad("onnx_operator", "recurrent", [*GEMM, n("LSTM", ["x", "y", "z"], ["h"])], w)
    bad("onnx_operator", "too-new", [GEMM[0], n("Gelu", ["a"], ["t"]), GEMM[2]], w, opset=18)
    bad("onnx_batch", "quantised", [n("DynamicQuantizeLinear", ["observation"], ["q", "s", "z"]), *GEMM], w)

    fs = []
    for i in range(20):
        calls = [n(f"F{i + 1}", ["x"], ["y"], domain="my"), n(f"F{i + 1}", ["y"], ["z"], domain="my")]
        fs.append(h.make_function("my", f"F{i}", ["x"], ["z"], calls, [h.make_opsetid("", 20)]))
    fs.append(h.make_function("my", "F20", ["x"], ["y"], [n("Tanh", ["x"], ["y"])], [h.make_opsetid("", 20)]))
    blow = [GEMM[0], n("F0", ["a"], ["t"], domain="my"), GEMM[2]]
    bad("onnx_functions", "doubling", blow, w, functions=fs, extra=["my"])
    wide = [h.make_function("my", "L0", ["x"], ["y"], [n("Tanh", ["x"], ["y"])], [h.make_opsetid("", 20)])]
    for i in range(1, 6):
        calls = [n(f"L{i - 1}", [f"v{j}" if j else "x"], [f"v{j + 1}" if j < 19 else "y"], domain="my") for j in range(20)]
        wide.append(h.make_function("my", f"L{i}", ["x"], ["y"], calls, [h.make_opsetid("", 20)]))
    bad("onnx_functions", "wide", [GEMM[0], n("L5", ["a"], ["t"], domain="my"), GEMM[2]], w, functions=wide, extra=["my"])
    loop = h.make_function("my", "F", ["x"], ["y"], [n("F", ["x"], ["y"], domain="my")], [h.make_opsetid("", 20)])
    bad("onnx_functions", "endless", [GEMM[0], n("F", ["a"], ["t"], domain="my"), GEMM[2]], w, functions=[loop], extra=["my"])
    shadow = h.make_function("", "Tanh", ["x"], ["y"], [n("Relu", ["x"], ["y"])], [h.make_opsetid("", 20)])
    bad("onnx_functions", "shadow", GEMM, w, functions=[shadow])

    bad("onnx_version", "opset-old", GEMM, w, opset=10)
    bad("onnx_version", "opset-new", GEMM, w, opset=25)
    bad("onnx_version", "ir-old", GEMM, w, ir=3)
    bad("onnx_version", "ir-new", GEMM, w, ir=15)
    twice = model(GEMM, w)
    twice.opset_import.append(h.make_opsetid("ai.onnx", 13))
    bad("onnx_version", "two-opsets", twice)

    short = nh.from_array(W1, "w1")
    short.raw_data = short.raw_data[:-4]
    bad("onnx_tensor", "short", GEMM, [short, *w[1:]])
    huge = nh.from_array(W1, "w1")
    huge.dims[:] = [2**40, 2**40]
    bad("onnx_tensor", "huge", GEMM, [huge, *w[1:]])
    words = h.make_tensor("words", T.STRING, [1], [b"x"])
    bad("onnx_tensor", "text", GEMM, [*w, words])
    both = nh.from_array(B1, "b1")
    both.float_data.extend(B1.tolist())
    bad("onnx_tensor", "two-lists", GEMM, [w[0], both, *w[2:]])
    bad("onnx_tensor", "not-a-number", GEMM, [w[0], nh.from_array(B1 * np.nan, "b1"), *w[2:]])
    bad("onnx_tensor", "eight-bit-float", GEMM, [*w, h.make_tensor("f8", T.FLOAT8E4M3FN, [1], [1.0])])

    bad("onnx_graph", "used-before-made", [GEMM[1], GEMM[0], GEMM[2]], w)
    bad("onnx_graph", "made-twice", [*GEMM, n("Relu", ["a"], ["t"])], w)
    bad("onnx_graph", "hides-a-weight", [*GEMM, n("Relu", ["a"], ["w1"])], w)
    bad("onnx_graph", "no-output", GEMM[:2], w)
    bad("onnx_graph", "two-weights-of-one-name", GEMM, [*w, w[0]])

    bad("onnx_input", "double", [n("Cast", ["observation"], ["o"], to=T.FLOAT), n("Gemm", ["o", "w1", "b1"], ["a"]), *GEMM[1:]],
        w, [vi("observation", ["N", 4], T.DOUBLE)])
    bad("onnx_input", "one-row", GEMM, w, [vi("observation", [1, 4])])
    bad("onnx_input", "flat", [n("Unsqueeze", ["observation", "zero"], ["o"]), n("Gemm", ["o", "w1", "b1"], ["a"]), *GEMM[1:]],
        [*w, nh.from_array(np.array([0]), "zero")], [vi("observation", [4])])
    bad("onnx_input", "width-unknown", GEMM, w, [vi("observation", ["N", "M"])])
    second = [*GEMM[:2], n("Gemm", ["t", "w2", "seed"], ["logits"])]
    bad("onnx_input", "second-input", second, w, [vi("observation", ["N", 4]), vi("seed", ["N", 2])])
    bad("onnx_input", "no-input", [n("Gemm", ["w1", "w2"], ["logits"], transA=0)], w[:1] + w[2:3], [])
    bad("onnx_output", "constant", [n("Identity", ["b2"], ["logits"])], w)
    bad("onnx_output", "itself", GEMM, w, outputs=[vi("observation", ["N", 4])])
    bad("onnx_output", "which", [*GEMM, n("Relu", ["t"], ["u"])], w, outputs=[vi("u", ["N", 8]), vi("t", ["N", 8])])
    bad("onnx_output", "truth", [*GEMM, n("IsNaN", ["logits"], ["y"])], w, outputs=[vi("y", ["N", 2], T.BOOL)])
    bad("onnx_output", "cube", [*GEMM, n("Unsqueeze", ["logits", "zero"], ["y"])],
        [*w, nh.from_array(np.array([2]), "zero")], outputs=[vi("y", ["N", 2, 1])])
    bad("onnx_output", "turned", [*GEMM, n("Transpose", ["logits"], ["y"])], w, outputs=[vi("y", [2, "N"])])

    bad("onnx_shape", "width", GEMM, w, [vi("observation", ["N", 5])])
    bad("onnx_shape", "bias", GEMM, [*w[:3], nh.from_array(B2[:1].repeat(3), "b2")])
    bad("onnx_batch", "bias", GEMM, [*w[:3], nh.from_array(W1, "b2")])
    bad("onnx_batch", "reduce-all",
        [*GEMM, n("ReduceMax", ["observation"], ["m"], keepdims=0), n("Cast", ["m"], ["i"], to=T.INT64),
         n("Unsqueeze", ["i", "zero"], ["s"]), n("Expand", ["logits", "s"], ["y"])],
        [*w, nh.from_array(np.array([0]), "zero")], outputs=[vi("y", ["N", 2])])
    read = [*GEMM, n("Cast", ["observation"], ["i"], to=T.INT64), n("Slice", ["i", "zero", "big", "zero"], ["j"]),
            n("Reshape", ["logits", "i"], ["y"])]
    bad("onnx_shape", "computed", read, [*w, nh.from_array(np.array([0]), "zero"), nh.from_array(np.array([2**31 - 1]), "big")],
        outputs=[vi("y", ["N", 2])])

    one = nh.from_array(np.array([0]), "zero")
    bad("onnx_batch", "mean-over-rows", [*GEMM[:2], n("ReduceMean", ["t", "zero"], ["r"]), n("Sub", ["t", "r"], ["u"]),
        n("Gemm", ["u", "w2", "b2"], ["logits"])], [*w, one])
    bad("onnx_batch", "softmax-over-rows", [*GEMM, n("Softmax", ["logits"], ["y"], axis=0)], w, outputs=[vi("y", ["N", 2])])
    bad("onnx_batch", "old-softmax", [*GEMM, n("Softmax", ["logits"], ["y"], axis=0)], w, opset=12, outputs=[vi("y", ["N", 2])])
    bad("onnx_batch", "first-row", [n("Gather", ["observation", "zero"], ["o"]), n("Gemm", ["o", "w1", "b1"], ["a"]), *GEMM[1:]],
        [*w, one])
    bad("onnx_batch", "half-the-rows", [n("Slice", ["observation", "zero", "two"], ["o"]), n("Gemm", ["o", "w1", "b1"], ["a"]),
        *GEMM[1:]], [*w, one, nh.from_array(np.array([2]), "two")])
    bad("onnx_batch", "backwards", [n("Slice", ["observation", "last", "end", "zero", "back"], ["o"]),
        n("Gemm", ["o", "w1", "b1"], ["a"]), *GEMM[1:]],
        [*w, one, *(nh.from_array(np.array([v]), k) for k, v in dict(last=-1, end=-(2**62), back=-1).items())])
    bad("onnx_batch", "count-of-rows", [*GEMM, n("Shape", ["observation"], ["s"]), n("Gather", ["s", "zero"], ["c"]),
        n("Cast", ["c"], ["f"], to=T.FLOAT), n("Mul", ["logits", "f"], ["y"])], [*w, one], outputs=[vi("y", ["N", 2])])
    bad("onnx_batch", "rows-by-rows", [n("Transpose", ["observation"], ["o"]), n("MatMul", ["observation", "o"], ["p"]),
        n("ReduceMax", ["p", "one"], ["m"]), n("Add", ["observation", "m"], ["q"]), n("Gemm", ["q", "w1", "b1"], ["a"]), *GEMM[1:]],
        [*w, nh.from_array(np.array([1]), "one")])
    bad("onnx_batch", "moved-by-reshape", [n("Reshape", ["observation", "s"], ["o"]), n("Gemm", ["o", "w1", "b1"], ["a"]), *GEMM[1:]],
        [*w, nh.from_array(np.array([-1, 4, 1, 1]), "s")][:-1] + [nh.from_array(np.array([4, -1]), "s")])
    bad("onnx_batch", "flattened", [n("Flatten", ["observation"], ["o"], axis=0), *GEMM, n("Add", ["logits", "o"], ["y"])], w,
        outputs=[vi("y", ["N", 2])])
    bad("onnx_batch", "training-statistics", [GEMM[0], n("BatchNormalization", ["a", "b1", "b1", "b1", "b1"], ["t"], training_mode=1),
        GEMM[2]], w)
    bad("onnx_batch", "running-sum", [n("CumSum", ["observation", "zero"], ["o"]), n("Gemm", ["o", "w1", "b1"], ["a"]), *GEMM[1:]],
        [*w, nh.from_array(np.array(0), "zero")])
    bad("onnx_batch", "unnamed-squeeze", [*GEMM, n("Squeeze", ["logits"], ["y"])], w, outputs=[vi("y", ["N", 2])])

    shape = nh.from_array(np.array([1 << 20, 1 << 20]), "s")
    bad("onnx_work", "fill", [n("ConstantOfShape", ["s"], ["big"]), n("ReduceMax", ["big"], ["m"], keepdims=0),
        n("Add", ["observation", "m"], ["o"]), n("Gemm", ["o", "w1", "b1"], ["a"]), *GEMM[1:]], [*w, shape])
    bad("onnx_work", "range", [n("Range", ["r0", "r1", "r2"], ["big"]), n("ReduceMax", ["big"], ["m"], keepdims=0),
        n("Cast", ["m"], ["f"], to=T.FLOAT), n("Add", ["observation", "f"], ["o"]), n("Gemm", ["o", "w1", "b1"], ["a"]), *GEMM[1:]],
        [*w, *(nh.from_array(np.array(v), k) for k, v in dict(r0=0, r1=2**60, r2=1).items())])
    tile = nh.from_array(np.array([1, 2**40]), "s")
    bad("onnx_work", "tile", [n("Tile", ["observation", "s"], ["big"]), n("ReduceMax", ["big", "one"], ["m"]),
        n("Add", ["observation", "m"], ["o"]), n("Gemm", ["o", "w1", "b1"], ["a"]), *GEMM[1:]],
        [*w, tile, nh.from_array(np.array([1]), "one")])
    wide = nh.from_array(np.array([1, 1, 60000]), "s")
    grow = [n("Unsqueeze", ["observation", "two"], ["u"]), n("Expand", ["u", "s"], ["big"]),
            n("ReduceMax", ["big", "two"], ["m"], keepdims=0), n("Gemm", ["m", "w1", "b1"], ["a"]), *GEMM[1:]]
    bad("onnx_work", "expand", grow, [*w, wide, nh.from_array(np.array([2]), "two")])
    square = [n("Expand", ["seed", "s"], ["k0"])]
    square += [n("MatMul", [f"k{i}", f"k{i}"], [f"k{i + 1}"]) for i in range(40)]
    square += [n("ReduceMax", ["k40"], ["m"], keepdims=0), n("Add", ["observation", "m"], ["o"]),
               n("Gemm", ["o", "w1", "b1"], ["a"]), *GEMM[1:]]
    bad("onnx_work", "products", square, [*w, nh.from_array(np.array([300, 300]), "s"), nh.from_array(np.array(0.1, "f4"), "seed")])
    bad("onnx_work", "bomb-pad", [n("Pad", ["observation", "p"], ["big"]), n("ReduceMax", ["big", "one"], ["m"]),
        n("Add", ["observation", "m"], ["o"]), n("Gemm", ["o", "w1", "b1"], ["a"]), *GEMM[1:]],
        [*w, nh.from_array(np.array([0, 0, 0, 2**50]), "p"), nh.from_array(np.array([1]), "one")])

    bad("onnx_attribute", "unknown", [GEMM[0], n("Tanh", ["a"], ["t"], surprise=1), GEMM[2]], w)
    bad("onnx_attribute", "wrong-kind", [n("Gemm", ["observation", "w1", "b1"], ["a"], transB=0.0), *GEMM[1:]], w)
    bad("onnx_attribute", "inputs", [GEMM[0], n("Tanh", ["a", "a"], ["t"]), GEMM[2]], w)
    bad("onnx_attribute", "outputs", [GEMM[0], n("Tanh", ["a"], ["t", "extra"]), GEMM[2]], w)
    bad("onnx_attribute", "random-dropout", [*GEMM[:2], n("Dropout", ["t", "r", "yes"], ["u"]), n("Gemm", ["u", "w2", "b2"], ["logits"])],
        [*w, nh.from_array(np.array(0.5, "f4"), "r"), nh.from_array(np.array(True), "yes")])
    bad("onnx_attribute", "mixed-types", [*GEMM, n("Add", ["logits", "d"], ["y"])], [*w, nh.from_array(np.array([1.0]), "d")],
        outputs=[vi("y", ["N", 2])])
    bad("onnx_attribute", "split-without-a-name", [*GEMM, n("Split", ["logits"], ["", "y"], axis=1)], w, opset=13,
        outputs=[vi("y", ["N", 1])])
    chain = [n("Tanh", [f"c{i}" if i else "observation"], [f"c{i + 1}"]) for i in range(2100)]
    bad("onnx_too_complex", "long", [*chain, n("Gemm", ["c2100", "w1", "b1"], ["a"]), *GEMM[1:]], w)
    bad("onnx_malformed", "empty-graph", onnx.ModelProto(ir_version=8, opset_import=[h.make_opsetid("", 18)]))
    bad("onnx_malformed", "cut", good[:-3])
    bad("onnx_malformed", "unknown-field", good + b"\xfa\x01\x00")
    bad("onnx_malformed", "two-graphs", good + good)
    bad("onnx_malformed", "text", b"this is no model")


if __name__ == "__main__":
    for folder in ("same", "different", "hostile"):
        for old in (HERE / folder).glob("*.onnx"):
            old.unlink()
    same()
    hostile()
