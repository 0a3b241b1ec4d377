"""Functions of single elements, and sums, products and quotients of values, numbers and constants."""

import math

import torch

from .registry import maps
from .values import Unmapped, Value

FUNCTIONS = {"silu": "silu", "mish": "mish", "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh"}


def unary(g, x, function, **attributes):
    at = g.at(x)
    return Value(g.add("activation", [at], g.made[at], function=function, **attributes), x.shape, x.channels, x.positions)


def affine(g, x, scale, shift):
    if scale == 1 and shift == 0:
        return x
    at = g.at(x)
    return Value(g.add("affine", [at], g.made[at], scale=scale, shift=shift), x.shape, x.channels, x.positions)


def constant(g, tensor, like):
    """A constant that broadcasts to the shape of `like`, as a value beside it."""
    tensor = tensor.reshape((1,) * (len(like.shape) - tensor.ndim) + tuple(tensor.shape))
    if all(n == 1 or a in like.channels for a, n in enumerate(tensor.shape)):
        shape, axes = [n if a in like.channels else 1 for a, n in enumerate(like.shape)], like.channels
    else:
        shape, axes = like.shape, like.axes
    full = tensor.expand(shape).permute([a for a in range(len(shape)) if a not in axes] + list(axes))
    made = Value(None, shape, [a for a in axes if a in like.channels], [a for a in axes if a in like.positions])
    # A constant of the model keeps its name where its elements stay as they are.
    same = full.numel() == tensor.numel() and torch.equal(full.flatten(), tensor.flatten())
    made.at = g.parameter(tensor_of(tensor) if same else full, made.dims())
    return made


def tensor_of(view):
    """The tensor that a view shows whole and in its order."""
    base = view._base
    whole = base is not None and base.numel() == view.numel() and base.is_contiguous() and view.is_contiguous()
    return base if whole else view


def uniform(tensor):
    """The one number that a constant repeats, else None."""
    first = tensor.flatten()[0]
    return float(first) if not bool((tensor != first).any()) else None


def binary(g, function, a, b):
    """`a function b` of values, constants and numbers, at least one of them a value."""
    if isinstance(a, Value) and isinstance(b, Value):
        return of_values(g, function, a, b)
    value, other, first = (a, b, True) if isinstance(a, Value) else (b, a, False)
    number = float(other) if not isinstance(other, torch.Tensor) else None
    if number is None:
        shape = torch.broadcast_shapes(value.shape, other.shape)
        value = g.expand(value, shape)
        number = uniform(other)
    if number is not None:
        if function == "div" and not first:
            return of_values(g, "div", constant(g, torch.full(value.shape, number), value), value)
        return affine(g, value, *{"add": (1.0, number), "mul": (number, 0.0), "div": (1 / number if number else math.nan, 0.0)}[function])
    if function == "div" and not first:
        full = constant(g, other.expand(value.shape), value)
        return of_values(g, "div", g.expand(full, value.shape), value)
    return of_values(g, function, value, constant(g, other, value))


def of_values(g, function, a, b):
    shape = tuple(torch.broadcast_shapes(a.shape, b.shape))
    if a.shape != shape and b.shape == shape and function in ("add", "mul"):
        a, b = b, a
    a, b = g.expand(a, shape), g.lifted(b, len(shape))
    real = set(b.axes)
    if real == set(a.axes):
        b = g.laid(b, a.channels, a.positions)
    elif real and not real & set(a.channels):
        # The same for all channels.
        b = g.laid(g.expand(b, shape), a.channels, a.positions)
    elif real:
        # A node's second argument has all channels and no position: those axes that b has become a's channels.
        if real != set(a.channels):
            a = g.laid(a, [c for c in a.axes if c in real])
        b = g.laid(b, a.channels, [])
    at = g.at(a)
    return Value(g.add("binary", [at, g.at(b)], g.made[at], function=function), shape, a.channels, a.positions)


@maps(*FUNCTIONS)
def activation(g, x, name):
    return unary(g, x, FUNCTIONS[name])


@maps("gelu")
def gelu(g, x, approximate):
    return unary(g, x, "gelu_tanh" if approximate == "tanh" else "gelu")


@maps("leaky_relu")
def leaky_relu(g, x, negative_slope):
    return unary(g, x, "leaky_relu", slope=negative_slope)


@maps("softplus")
def softplus(g, x, beta, threshold):
    if beta != 1:
        raise Unmapped(f"softplus of beta {beta}, expected 1")
    return unary(g, x, "softplus")


