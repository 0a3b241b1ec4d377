#!/usr/bin/env bash
# onnx's ReferenceEvaluator runs Softmax, LogSoftmax and Hardmax of opsets below 13, and BatchNormalization of opsets 9
# to 13, by other rules than their specification, without a word.
#
# Softmax before opset 13 flattens the input to two axes at `axis` (default 1) and normalises over all of the rest; the
# evaluator takes the definition of opset 13, one axis (default: the last one). BatchNormalization of opset 9 in
# inference uses the stored mean and variance; the evaluator mixes them with those of the batch, by momentum 0.9, so
# what it returns for an image depends on the images beside it. A file of one of these opsets that a runtime gets wrong
# by comparison with this reference may well be right.
#
# onnxruntime follows the specification in both; so do the formulas below.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$dir/run.py" <<'PY'
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__, "numpy", np.__version__)
rng = np.random.default_rng(0)


def model(node, opset, shape, **constants):
    graph = helper.make_graph(
        [node],
        "one node",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{i}" for i in range(len(shape))])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def runtime(m, x):
    return onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def reference(m, x):
    return ReferenceEvaluator(m).run(None, {"x": x})[0]


x = rng.standard_normal((2, 4, 6, 6)).astype(np.float32)
flat = np.exp(x.reshape(2, -1))
specified = (flat / flat.sum(1, keepdims=True)).reshape(x.shape)
for opset in (11, 12):
    m = model(helper.make_node("Softmax", ["x"], ["y"]), opset, x.shape)
    ref, ort = np.abs(reference(m, x) - specified).max(), np.abs(runtime(m, x) - specified).max()
    print(f"Softmax of opset {opset}: ReferenceEvaluator is off by {ref:.3f}, onnxruntime by {ort:.1e}")
    assert ort < 1e-6 < 0.1 < ref, "the evaluator has the old Softmax now"
m = model(helper.make_node("Softmax", ["x"], ["y"]), 13, x.shape)
assert np.abs(reference(m, x) - runtime(m, x)).max() < 1e-6

stored = {k: rng.random(4).astype(np.float32) + 0.5 for k in ("scale", "bias", "mean", "variance")}
s, b, mean, variance = (stored[k].reshape(1, 4, 1, 1) for k in ("scale", "bias", "mean", "variance"))
specified = s * (x - mean) / np.sqrt(variance + 1e-5) + b
brighter = np.stack([x[0], x[1] + 10])
for opset in (9, 13, 14, 15):
    node = helper.make_node("BatchNormalization", ["x", *stored], ["y"])
    m = model(node, opset, x.shape, **stored)
    ref, ort = np.abs(reference(m, x) - specified).max(), np.abs(runtime(m, x) - specified).max()
    moved = np.abs(reference(m, brighter)[0] - reference(m, x)[0]).max()
    print(
        f"BatchNormalization of opset {opset}: ReferenceEvaluator is off by {ref:.3f}, onnxruntime by {ort:.1e};"
        f" brightening the second image moves the first one's result by {moved:.3f}"
    )
    assert ort < 1e-5
    assert (ref > 0.05 and moved > 0.1) == (opset < 14), "the evaluator has the old BatchNormalization now"
print("ReferenceEvaluator is no reference for these opsets")
PY
"$dir/venv/bin/python" "$dir/run.py"
