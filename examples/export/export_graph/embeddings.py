"""A number among sines and cosines, and rows of tables."""

import math

import numpy as np
import torch

from .arithmetic import affine, binary
from .registry import maps
from .values import Angle, Log, Unmapped, Value


def angle(g, name, given):
    """The steps towards an embedding; None for what is none."""
    x, other = given.get("x"), given.get("other")
    if name == "log" and isinstance(x, Value) and not x.axes:
        return Log(x)
    if isinstance(x, Log) and name in ("mul", "div") and isinstance(other, (int, float)):
        return Log(x.of, x.scale * other if name == "mul" else x.scale / other)
    if name == "mul" and isinstance(other, (Value, Log)) and isinstance(x, torch.Tensor):
        x, other = other, x
    if name == "outer" or name == "ger":
        other = given.get("vec2")
        if not isinstance(other, torch.Tensor):
            return None
        name, other = "mul", other.reshape(1, -1)
    if name in ("matmul", "mm", "linear") and isinstance(x, (Value, Log)) and math.prod(x.shape) == 1 and given.get("bias") is None:
        # A number times a matrix of one row.
        matrix = next((given[k] for k in ("other", "mat2", "weight") if k in given), None)
        rows = 1 if name == "linear" else 0
        if isinstance(matrix, torch.Tensor) and matrix.ndim == 2 and matrix.shape[rows] == 1:
            name, other = "mul", matrix.reshape(-1)
    if name == "mul" and isinstance(other, torch.Tensor) and other.numel() > 1:
        if isinstance(x, Log):
            return Angle(x.of, x.scale * other.flatten().double().numpy(), g.new_shape, log=True)
        if isinstance(x, Value) and not x.axes and other.numel() == max(other.shape):
            return Angle(x, other.flatten().double().numpy(), g.new_shape)
        if isinstance(x, Value) and several(x, other, g.new_shape):
            return Angle(x, other.flatten().double().numpy(), g.new_shape)
    if isinstance(x, Log) and name in SHAPES:
        made = Log(x.of, x.scale)
        made.shape = tuple(g.new_shape)
        return made
    if not isinstance(x, Angle) and isinstance(other, Angle) and name == "mul":
        x, other = other, x
    if not isinstance(x, Angle):
        return None
    if name in ("sin", "cos") and x.function is None:
        return Angle(x.of, x.frequencies, x.shape, name, x.log)
    if name in ("mul", "div") and x.function is None and isinstance(other, (int, float, torch.Tensor)):
        by = np.asarray(other, dtype=np.float64).reshape(-1)
        if len(by) in (1, len(x.frequencies)):
            return Angle(x.of, x.frequencies * by if name == "mul" else x.frequencies / by, g.new_shape, None, x.log)
    if name in SHAPES and (not x.of.axes or tuple(g.new_shape) == x.shape):
        return Angle(x.of, x.frequencies, g.new_shape, x.function, x.log)
    return None


# The most numbers that are embedded one by one where a network embeds several of a vector.
SEVERAL = 16


def several(x, other, shape):
    """Whether the product is a few numbers along one axis, each times the same frequencies along a later one."""
    real = [a for a, n in enumerate(shape) if n != 1]
    if len(x.axes) != 1 or len(x.shape) != len(shape) or len(real) != 2:
        return False
    at = [n for n in other.shape if n != 1] == [shape[real[1]]] and other.shape[other.ndim - len(shape) + real[1]] == shape[real[1]]
    return x.axes == (real[0],) and x.shape[real[0]] <= SEVERAL and at


def one_by_one(g, x, make, shape):
    """`make` of the angles of each number, one after the other along its axis."""
    (axis,) = x.of.axes
    one = lambda s: s[:axis] + (1,) + s[axis + 1 :]
    number = lambda i: g.reshape(g.slice(x.of, axis, i, 1), one(x.of.shape))
    parts = [make(Angle(number(i), x.frequencies, one(x.shape), x.function, x.log), one(shape)) for i in range(x.shape[axis])]
    return g.joined(parts, axis)


