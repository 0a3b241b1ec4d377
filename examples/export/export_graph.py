"""Any PyTorch denoiser as a packed file of undiffuse: the network itself, by torch.export, with its weights.

Made with torch 2.15.0, safetensors 0.8.0 and numpy 2.4.6. As a module of your own script:

    from export_graph import export
    export(model, {"sample": ("sample", torch.randn(1, 3, 32, 32)), "timestep": ("timestep", torch.tensor([7]))},
           "model.safetensors", scheduler={"_class_name": "DDPMScheduler"}, program="undiffuse")

The inputs are the arguments of `model.forward` in their order, each with a role (sample, timestep, class, class_vector, vector, tokens, image,
mask, value) and an example of batch 1. The output is a tensor, or something whose first item or `sample` is one. With `program` the file is
run on random input by it (`undiffuse predict`), and compared: an error above 1e-4 is an exception. A node that has no counterpart is an exception
that names it. Nothing of the model is pickled; the file's format is documented at `undiffuse::graph::data`.
"""

import json
import math
import operator
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file, save_file


class Unmapped(Exception):
    """A node of the exported program that undiffuse has no operation for."""


class Value:
    """A tensor of the program: node `at` of the graph. Of its axes, `channels` together are the graph's first dimension, most significant first,
    and `positions` the others; axes in neither have size 1 (the batch is one)."""

    def __init__(self, at, shape, channels, positions, pad=None):
        self.at, self.shape, self.pad = at, tuple(shape), pad
        self.channels = tuple(a for a in channels)
        self.positions = tuple(a for a in positions if self.shape[a] != 1)

    def dims(self):
        return [math.prod(self.shape[a] for a in self.channels)] + [self.shape[a] for a in self.positions]


class Angle:
    """A number times fixed frequencies, perhaps its sine or cosine, before both are put together."""

    def __init__(self, at, frequencies, shape, function=None, log=False):
        self.at, self.frequencies, self.shape, self.function, self.log = at, frequencies, tuple(shape), function, log


class Scores:
    """Products of queries and keys, perhaps scaled, perhaps their softmax, before they meet the values: a part of attention."""

    def __init__(self, q, k, scale=1.0, soft=False):
        self.q, self.k, self.scale, self.soft = q, k, scale, soft


class Moment:
    """What a norm over the channels of each position divides by or takes off, before it does: `kind` is mean, variance, square (the mean of
    squares), deviation or root (of a variance or square plus eps), inverse (of these) or length."""

    def __init__(self, of, kind, eps=0.0):
        self.of, self.kind, self.eps = of, kind, eps


class Centred:
    """A value less its own mean over channels."""

    def __init__(self, of):
        self.of = of


class Squared:
    """A value times itself, before its mean is taken."""

    def __init__(self, of, made):
        self.of, self.made = of, made


class Log:
    """The logarithm of a number, which only an embedding takes."""

    def __init__(self, of):
        self.of = of


IDENTITIES = {"aten.clone", "aten.contiguous", "aten.to", "aten._to_copy", "aten.detach", "aten.detach_", "aten.alias", "aten.dropout", "aten.feature_dropout",
              "aten.lift_fresh_copy", "aten.type_as"}
FUNCTIONS = {"silu": "silu", "silu_": "silu", "mish": "mish", "relu": "relu", "relu_": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "softplus": "softplus"}


