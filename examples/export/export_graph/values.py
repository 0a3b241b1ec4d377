"""What stands for the tensors of an exported program while it is translated."""

import math


class Unmapped(Exception):
    """A node of the exported program that undiffuse has no operation for."""


class Value:
    """A tensor of the program: node `at` of the graph.

    Of its axes, `channels` together are the graph's first dimension, most significant first, and `positions` the others, so that
    `channels + positions` is the order of axes in memory. Axes of size 1 are in neither; the batch is one.
    """

    def __init__(self, at, shape, channels, positions=()):
        self.at, self.shape = at, tuple(shape)
        self.channels = tuple(a for a in channels if self.shape[a] != 1)
        self.positions = tuple(a for a in positions if self.shape[a] != 1)

    @property
    def axes(self):
        return self.channels + self.positions

    def dims(self):
        """The dimensions of its node. A graph's values have at most four, so more positions than three are one."""
        sizes = [self.shape[a] for a in self.positions]
        return [math.prod(self.shape[a] for a in self.channels)] + (sizes if len(sizes) < 4 else [math.prod(sizes)])


# What follows is held back, because it may be a part of a larger operation; `Mapper.settled` makes it a value of its own.


class Padded:
    """A value with zeros around it, which a convolution takes as its padding: [before, after] for each axis from the last one backwards."""

    def __init__(self, of, padding, shape):
        self.of, self.padding, self.shape = of, padding, tuple(shape)


class Angle:
    """A number times fixed frequencies, perhaps its sine or cosine; with `log` the number's logarithm."""

    def __init__(self, of, frequencies, shape, function=None, log=False):
        self.of, self.frequencies, self.shape, self.function, self.log = of, frequencies, tuple(shape), function, log


class Log:
    """The logarithm of a number, which only an embedding takes."""

    def __init__(self, of, scale=1.0):
        self.of, self.shape, self.scale = of, of.shape, scale


class Soft:
    """The softmax of a value over one axis, perhaps times a number."""

    def __init__(self, of, axis, scale=1.0):
        self.of, self.shape, self.axis, self.scale = of, of.shape, axis, scale


class Scores:
    """Products of queries [.., L, D] and keys [.., S, D], scaled, with a constant added, perhaps their softmax. `rows` and `columns` are the
    axes that L and S stand as: the shape is [.., *rows, *columns]."""

    def __init__(self, q, k, scale=1.0, bias=None, soft=False, rows=None, columns=None):
        self.q, self.k, self.scale, self.bias, self.soft = q, k, scale, bias, soft
        self.rows, self.columns = tuple(rows or (q.shape[-2],)), tuple(columns or (k.shape[-2],))

    @property
    def shape(self):
        return self.q.shape[:-2] + self.rows + self.columns

    def but(self, **changed):
        return Scores(**{**vars(self), **changed})


class Turned:
    """The softmax of scores with its last two axes exchanged."""

    def __init__(self, of):
        self.of, self.shape = of, of.shape[:-2] + of.shape[:-3:-1]


class Moment:
    """What a norm over `axes` of `of` divides by or takes off. `kind` is mean, variance, square (the mean of squares), root or inverse of
    either ("variance root"), or length. `factor` is what the variance is beside the mean of squares: n / (n - 1) where it is unbiased.
    `weight` is what an inverse has been multiplied by, if anything."""

    def __init__(self, of, axes, kind, eps=0.0, factor=1.0, weight=None):
        self.of, self.axes, self.kind, self.eps, self.factor, self.weight = of, tuple(axes), kind, eps, factor, weight
        self.shape = tuple(1 if a in self.axes else n for a, n in enumerate(of.shape))

    def but(self, **changed):
        return Moment(**{k: v for k, v in {**vars(self), **changed}.items() if k != "shape"})


class Centred:
    """A value less its own mean over some axes."""

    def __init__(self, of, axes):
        self.of, self.axes, self.shape = of, axes, of.shape


class Squared:
    """A value, or one less its mean, times itself, before its mean is taken."""

    def __init__(self, of):
        self.of, self.shape = of, of.shape


HELD = (Padded, Angle, Log, Soft, Scores, Turned, Moment, Centred, Squared)
