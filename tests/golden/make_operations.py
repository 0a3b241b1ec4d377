"""Golden outputs and gradients of single operations, for tests/references/operations.rs.

Made with torch 2.15.0, safetensors 0.8.0 and numpy 2.4.6. Run by hand: `python tests/golden/make_operations.py`. It writes operations.safetensors:
for each case of tests/common/layout_suite.rs its output `NAME` for a batch of 2, and the gradient `NAME, gradient` by the first input.

Weights are drawn by make_unet.py's recipe. Input i of case number n is uniform(INPUT_SEED, 10 n + i, ..., a = sqrt(3)), the cotangent
uniform(INPUT_SEED, 10 n + 9, ..., a = 1); an input "class" counts 0, 1. All in float64, rounded once.
"""

import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

import pcg

WEIGHT_SEED = 20
INPUT_SEED = 31
BATCH = 2
HERE = pathlib.Path(__file__).parent
NORMS = ("norm.weight", "norm1.weight", "norm2.weight", "norm_out.weight")


def draw(seed, stream, shape, a):
    return torch.from_numpy(pcg.uniform(seed, stream, math.prod(shape), a).astype(np.float64)).reshape(shape)


def weights(shapes):
    out = {}
    for stream, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        if len(shape) > 1:
            out[name] = draw(WEIGHT_SEED, stream, shape, math.sqrt(3 / math.prod(shape[1:])))
        elif name.endswith(NORMS):
            values = np.float32(1) + pcg.uniform(WEIGHT_SEED, stream, shape[0], 0.3)
            out[name] = torch.from_numpy(values.astype(np.float64))
        else:
            out[name] = draw(WEIGHT_SEED, stream, shape, 0.2)
    return out


def conv(x, w, **kw):
    return F.conv2d(x, w["c.weight"], w["c.bias"], **kw)


def linear(x, w, name):
    return torch.einsum("oi,bi...->bo...", w[f"{name}.weight"], x) + w[f"{name}.bias"].view(1, -1, *[1] * (x.ndim - 2))