@maps("add", "sub", "rsub")
def add(g, x, other, alpha, name):
    if name == "rsub":
        x, other = other, x
    if name != "add" or alpha != 1:
        by = alpha if name == "add" else -alpha
        if name == "rsub" and alpha != 1:
            raise Unmapped(f"rsub with alpha {alpha}")
        other = affine(g, other, by, 0.0) if isinstance(other, Value) else other * by
    return binary(g, "add", x, other)


@maps("mul", "div")
def mul(g, x, other, name, rounding_mode=None):
    if rounding_mode is not None:
        raise Unmapped(f"a division rounded by {rounding_mode!r}")
    return binary(g, name, x, other)


@maps("addcmul")
def addcmul(g, x, tensor1, tensor2, value):
    product = binary(g, "mul", tensor1, tensor2)
    return binary(g, "add", affine(g, product, value, 0.0), x)


@maps("neg")
def neg(g, x):
    return affine(g, x, -1.0, 0.0)


@maps("abs")
def absolute(g, x):
    return binary(g, "add", unary(g, x, "relu"), unary(g, neg(g, x), "relu"))


@maps("square")
def square(g, x):
    return binary(g, "mul", x, x)


@maps("pow")
def power(g, x, exponent):
    if exponent not in (1, 2, 3, 4):
        raise Unmapped(f"the power {exponent}")
    made = x
    for _ in range(int(exponent) - 1):
        made = binary(g, "mul", made, x)
    return made


@maps("reciprocal")
def reciprocal(g, x):
    return binary(g, "div", 1.0, x)


@maps("elu")
def elu(g, x, alpha, scale, input_scale):
    """exp(z) - 1 = 2 h / (1 - h) for h = tanh(z / 2), exact to rounding for z <= 0."""
    half = unary(g, affine(g, unary(g, affine(g, x, -1.0, 0.0), "relu"), -input_scale / 2, 0.0), "tanh")
    below = binary(g, "div", affine(g, half, 2.0, 0.0), affine(g, half, -1.0, 1.0))
    return affine(g, binary(g, "add", unary(g, x, "relu"), affine(g, below, alpha, 0.0)), scale, 0.0)


@maps("selu")
def selu(g, x):
    return elu(g, x, 1.6732632423543772, 1.0507009873554805, 1.0)


@maps("prelu", "_prelu_kernel")
def prelu(g, x, weight):
    slope = weight.reshape((1, -1) + (1,) * (len(x.shape) - 2)) if weight.numel() > 1 else float(weight)
    below = unary(g, neg(g, x), "relu")
    return binary(g, "add", unary(g, x, "relu"), binary(g, "mul", below, -slope))


@maps("hardtanh", "relu6", "clamp", "clamp_min", "clamp_max")
def clamp(g, x, name, min_val=None, max_val=None, min=None, max=None):
    low, high = (0.0, 6.0) if name == "relu6" else (min_val, max_val) if name == "hardtanh" else (min, max)
    if isinstance(low, (torch.Tensor, Value)) or isinstance(high, (torch.Tensor, Value)):
        raise Unmapped("a clamp whose bounds are no numbers")
    if low is not None:
        x = affine(g, unary(g, affine(g, x, 1.0, -low), "relu"), 1.0, low)
    if high is not None:
        x = affine(g, unary(g, affine(g, x, -1.0, high), "relu"), -1.0, high)
    return x


@maps("hardsigmoid", "hardswish")
def hard(g, x, name):
    gate = affine(g, clamp(g, affine(g, x, 1.0, 3.0), "relu6"), 1 / 6, 0.0)
    return gate if name == "hardsigmoid" else binary(g, "mul", x, gate)


@maps("glu")
def glu(g, x, dim):
    axis = dim % len(x.shape)
    half = x.shape[axis] // 2
    return binary(g, "mul", g.slice(x, axis, 0, half), unary(g, g.slice(x, axis, half, half), "sigmoid"))


@maps("where", "masked_fill")
def where(g, x, name, condition=None, other=None, mask=None, value=None):
    """Of a constant condition."""
    if name == "masked_fill":
        condition, x, other = mask, value, x
    if not isinstance(condition, torch.Tensor):
        raise Unmapped("a choice that depends on the input")
    condition = condition.bool()
    if not (condition.all() or (~condition).all()):
        keep = condition.float()
        part = lambda v, by: binary(g, "mul", v, by) if isinstance(v, Value) else torch.as_tensor(v).float() * by
        return binary(g, "add", part(x, keep), part(other, 1 - keep))
    chosen = x if condition.all() else other
    if isinstance(chosen, Value):
        return g.expand(chosen, g.new_shape)
    return torch.as_tensor(chosen).expand(g.new_shape)