class Exporter:
    def __init__(self):
        self.nodes, self.weights, self.names = [], {}, {}

    def node(self, op, args=(), **attributes):
        self.nodes.append({"op": op, **({"args": list(args)} if args else {}), **attributes})
        return len(self.nodes) - 1

    def param(self, tensor, shape=None):
        """The name of a constant, which is stored under the name that it has in the model if it has one."""
        array = tensor.detach().to(torch.float32).cpu().contiguous()
        if shape is not None:
            array = array.reshape(shape)
        key = self.names.get(id(tensor))
        if key is None or (key in self.weights and self.weights[key].shape != tuple(array.shape)):
            key = f"constant.{len(self.weights)}"
        self.weights[key] = array.numpy().copy()
        return key

    # Layouts.

    def image(self, x, need=3):
        """The node of x as [C, H, W], C being its axis 1."""
        if x.channels != (1,) or len(x.shape) != need + 1:
            raise Unmapped(f"a value of shape {x.shape} whose channels are its axes {x.channels}, expected axis 1")
        dims = list(x.shape[1:])
        return self.node("reshape", [x.at], dims=dims) if dims != x.dims() else x.at

    def reshape(self, x, shape):
        shape = tuple(shape)
        if shape == x.shape:
            return x
        groups, i, j = [], 0, 0
        while i < len(x.shape) or j < len(shape):
            old, new = ([i], [j]) if i < len(x.shape) and j < len(shape) else (list(range(i, len(x.shape))), list(range(j, len(shape))))
            if i < len(x.shape) and j < len(shape):
                a, b = x.shape[i], shape[j]
                while a != b:
                    if a < b:
                        old.append(old[-1] + 1)
                        a *= x.shape[old[-1]]
                    else:
                        new.append(new[-1] + 1)
                        b *= shape[new[-1]]
            groups.append((old, new))
            i, j = (old[-1] + 1 if old else i), (new[-1] + 1 if new else j)
        pixels = self.depth_to_space(x, shape, groups) or self.space_to_depth(x, shape)
        if pixels is not None:
            return pixels
        placed = {}
        for old, new in groups:
            real = [a for a in old if x.shape[a] != 1]
            inner = [a for a in real if a in x.channels]
            outer = [a for a in real if a in x.positions]
            news = [a for a in new if shape[a] != 1] or new[:1]
            if inner and outer:
                # Channels and positions become one: row by row, as both have it, if all of them are there in that order.
                if real == list(x.channels) + list(x.positions) and sorted(real) == real:
                    at = self.node("reshape", [x.at], dims=[shape[a] for a in news])
                    return Value(at, shape, news[:1], news[1:])
                raise Unmapped(f"the reshape of {x.shape} to {shape} mixes channels and positions")
            for a in inner:
                placed[a] = news if a == inner[0] else []
            for a in outer:
                placed[a] = news if a == outer[0] else []
            wanted = [a for a in (x.channels if inner else x.positions) if a in real]
            if wanted != real:
                raise Unmapped(f"the reshape of {x.shape} to {shape} changes the order of axes")
        def of(axes):
            return [n for a in axes for n in placed.get(a, [])]
        channels = of(x.channels)
        if not channels:
            channels = [next(n for n in range(len(shape)) if shape[n] == 1 and n not in of(x.positions))]
        made = Value(x.at, shape, channels, of(x.positions))
        # A value has at most four dimensions; of more, the order of elements is what counts until the next reshape.
        if made.dims() != x.dims() and len(made.dims()) <= 4:
            made.at = self.node("reshape", [x.at], dims=made.dims())
        return made

    def depth_to_space(self, x, shape, groups):
        """[.., h, p, w, q] to [.., h p, w q], the p and q being channels."""
        if len(shape) != 4 or len(x.positions) != 2:
            return None
        real = [([a for a in old if x.shape[a] != 1], new) for old, new in groups]
        mixed = [old for old, new in real if len(old) == 2 and old[0] in x.positions and old[1] in x.channels]
        if len(mixed) != 2 or [m[0] for m in mixed] != list(x.positions):
            return None
        (_, p), (_, q) = mixed
        rest = [a for a in x.channels if a not in (p, q)]
        orders = {(p, q, *rest): True, (*rest, p, q): False}
        if x.channels not in orders:
            return None
        at = self.node("depth_to_space", [x.at], factor=[x.shape[p], x.shape[q]], **({"blocks_first": True} if orders[x.channels] else {}))
        return Value(at, shape, [1], [2, 3])

    def space_to_depth(self, x, shape):
        """[1, C, p, q, h, w], positions in memory as [h, p, w, q], to [1, C p q, h, w]."""
        if len(shape) != 4 or len(x.shape) != 6 or x.channels != (1,) or shape[1] != math.prod(x.shape[1:4]):
            return None
        if x.positions != (4, 2, 5, 3) or any(n == 1 for n in x.shape[2:]):
            return None
        _, c, p, q, h, w = x.shape
        at = self.node("reshape", [x.at], dims=[c, h * p, w * q])
        at = self.node("space_to_depth", [at], factor=[p, q])
        return Value(at, shape, [1], [2, 3])

    def constant(self, tensor, like):
        """A constant as a value beside another."""
        shape = (1,) * (len(like.shape) - tensor.ndim) + tuple(tensor.shape)
        tensor_ = tensor.reshape(shape)
        if any(n not in (1, m) for n, m in zip(shape, like.shape)):
            raise Unmapped(f"a constant of shape {shape} beside a value of {like.shape}")
        if all(n == 1 for a, n in enumerate(shape) if a in like.positions):
            full = tensor_.expand([like.shape[a] if a in like.channels else 1 for a in range(len(shape))])
            dims = like.dims()[:1]
        else:
            full, dims = tensor_.expand(like.shape), like.dims()
        full = full.permute([a for a in range(len(shape)) if a not in like.channels + like.positions] + list(like.channels + like.positions))
        name = self.param(full.contiguous(), dims)
        return Value(self.node("parameter", param=name, dims=dims), like.shape if len(dims) > 1 else [n if a in like.channels else 1 for a, n in enumerate(like.shape)],
                     like.channels, like.positions if len(dims) > 1 else ())

    def binary(self, function, a, b):
        if isinstance(a, Value) and isinstance(b, Value):
            size = lambda v: math.prod(v.shape)
            if size(a) < size(b) and function in ("add", "mul"):
                a, b = b, a
            lift = len(a.shape) - len(b.shape)
            if lift < 0:
                raise Unmapped(f"{function} of {a.shape} and {b.shape}")
            b = Value(b.at, (1,) * lift + b.shape, [c + lift for c in b.channels], [p + lift for p in b.positions])
            other = b.dims()
            same = b.shape == a.shape and (b.channels, b.positions) == (a.channels, a.positions)
            row = not b.positions and ((b.channels == a.channels and other == a.dims()[:1]) or other == [1])
            if not (same or row):
                raise Unmapped(f"{function} of a value {a.shape} (channels {a.channels}) and one {b.shape} (channels {b.channels})")
            return Value(self.node("binary", [a.at, b.at], function=function), a.shape, a.channels, a.positions)
        value, other, first = (a, b, True) if isinstance(a, Value) else (b, a, False)
        number = float(other) if not isinstance(other, torch.Tensor) or other.numel() == 1 else None
        if number is None and not bool((other - other.flatten()[0]).any()):
            wide = torch.broadcast_shapes(value.shape, other.shape)
            number = float(other.flatten()[0]) if tuple(wide) == value.shape else None
        if number is not None:
            if (function, number) in (("add", 0.0), ("mul", 1.0)) or (function == "div" and first and number == 1.0):
                return value
            if function == "div" and not first:
                raise Unmapped(f"{number} divided by a value")
            scale, shift = {"add": (1, number), "mul": (number, 0), "div": (1 / number, 0)}[function]
            return Value(self.node("affine", [value.at], scale=scale, shift=shift), value.shape, value.channels, value.positions)
        other = self.constant(other, value)
        return self.binary(function, *((value, other) if first else (other, value)))

    def slice(self, x, axis, start, length):
        if length == x.shape[axis]:
            return x
        shape = x.shape[:axis] + (length,) + x.shape[axis + 1:]
        if x.channels[:1] != (axis,):
            raise Unmapped(f"a part of axis {axis} of {x.shape}, which is not its channels")
        inner = math.prod(x.shape[a] for a in x.channels[1:])
        return Value(self.node("slice_channels", [x.at], start=start * inner, len=length * inner), shape, x.channels, x.positions)

    # Operations.

    def unary(self, x, function, **attributes):
        return Value(self.node("activation", [x.at], function=function, **attributes), x.shape, x.channels, x.positions)

    def channel_norm(self, x, kind, eps, weight=None, bias=None):
        given = {k: self.param(v.flatten()) for k, v in (("weight", weight), ("bias", bias)) if v is not None}
        return Value(self.node("channel_norm", [x.at], kind=kind, eps=eps, **given), x.shape, x.channels, x.positions)

    def of_channels(self, x, axes):
        """Whether these axes are the channels, all of them, in their order."""
        axes = [axes] if isinstance(axes, int) else axes
        return isinstance(x, Value) and tuple(d % len(x.shape) for d in axes) == x.channels

    def moment(self, short, a, kw):
        """The steps of a norm that is written out; None for what is none."""
        x = a[0]
        number = lambda v: isinstance(v, (int, float))
        axes = a[1] if len(a) > 1 and isinstance(a[1], (int, list)) else kw.get("dim")
        keep = (a[2] if len(a) > 2 and short == "mean" else a[3] if len(a) > 3 else kw.get("keepdim", False))
        if short == "mean" and axes is not None and isinstance(x, (Value, Squared)):
            of = x.of if isinstance(x, Squared) else x
            if self.of_channels(of, axes) and keep:
                return Moment(of, "square" if isinstance(x, Squared) else "mean")
        if short == "var" and axes is not None and self.of_channels(x, axes) and keep:
            biased = a[2] is False if len(a) > 2 and isinstance(a[2], bool) else kw.get("correction", 1) == 0
            if biased:
                return Moment(x, "variance")
        if short == "var_mean" and axes is not None and self.of_channels(x, axes) and keep and kw.get("correction", 1) == 0:
            return [Moment(x, "variance"), Moment(x, "mean")]
        if short == "linalg_vector_norm" and (a[1] if len(a) > 1 else 2) == 2 and len(a) > 2 and self.of_channels(x, a[2]):
            return Moment(x, "length")
        if short == "pow" and isinstance(x, (Value, Centred)) and len(a) > 1 and a[1] == 2:
            if isinstance(x, Value):
                return Squared(x, None)
        if short == "mul" and len(a) > 1 and a[1] is x and isinstance(x, Value):
            return Squared(x, None)
        if short in ("sub", "sub_") and isinstance(x, Value) and isinstance(a[1], Moment) and a[1].kind == "mean" and a[1].of is x:
            return Centred(x)
        if isinstance(x, Moment):
            if short in ("add", "add_") and number(a[1]) and x.kind in ("variance", "square") and x.eps == 0:
                return Moment(x.of, x.kind, a[1])
            if short in ("sqrt", "rsqrt") and x.kind in ("variance", "square"):
                return Moment(x.of, x.kind + (" root" if short == "sqrt" else " inverse"), x.eps)
            if short == "pow" and x.kind in ("variance", "square") and a[1] in (0.5, -0.5):
                return Moment(x.of, x.kind + (" root" if a[1] > 0 else " inverse"), x.eps)
            if short in ("clamp_min", "clamp_min_") and x.kind == "length":
                return Moment(x.of, "length", a[1])
            if short in ("expand", "expand_as"):
                return x
        pair = [v for v in a[:2] if isinstance(v, Moment)]
        if len(a) > 1 and len(pair) == 1 and short in ("div", "div_", "mul", "mul_"):
            m = pair[0]
            other = a[1] if a[0] is m else a[0]
            way = "root" if short.startswith("div") and a[1] is m else "inverse" if short.startswith("mul") else None
            if way and m.kind == "variance " + way and isinstance(other, Centred) and other.of is m.of:
                return self.channel_norm(m.of, "layer", m.eps)
            if way and m.kind == "square " + way and other is m.of:
                return self.channel_norm(m.of, "rms", m.eps)
            if way == "root" and m.kind == "length" and other is m.of:
                n = math.prod(m.of.shape[c] for c in m.of.channels)
                return self.binary("mul", self.channel_norm(m.of, "l2", max(m.eps, 1e-30)), n**-0.5)
        return None

    def settled(self, v):
        """A value that was held back in case it begins a norm, as its own."""
        if isinstance(v, Squared):
            v.made = v.made or self.binary("mul", v.of, v.of)
            return v.made
        return v

    def scores(self, short, a, kw):
        """The steps of attention that is written out; None for what is none."""
        x = a[0]
        if short == "einsum":
            (left, right), operands = a[0].replace(" ", "").split("->"), a[1]
            if len(operands) != 2:
                return None
            one, two = left.split(",")
            summed = [c for c in one if c in two and c not in right]
            if len(summed) != 1:
                return None
            batch = [c for c in right if c in one and c in two]
            i, j = ([c for c in t if c not in batch + summed] for t in (one, two))
            if len(i) != 1 or len(j) != 1 or right != "".join(batch + i + j):
                return None
            order = lambda t, v, last: self.call("aten.permute", [v, [t.index(c) for c in batch + last]], {})
            if isinstance(operands[0], Scores):
                if one != "".join(batch + i + summed) or not isinstance(operands[1], Value):
                    return None
                return self.weighted(operands[0], order(two, operands[1], summed + j))
            if not all(isinstance(v, Value) for v in operands):
                return None
            return Scores(order(one, operands[0], i + summed), order(two, operands[1], j + summed))
        if short in ("matmul", "bmm") and isinstance(x, Scores) and isinstance(a[1], Value):
            return self.weighted(x, a[1])
        if short in ("matmul", "bmm") and isinstance(x, Value) and isinstance(a[1], Value) and len(x.shape) == len(a[1].shape) > 2:
            n = len(x.shape)
            return Scores(x, self.call("aten.transpose", [a[1], n - 2, n - 1], {}))
        if not isinstance(x, Scores):
            return None
        if short in ("mul", "mul_", "div", "div_") and not x.soft and isinstance(a[1], (int, float, torch.Tensor)):
            by = float(a[1])
            return Scores(x.q, x.k, x.scale * by if short.startswith("mul") else x.scale / by)
        if short in ("softmax", "_softmax") and not x.soft and a[1] in (-1, len(x.q.shape) - 1):
            return Scores(x.q, x.k, x.scale, True)
        if short in ("dropout", "clone", "contiguous", "to", "type_as", "_to_copy"):
            return x
        return None

    def weighted(self, s, v):
        if not s.soft:
            raise Unmapped("products of queries, keys and values without a softmax")
        return self.attention(s.q, s.k, v, scale=s.scale)

    def bilinear(self, x, shape):
        """Pixels repeated, and a filter at whose edge the outermost pixel goes on: its copies are beside it, so that mirroring says the same."""
        (h, w), n = shape[2:], shape[2] // x.shape[2]
        if (2 * h, 2 * w) == x.shape[2:]:
            return Value(self.node("average_pool", [self.image(x)], factor=2), shape, [1], [2, 3])
        if n < 1 or (h, w) != (n * x.shape[2], n * x.shape[3]):
            raise Unmapped(f"bilinear interpolation of {x.shape} to {shape}")
        if n == 1:
            return x
        taps = [1 / n] * n if n % 2 else [0.5 / n] + [1 / n] * (n - 1) + [0.5 / n]
        at = self.node("upsample_nearest", [self.image(x)], factor=n)
        at = self.node("reflect_pad", [at], padding=[n // 2] * 4)
        return Value(self.node("fir", [at], taps=taps, pad=[0, 0]), shape, [1], [2, 3])

    def clipped(self, x, low, high):
        """`min(max(x, low), high)` of a value."""
        below = self.unary(self.binary("add", x, -low), "relu")
        above = self.unary(self.binary("add", x, -high), "relu")
        return self.binary("add", self.binary("add", below, self.binary("mul", above, -1.0)), low)

    def call(self, name, a, kw):
        short = name.split(".")[1]
        x = a[0] if a else None
        for step in (self.scores, self.moment):
            made = step(short, a, kw)
            if made is not None:
                return made
        a = [self.settled(v) for v in a]
        x = a[0] if a else None
        if name in IDENTITIES:
            return x
        if isinstance(x, Angle) or (len(a) > 1 and isinstance(a[1], Angle)):
            return self.angle(short, a)
        if short in FUNCTIONS:
            return Value(self.node("activation", [x.at], function=FUNCTIONS[short]), x.shape, x.channels, x.positions)
        if short == "gelu":
            kind = "gelu_tanh" if kw.get("approximate", "none") == "tanh" else "gelu"
            return Value(self.node("activation", [x.at], function=kind), x.shape, x.channels, x.positions)
        if short in ("leaky_relu", "leaky_relu_"):
            slope = a[1] if len(a) > 1 else 0.01
            return Value(self.node("activation", [x.at], function="leaky_relu", slope=slope), x.shape, x.channels, x.positions)
        if short in ("add", "add_", "mul", "mul_", "div", "div_", "sub", "rsub") and kw.get("alpha", 1) == 1:
            y = a[1]
            if isinstance(x, Log) and short == "mul" and isinstance(y, torch.Tensor):
                return Angle(x.of.at, y.flatten().double().numpy(), torch.broadcast_shapes(x.of.shape, y.shape), log=True)
            if short in ("mul", "mul_") and isinstance(y, torch.Tensor) and x.shape and math.prod(x.shape) == 1 and y.numel() > 1:
                return Angle(x.at, y.flatten().double().numpy(), torch.broadcast_shapes(x.shape, y.shape))
            if short in ("mul", "mul_") and isinstance(x, torch.Tensor) and math.prod(y.shape) == 1 and x.numel() > 1:
                return Angle(y.at, x.flatten().double().numpy(), torch.broadcast_shapes(x.shape, y.shape))
            if short in ("sub", "rsub"):
                x, y = (x, y) if short == "sub" else (y, x)
                y = self.binary("mul", y, -1.0) if isinstance(y, Value) else -y
                return self.binary("add", x, y)
            return self.binary(short.strip("_"), x, y)
        if short in ("batch_norm", "_native_batch_norm_legit_no_training", "instance_norm"):
            n = x.shape[1]
            weight, bias, mean, var = (list(a[1:5]) + [None] * 4)[:4]
            weight = torch.ones(n) if weight is None else weight
            bias = torch.zeros(n) if bias is None else bias
            if short == "instance_norm" and a[5]:
                if x.channels != (1,):
                    raise Unmapped(f"instance norm of {x.shape}, whose channels are its axes {x.channels}")
                at = self.node("group_norm", [x.at], groups=n, eps=a[7], weight=self.param(weight), bias=self.param(bias))
                return Value(at, x.shape, x.channels, x.positions)
            eps = a[6] if short.startswith("_native") else a[7]
            along = (1, n) + (1,) * (len(x.shape) - 2)
            factor = weight.double() / (var.double() + eps).sqrt()
            shift = bias.double() - mean.double() * factor
            made = self.binary("mul", x, factor.float().reshape(along))
            made = self.binary("add", made, shift.float().reshape(along))
            made = made[0] if isinstance(made, tuple) else made
            return [made, None, None] if short.startswith("_native") else made
        if short in ("prelu", "_prelu_kernel"):
            slope = a[1].reshape((1, -1) + (1,) * (len(x.shape) - 2)) if a[1].numel() > 1 else float(a[1])
            below = self.unary(self.binary("mul", x, -1.0), "relu")
            return self.binary("add", self.unary(x, "relu"), self.binary("mul", below, -slope))
        if short in ("hardtanh", "hardtanh_", "relu6", "clamp") and len(a) < 4:
            low, high = (0, 6) if short == "relu6" else (list(a[1:3]) + [-1.0, 1.0][len(a) - 1:])[:2]
            if low is None or high is None:
                raise Unmapped("a clamp with one bound")
            return self.clipped(x, low, high)
        if short in ("hardsigmoid", "hardsigmoid_", "hardswish", "hardswish_"):
            gate = self.binary("mul", self.clipped(self.binary("add", x, 3.0), 0.0, 6.0), 1 / 6)
            return gate if "sigmoid" in short else self.binary("mul", x, gate)
        if short in ("conv_transpose2d", "conv_transpose1d"):
            return self.conv_transpose(x, short, *a[1:], **kw)
        if short == "max_pool2d":
            two = lambda v: list(v) * (2 // len(v)) if isinstance(v, (list, tuple)) else [v, v]
            kernel = two(a[1])
            stride = two(a[2]) if len(a) > 2 and a[2] else kernel
            padding = two(a[3]) if len(a) > 3 else [0, 0]
            if stride[0] != stride[1] or (len(a) > 4 and set(two(a[4])) != {1}) or (len(a) > 5 and a[5]):
                raise Unmapped(f"max pooling of stride {stride}, with dilation or rounded up")
            at = self.node("max_pool", [self.image(x)], kernel=kernel, padding=[padding[0]] * 2 + [padding[1]] * 2, **({"stride": stride[0]} if stride[0] != 1 else {}))
            return Value(at, self.new_shape, [1], [2, 3])
        if short == "adaptive_avg_pool2d" and list(a[1]) == [1, 1]:
            return self.call("aten.mean", [x, [2, 3], True], {})
        if short == "upsample_bilinear2d" and not a[2]:
            return self.bilinear(x, self.new_shape)
        if short == "log" and x.dims() == [1]:
            return Log(x)
        if isinstance(x, Log) and short in ("unsqueeze", "view", "reshape"):
            return Log(self.reshape(x.of, self.new_shape))
        if short == "neg":
            return self.binary("mul", x, -1.0)
        if short in ("conv2d", "conv1d"):
            return self.conv(x, short, *a[1:], **kw)
        if short == "linear":
            last = len(x.shape) - 1
            if math.prod(x.shape) == 1:
                x = Value(x.at, x.shape, [last], [])
            if x.channels != (last,):
                raise Unmapped(f"linear of {x.shape}, whose channels are its axes {x.channels}, expected the last")
            bias = a[2] if len(a) > 2 else kw.get("bias")
            at = self.node("linear", [x.at], weight=self.param(a[1]), **({"bias": self.param(bias)} if bias is not None else {}))
            return Value(at, x.shape[:-1] + (a[1].shape[0],), x.channels, x.positions)
        if short == "group_norm":
            groups, weight, bias, eps = a[1], *(list(a[2:4]) + [None] * (2 - len(a[2:4]))), a[4] if len(a) > 4 else 1e-5
            if x.channels != (1,):
                raise Unmapped(f"group norm of {x.shape}, whose channels are its axes {x.channels}")
            weight = torch.ones(x.shape[1]) if weight is None else weight
            bias = torch.zeros(x.shape[1]) if bias is None else bias
            at = self.node("group_norm", [x.at], groups=groups, eps=eps, weight=self.param(weight), bias=self.param(bias))
            return Value(at, x.shape, x.channels, x.positions)
        if short in ("layer_norm", "rms_norm"):
            if list(a[1]) != [x.shape[-1]] or x.channels != (len(x.shape) - 1,):
                raise Unmapped(f"{short} over {a[1]} of {x.shape}, whose channels are its axes {x.channels}")
            weight = a[2] if len(a) > 2 else None
            bias = a[3] if short == "layer_norm" and len(a) > 3 else None
            eps = (a[4] if len(a) > 4 else 1e-5) if short == "layer_norm" else (a[3] if len(a) > 3 else None) or float(np.finfo(np.float32).eps)
            given = {k: self.param(v) for k, v in (("weight", weight), ("bias", bias)) if v is not None}
            return Value(self.node("channel_norm", [x.at], kind=short.split("_")[0], eps=eps, **given), x.shape, x.channels, x.positions)
        if short == "scaled_dot_product_attention":
            return self.attention(*a, **kw)
        if short in ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "expand", "expand_as"):
            return self.reshape(x, self.new_shape)
        if short in ("permute", "transpose", "t"):
            n = len(x.shape)
            order = list(range(n))
            if short == "permute":
                order = [d % n for d in a[1]]
            else:
                i, j = (a[1] % n, a[2] % n) if short == "transpose" else (0, 1)
                order[i], order[j] = order[j], order[i]
            place = {old: new for new, old in enumerate(order)}
            return Value(x.at, [x.shape[o] for o in order], [place[c] for c in x.channels], [place[p] for p in x.positions])
        if short == "einsum":
            left, right = a[0].replace(" ", "").split("->")
            if len(a[1]) != 1 or sorted(left) != sorted(right):
                raise Unmapped(f"einsum {a[0]!r}, which is more than another order of axes")
            return self.call("aten.permute", [a[1][0], [left.index(c) for c in right]], {})
        if short in ("chunk", "split", "split_with_sizes"):
            axis = (a[2] if len(a) > 2 else kw.get("dim", 0)) % len(x.shape)
            sizes = [s[axis] for s in self.new_shape]
            starts = np.cumsum([0] + sizes[:-1]).tolist()
            return [self.slice(x, axis, start, n) for start, n in zip(starts, sizes)]
        if short == "unbind":
            axis = (a[1] if len(a) > 1 else 0) % len(x.shape)
            return [self.reshape(self.slice(x, axis, i, 1), x.shape[:axis] + x.shape[axis + 1:]) for i in range(x.shape[axis])]
        if short == "select":
            axis, i = a[1] % len(x.shape), a[2] % x.shape[a[1]]
            return self.reshape(self.slice(x, axis, i, 1), x.shape[:axis] + x.shape[axis + 1:])
        if short == "slice":
            axis = (a[1] if len(a) > 1 else 0) % len(x.shape)
            start = (a[2] if len(a) > 2 and a[2] is not None else 0)
            if len(a) > 4 and a[4] != 1:
                raise Unmapped("a slice with steps")
            return self.slice(x, axis, start % x.shape[axis] if start < x.shape[axis] else start, self.new_shape[axis])
        if short == "cat":
            return self.cat(*a, **kw)
        if short == "embedding":
            if a[1].dims() != [1]:
                raise Unmapped("an embedding of several numbers")
            return Value(self.node("embedding", [a[1].at], table=self.param(x)), self.new_shape, [len(self.new_shape) - 1], [])
        if short in ("upsample_nearest2d", "_upsample_nearest_exact2d"):
            h, w = self.new_shape[2:]
            factor = h // x.shape[2]
            if (h, w) != (x.shape[2] * factor, x.shape[3] * factor):
                raise Unmapped(f"nearest upsampling of {x.shape} to {self.new_shape}")
            return Value(self.node("upsample_nearest", [self.image(x)], factor=factor), self.new_shape, [1], [2, 3])
        if short == "avg_pool2d":
            kernel, stride = a[1], (a[2] if len(a) > 2 and a[2] else a[1])
            if len(set(kernel + stride)) != 1 or (len(a) > 3 and any(a[3])):
                raise Unmapped("average pooling of windows that overlap or are padded")
            return Value(self.node("average_pool", [self.image(x)], factor=kernel[0]), self.new_shape, [1], [2, 3])
        if short == "pixel_shuffle":
            return Value(self.node("depth_to_space", [self.image(x)], factor=[a[1], a[1]]), self.new_shape, [1], [2, 3])
        if short == "pixel_unshuffle":
            return Value(self.node("space_to_depth", [self.image(x)], factor=[a[1], a[1]]), self.new_shape, [1], [2, 3])
        if short in ("pad", "reflection_pad2d") and (kw.get("mode", a[2] if len(a) > 2 else "constant") == "reflect" or short == "reflection_pad2d"):
            left, right, top, bottom = (list(a[1]) + [0, 0])[:4]
            return Value(self.node("reflect_pad", [self.image(x)], padding=[top, bottom, left, right]), self.new_shape, [1], [2, 3])
        if short in ("pad", "constant_pad_nd") and not any((kw.get("mode", a[2] if len(a) > 2 else "constant") not in ("constant", 0, 0.0), kw.get("value"))):
            left, right, top, bottom = (list(a[1]) + [0, 0])[:4]
            return Value(x.at, self.new_shape, x.channels, x.positions, pad=[top, bottom, left, right])
        if short == "mean" and sorted(d % len(x.shape) for d in a[1]) == sorted(x.positions):
            sums = Value(self.node("sum_positions", [x.at]), [1 if i in x.positions else n for i, n in enumerate(x.shape)], x.channels, [])
            return self.reshape(self.binary("mul", sums, 1 / math.prod(x.shape[p] for p in x.positions)), self.new_shape)
        raise Unmapped("there is no such operation")

    def conv(self, x, kind, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        two = lambda v: list(v) * (2 // len(v)) if isinstance(v, (list, tuple)) else [v, v]
        if isinstance(padding, str):
            raise Unmapped(f"padding {padding!r}")
        stride, dilation, padding = two(stride), two(dilation), two(padding)
        if len(set(stride)) > 1 or len(set(dilation)) > 1:
            raise Unmapped(f"a convolution of stride {stride} and dilation {dilation}")
        pad = [padding[0], padding[0], padding[1], padding[1]]
        if kind == "conv1d":
            pad[:2] = [0, 0]
            kernel = [1, weight.shape[2]]
            at = self.node("reshape", [x.at], dims=[x.shape[1], 1, x.shape[2]])
            if x.channels != (1,):
                raise Unmapped(f"a convolution of {x.shape}, whose channels are its axes {x.channels}")
        else:
            kernel = list(weight.shape[2:])
            inner = x if x.pad is None else Value(x.at, [n if i < 2 else n - x.pad[2 * i - 4] - x.pad[2 * i - 3] for i, n in enumerate(x.shape)], [1], [2, 3])
            at = self.image(inner)
        pad = [p + q for p, q in zip(pad, x.pad or [0] * 4)]
        more = {k: v for k, v, d in (("stride", stride[0], 1), ("dilation", dilation[0], 1), ("groups", groups, 1)) if v != d}
        given = {"bias": self.param(bias)} if bias is not None else {}
        at = self.node("conv2d", [at], kernel=kernel, padding=pad, weight=self.param(weight), **more, **given)
        if kind == "conv1d":
            at = self.node("reshape", [at], dims=list(self.new_shape[1:]))
        return Value(at, self.new_shape, [1], range(2, len(self.new_shape)))

    def conv_transpose(self, x, kind, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        two = lambda v: list(v) * (2 // len(v)) if isinstance(v, (list, tuple)) else [v, v]
        stride, dilation, padding = two(stride), two(dilation), two(padding)
        if len(set(stride)) > 1 or len(set(dilation)) > 1:
            raise Unmapped(f"a transposed convolution of stride {stride} and dilation {dilation}")
        if x.channels != (1,) or x.pad is not None:
            raise Unmapped(f"a transposed convolution of {x.shape}, whose channels are its axes {x.channels}")
        one = kind == "conv_transpose1d"
        pad = [0, 0, padding[1], padding[1]] if one else [padding[0], padding[0], padding[1], padding[1]]
        kernel = [1, weight.shape[2]] if one else list(weight.shape[2:])
        at = self.node("reshape", [x.at], dims=[x.shape[1], 1, x.shape[2]]) if one else self.image(x)
        dims = [self.new_shape[1], 1, self.new_shape[2]] if one else list(self.new_shape[1:])
        more = {k: v for k, v, d in (("stride", stride[0], 1), ("dilation", dilation[0], 1), ("groups", groups, 1)) if v != d}
        at = self.node("conv_adjoint", [at], kernel=kernel, padding=pad, weight=self.param(weight), dims=dims, **more)
        if one:
            at = self.node("reshape", [at], dims=list(self.new_shape[1:]))
        made = Value(at, self.new_shape, [1], range(2, len(self.new_shape)))
        if bias is None:
            return made
        return self.binary("add", made, bias.reshape((1, -1) + (1,) * (len(made.shape) - 2)))

    def attention(self, q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        if attn_mask is not None or is_causal or enable_gqa:
            raise Unmapped("attention with a mask")
        d = q.shape[-1]
        if scale is not None and abs(scale - d**-0.5) > 1e-9:
            q = self.binary("mul", q, scale * d**0.5)
        for name, x in (("q", q), ("k", k), ("v", v)):
            n = len(x.shape)
            heads = (n - 3, n - 1) if n == 4 else (n - 1,)
            if n not in (3, 4) or tuple(c for c in x.channels if x.shape[c] != 1 or c == n - 1) not in (heads, heads[1:]):
                raise Unmapped(f"attention whose {name} of shape {x.shape} has its channels at the axes {x.channels}")
        heads = q.shape[-3] if len(q.shape) == 4 else 1
        at = self.node("attention", [q.at, k.at, v.at], heads=heads)
        return Value(at, q.shape[:-1] + v.shape[-1:], q.channels, q.positions)

    def cat(self, parts, dim=0):
        if any(isinstance(p, Angle) for p in parts):
            s, c = parts
            kinds = [getattr(p, "function", None) for p in parts]
            if sorted(map(str, kinds)) != ["cos", "sin"] or s.at != c.at or not np.array_equal(s.frequencies, c.frequencies):
                raise Unmapped("sines and cosines that are no embedding")
            flip = {"flip_sin_to_cos": True} if kinds[0] == "cos" else {}
            f, n = s.frequencies, len(s.frequencies)
            for shift in (0, 1):
                if not s.log and n > shift and np.allclose(f, np.exp(-math.log(10000) * np.arange(n) / (n - shift)), rtol=2e-6, atol=0):
                    at = self.node("sinusoidal_embedding", [s.at], dim=2 * n, freq_shift=shift, max_period=10000, **flip)
                    break
            else:
                at = self.node("fourier_embedding", [s.at], weight=self.param(torch.from_numpy(f / (2 * math.pi))), **flip, **({"log": True} if s.log else {}))
            return Value(at, self.new_shape, [len(self.new_shape) - 1], [])
        like = next(p for p in parts if isinstance(p, Value))
        dim %= len(like.shape)
        if like.channels[:1] != (dim,):
            raise Unmapped(f"values put together along axis {dim} of {like.shape}, whose channels are its axes {like.channels}")
        values = [p if isinstance(p, Value) else self.constant(p.expand(p.shape), Value(0, p.shape, like.channels, like.positions)) for p in parts]
        if any((v.channels, v.positions) != (like.channels, like.positions) for v in values):
            raise Unmapped("values of other layouts put together")
        return Value(self.node("concat", [v.at for v in values]), self.new_shape, like.channels, like.positions)

    def angle(self, short, a):
        x = a[0] if isinstance(a[0], Angle) else a[1]
        other = a[1] if x is a[0] and len(a) > 1 else a[0]
        if short in ("sin", "cos") and x.function is None:
            return Angle(x.at, x.frequencies, x.shape, short, x.log)
        if short in ("mul", "mul_") and x.function is None and not isinstance(other, (Value, Angle)):
            by = np.asarray(other, dtype=np.float64)
            return Angle(x.at, x.frequencies * by.reshape(-1), self.new_shape, None, x.log)
        if short in ("view", "reshape", "unsqueeze", "squeeze", "expand"):
            return Angle(x.at, x.frequencies, self.new_shape, x.function, x.log)
        raise Unmapped("a number times frequencies, of which neither sine nor cosine is taken")


def shape_of(value):
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    return [shape_of(v) for v in value] if isinstance(value, (list, tuple)) else None


def graph_of(model, inputs):
    """The graph and the weights of a model; see `export` for the inputs."""
    model = model.eval()
    examples = tuple(example for _, example in inputs.values())
    with torch.no_grad():
        program = torch.export.export(model, examples, strict=False)
    stored = {**dict(program.state_dict), **program.constants}
    signature = program.graph_signature
    fixed = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    ex = Exporter()
    known, given = {}, iter(inputs.items())
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name in fixed:
                tensor = stored[fixed[node.name]].detach()
                ex.names[id(tensor)] = fixed[node.name]
                known[node] = tensor
                continue
            name, (role, example) = next(given)
            shape = tuple(example.shape)
            if role in ("timestep", "class"):
                dims, channels, positions = [1], [max(len(shape) - 1, 0)], []
                shape = shape or (1,)
            elif role == "tokens":
                dims, channels, positions = [shape[2], shape[1]], [2], [1]
            else:
                dims, channels, positions = list(shape[1:]), [1], range(2, len(shape))
            known[node] = Value(ex.node("input", name=name, role=role, dims=dims), shape, channels, positions)
            if known[node].dims() != dims:
                known[node].at = ex.node("reshape", [known[node].at], dims=known[node].dims())
        elif node.op == "call_function":
            args = torch.fx.node.map_arg(node.args, lambda n: known[n])
            kwargs = torch.fx.node.map_arg(node.kwargs, lambda n: known[n])
            flat = torch.utils._pytree.tree_leaves((args, kwargs))
            if node.target is operator.getitem:
                known[node] = args[0][args[1]]
                continue
            if not any(isinstance(v, (Value, Angle, Log, Scores, Moment, Centred, Squared)) for v in flat):
                with torch.no_grad():
                    known[node] = node.target(*args, **kwargs)
                continue
            name = ".".join(str(node.target).split(".")[:2])
            if "_assert" in name or "sym_" in name:
                continue
            ex.new_shape = shape_of(node.meta["val"])
            try:
                known[node] = ex.call(name, list(args), dict(kwargs))
            except Unmapped as e:
                raise Unmapped(f"the node {node.name} = {node.target}({', '.join(map(str, node.args))}): {e}") from None
            except (AttributeError, TypeError, IndexError, ValueError) as e:
                raise Unmapped(f"the node {node.name} = {node.target}({', '.join(map(str, node.args))}): its arguments are not understood ({e})") from None
        elif node.op == "output":
            result = ex.settled(known[node.args[0][0]])
            if not isinstance(result, Value):
                raise Unmapped("the output does not depend on the input")
            if result.channels != (1,) or list(result.positions) != sorted(result.positions):
                raise Unmapped(f"the output {result.shape} has its channels at the axes {result.channels}, expected axis 1")
            at = result.at
            if result.dims() != list(result.shape[1:]):
                at = ex.node("reshape", [at], dims=list(result.shape[1:]))
    graph = {"_class_name": "Graph", "version": 1, "parameters": {k: list(v.shape) for k, v in ex.weights.items()}, "nodes": ex.nodes,
             "outputs": [{"name": "sample", "value": at}]}
    return graph, ex.weights


def export(model, inputs, path, scheduler=None, program=None):
    """Writes the packed file, checks it with `program` if given, and returns the relative L2 error of that check, else None."""
    graph, weights = graph_of(model, inputs)
    metadata = {"undiffuse.format": "1", "undiffuse.graph": json.dumps(graph)}
    if scheduler is not None:
        metadata["undiffuse.scheduler"] = json.dumps(scheduler)
    save_file(weights, path, metadata)
    return None if program is None else check(model, inputs, path, program)


def check(model, inputs, path, program, tolerance=1e-4):
    """The relative L2 error of `undiffuse predict` on random input (class numbers and timesteps are the examples')."""
    torch.manual_seed(0)
    drawn = {name: (torch.randn_like(v.float()) if role not in ("timestep", "class") else v) for name, (role, v) in inputs.items()}
    with torch.no_grad():
        want = model.eval()(*drawn.values())
    want = want if isinstance(want, torch.Tensor) else getattr(want, "sample", None) if hasattr(want, "sample") else want[0]
    names = {"sample": "sample", "timestep": "timestep", "class": "class_labels", "class_vector": "class_labels"}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        arrays = {names.get(inputs[k][0], k): v.reshape(-1) if inputs[k][0] in ("timestep", "class") else v for k, v in drawn.items()}
        save_file({k: np.ascontiguousarray(v.float().numpy()) for k, v in arrays.items()}, folder / "in.safetensors")
        subprocess.run([program, "predict", str(path), "--input", str(folder / "in.safetensors"), "--output", str(folder / "out.safetensors"), "--quiet"], check=True)
        got = load_file(folder / "out.safetensors")["sample"]
    want = want.numpy()
    error = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    if not error <= tolerance:
        raise RuntimeError(f"{path}: undiffuse's prediction differs from the model's by {error:.2e} (relative L2), expected at most {tolerance:g}")
    return error
