"""Nodes, parameters and the order of axes: what every mapping stands on.

PyTorch permutes and reshapes freely; a graph's values have channels and positions. So a permutation only renames axes here, and an operation
asks for the layout that it needs (`laid`): where that is another order in memory, channels are shuffled.
"""

import math

import torch

from .values import Unmapped, Value


class Layout:
    """The nodes and weights of a graph that is being made."""

    def __init__(self):
        self.nodes, self.weights, self.names = [], {}, {}
        self.made = []  # The dimensions of each node.

    def add(self, op, args, dims, /, **attributes):
        self.nodes.append({"op": op, **({"args": list(args)} if args else {}), **attributes})
        self.made.append(list(dims))
        return len(self.nodes) - 1

    def fit(self, at, dims):
        """The node's elements under these dimensions."""
        dims = list(dims)
        while self.made[at] != dims and self.nodes[at]["op"] == "reshape":
            at = self.nodes[at]["args"][0]
        return at if self.made[at] == dims else self.add("reshape", [at], dims, dims=dims)

    def at(self, x):
        return self.fit(x.at, x.dims())

    def param(self, tensor, shape=None):
        """The name of a constant, which is stored under the name that it has in the model if it has one."""
        array = tensor.detach().to(torch.float32).cpu().contiguous()
        if shape is not None:
            array = array.reshape(shape)
        key = self.names.get(id(tensor))
        if key is None or (key in self.weights and self.weights[key].shape != tuple(array.shape)):
            key = f"constant.{len(self.weights)}"
        if key not in self.weights:
            self.weights[key] = array.numpy().copy()
        return key

    def parameter(self, tensor, dims):
        """A constant as a node."""
        return self.add("parameter", [], dims, param=self.param(tensor, dims), dims=list(dims))

    # Orders of axes.

    def laid(self, x, channels, positions=None):
        """x with these axes as its channels, in this order, and the others as positions, in the given order or their own."""
        channels = tuple(a for a in channels if x.shape[a] != 1)
        rest = tuple(a for a in x.axes if a not in channels)
        positions = rest if positions is None else tuple(a for a in positions if x.shape[a] != 1)
        if sorted(positions) != sorted(rest):
            raise Unmapped(f"a value of shape {x.shape}, of which only the axes {channels + positions} were expected to be larger than 1")
        at, old, new = x.at, x.axes, channels + positions
        if old != new:
            at = self.permuted(at, [x.shape[a] for a in old], [old.index(a) for a in new])
        made = Value(at, x.shape, channels, positions)
        made.at = self.at(made)
        return made

    def permuted(self, at, sizes, order):
        """The node's elements, an array of `sizes`, with its axes in another order, as some node of as many elements."""
        # Axes that stay together are one.
        runs = []
        for a in order:
            if runs and runs[-1][-1] + 1 == a:
                runs[-1].append(a)
            else:
                runs.append([a])
        count = [math.prod(sizes[a] for a in run) for run in runs]
        want = list(range(len(runs)))
        have = sorted(want, key=lambda r: runs[r][0])
        tail = 1
        while have and have[-1] == want[-1]:
            tail *= count[have.pop()]
            want.pop()
        at = self.fit(at, [math.prod(count[r] for r in have)] + ([tail] if tail > 1 else []))
        # Two runs of axes that follow one another change places: it puts the last axis where it belongs, then the one before it.
        for k in reversed(range(1, len(want))):
            i = have.index(want[k])
            if i == k:
                continue
            rows, columns = math.prod(count[r] for r in have[: i + 1]), math.prod(count[r] for r in have[i + 1 : k + 1])
            at = self.add("shuffle_channels", [at], self.made[at], rows=rows, columns=columns)
            have[: k + 1] = have[i + 1 : k + 1] + have[: i + 1]
        return at

    def renamed(self, x, order):
        """`x.permute(order)`."""
        place = {old: new for new, old in enumerate(order)}
        return Value(x.at, [x.shape[o] for o in order], [place[c] for c in x.channels], [place[p] for p in x.positions])

    def reshape(self, x, shape):
        shape = tuple(shape)
        if shape == x.shape:
            return x
        groups = groups_of(x.shape, shape)
        pixels = self.depth_to_space(x, shape, groups) or self.space_to_depth(x, shape)
        if pixels is not None:
            return pixels
        # Axes that become others together must follow one another in memory: they go where the first of them is.
        of_axis = {a: g for g, (old, _) in enumerate(groups) for a in old}
        channels, positions, seen = [], [], set()
        for a in x.axes:
            if of_axis[a] not in seen:
                seen.add(of_axis[a])
                (channels if a in x.channels else positions).append(of_axis[a])
        real = lambda g: [a for a in groups[g][0] if x.shape[a] != 1]
        x = self.laid(x, [a for g in channels for a in real(g)], [a for g in positions for a in real(g)])
        return Value(x.at, shape, [a for g in channels for a in groups[g][1]], [a for g in positions for a in groups[g][1]])

    def depth_to_space(self, x, shape, groups):
        """[.., h, p, w, q] to [.., h p, w q], the p and q being channels."""
        if len(shape) != 4 or len(x.positions) != 2 or 1 in shape[2:]:
            return None
        real = [[a for a in old if x.shape[a] != 1] for old, _ in groups]
        mixed = [old for old in real if len(old) == 2 and old[0] in x.positions and old[1] in x.channels]
        if len(mixed) != 2 or tuple(m[0] for m in mixed) != x.positions or groups_made(groups, mixed, x.shape) != [[2], [3]]:
            return None
        (_, p), (_, q) = mixed
        rest = [a for a in x.channels if a not in (p, q)]
        orders = {(p, q, *rest): True, (*rest, p, q): False}
        if x.channels not in orders or rest != sorted(rest):
            return None
        at = self.fit(x.at, [x.dims()[0], x.shape[x.positions[0]], x.shape[x.positions[1]]])
        first = {"blocks_first": True} if orders[x.channels] else {}
        return Value(self.add("depth_to_space", [at], shape[1:], factor=[x.shape[p], x.shape[q]], **first), shape, [1], [2, 3])

    def space_to_depth(self, x, shape):
        """[1, C, p, q, h, w], positions in memory as [h, p, w, q], to [1, C p q, h, w]."""
        if len(shape) != 4 or len(x.shape) != 6 or x.channels not in ((1,), ()) or shape[1] != math.prod(x.shape[1:4]):
            return None
        if x.positions != (4, 2, 5, 3):
            return None
        _, c, p, q, h, w = x.shape
        at = self.fit(x.at, [c, h * p, w * q])
        return Value(self.add("space_to_depth", [at], shape[1:], factor=[p, q]), shape, [1], [2, 3])

    def expand(self, x, shape):
        """x repeated along axes of size 1, and along new axes in front."""
        shape = tuple(shape)
        x = self.lifted(x, len(shape))
        wide = [a for a, (m, n) in enumerate(zip(x.shape, shape)) if m == 1 and n != 1]
        if any(m not in (1, n) for m, n in zip(x.shape, shape)):
            raise Unmapped(f"{x.shape} repeated to {shape}")
        if not wide:
            return x
        x = self.laid(x, [])
        n = math.prod(shape[a] for a in wide)
        at = self.add("linear", [x.at], [n] + x.dims()[1:], weight=self.param(torch.ones(n, 1)))
        return Value(at, shape, wide, x.positions)

    def lifted(self, x, rank):
        """x with axes of size 1 in front."""
        lift = rank - len(x.shape)
        return Value(x.at, (1,) * lift + x.shape, [c + lift for c in x.channels], [p + lift for p in x.positions])

    def along(self, x, axis, matrix):
        """The product of a constant matrix [n, m] with one axis."""
        x = self.laid(x, [axis])
        n = matrix.shape[0]
        at = self.add("linear", [x.at], [n] + x.dims()[1:], weight=self.param(matrix))
        return Value(at, x.shape[:axis] + (n,) + x.shape[axis + 1 :], [axis], x.positions)

    def slice(self, x, axis, start, length):
        if length == x.shape[axis]:
            return x
        shape = x.shape[:axis] + (length,) + x.shape[axis + 1 :]
        if x.channels[:1] != (axis,):
            x = self.laid(x, [axis])
        inner = math.prod(x.shape[a] for a in x.channels[1:])
        made = Value(None, shape, x.channels, x.positions)
        made.at = self.add("slice_channels", [self.at(x)], [length * inner] + x.dims()[1:], start=start * inner, len=length * inner)
        return made

    def joined(self, parts, axis):
        """Values of one shape but for `axis`, along it."""
        like = max(parts, key=lambda p: math.prod(p.shape))
        others = tuple(a for a in like.channels if a != axis)
        channels = (axis, *others) if like.channels[:1] == (axis,) or not others else (axis,)
        positions = tuple(a for a in like.axes if a not in channels)
        parts = [self.laid(p, channels, positions) for p in parts]
        length = sum(p.shape[axis] for p in parts)
        shape = like.shape[:axis] + (length,) + like.shape[axis + 1 :]
        made = Value(None, shape, channels, positions)
        made.at = self.add("concat", [p.at for p in parts], made.dims())
        return made


def groups_of(old_shape, new_shape):
    """Which axes become which others: pairs of lists, in order, of equal products."""
    groups, i, j = [], 0, 0
    while i < len(old_shape) or j < len(new_shape):
        old = [i] if i < len(old_shape) else []
        new = [j] if j < len(new_shape) else []
        a, b = math.prod(old_shape[k] for k in old), math.prod(new_shape[k] for k in new)
        while a != b:
            if a < b:
                old.append(old[-1] + 1 if old else i)
                a *= old_shape[old[-1]]
            else:
                new.append(new[-1] + 1 if new else j)
                b *= new_shape[new[-1]]
        groups.append((old, new))
        i, j = (old[-1] + 1 if old else i), (new[-1] + 1 if new else j)
    return groups


def groups_made(groups, wanted, shape):
    """What those groups become whose axes larger than 1 are these."""
    return [new for old, new in groups if [a for a in old if shape[a] != 1] in wanted]
