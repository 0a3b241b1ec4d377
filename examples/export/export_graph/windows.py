"""Convolutions, pooling, resampling and padding of images and signals."""

import torch
import torch.nn.functional as F

from .arithmetic import affine, binary
from .registry import maps
from .values import Padded, Unmapped, Value


# The most weights that a convolution of each of a batch is given.
MOST_REPEATED = 1 << 20


def two(v):
    return list(v) * (2 // len(v)) if isinstance(v, (list, tuple)) else [v, v]


def image(g, x):
    """The node of x as [C, H, W], C being its axis 1; a signal has height 1."""
    if x.shape[0] != 1 or len(x.shape) not in (3, 4):
        raise Unmapped(f"a value of shape {x.shape}, expected one image or signal, [1, C, H, W] or [1, C, L]")
    x = g.laid(x, [1], range(2, len(x.shape)))
    return g.fit(x.at, [x.shape[1], 1, x.shape[2]] if len(x.shape) == 3 else x.shape[1:])


def of_image(g, op, args, shape, **attributes):
    """A value of a node that makes an image, or of a signal's shape one of height 1."""
    shape = tuple(shape)
    dims = [shape[1], 1, shape[2]] if len(shape) == 3 else shape[1:]
    return Value(g.add(op, args, dims, **attributes), shape, [1], range(2, len(shape)))


def window(kernel, stride, dilation, groups, what):
    if len(set(stride)) > 1 or len(set(dilation)) > 1:
        raise Unmapped(f"{what} of stride {stride} and dilation {dilation}, expected one number each")
    attributes = {"kernel": list(kernel)}
    attributes.update({k: v for k, v in (("stride", stride[0]), ("dilation", dilation[0]), ("groups", groups)) if v != 1})
    return attributes


def sizes(weight, stride, padding, dilation):
    """Kernel, stride, padding and dilation by rows and columns; a signal has one row, whose stride is whatever the columns have."""
    one = weight.ndim == 3
    kernel = [1, weight.shape[2]] if one else list(weight.shape[2:])
    padding = [0, *two(padding)[:1]] if one else two(padding)
    return kernel, two(stride), padding, two(dilation)


@maps("conv1d", "conv2d")
def conv(g, x, weight, bias, stride, padding, dilation, groups):
    if not isinstance(weight, torch.Tensor):
        raise Unmapped("a convolution whose weight depends on the input")
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise Unmapped(f"padding {padding!r}")
        spans = [(k - 1) * d for k, d in zip(weight.shape[2:], two(dilation))] if padding == "same" else [0, 0]
        if any(s % 2 for s in spans):
            raise Unmapped("padding 'same' that is not the same on both sides")
        padding = [s // 2 for s in spans]
    kernel, stride, padding, dilation = sizes(weight, stride, padding, dilation)
    attributes = window(kernel, stride, dilation, groups, "a convolution")
    pad = [padding[0], padding[0], padding[1], padding[1]]
    if isinstance(x, Padded):
        (left, right), (top, bottom), *more = (*x.padding, (0, 0), (0, 0))
        if any(map(any, more)) or min(left, right, top, bottom) < 0 or (weight.ndim == 3 and (top or bottom)):
            x = g.settled(x)
        else:
            pad, x = [p + q for p, q in zip(pad, (top, bottom, left, right))], x.of
    if len(x.shape) == 4 and x.shape[0] != 1:
        return of_each(g, x, weight, bias, pad, attributes)
    given = {"bias": g.param(bias)} if bias is not None else {}
    return of_image(g, "conv2d", [image(g, x)], g.new_shape, padding=pad, weight=g.param(weight), **attributes, **given)


def of_each(g, x, weight, bias, pad, attributes):
    """A convolution of a batch that was made inside, of the channels for instance: groups of one convolution, with the weight for each."""
    n = x.shape[0]
    if n * weight.numel() > MOST_REPEATED:
        raise Unmapped(f"a convolution of a batch of {n} that was made inside, {x.shape}")
    x = g.laid(x, [0, 1], [2, 3])
    at = g.fit(x.at, [n * x.shape[1], *x.shape[2:]])
    given = {"bias": g.param(bias.repeat(n))} if bias is not None else {}
    attributes = {**attributes, "groups": n * attributes.get("groups", 1)}
    dims = [n * g.new_shape[1], *g.new_shape[2:]]
    return Value(g.add("conv2d", [at], dims, padding=pad, weight=g.param(weight.repeat(n, 1, 1, 1)), **attributes, **given), g.new_shape, [0, 1], [2, 3])


@maps("conv3d")
def conv3d(g, x, weight, bias, stride, padding, dilation, groups):
    """One frame, under a kernel of one."""
    if x.shape[2] != 1 or weight.shape[2] != 1 or isinstance(padding, str) or padding[0] or stride[0] != 1:
        raise Unmapped(f"a convolution of {x.shape[2]} frames by a kernel of {weight.shape[2]}")
    shape, last = g.new_shape, lambda v: list(v)[-2:]
    g.new_shape = shape[:2] + shape[3:]
    made = conv(g, g.reshape(x, x.shape[:2] + x.shape[3:]), weight[:, :, 0], bias, last(stride), last(padding), last(dilation), groups)
    return g.reshape(made, shape)


@maps("conv_transpose1d", "conv_transpose2d")
def conv_transpose(g, x, weight, bias, stride, padding, output_padding, groups, dilation):
    kernel, stride, padding, dilation = sizes(weight, stride, padding, dilation)
    attributes = window(kernel, stride, dilation, groups, "a transposed convolution")
    pad = [padding[0], padding[0], padding[1], padding[1]]
    shape = g.new_shape
    dims = [shape[1], 1, shape[2]] if len(shape) == 3 else list(shape[1:])
    made = of_image(g, "conv_adjoint", [image(g, x)], shape, padding=pad, weight=g.param(weight), dims=dims, **attributes)
    return made if bias is None else binary(g, "add", made, bias.reshape((1, -1) + (1,) * (len(shape) - 2)))


@maps("conv_transpose3d")
def conv_transpose3d(g, x, weight, bias, stride, padding, output_padding, groups, dilation):
    """One frame, under a kernel of one."""
    if x.shape[2] != 1 or weight.shape[2] != 1 or padding[0] or stride[0] != 1:
        raise Unmapped(f"a transposed convolution of {x.shape[2]} frames by a kernel of {weight.shape[2]}")
    shape, last = g.new_shape, lambda v: list(v)[-2:]
    g.new_shape = shape[:2] + shape[3:]
    x = g.reshape(x, x.shape[:2] + x.shape[3:])
    made = conv_transpose(g, x, weight[:, :, 0], bias, last(stride), last(padding), last(output_padding), groups, last(dilation))
    return g.reshape(made, shape)


@maps("max_pool1d", "max_pool2d", "max_pool2d_with_indices")
def max_pool(g, x, kernel_size, stride, padding, dilation, ceil_mode, name):
    one = name.startswith("max_pool1d")
    kernel, padding = two(kernel_size), two(padding)
    stride = two(stride) if stride else kernel
    if one:
        kernel, padding = [1, kernel[0]], [0, padding[0]]
    if ceil_mode:
        raise Unmapped("max pooling whose size is rounded up")
    attributes = window(kernel, stride, two(dilation), 1, "max pooling")
    pad = [padding[0], padding[0], padding[1], padding[1]]
    shape = g.new_shape if not isinstance(g.new_shape, list) else g.new_shape[0]
    made = of_image(g, "max_pool", [image(g, x)], shape, padding=pad, **attributes)
    return [made, None] if name.endswith("indices") else made


def by_axes(g, x, of_axis):
    """A linear map of each axis behind the channels alone: `of_axis(i, n)` maps a [n, 1, n, 1] to the map's columns."""
    for i, axis in enumerate(range(2, len(x.shape))):
        n = x.shape[axis]
        matrix = of_axis(i, torch.eye(n, dtype=torch.float64).reshape(n, 1, n, 1)).reshape(n, -1).t()
        if matrix.shape[0] != n or not torch.equal(matrix, torch.eye(n, dtype=torch.float64)):
            x = g.along(x, axis, matrix)
    return x


@maps("avg_pool1d", "avg_pool2d")
def avg_pool(g, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override=None):
    kernel, padding = list(kernel_size), list(padding)
    stride = list(stride) if stride else kernel
    if divisor_override is not None:
        raise Unmapped("average pooling with another divisor")
    if len(x.shape) == 4 and len(set(kernel + stride)) == 1 and not any(padding) and not ceil_mode:
        return of_image(g, "average_pool", [image(g, x)], g.new_shape, factor=kernel[0])
    at = lambda v, i: v[i] if len(v) > 1 else v[0]
    return by_axes(g, x, lambda i, eye: F.avg_pool2d(eye, (at(kernel, i), 1), (at(stride, i), 1), (at(padding, i), 0), ceil_mode, count_include_pad))


@maps("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def adaptive_avg_pool(g, x, output_size):
    return by_axes(g, x, lambda i, eye: F.adaptive_avg_pool2d(eye, (g.new_shape[2 + i], 1)))


@maps("upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d")
def nearest(g, x, name, **_):
    sides = x.shape[2:]
    factor = g.new_shape[2] // sides[0]
    if len(sides) == 2 and tuple(g.new_shape[2:]) == tuple(n * factor for n in sides):
        return of_image(g, "upsample_nearest", [image(g, x)], g.new_shape, factor=factor)
    mode = "nearest-exact" if "exact" in name else "nearest"
    return by_axes(g, x, lambda i, eye: F.interpolate(eye, (g.new_shape[2 + i], 1), mode=mode))


@maps("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
def interpolate(g, x, name, output_size, align_corners, scale_factors=None, scales=None, scales_h=None, scales_w=None):
    """Separable, so a matrix for rows and one for columns. Where the image becomes a whole number of times larger, pixels repeated and a
    filter, at whose edge the outermost pixel goes on: its copies are beside it, so that mirroring says the same."""
    new, n = tuple(g.new_shape), g.new_shape[2] // x.shape[2]
    if name == "upsample_bilinear2d" and not align_corners and n > 1 and new[2:] == (n * x.shape[2], n * x.shape[3]):
        taps = [1 / n] * n if n % 2 else [0.5 / n] + [1 / n] * (n - 1) + [0.5 / n]
        shape = new[:2] + (new[2] + n // 2 * 2, new[3] + n // 2 * 2)
        at = g.add("upsample_nearest", [image(g, x)], new[1:], factor=n)
        at = g.add("reflect_pad", [at], shape[1:], padding=[n // 2] * 4)
        return of_image(g, "fir", [at], new, taps=taps, pad=[0, 0])
    kind, smooth = "bicubic" if "bicubic" in name else "bilinear", name.endswith("aa")
    for given in (scale_factors or []), [scales, scales_h, scales_w]:
        for s in given:
            if s is not None and not any(abs(s * m - round(s * m)) < 1e-6 for m in x.shape[2:]):
                raise Unmapped(f"interpolation by {s}, which is no whole number of pixels")
    return by_axes(g, x, lambda i, eye: F.interpolate(eye, (new[2 + i], 1), mode=kind, align_corners=align_corners, antialias=smooth))


@maps("pixel_shuffle", "pixel_unshuffle")
def pixels(g, x, name, upscale_factor=None, downscale_factor=None):
    factor, op = (upscale_factor, "depth_to_space") if upscale_factor else (downscale_factor, "space_to_depth")
    return of_image(g, op, [image(g, x)], g.new_shape, factor=[factor, factor])


@maps("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(g, x, groups):
    at = image(g, x)
    return of_image(g, "shuffle_channels", [at], x.shape, rows=groups, columns=x.shape[1] // groups)


@maps("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def pad(g, x, name, pad=None, padding=None, mode="constant", value=None):
    pairs = list(zip(*[iter(pad if pad is not None else padding)] * 2))
    mode = {"reflection_pad1d": "reflect", "reflection_pad2d": "reflect", "replication_pad1d": "replicate", "replication_pad2d": "replicate"}.get(name, mode)
    if mode == "constant" and not value:
        return Padded(x, pairs, g.new_shape)
    (left, right), (top, bottom) = (*pairs, (0, 0))[:2]
    if mode == "reflect" and len(x.shape) == 4 and len(pairs) == 2:
        return of_image(g, "reflect_pad", [image(g, x)], g.new_shape, padding=[top, bottom, left, right])
    if mode == "constant":
        return affine(g, zeros(g, affine(g, x, 1.0, -value), pairs), 1.0, value)
    for i, (before, after) in enumerate(pairs):
        axis = len(x.shape) - 1 - i
        if before or after:
            eye = torch.eye(x.shape[axis], dtype=torch.float64)[:, None, :, None]
            x = g.along(x, axis, F.pad(eye, (0, 0, before, after), mode=mode)[:, 0, :, 0].t())
    return x


def zeros(g, x, pairs):
    """Zeros before and after along the last axes, or where they are negative less."""
    for i, (before, after) in enumerate(pairs):
        axis = len(x.shape) - 1 - i
        if before or after:
            eye = torch.eye(x.shape[axis], dtype=torch.float64)
            x = g.along(x, axis, F.pad(eye, (before, after)).t())
    return x
