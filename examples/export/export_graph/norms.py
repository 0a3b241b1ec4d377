"""Norms: whole ones, and those that are written out as means, squares and roots."""

import math

import torch

from .arithmetic import affine, binary
from .registry import maps
from .values import Centred, Moment, Squared, Unmapped, Value


def channel_norm(g, x, axes, kind, eps, weight=None, bias=None):
    x = g.laid(x, axes)
    given = {k: g.param(v, [v.numel()]) for k, v in (("weight", weight), ("bias", bias)) if v is not None}
    return Value(g.add("channel_norm", [x.at], x.dims(), kind=kind, eps=eps, **given), x.shape, x.channels, x.positions)


def moment(g, name, given):
    """The steps of a norm that is written out; None for what is none."""
    x, other, dim = given.get("x"), given.get("other"), given.get("dim")
    keep = given.get("keepdim", False)
    correction = given.get("correction", int(given.get("unbiased", True)))
    axes = lambda v: tuple(d % len(v.shape) for d in ([dim] if isinstance(dim, int) else dim)) if dim else tuple(range(len(v.shape)))
    if name == "mean" and keep and isinstance(x, Value) and any(x.shape[a] != 1 for a in axes(x)):
        return Moment(x, axes(x), "mean")
    if name == "mean" and keep and isinstance(x, Squared):
        of = x.of
        if isinstance(of, Value):
            return Moment(of, axes(of), "square")
        return Moment(of.of, axes(of.of), "variance") if of.axes == axes(of.of) else None
    if name in ("var", "var_mean") and keep and isinstance(x, Value):
        n = math.prod(x.shape[a] for a in axes(x))
        if n <= (correction := 1 if correction is None else correction):
            return None
        variance = Moment(x, axes(x), "variance", factor=n / (n - correction))
        return variance if name == "var" else [variance, Moment(x, axes(x), "mean")]
    if name in ("linalg_vector_norm", "norm") and keep and isinstance(x, Value) and given.get("ord", given.get("p", 2)) == 2:
        return Moment(x, axes(x), "length")
    if isinstance(x, (Value, Centred)) and ((name == "pow" and given["exponent"] == 2) or name == "square" or (name == "mul" and other is x)):
        return Squared(x)
    if name == "sub" and isinstance(x, Value) and isinstance(other, Moment) and other.kind == "mean" and other.of is x and given.get("alpha", 1) == 1:
        return Centred(x, other.axes)
    if isinstance(x, Moment):
        if name == "add" and isinstance(other, (int, float)) and x.kind in ("variance", "square") and x.eps == 0:
            return x.but(eps=float(other))
        if name in ("sqrt", "rsqrt") and x.kind in ("variance", "square"):
            return x.but(kind=x.kind + (" root" if name == "sqrt" else " inverse"))
        if name == "pow" and x.kind in ("variance", "square") and given["exponent"] in (0.5, -0.5):
            return x.but(kind=x.kind + (" root" if given["exponent"] > 0 else " inverse"))
        if name == "clamp_min" and x.kind == "length" or name == "clamp" and x.kind == "length" and given.get("max") is None:
            return x.but(eps=float(given["min"]))
        if name in ("expand", "expand_as", "to", "_to_copy", "clone", "type_as"):
            return x
    pair = [v for v in (x, other) if isinstance(v, Moment)]
    if len(pair) == 1 and name in ("div", "mul"):
        m, value = pair[0], other if x is pair[0] else x
        way = "root" if name == "div" and other is m else "inverse" if name == "mul" else None
        n = math.prod(m.of.shape[a] for a in m.axes)
        if way and m.kind == "variance " + way and isinstance(value, Centred) and value.of is m.of and value.axes == m.axes:
            return affine(g, channel_norm(g, m.of, m.axes, "layer", m.eps / m.factor), m.factor**-0.5, 0.0)
        if way and m.kind == "square " + way and value is m.of:
            made = channel_norm(g, m.of, m.axes, "rms", m.eps)
            return made if m.weight is None else binary(g, "mul", made, m.weight)
        if way and m.kind == "variance " + way and value is m.of:
            return uncentred(g, m)
        if way == "inverse" and m.kind == "square inverse" and m.weight is None and isinstance(value, (Value, torch.Tensor)):
            return m.but(weight=value)
        if way == "root" and m.kind == "length" and value is m.of:
            return affine(g, channel_norm(g, m.of, m.axes, "l2", max(m.eps, 1e-30)), n**-0.5, 0.0)
    return None


# So small that its square is nothing beside a variance, and yet a normal number of f32.
LITTLE = 2.0**-50