def heads(t, h):
    return t.reshape(t.shape[0], h, t.shape[1] // h, -1)


def attention(q, k, v, h):
    shape = q.shape
    q, k, v = (heads(t, h).transpose(2, 3) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(shape[0], -1, *shape[2:])


def linear_attention(q, k, v, h):
    shape = q.shape
    q, k, v = (heads(t, h) for t in (q, k, v))
    context = torch.einsum("bhdn,bhen->bhde", k.softmax(-1), v)
    return torch.einsum("bhde,bhdn->bhen", context, q.softmax(-2)).reshape(shape[0], -1, *shape[2:])


def with_memory(t, m):
    m = m.reshape(t.shape[1], -1).expand(t.shape[0], -1, -1)
    return torch.cat([m, t.flatten(2)], 2)


def channels_last(x, f):
    return f(x.movedim(1, -1)).movedim(-1, 1)


def grouped_norm(x, groups, f):
    y = heads(x, groups).movedim(2, -1)
    return f(y).movedim(-1, 2).reshape(x.shape)


def qkv(x, w):
    return [linear(x, w, n) for n in "qkv"]


def qkv_shapes(v, memory=False, mv=(8, 4)):
    shapes = {"q.weight": (8, 8), "q.bias": (8,), "k.weight": (8, 8), "k.bias": (8,), "v.weight": (v, 8), "v.bias": (v,)}
    return {**shapes, **({"mk": (8, 4), "mv": mv} if memory else {})}


def conv_shapes(*weight, bias=None):
    return {"c.weight": weight, "c.bias": (bias or weight[0],)}


def blocks_first(x, fh, fw):
    b, c, h, w = x.shape
    y = x.reshape(b, fh, fw, c // (fh * fw), h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(b, c // (fh * fw), h * fh, w * fw)


def to_blocks_first(x, fh, fw):
    b, c, h, w = x.shape
    y = x.reshape(b, c, h // fh, fh, w // fw, fw).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(b, c * fh * fw, h // fh, w // fw)


def row(x, f):
    return f(x[:, :, 0])[:, :, None]


def positions(x, y):
    x = x.flatten(2)
    y = torch.cat([y, x, x], 2)[:, :, 2:12]
    return F.pad(y, (2, 3)) ** 2


def embedding():
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    # Its grid has the width of its base size; a row of 5 out of a square of 5 is what 3 rows have.
    whole = get_2d_sincos_pos_embed(16, 5, base_size=5, interpolation_scale=2.0, output_type="pt")
    return whole.double().reshape(5, 5, 16)[:3].permute(2, 0, 1)


def nearest_row(x, table):
    """As diffusers' VectorQuantizer: the gradient passes as if nothing had been done."""
    z = x.movedim(1, -1)
    q = table[torch.cdist(z.reshape(-1, z.shape[-1]), table).argmin(1)].view(z.shape)
    return (z + (q - z).detach()).movedim(-1, 1)


I = {"x": (12, 6, 4)}
NORM = lambda n, *bias: {"a.norm.weight": (n,), **({"a.norm.bias": (bias[0],)} if bias else {})}
RMS = lambda x, w=None, eps=1e-6: F.rms_norm(x, x.shape[-1:], w, eps)
# name: (inputs, weights, function)
CASES = {
    "dilation 2": ({"x": (5, 9, 8)}, conv_shapes(7, 5, 3, 3), lambda x, w: conv(x, w, padding=2, dilation=2)),
    "dilation 3, stride 2": ({"x": (4, 9, 11)}, conv_shapes(6, 4, 3, 2), lambda x, w: conv(x, w, padding=1, dilation=3, stride=2)),
    "three groups": ({"x": (18, 5, 7)}, conv_shapes(12, 6, 3, 3), lambda x, w: conv(x, w, padding=1, groups=3)),
    "depthwise": ({"x": (37, 6, 5)}, conv_shapes(37, 1, 3, 3), lambda x, w: conv(x, w, padding=1, stride=2, groups=37)),
    "depthwise, two outputs, dilation 2": ({"x": (3, 8, 8)}, conv_shapes(6, 1, 5, 5),
        lambda x, w: conv(x, w, padding=4, dilation=2, groups=3)),
    "transposed": ({"x": (5, 4, 3)}, conv_shapes(5, 7, 4, 4, bias=7),
        lambda x, w: F.conv_transpose2d(x, w["c.weight"], w["c.bias"], stride=2, padding=1)),
    "transposed, stride 3": ({"x": (4, 3, 5)}, conv_shapes(4, 6, 3, 3, bias=6),
        lambda x, w: F.conv_transpose2d(x, w["c.weight"], w["c.bias"], stride=3)),
    "transposed of a row": ({"x": (6, 1, 7)}, conv_shapes(6, 5, 4, bias=5),
        lambda x, w: row(x, lambda x: F.conv_transpose1d(x, w["c.weight"], w["c.bias"], stride=2, padding=1))),
    "row": ({"x": (6, 1, 16)}, conv_shapes(9, 6, 5), lambda x, w: row(x, lambda x: F.conv1d(x, w["c.weight"], w["c.bias"], padding=2))),
    "row, stride 2": ({"x": (6, 1, 16)}, conv_shapes(6, 6, 3),
        lambda x, w: row(x, lambda x: F.conv1d(x, w["c.weight"], w["c.bias"], stride=2, padding=1))),
    "layer norm": (I, NORM(12, 12), lambda x, w: channels_last(x, lambda x: F.layer_norm(x, (12,), w["a.norm.weight"], w["a.norm.bias"], 1e-5))),
    "layer norm without factors": ({"x": (35, 9)}, {}, lambda x, w: channels_last(x, lambda x: F.layer_norm(x, (35,), eps=1e-6))),
    "rms norm": ({"x": (19, 4, 3)}, NORM(19), lambda x, w: channels_last(x, lambda x: RMS(x, w["a.norm.weight"], 1e-5))),
    "pixel norm": (I, {}, lambda x, w: channels_last(x, lambda x: RMS(x, None, 1e-8))),
    "l2 norm": (I, NORM(12), lambda x, w: F.normalize(x, dim=1) * w["a.norm.weight"].view(1, -1, 1, 1) * math.sqrt(12)),
    "rms norm of three heads": (I, NORM(4), lambda x, w: grouped_norm(x, 3, lambda x: RMS(x, w["a.norm.weight"]))),
    "layer norm of two heads": (I, NORM(6, 6),
        lambda x, w: grouped_norm(x, 2, lambda x: F.layer_norm(x, (6,), w["a.norm.weight"], w["a.norm.bias"], 1e-6))),
    "depth to space": (I, {}, lambda x, w: F.pixel_shuffle(x, 2)),
    "depth to space, blocks first": (I, {}, lambda x, w: blocks_first(x, 2, 3)),
    "space to depth": (I, {}, lambda x, w: F.pixel_unshuffle(x, 2)),
    "space to depth, blocks first": (I, {}, lambda x, w: to_blocks_first(x, 3, 2)),
    "shuffle channels": (I, {}, lambda x, w: x.reshape(-1, 2, 3, 2, 6, 4).transpose(1, 2).reshape(x.shape)),
    "gelu tanh": (I, {}, lambda x, w: F.gelu(3 * x + 0.5, approximate="tanh")),
    "geglu": (I, {}, lambda x, w: x[:, :6] * F.gelu(x[:, 6:])),
    "positions": ({"x": (5, 3, 2), "y": (5, 4)}, {}, lambda x, y, w: positions(x, y)),
    "attention with memory": ({"x": (8, 3, 3)}, qkv_shapes(8, True, (2, 4, 4)), lambda x, w: (lambda q, k, v: attention(
        q.flatten(2), with_memory(k, w["mk"]), with_memory(v, w["mv"]), 2))(*qkv(x, w)).reshape(x.shape)),
    "linear attention": ({"x": (8, 5, 4)}, qkv_shapes(6), lambda x, w: linear_attention(*qkv(x, w), 2)),
    "linear attention with memory": ({"x": (8, 9, 9)}, qkv_shapes(8, True), lambda x, w: (lambda q, k, v: linear_attention(
        q, with_memory(k, w["mk"]), with_memory(v, w["mv"]), 4))(*qkv(x, w))),
    "reflect pad": (I, {}, lambda x, w: F.pad(x, (3, 0, 2, 1), "reflect")),
    "max pool": ({"x": (5, 6, 8)}, {}, lambda x, w: F.max_pool2d(x, 2)),
    "max pool that overlaps": ({"x": (5, 7, 6)}, {}, lambda x, w: F.max_pool2d(x, 3, 2, 1)),
    "position embedding": ({"x": (16, 3, 5)}, {}, lambda x, w: x * embedding()),
    "nearest row": ({"x": (3, 5, 4)}, {"table": (17, 3)}, lambda x, w: nearest_row(x, w["table"])),
    "one hot": ({"class": (1,)}, {"l.weight": (6, 4), "l.bias": (6,)},
        lambda c, w: F.linear(F.one_hot(c[:, 0].long(), 4).double(), w["l.weight"], w["l.bias"])),
}


def main():
    out = {}
    for n, (name, (inputs, shapes, f)) in enumerate(CASES.items()):
        args = []
        for i, (port, dims) in enumerate(inputs.items()):
            if port == "class":
                args.append(torch.arange(BATCH, dtype=torch.float64)[:, None])
            else:
                args.append(draw(INPUT_SEED, 10 * n + i, (BATCH, *dims), math.sqrt(3)))
        x = args[0].requires_grad_("class" not in inputs)
        y = f(*args, weights(shapes))
        out[name] = y.detach().float().contiguous().numpy()
        if x.requires_grad:
            (dx,) = torch.autograd.grad(y, x, draw(INPUT_SEED, 10 * n + 9, tuple(y.shape), 1))
            out[f"{name}, gradient"] = dx.float().contiguous().numpy()
        print(f"{name}: {tuple(y.shape)}, std {y.std():.3f}")
    save_file(out, HERE / "operations.safetensors")


if __name__ == "__main__":
    main()
