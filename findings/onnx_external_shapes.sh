#!/usr/bin/env bash
# onnx.save_model(size_threshold=0), documented as the way to put every tensor in the external file, makes files that
# onnxruntime and onnx's own shape inference refuse.
#
# The shape of a Reshape, the padding of a Pad, the sizes of a Resize and the like are tensors too, and both need their
# values to know the shape of the output. Both look for them in the model file only and raise "Cannot parse data from
# external tensors". The basic checker passes the file and onnx's ReferenceEvaluator runs it, so it looks sound until it
# is deployed. The default, 1024 bytes, leaves such tensors in the file. A threshold of 64 does not: what is compared
# with it is the size of Python's bytes object, 33 more than the data, so that four integers of 64 bits are enough: the
# shape of an image.
#
# One operator at a time, for the operators that a UNet or a transformer is made of, and thresholds of 0, 64 and 1024.
#
# It exits non-zero where that is no longer so. It needs Python and installs pinned packages in a temporary folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 protobuf==7.36.2 ml_dtypes==0.6.0
cat > "$dir/run.py" <<'PY'
import sys
from pathlib import Path

import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__, "numpy", np.__version__)
folder = Path(sys.argv[1])
image = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
# The operator, where its constant stands among its inputs, the constant, and the shape of the output.
CASES = [
    ("Reshape", ["x", "c"], [1, 32], [1, 32]),
    ("Pad", ["x", "c"], [0, 0, 1, 1, 0, 0, 1, 1], [1, 2, 6, 6]),
    ("Expand", ["x", "c"], [3, 2, 4, 4], [3, 2, 4, 4]),
    ("Tile", ["x", "c"], [1, 1, 2, 2], [1, 2, 8, 8]),
    ("Resize", ["x", "", "", "c"], [1, 2, 8, 8], [1, 2, 8, 8]),
    ("ReduceMean", ["x", "c"], [2, 3], [1, 2, 1, 1]),
    ("Unsqueeze", ["x", "c"], [0], [1, 1, 2, 4, 4]),
]


def saved(name, inputs, constant, shape, threshold):
    graph = helper.make_graph(
        [helper.make_node(name, inputs, ["y"])],
        "one node",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.array(constant, np.int64), "c")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = str(folder / f"{name}-{threshold}.onnx")
    onnx.save_model(model, path, save_as_external_data=True, location=f"{name}-{threshold}.data", size_threshold=threshold)
    onnx.checker.check_model(path)
    return path


def outcome(run):
    try:
        return run()
    except Exception as error:
        assert "external" in str(error), error
        return "refused"


for threshold in (0, 64, 1024):
    refused = []
    for name, inputs, constant, shape in CASES:
        path = saved(name, inputs, constant, shape, threshold)
        reference = ReferenceEvaluator(path).run(None, {"x": image})[0]
        assert list(reference.shape) == shape
        session = lambda: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        runtime = outcome(lambda: session().run(None, {"x": image})[0])
        inference = outcome(lambda: onnx.shape_inference.infer_shapes_path(path, path + ".inferred", strict_mode=True))
        assert (runtime is not None and isinstance(runtime, str)) == (inference == "refused"), (name, runtime, inference)
        if isinstance(runtime, str):
            refused.append(name)
        else:
            assert np.array_equal(runtime, reference)
    print(
        f"size_threshold={threshold}: the checker passes and the evaluator runs all {len(CASES)};"
        f" onnxruntime and shape inference refuse {len(refused)}: {' '.join(refused) or 'none'}"
    )
    expected = [name for name, _, constant, _ in CASES if 8 * len(constant) + 33 >= threshold]
    assert refused == expected, "external shapes are read now"
print("a shape in the external file is refused")
PY
"$dir/venv/bin/python" "$dir/run.py" "$dir"
