"""Axes: other shapes and orders, parts, copies, values side by side."""

import torch

from .arithmetic import constant
from .registry import maps
from .values import Unmapped, Value


@maps("clone", "contiguous", "to", "_to_copy", "detach", "alias", "dropout", "feature_dropout", "alpha_dropout", "lift_fresh_copy", "type_as", "lift_fresh")
def same(g, x, other=None):
    return x


@maps("view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as")
def view(g, x, **_):
    return g.reshape(x, g.new_shape)


@maps("expand", "expand_as", "broadcast_to")
def expand(g, x, **_):
    return g.expand(x, g.new_shape)


@maps("zeros_like", "ones_like", "new_zeros", "new_ones")
def filled(g, x, name, size=None):
    """A constant of the shape, whatever the value is."""
    return (torch.zeros if "zeros" in name else torch.ones)(g.new_shape)


@maps("repeat")
def repeat(g, x, repeats):
    x = g.lifted(x, len(repeats))
    for axis, n in enumerate(repeats):
        if n > 1 and x.shape[axis] == 1:
            x = g.expand(x, x.shape[:axis] + (n,) + x.shape[axis + 1 :])
        elif n > 1:
            x = g.joined([x] * n, axis)
    return x


@maps("repeat_interleave")
def repeat_interleave(g, x, repeats, dim, output_size=None):
    if not isinstance(repeats, int) or dim is None:
        raise Unmapped("elements repeated differently")
    axis = dim % len(x.shape) + 1
    x = g.reshape(x, x.shape[:axis] + (1,) + x.shape[axis:])
    return g.reshape(g.expand(x, x.shape[:axis] + (repeats,) + x.shape[axis + 1 :]), g.new_shape)


@maps("permute", "transpose", "swapaxes", "t")
def permute(g, x, dims=None, dim0=0, dim1=1, axis0=None, axis1=None):
    n = len(x.shape)
    order = [d % n for d in dims] if dims is not None else list(range(n))
    if dims is None and n > 1:
        i, j = (dim0 if axis0 is None else axis0) % n, (dim1 if axis1 is None else axis1) % n
        order[i], order[j] = order[j], order[i]
    return g.renamed(x, order)


@maps("chunk", "split", "split_with_sizes", "tensor_split")
def split(g, x, dim, **_):
    axis, start, parts = dim % len(x.shape), 0, []
    for shape in g.new_shape:
        parts.append(g.slice(x, axis, start, shape[axis]) if shape[axis] else torch.zeros(shape))
        start += shape[axis]
    return parts


@maps("unbind")
def unbind(g, x, dim):
    axis = dim % len(x.shape)
    return [select(g, x, axis, i) for i in range(x.shape[axis])]


@maps("select")
def select(g, x, dim, index):
    axis = dim % len(x.shape)
    return g.reshape(g.slice(x, axis, index % x.shape[axis], 1), x.shape[:axis] + x.shape[axis + 1 :])


@maps("slice", "narrow")
def part(g, x, dim, start, end=None, step=1, length=None):
    axis = dim % len(x.shape)
    n, start = x.shape[axis], start or 0
    start = min(max(start + n if start < 0 else start, 0), n)
    if g.new_shape[axis] == 0:
        return torch.zeros(g.new_shape)
    if step == 1:
        return g.slice(x, axis, start, g.new_shape[axis])
    return g.along(x, axis, torch.eye(n)[start : n if end is None else end : step])


@maps("index_select")
def index_select(g, x, dim, index):
    if not isinstance(index, torch.Tensor):
        raise Unmapped("an index that depends on the input")
    return g.along(x, dim % len(x.shape), torch.eye(x.shape[dim])[index])


@maps("index")
def index(g, x, indices):
    wanted = [(a, i) for a, i in enumerate(indices) if i is not None]
    if len(wanted) != 1 or not isinstance(wanted[0][1], torch.Tensor) or wanted[0][1].ndim != 1:
        raise Unmapped("an index of several axes, or one that depends on the input")
    (axis, at), = wanted
    return g.along(x, axis, torch.eye(x.shape[axis])[at])


@maps("flip")
def flip(g, x, dims):
    for d in dims:
        x = g.along(x, d % len(x.shape), torch.eye(x.shape[d]).flip(0))
    return x


@maps("roll")
def roll(g, x, shifts, dims):
    if not dims:
        raise Unmapped("a roll of all elements")
    for by, d in zip(shifts, dims):
        axis = d % len(x.shape)
        by %= x.shape[axis]
        if by:
            n = x.shape[axis]
            x = g.joined([g.slice(x, axis, n - by, by), g.slice(x, axis, 0, n - by)], axis)
    return x


@maps("cat", "concat", "concatenate")
def cat(g, tensors, dim):
    like = next(p for p in tensors if isinstance(p, Value))
    axis = dim % len(like.shape)
    parts = []
    for p in tensors:
        if not isinstance(p, Value):
            if p.numel() == 0:
                continue
            shape = like.shape[:axis] + (p.shape[axis],) + like.shape[axis + 1 :]
            p = g.expand(constant(g, p.expand(shape), Value(None, shape, range(len(shape)))), shape)
        parts.append(p)
    return g.joined(parts, axis)


@maps("stack")
def stack(g, tensors, dim):
    like = next(p for p in tensors if isinstance(p, Value))
    axis = dim % (len(like.shape) + 1)
    shape = like.shape[:axis] + (1,) + like.shape[axis:]
    return cat(g, [g.reshape(p, shape) if isinstance(p, Value) else p.reshape(shape) for p in tensors], axis)