SHAPES = ("view", "reshape", "unsqueeze", "squeeze", "expand", "flatten", "to", "_to_copy", "clone", "contiguous")


def pairs(g, parts):
    """Sines and cosines of the same frequencies that stand beside one another, as one embedding."""
    made = []
    for part in parts:
        last = made[-1] if made else None
        both = [p.function for p in (last, part) if isinstance(p, Angle)]
        if sorted(map(str, both)) == ["cos", "sin"] and last.of is part.of and last.log == part.log and np.array_equal(last.frequencies, part.frequencies):
            made[-1] = embedding(g, part, both[0] == "cos", part.shape)
        else:
            made.append(part)
    return made


def embedding(g, x, cosines_first, shape):
    """Both functions of all angles, one after the other, along the last axis larger than 1."""
    if x.of.axes:
        return one_by_one(g, x, lambda y, to: embedding(g, y, cosines_first, to), shape)
    f, n = x.frequencies, len(x.frequencies)
    flip = {"flip_sin_to_cos": True} if cosines_first else {}
    axis = max((a for a, m in enumerate(shape) if m != 1), default=len(shape) - 1)
    shape = shape[:axis] + (2 * n,) + shape[axis + 1 :]
    at = g.fit(x.of.at, [1])
    # A geometric series by its period, from which the frequencies follow exactly.
    series = f / f[0] if f[0] > 0 else f
    rate = -math.log(series[-1]) / (n - 1) if n > 1 and series[-1] > 0 else 0.0
    if rate > 0 and not x.log and np.allclose(series, np.exp(-rate * np.arange(n)), rtol=2e-6, atol=0):
        period, shift = math.exp(rate * n), 0
        if abs(math.exp(rate * (n - 1)) / 10000 - 1) < 1e-4:
            period, shift = 10000.0, 1
        elif abs(period - round(period)) < 1e-4 * period:
            period = float(round(period))
        if abs(f[0] - 1) > 1e-7:
            at = g.add("affine", [at], [1], scale=float(f[0]), shift=0.0)
        at = g.add("sinusoidal_embedding", [at], [2 * n], dim=2 * n, freq_shift=shift, max_period=period, **flip)
    else:
        more = {**flip, **({"log": True} if x.log else {})}
        at = g.add("fourier_embedding", [at], [2 * n], weight=g.param(torch.from_numpy(f / (2 * math.pi))), **more)
    return Value(at, shape, [axis])


def alone(g, x):
    """An angle, or one of its functions, as a value."""
    axis = max((a for a, m in enumerate(x.shape) if m != 1), default=len(x.shape) - 1)
    n = len(x.frequencies)
    if x.of.axes and x.function is None:
        return binary(g, "mul", x.of, torch.from_numpy(x.frequencies).float().reshape((1,) * axis + (n,) + (1,) * (len(x.shape) - axis - 1)))
    if x.function is not None:
        return g.slice(embedding(g, x, x.function == "cos", x.shape), axis, 0, n)
    if x.log:
        raise Unmapped("the logarithm of a number that is not embedded")
    weight = g.param(torch.from_numpy(x.frequencies).reshape(n, 1))
    return Value(g.add("linear", [g.fit(x.of.at, [1])], [n], weight=weight), x.shape, [axis])


@maps("embedding")
def rows(g, weight, indices, padding_idx, scale_grad_by_freq, sparse):
    if not isinstance(indices, Value) or indices.axes or not isinstance(weight, torch.Tensor):
        raise Unmapped("an embedding of several numbers")
    at = g.add("embedding", [g.fit(indices.at, [1])], [weight.shape[1]], table=g.param(weight))
    return Value(at, g.new_shape, [len(g.new_shape) - 1])


@maps("one_hot")
def one_hot(g, x, num_classes):
    if x.axes or num_classes < 1:
        raise Unmapped("one_hot of several numbers, or of an unknown number of classes")
    return Value(g.add("one_hot", [g.fit(x.at, [1])], [num_classes], classes=num_classes), g.new_shape, [len(g.new_shape) - 1])
