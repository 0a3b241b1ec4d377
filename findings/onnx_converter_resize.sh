#!/usr/bin/env bash
# onnx's version_converter changes what Resize and Upsample compute: a bilinear upsampling moves by a quarter of a
# pixel.
#
# Upsample 9 and Resize 10 sample at x / scale. Resize 11 has an attribute for that ("asymmetric"), and a default that
# is another rule ("half_pixel"). The converter from opset 9 or 10 to 11 and above leaves the attribute out, so the
# converted model follows the new default. It passes the checker and runs. At scale 2 the output moves by a quarter of
# an input pixel, which is what the attention maps and skip connections of a UNet then meet. With the attribute added
# by hand the outputs are equal to the last bit.
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


ramp = np.tile(np.arange(8, dtype=np.float32), (1, 1, 8, 1))
for operator, opset in (("Upsample", 9), ("Resize", 10)):
    scale = np.array([1, 1, 2, 2], np.float32)
    old = model(helper.make_node(operator, ["x", "scale"], ["y"], mode="linear"), opset, (1, 1, 8, 8), scale=scale)
    before = runtime(old, ramp)
    for target in (11, 13, 18):
        new = version_converter.convert_version(old, target)
        after = runtime(new, ramp)
        middle = before[0, 0, 8, 4:10], after[0, 0, 8, 4:10]
        print(f"{operator} {opset} -> {target}: a row of a ramp before {middle[0].tolist()}, after {middle[1].tolist()}")
        resize = new.graph.node[-1]
        assert resize.op_type == "Resize"
        assert abs(np.abs(middle[0] - middle[1]).max() - 0.25) < 1e-6, "the converted model computes the same now"
        rule = helper.make_attribute("coordinate_transformation_mode", "asymmetric")
        resize.attribute.append(rule)
        assert np.array_equal(runtime(new, ramp), before)
print("the converter drops the coordinate rule of Resize")
PY
"$dir/venv/bin/python" "$dir/run.py"
