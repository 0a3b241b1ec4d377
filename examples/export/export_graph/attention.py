"""Linear maps and attention, whole or written out as products and a softmax."""

import math

import torch

from .arithmetic import affine, binary, constant
from .registry import maps
from .values import Scores, Soft, Turned, Unmapped, Value

# A mask's minus infinity: the softmax of a product that much below the others is 0 in f32.
HIDDEN = -1e9
# The most keys for which a bias is carried through the products.
MOST_BIASED = 1024


def scores(g, name, given):
    """The steps of attention that is written out; None for what is none."""
    x, other = given.get("x"), given.get("other", given.get("mat2"))
    if name == "einsum":
        return contraction(g, given["equation"], given["tensors"])
    if name in ("matmul", "bmm"):
        return product(g, x, other)
    if name in ("softmax", "_softmax") and isinstance(x, Value):
        return Soft(x, given["dim"] % len(x.shape))
    if isinstance(x, Soft) and name in ("mul", "div") and isinstance(other, (int, float)):
        made = Soft(x.of, x.axis, x.scale * other if name == "mul" else x.scale / other)
        made.shape = x.shape
        return made
    if isinstance(other, Scores) and name in ("mul", "add"):
        x, other = other, x
    if not isinstance(x, Scores):
        return None
    plain = len(x.rows) == len(x.columns) == 1
    if name in ("mul", "div") and not x.soft and x.bias is None:
        if isinstance(other, (int, float)) or isinstance(other, torch.Tensor) and other.numel() == 1:
            by = float(other)
            return x.but(scale=x.scale * by if name == "mul" else x.scale / by)
        rows = other.shape[-1:] == (1,)
        if plain and isinstance(other, (torch.Tensor, Value)) and rows and len(other.shape) <= len(x.q.shape):
            return x.but(q=binary(g, name, x.q, other))
    if name in ("add", "masked_fill") and not x.soft and plain:
        if name == "masked_fill":
            other = torch.zeros(given["mask"].shape).masked_fill(given["mask"].bool(), max(float(given["value"]), HIDDEN))
        if isinstance(other, torch.Tensor) and other.is_floating_point():
            return x.but(bias=other if x.bias is None else x.bias + other)
    if name in ("softmax", "_softmax") and not x.soft and given["dim"] in (-1, len(x.shape) - 1) and len(x.columns) == 1:
        return x.but(soft=True)
    if name in ("transpose", "permute", "swapaxes") and x.soft and len(x.rows) == len(x.columns) == 1:
        n = len(x.shape)
        order = list(range(n))
        if name == "permute":
            order = [d % n for d in given["dims"]]
        else:
            i, j = (given[k] % n for k in (("dim0", "dim1") if name == "transpose" else ("axis0", "axis1")))
            order[i], order[j] = order[j], order[i]
        return Turned(x) if order == [*range(n - 2), n - 1, n - 2] else None
    if name not in SAME:
        return None
    shape = tuple(g.new_shape)
    if shape == x.shape:
        return x
    # Batch, rows and columns may each stand as other axes.
    products = [math.prod(x.shape[:-2]) if len(x.rows) == len(x.columns) == 1 else math.prod(x.q.shape[:-2]), math.prod(x.rows), math.prod(x.columns)]
    cuts = [(i, j) for i in range(len(shape)) for j in range(i + 1, len(shape))
            if [math.prod(shape[:i]), math.prod(shape[i:j]), math.prod(shape[j:])] == products]
    if not cuts or isinstance(x.q, Soft) or isinstance(x.k, Soft):
        return None
    i, j = min(cuts, key=lambda c: (len(shape) - c[1], c[1] - c[0]))
    outer = lambda v: g.reshape(v, shape[:i] + v.shape[-2:])
    if x.bias is not None and shape[:i] != x.q.shape[:-2]:
        bias = x.bias.expand(x.q.shape[:-2] + (products[1], products[2])).reshape(shape[:i] + (products[1], products[2]))
        return x.but(q=outer(x.q), k=outer(x.k), bias=bias, rows=shape[i:j], columns=shape[j:])
    return x.but(q=outer(x.q), k=outer(x.k), rows=shape[i:j], columns=shape[j:])


SAME = ("dropout", "clone", "contiguous", "to", "type_as", "_to_copy", "expand", "view", "reshape", "unsqueeze", "squeeze", "_unsafe_view", "flatten", "unflatten")


def swapped(g, x, i=-1, j=-2):
    order = list(range(len(x.shape)))
    order[i], order[j] = order[j], order[i]
    if isinstance(x, Soft):
        made = Soft(g.renamed(x.of, order), order.index(x.axis), x.scale)
        return made
    return g.renamed(x, order)


