"""Turns weights in the layout of the authors' code of 2015 into a packed file that undiffuse loads.

    python import_2015.py WEIGHTS.npz MODEL.safetensors [--steps 1000] [--scale S] [--shift H] [--sample-size H W]

needs numpy and safetensors. WEIGHTS.npz holds the arrays of a trained MLP_conv_dense under these names (the authors' checkpoints are
pickles of Blocks' main loop: save the parameters of its bricks with numpy.savez):

    convL_scaleS_W   [filters, channels, 3, 3]  layer L and scale S (0 is the finest), as Theano keeps it: the convolution flips it
    convL_scaleS_b   [filters, H + 2, W + 2] at that scale's size, as a convolution with full borders has it, or [filters, H, W], or [filters]
    denseN_W         [inputs, outputs], denseN_b [outputs]: the dense path, the last layer's outputs being [H, W, channels]; none if there is no such path
    upperN_W         [inputs, outputs], upperN_b [outputs]: the network at every pixel, the last layer's outputs being [colors, 2, J]

What changes on the way: kernels are flipped; full borders lose their edge; matrices are transposed, as here a matrix is [outputs, inputs]; the
dense path's image becomes [channels, H, W] and the readout [2, colors, J].

x = S * data + H is what the network was trained on, for data in [-1, 1].
"""

import argparse
import json

import numpy as np
from safetensors.numpy import save_file


def count(arrays, pattern):
    n = 0
    while pattern.format(n) in arrays:
        n += 1
    return n


def convert(arrays, steps, sample_size=None):
    """(weights, model config) of a dict of arrays."""
    layers, scales = count(arrays, "conv{}_scale0_W"), count(arrays, "conv0_scale{}_W")
    dense, upper = count(arrays, "dense{}_W"), count(arrays, "upper{}_W")
    known = {f"conv{i}_scale{s}_{k}" for i in range(layers) for s in range(scales) for k in "Wb"}
    known |= {f"{part}{i}_{k}" for part, n in (("dense", dense), ("upper", upper)) for i in range(n) for k in "Wb"}
    if not (layers and upper) or known != set(arrays):
        raise SystemExit(f"missing arrays {sorted(known - set(arrays))}, unknown arrays {sorted(set(arrays) - known)}")
    first = arrays["conv0_scale0_b"]
    tied = first.ndim == 1
    colors = arrays["conv0_scale0_W"].shape[1]
    if sample_size is None and not tied:
        pixels = arrays["dense0_W"].shape[0] // colors if dense else None
        h, w = first.shape[1:]
        # With full borders the bias is two larger; the dense path says which, else full borders are meant, as in the authors' code.
        sample_size = (h, w) if pixels == h * w else (h - 2, w - 2)
    if sample_size is None and dense:
        raise SystemExit("--sample-size is needed: tied biases do not tell it, and the dense path is for one size")

    out = {}
    for layer in range(layers):
        for s in range(scales):
            kernel, bias = arrays[f"conv{layer}_scale{s}_W"], arrays[f"conv{layer}_scale{s}_b"]
            if bias.ndim == 3:
                side = (sample_size[0] >> s, sample_size[1] >> s)
                if bias.shape[1:] == (side[0] + 2, side[1] + 2):
                    bias = bias[:, 1:-1, 1:-1]
                if bias.shape[1:] != side:
                    raise SystemExit(f"conv{layer}_scale{s}_b is {bias.shape}, expected sides {side} or two more")
            out[f"conv.{layer}.{s}.weight"] = kernel[:, :, ::-1, ::-1]
            out[f"conv.{layer}.{s}.bias"] = bias
    dense_out = None
    for i in range(dense):
        weight, bias = arrays[f"dense{i}_W"].T, arrays[f"dense{i}_b"]
        if i + 1 == dense:
            h, w = sample_size
            dense_out = len(bias) // (h * w)
            order = np.arange(len(bias)).reshape(h, w, dense_out).transpose(2, 0, 1).reshape(-1)
            weight, bias = weight[order], bias[order]
        out[f"dense.{i}.weight"], out[f"dense.{i}.bias"] = weight, bias
    for i in range(upper):
        weight, bias = arrays[f"upper{i}_W"].T, arrays[f"upper{i}_b"]
        if i + 1 == upper:
            order = np.arange(len(bias)).reshape(colors, 2, -1).transpose(1, 0, 2).reshape(-1)
            weight, bias = weight[order], bias[order]
        out[f"upper.{i}.weight"], out[f"upper.{i}.bias"] = weight, bias
    config = {
        "_class_name": "Multiscale2015",
        "in_channels": colors,
        "scales": scales,
        "conv_channels": [arrays[f"conv{i}_scale0_W"].shape[0] for i in range(layers)],
        "dense_channels": [len(arrays[f"dense{i}_b"]) for i in range(dense - 1)],
        "dense_out_channels": dense_out,
        "upper_channels": [len(arrays[f"upper{i}_b"]) for i in range(upper - 1)],
        "act_fn": "leaky_relu",
        "tied_biases": tied,
        "temporal_functions": len(arrays[f"upper{upper - 1}_b"]) // (2 * colors),
        "temporal_width": "code",
        "sample_size": None if sample_size is None else [int(n) for n in sample_size],
        "num_train_timesteps": steps,
    }
    return {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in out.items()}, config


def save(path, arrays, steps=1000, scale=1.0, shift=0.0, sample_size=None):
    """Writes the packed file."""
    weights, model = convert(arrays, steps, sample_size)
    scheduler = {
        "_class_name": "Ancestral2015Scheduler",
        "num_train_timesteps": steps,
        "beta_schedule": "authors_2015",
        "readout": "code",
        "sample_scale": scale,
        "sample_shift": shift,
    }
    metadata = {
        "undiffuse.format": "1",
        "undiffuse.model": json.dumps(model),
        "undiffuse.scheduler": json.dumps(scheduler),
    }
    save_file(weights, path, metadata=metadata)


def main():
    p = argparse.ArgumentParser(description="Imports weights of the authors' 2015 layout.")
    p.add_argument("weights")
    p.add_argument("output")
    p.add_argument("--steps", type=int, default=1000, help="T, the trajectory length")
    p.add_argument("--scale", type=float, default=1.0)
    p.add_argument("--shift", type=float, default=0.0)
    p.add_argument("--sample-size", type=int, nargs=2, metavar=("H", "W"))
    a = p.parse_args()
    with np.load(a.weights) as arrays:
        save(a.output, dict(arrays), a.steps, a.scale, a.shift, tuple(a.sample_size) if a.sample_size else None)


if __name__ == "__main__":
    main()
