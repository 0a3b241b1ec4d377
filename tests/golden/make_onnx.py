"""Small ONNX files of both of PyTorch's exporters, and what onnxruntime makes of them.

Made with torch 2.15.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0, safetensors 0.8.0, numpy 2.4.6. Writes tests/golden/onnx/*.onnx and
tests/golden/onnx.safetensors: for each file its inputs and its output, as `file/name`. Run by hand:

    python tests/golden/make_onnx.py
"""

import math
import pathlib
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional as F

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent


class Image(nn.Module):
    """Group norm, SiLU, a timestep's embedding, attention of two heads, strided and upsampling convolutions, a join."""

    def __init__(self, c=8):
        super().__init__()
        self.c = c
        self.time = nn.Sequential(nn.Linear(c, c), nn.SiLU(), nn.Linear(c, c))
        self.first, self.down = nn.Conv2d(2, c, 3, padding=1), nn.Conv2d(c, c, 3, 2)
        self.norm, self.inner, self.last_norm = nn.GroupNorm(4, c), nn.GroupNorm(2, c), nn.GroupNorm(4, 2 * c)
        self.qkv, self.out = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.up, self.last = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(2 * c, 2, 3, padding=1)

    def forward(self, sample, timestep):
        half = self.c // 2
        f = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        angles = timestep[:, None].float() * f[None]
        e = self.time(torch.cat([torch.cos(angles), torch.sin(angles)], -1))
        kept = self.first(sample)
        h = F.silu(self.norm(kept + e[:, :, None, None]))
        h = self.down(F.pad(h, (0, 1, 0, 1)))
        b, c, y, x = h.shape
        tokens = self.inner(h).reshape(b, c, y * x).transpose(1, 2)
        q, k, v = (t.reshape(b, y * x, 2, c // 2).transpose(1, 2) for t in self.qkv(tokens).chunk(3, -1))
        tokens = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, y * x, c)
        h = h + self.out(tokens).transpose(1, 2).reshape(b, c, y, x)
        h = self.up(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.last(F.silu(self.last_norm(torch.cat([h, kept], 1))))


class Row(nn.Module):
    """One dimension: Mish, transposed convolution, layer norm, both forms of GELU, attention on given tokens written out, a class."""

    def __init__(self, c=8):
        super().__init__()
        self.c = c
        self.time, self.table = nn.Linear(c, c), nn.Embedding(3, c)
        self.first, self.down, self.up = nn.Conv1d(2, c, 3, padding=1), nn.Conv1d(c, c, 3, 2, 1), nn.ConvTranspose1d(c, c, 4, 2, 1)
        self.norm, self.layer = nn.GroupNorm(2, c), nn.LayerNorm(c)
        self.q, self.k, self.v = nn.Linear(c, c, bias=False), nn.Linear(5, c, bias=False), nn.Linear(5, c, bias=False)
        self.wide, self.narrow, self.last = nn.Linear(c, 2 * c), nn.Linear(c, c), nn.Conv1d(c, 2, 1)

    def forward(self, sample, timestep, class_labels, context):
        half = self.c // 2
        f = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / (half - 1))
        angles = timestep[:, None] * f[None]
        e = F.gelu(self.time(torch.cat([angles.sin(), angles.cos()], -1)), approximate="tanh") + self.table(class_labels)
        h = F.mish(self.norm(self.first(sample))) * (1 + e[:, :, None])
        h = self.down(h)
        t = h.transpose(1, 2)
        n = self.layer(t)
        split = lambda x: x.view(1, -1, 2, self.c // 2).permute(0, 2, 1, 3)
        q, k, v = split(self.q(n)), split(self.k(context)), split(self.v(context))
        scores = torch.softmax(torch.matmul(q, k.transpose(-1, -2)) * (self.c // 2) ** -0.5, -1)
        t = t + torch.matmul(scores, v).permute(0, 2, 1, 3).reshape(1, -1, self.c)
        value, gate = self.wide(self.layer(t)).chunk(2, -1)
        t = t + self.narrow(value * F.gelu(gate))
        return self.last(F.leaky_relu(self.up(t.transpose(1, 2)), 0.1))


def lean(model):
    """The model without what says where in Python it came from."""
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for value in list(model.graph.input) + list(model.graph.output) + list(model.graph.initializer):
        value.ClearField("doc_string")
        del value.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.graph.ClearField("doc_string")
    return model


def main():
    out = HERE / "onnx"
    out.mkdir(exist_ok=True)
    cases = {
        "image": (Image(), {"sample": torch.randn(1, 2, 8, 8), "timestep": torch.tensor([7])}),
        "row": (Row(), {"sample": torch.randn(1, 2, 8), "timestep": torch.tensor([3.5]), "class_labels": torch.tensor([2]),
                        "context": torch.randn(1, 3, 5)}),
    }
    arrays = {}
    for name, (model, inputs) in cases.items():
        torch.manual_seed(1)
        model.eval()
        for p in model.parameters():
            p.data.copy_(0.5 * torch.randn_like(p) + (1 if p.ndim == 1 else 0))
        inputs = {k: torch.randn_like(v) if v.is_floating_point() and v.ndim > 1 else v for k, v in inputs.items()}
        for exporter, more in (("dynamo", {"dynamo": True, "verbose": False}), ("script", {"dynamo": False, "opset_version": 17})):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "m.onnx"
                torch.onnx.export(model, tuple(inputs.values()), str(path), input_names=list(inputs), output_names=["out"], **more)
                proto = lean(onnx.load(str(path)))
            file = f"{name}_{exporter}.onnx"
            # One of them has its weights in a file beside it.
            if file == "row_dynamo.onnx":
                (out / f"{file}.data").unlink(missing_ok=True)
                onnx.save(proto, str(out / file), save_as_external_data=True, location=f"{file}.data", size_threshold=128)
            else:
                onnx.save(proto, str(out / file))
            session = onnxruntime.InferenceSession(str(out / file), providers=["CPUExecutionProvider"])
            given = {k: v.numpy() for k, v in inputs.items()}
            made, = session.run(None, given)
            with torch.no_grad():
                torch_made = model(*inputs.values()).numpy()
            assert np.abs(made - torch_made).max() < 1e-4 * np.abs(torch_made).max()
            for key, value in {**given, "out": made}.items():
                arrays[f"{name}_{exporter}/{key}"] = np.ascontiguousarray(value.astype(np.float32))
            print(file, (out / file).stat().st_size, sorted({n.op_type for n in proto.graph.node}))
    save_file(arrays, HERE / "onnx.safetensors")


if __name__ == "__main__":
    main()