def product(g, a, b):
    """`a @ b` of whatever is held back or is a value; None for what is no part of attention."""
    if isinstance(a, Scores):
        if isinstance(b, (Value, Soft)):
            return weighted(g, a, b)
        return None
    if isinstance(b, Turned) and isinstance(a, Value):
        return swapped(g, weighted(g, b.of, swapped(g, a)))
    if isinstance(a, (Value, Soft)) and isinstance(b, (Value, Soft)) and len(a.shape) == len(b.shape) > 1:
        return Scores(a, swapped(g, b))
    return None


def spelt(equation, operands):
    """An equation with letters in place of dots."""
    left, right = equation.replace(" ", "").split("->")
    free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in equation]
    terms = left.split(",")
    dots = ["".join(free[: len(v.shape) - len(t) + 3][::-1]) if "..." in t else "" for t, v in zip(terms, operands)]
    terms = [t.replace("...", d) for t, d in zip(terms, dots)]
    return ",".join(terms), right.replace("...", max(dots, key=len))


def contraction(g, equation, operands):
    """An einsum of two as a step of attention. Its letters are of both and the result, of both alone, or of one and the result."""
    left, right = spelt(equation, operands)
    if len(operands) != 2 or not all(isinstance(v, (Value, Soft, Scores)) for v in operands):
        return None
    one, two = left.split(",")
    if isinstance(operands[1], Scores):
        one, two, operands = two, one, operands[::-1]
    batch = [c for c in right if c in one and c in two]
    summed = [c for c in one if c in two and c not in right]
    i, j = ([c for c in t if c not in batch + summed] for t in (one, two))
    if not (summed and i and j) or set(i + j + batch) != set(right):
        return None
    size = {c: n for t, v in zip((one, two), operands) for c, n in zip(t, v.shape)}
    many = lambda letters: math.prod(size[c] for c in letters)

    def order(t, v, first, last):
        at = [t.index(c) for c in batch + first + last]
        if isinstance(v, Soft):
            return Soft(g.renamed(v.of, at), at.index(v.axis), v.scale) if len(first) == len(last) == 1 else None
        return g.reshape(g.renamed(v, at), [size[c] for c in batch] + [many(first), many(last)])

    if isinstance(operands[0], Scores):
        s = operands[0]
        v = None if isinstance(operands[1], Scores) else order(two, operands[1], summed, j)
        if v is None:
            return None
        if list(one) == batch + i + summed and len(s.columns) == len(summed):
            made = weighted(g, s, v)
        elif list(one) == batch + summed + i and len(s.rows) == len(summed) and not s.soft and s.bias is None:
            made = weighted(g, Scores(s.k, s.q, s.scale), v)
        else:
            return None
        have = batch + i + j
        made = g.reshape(made, [size[c] for c in have])
        return g.renamed(made, [have.index(c) for c in right])
    if list(right) == batch + j + i:
        one, two, i, j, operands = two, one, j, i, operands[::-1]
    q, k = order(one, operands[0], i, summed), order(two, operands[1], j, summed)
    if q is None or k is None or list(right) != batch + i + j:
        return None
    return Scores(q, k, rows=[size[c] for c in i], columns=[size[c] for c in j])


def weighted(g, s, v):
    """What the scores [.., L, S] make of values [.., S, E]."""
    if s.soft:
        return attention(g, s.q, s.k, value_of(g, v), s.scale, s.bias)
    # (q k^T) v without a softmax between: linear attention, if it has its own two.
    n = len(s.q.shape)
    values, keys = s.q, s.k
    if s.bias is None and isinstance(v, Soft) and v.axis == n - 2 and isinstance(keys, Soft) and keys.axis == n - 1 and isinstance(values, Value):
        return linear_attention(g, v, keys, values, s.scale)
    raise Unmapped("products of queries, keys and values without a softmax")


def linear_attention(g, q, k, v, scale):
    """Queries [.., D, M] of softmax over D, keys [.., D, N] of softmax over N, values [.., E, N]: [.., E, M]."""
    n = len(v.shape)
    outer = [a for a in range(n - 2)]
    lay = lambda x: g.laid(x, outer + [n - 2], [n - 1])
    heads = math.prod(v.shape[:-2])
    ql, kl, vl = lay(q.of), lay(k.of), lay(v)
    at = g.add("linear_attention", [ql.at, kl.at, vl.at], vl.dims()[:1] + ql.dims()[1:], heads=heads)
    made = Value(at, v.shape[:-1] + (q.of.shape[-1],), vl.channels, [n - 1])
    return affine(g, made, scale * q.scale * k.scale, 0.0)


def value_of(g, x):
    return soft(g, x) if isinstance(x, Soft) else x


def soft(g, s):
    x = g.laid(s.of, [s.axis])
    made = Value(g.add("softmax", [x.at], x.dims()), x.shape, x.channels, x.positions)
    return affine(g, made, s.scale, 0.0)