def uncentred(g, m):
    """A value divided by its deviation, its mean left in: the centred value and a very little of the mean are normalised together."""
    n, axes = math.prod(m.of.shape[a] for a in m.axes), [a for a in m.axes if m.of.shape[a] != 1]
    if len(axes) != 1:
        raise Unmapped("a root of a variance over several axes that no norm divides by")
    mean = average(g, m.of, axes)
    centred = binary(g, "add", m.of, affine(g, mean, -1.0, 0.0))
    both = g.joined([centred, affine(g, mean, LITTLE, 0.0)], axes[0])
    both = channel_norm(g, both, axes, "rms", m.eps / m.factor * n / (n + 1))
    scale = (n / (n + 1) / m.factor) ** 0.5
    made, mean = g.slice(both, axes[0], 0, n), g.slice(both, axes[0], n, 1)
    return binary(g, "add", affine(g, made, scale, 0.0), affine(g, mean, scale / LITTLE, 0.0))


def settled_moment(g, m):
    made = m.of
    if m.weight is not None:
        raise Unmapped("a root of a mean of squares that no norm divides by")
    if m.kind == "variance":
        made = binary(g, "add", made, affine(g, average(g, made, m.axes), -1.0, 0.0))
    if m.kind in ("variance", "square"):
        made = binary(g, "mul", made, made)
    elif m.kind != "mean":
        raise Unmapped(f"a root of {'the sum of squares' if m.kind == 'length' else 'a ' + m.kind.split()[0]} that no norm divides by")
    return affine(g, average(g, made, m.axes), m.factor, m.eps)


def settled_centred(g, c):
    return binary(g, "add", c.of, affine(g, average(g, c.of, c.axes), -1.0, 0.0))


def total(g, x, axes):
    """The sum over axes, which stay as axes of size 1."""
    axes = [a for a in axes if x.shape[a] != 1]
    shape = [1 if a in axes else n for a, n in enumerate(x.shape)]
    if not axes:
        return x
    if set(axes) <= set(x.channels) and (set(axes) == set(x.channels) or x.positions):
        x = g.laid(x, axes)
        n = math.prod(x.shape[a] for a in axes)
        at = g.add("linear", [x.at], [1] + x.dims()[1:], weight=g.param(torch.ones(1, n)))
        return Value(at, shape, [], x.positions)
    x = g.laid(x, [a for a in x.axes if a not in axes])
    return Value(g.add("sum_positions", [x.at], x.dims()[:1]), shape, x.channels)


def average(g, x, axes):
    return affine(g, total(g, x, axes), 1 / math.prod(x.shape[a] for a in axes), 0.0)


@maps("mean", "sum")
def mean(g, x, name, dim=None, keepdim=False):
    axes = [d % len(x.shape) for d in ([dim] if isinstance(dim, int) else dim or range(len(x.shape)))]
    return g.reshape((average if name == "mean" else total)(g, x, axes), g.new_shape)


@maps("group_norm")
def group_norm(g, x, num_groups, weight, bias, eps):
    x = normed(g, x)
    return grouped(g, x, num_groups, weight, bias, eps)


def normed(g, x):
    if x.shape[0] != 1:
        raise Unmapped(f"a norm of a batch of {x.shape[0]} that was made inside, {x.shape}")
    return g.laid(x, [1])


def grouped(g, x, groups, weight, bias, eps):
    n = x.shape[1]
    weight = torch.ones(n) if weight is None else weight
    bias = torch.zeros(n) if bias is None else bias
    at = g.add("group_norm", [x.at], x.dims(), groups=groups, eps=eps, weight=g.param(weight), bias=g.param(bias))
    return Value(at, x.shape, x.channels, x.positions)


@maps("instance_norm")
def instance_norm(g, x, weight, bias, running_mean, running_var, use_input_stats, eps):
    if use_input_stats:
        return grouped(g, normed(g, x), x.shape[1], weight, bias, eps)
    return batch_norm(g, x, weight, bias, running_mean, running_var, eps)


@maps("batch_norm", "_native_batch_norm_legit_no_training")
def batch_norm(g, x, weight, bias, running_mean, running_var, eps, name="batch_norm"):
    if running_mean is None:
        raise Unmapped("a batch norm without statistics of its own")
    along = (1, x.shape[1]) + (1,) * (len(x.shape) - 2)
    factor = (running_var.double() + eps).rsqrt() * (1 if weight is None else weight.double())
    shift = (0 if bias is None else bias.double()) - running_mean.double() * factor
    made = binary(g, "mul", x, factor.float().reshape(along))
    made = binary(g, "add", made, shift.float().reshape(along))
    return [made, None, None] if name.startswith("_native") else made


@maps("layer_norm", "rms_norm")
def layer_norm(g, x, normalized_shape, weight, eps, name, bias=None):
    n = len(x.shape)
    eps = float(torch.finfo(torch.float32).eps) if eps is None else eps
    return channel_norm(g, x, range(n - len(normalized_shape), n), name.split("_")[0], eps, weight, bias)