def attention(g, q, k, v, scale, bias=None):
    q, k = value_of(g, q), value_of(g, k)
    n, d, s = len(q.shape), q.shape[-1], k.shape[-2]
    outer = tuple(torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2]))
    q, k, v = (g.expand(x, outer + x.shape[-2:]) for x in (q, k, v))
    if bias is not None:
        if s > MOST_BIASED:
            raise Unmapped(f"attention with a bias for each of {s} keys, expected at most {MOST_BIASED}")
        # The bias as a product: each query has a 1 among as many zeros as there are queries, each key its column of the bias.
        wide = d + q.shape[-2]
        bias = torch.clamp(bias.float(), min=HIDDEN).expand(outer + (q.shape[-2], s))
        one = torch.eye(q.shape[-2]).expand(outer + (q.shape[-2],) * 2)
        both = lambda x, c: g.joined([x, g.expand(constant(g, c, Value(None, c.shape, range(n))), c.shape)], n - 1)
        q, k = both(affine(g, q, scale, 0.0), one), both(k, bias.transpose(-1, -2))
        d, scale = wide, 1.0
    q = affine(g, q, scale * d**0.5, 0.0) if abs(scale * d**0.5 - 1) > 1e-7 else q
    lay = lambda x: g.laid(x, list(range(n - 2)) + [n - 1], [n - 2])
    q, k, v = lay(q), lay(k), lay(v)
    made = Value(None, q.shape[:-1] + v.shape[-1:], v.channels, q.positions)
    made.at = g.add("attention", [q.at, k.at, v.at], v.dims()[:1] + q.dims()[1:], heads=math.prod(outer))
    return made


@maps("scaled_dot_product_attention")
def whole(g, query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa):
    if enable_gqa or isinstance(attn_mask, Value):
        raise Unmapped("attention with a mask that depends on the input, or with fewer keys than heads")
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros(attn_mask.shape).masked_fill(~attn_mask, HIDDEN)
    return attention(g, query, key, value, query.shape[-1] ** -0.5 if scale is None else scale, attn_mask)


@maps("linear")
def linear(g, x, weight, bias):
    if not isinstance(weight, torch.Tensor):
        raise Unmapped("a linear map whose weight depends on the input")
    last = len(x.shape) - 1
    x = g.laid(x, [last])
    given = {"bias": g.param(bias)} if bias is not None else {}
    at = g.add("linear", [x.at], [weight.shape[0]] + x.dims()[1:], weight=g.param(weight), **given)
    return Value(at, x.shape[:-1] + (weight.shape[0],), [last], x.positions)


@maps("matmul", "mm", "bmm")
def matmul(g, x, other=None, mat2=None):
    other = mat2 if other is None else other
    if isinstance(x, Value) and isinstance(other, torch.Tensor) and other.ndim == 2:
        return g.along(x, len(x.shape) - 1, other.t())
    if isinstance(other, Value) and isinstance(x, torch.Tensor) and x.ndim == 2 and len(other.shape) > 1:
        return g.along(other, len(other.shape) - 2, x)
    raise Unmapped("a product of matrices that is no part of attention")


@maps("addmm")
def addmm(g, x, mat1, mat2, beta, alpha):
    if beta != 1 or alpha != 1 or not isinstance(mat1, Value):
        raise Unmapped("addmm with factors")
    return binary(g, "add", matmul(g, mat1, mat2), x)


@maps("einsum")
def einsum(g, equation, tensors, path=None):
    left, right = spelt(equation, tensors)
    if len(tensors) == 1 and sorted(left) == sorted(right):
        return g.renamed(tensors[0], [left.index(c) for c in right])
    if len(tensors) == 2 and sum(isinstance(v, torch.Tensor) for v in tensors) == 1:
        one, two = left.split(",")
        if isinstance(tensors[0], torch.Tensor):
            one, two, tensors = two, one, tensors[::-1]
        summed = [c for c in one if c in two]
        new = [c for c in two if c not in one]
        if len(summed) == len(new) == 1 and len(two) == 2 and summed[0] not in right:
            x, matrix = tensors
            matrix = matrix if two.index(new[0]) == 0 else matrix.t()
            made = g.along(x, one.index(summed[0]), matrix)
            have = one.replace(summed[0], new[0])
            return g.renamed(made, [have.index(c) for c in right])
        if set(two) <= set(one) == set(right):
            x, by = tensors
            by = by.permute(sorted(range(len(two)), key=lambda i: one.index(two[i])))
            shape = [x.shape[one.index(c)] if c in two else 1 for c in one]
            return g.renamed(binary(g, "mul", x, by.reshape(shape)), [one.index(c) for c in right])
    if len(tensors) == 2 and set(left.split(",")[0]) | set(left.split(",")[1]) == set(right):
        one, two = left.split(",")
        lay = lambda t, v: g.reshape(g.renamed(v, [t.index(c) for c in right if c in t]), [v.shape[t.index(c)] if c in t else 1 for c in right])
        return binary(g, "mul", lay(one, tensors[0]), lay(two, tensors[1]))
    raise Unmapped(f"einsum {equation!r}, which is neither a linear map nor a part of attention")
