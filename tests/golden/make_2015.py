"""Golden outputs of the networks of Sohl-Dickstein et al. 2015, for tests/networks/models_2015.rs.

Made with torch 2.15.0, safetensors 0.8.0 and numpy 2.4.6 (any close release should agree); nothing is downloaded. Run by hand:

    python tests/golden/make_2015.py

It writes models_2015.json (the cases) and models_2015.safetensors: for each case NAME.output, one row per entry of t, and NAME.vjp, the
gradient by the input of the inner product of the output with a cotangent, and of networks with few weights NAME.gradient, that of the sum of
these products by all weights, one after the other by name; and, of a network in the authors' layout with random
arrays, imported_2015.safetensors, which examples/export/import_2015.py made of them, and its input and output in models_2015.safetensors
as imported.x and imported.output.

The networks are written here from their equations, in float64, and share no code with the library. Weights and inputs are drawn by
pcg.py's recipe:
  * The names of the weights, sorted, give each tensor its stream: seed WEIGHT_SEED, stream = position in that order.
  * Two or more dimensions: uniform in [-a, a] with a = sqrt(3 / product of all dimensions but the first).
  * One dimension: "basis.widths" is 1 + uniform(0.3); any other (a bias) has a = 0.2.
  * The input of a case is uniform(INPUT_SEED, case index, ..., a = sqrt(3)); its cotangent uniform(INPUT_SEED, 1000 + case index, ..., 1).
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

import pcg

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "examples" / "export"))
import import_2015  # noqa: E402

WEIGHT_SEED = 20
INPUT_SEED = 23


def case(name, shape, t, **config):
    return {"name": name, "shape": shape, "t": t, "config": config}


MULTI = {"_class_name": "Multiscale2015"}
CASES = [
    case("one_scale", [1, 6, 10], [0, 1, 499, 500.25, 999], **MULTI, conv_channels=[5, 4], upper_channels=[7],
         num_train_timesteps=1000),
    case("after_sum", [3, 8, 12], [0, 249.5, 250], **MULTI, in_channels=3, scales=2, conv_channels=[6, 5], act_fn="softplus",
         activation_placement="after_sum", upper_channels=[8, 7], temporal_functions=4, temporal_width="paper",
         num_train_timesteps=251),
    case("untied_dense", [2, 8, 12], [0, 7.75, 49], **MULTI, in_channels=2, scales=3, conv_channels=[4, 6], act_fn="tanh",
         dense_act_fn="leaky_relu", tied_biases=False, dense_channels=[16, 12], dense_out_channels=2, upper_channels=[9],
         temporal_functions=5, sample_size=[8, 12], num_train_timesteps=50),
    case("untied_after_sum", [1, 8, 8], [3, 59], **MULTI, scales=3, conv_channels=[4], act_fn="leaky_relu", dense_act_fn="tanh",
         activation_placement="after_sum", tied_biases=False, upper_channels=[], temporal_functions=3, temporal_width="paper",
         sample_size=8, num_train_timesteps=60),
    case("dense_without_hidden", [1, 4, 6], [3, 9], **MULTI, scales=2, conv_channels=[4], act_fn="relu", dense_act_fn="silu",
         dense_channels=[], dense_out_channels=3, upper_channels=[5], temporal_functions=2, sample_size=[4, 6],
         num_train_timesteps=10),
    case("mnist", [1, 28, 28], [700], **MULTI, conv_channels=[20] * 4, tied_biases=False, dense_channels=[500] * 3,
         dense_out_channels=2, upper_channels=[20], sample_size=28, num_train_timesteps=1000),
    case("swiss_roll", [2], [0, 17, 39], _class_name="Rbf2015", features=2, units=16, num_train_timesteps=40),
    case("rbf_of_three", [3], [6], _class_name="Rbf2015", features=3, units=5, num_train_timesteps=7),
    case("heartbeat", [20], [0, 150, 199], _class_name="Mlp2015", features=20, hidden_features=[50, 50, 50],
         center_input_sample=True, act_fn="tanh", num_train_timesteps=200),
    case("two_outputs", [3], [2, 4], _class_name="Mlp2015", features=3, out_features=6, hidden_features=[9], num_train_timesteps=5),
]

ACT = {
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.05 * x),
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "tanh": torch.tanh,
    "relu": lambda x: torch.clamp(x, min=0),
    "silu": lambda x: x * torch.sigmoid(x),
}


def basis(t, steps, functions, width):
    """The bumps at t, interpolated between whole steps by the triangle weights of the authors' code."""
    x = np.linspace(-1, 1, steps).reshape(-1, 1)
    c = np.linspace(-1, 1, functions).reshape(1, -1)
    w = (c[0, 1] - c[0, 0]) / (2 if width == "code" else 1)
    g = np.exp(-((x - c) ** 2) / (2 * w**2))
    g /= g.sum(axis=1, keepdims=True)
    triangle = np.maximum(1 - np.abs(np.arange(steps) - t), 0)
    return torch.from_numpy(triangle @ g)


def multiscale(c, p, x, t):
    act = ACT[c.get("act_fn", "leaky_relu")]
    dense_act = ACT[c["dense_act_fn"]] if c.get("dense_act_fn") else act
    scales = c.get("scales", 1)
    y = x
    for layer in range(len(c["conv_channels"])):
        total = 0
        for s in range(scales):
            small = F.avg_pool2d(y, 2**s) if s else y
            z = F.conv2d(small, p[f"conv.{layer}.{s}.weight"], padding=1)
            b = p[f"conv.{layer}.{s}.bias"]
            z = z + (b.reshape(1, -1, 1, 1) if b.dim() == 1 else b)
            z = act(z) if c.get("activation_placement", "per_scale") == "per_scale" else z
            total = total + z.repeat_interleave(2**s, dim=2).repeat_interleave(2**s, dim=3)
        y = total / scales if c.get("activation_placement", "per_scale") == "per_scale" else act(total)
    if c.get("dense_out_channels"):
        h = x.flatten(1)
        for i in range(len(c["dense_channels"]) + 1):
            h = dense_act(h @ p[f"dense.{i}.weight"].T + p[f"dense.{i}.bias"])
        n = c["dense_out_channels"]
        h = h.reshape(len(x), n, *x.shape[2:])
        y = torch.cat([y / y.shape[1] ** 0.5, h / n**0.5], dim=1)
    y = y.movedim(1, -1)
    for i in range(len(c["upper_channels"]) + 1):
        y = y @ p[f"upper.{i}.weight"].T + p[f"upper.{i}.bias"]
        y = dense_act(y) if i < len(c["upper_channels"]) else y
    functions = c.get("temporal_functions", 10)
    g = basis(t, c["num_train_timesteps"], functions, c.get("temporal_width", "code"))
    y = y.reshape(*y.shape[:-1], -1, functions) @ g
    return y.movedim(-1, 1)


def rbf(c, p, x, t):
    d = ((x[:, None, :] - p["basis.centres"][None]) ** 2).sum(-1)
    e = torch.exp(-d / (2 * p["basis.widths"] ** 2))
    phi = e / e.sum(-1, keepdim=True)
    return phi @ p["readout.weight"][int(t)].reshape(2 * c["features"], c["units"]).T


def mlp(c, p, x, t):
    act = ACT[c.get("act_fn", "leaky_relu")]
    h = 2 * x - 1 if c.get("center_input_sample") else x
    for i in range(len(c["hidden_features"])):
        h = act(h @ p[f"hidden.{i}.weight"].T + p[f"hidden.{i}.bias"])
    w = p["readout.weight"][int(t)].reshape(c.get("out_features", c["features"]), -1)
    return h @ w.T + p["readout.bias"][int(t)]


NETWORKS = {"Multiscale2015": multiscale, "Rbf2015": rbf, "Mlp2015": mlp}


def shapes(c):
    """Every parameter's name and shape."""
    out = {}

    def linear(name, i, o):
        out[f"{name}.weight"], out[f"{name}.bias"] = (o, i), (o,)

    kind = c["_class_name"]
    if kind == "Rbf2015":
        d, n = c["features"], c["units"]
        return {"basis.centres": (n, d), "basis.widths": (n,), "readout.weight": (c["num_train_timesteps"], 2 * d * n)}
    if kind == "Mlp2015":
        i = c["features"]
        for k, o in enumerate(c["hidden_features"]):
            linear(f"hidden.{k}", i, o)
            i = o
        o = c.get("out_features", c["features"])
        out["readout.weight"] = (c["num_train_timesteps"], o * i)
        out["readout.bias"] = (c["num_train_timesteps"], o)
        return out
    colors = c.get("in_channels", 1)
    size = c.get("sample_size")
    h, w = size if isinstance(size, list) else (size, size)
    i = colors
    for layer, o in enumerate(c["conv_channels"]):
        for s in range(c.get("scales", 1)):
            out[f"conv.{layer}.{s}.weight"] = (o, i, 3, 3)
            tied = c.get("tied_biases", True)
            out[f"conv.{layer}.{s}.bias"] = (o,) if tied else (o, h // 2**s, w // 2**s)
        i = o
    if c.get("dense_out_channels"):
        j = colors * h * w
        for k, o in enumerate([*c["dense_channels"], c["dense_out_channels"] * h * w]):
            linear(f"dense.{k}", j, o)
            j = o
        i += c["dense_out_channels"]
    for k, o in enumerate([*c["upper_channels"], 2 * colors * c.get("temporal_functions", 10)]):
        linear(f"upper.{k}", i, o)
        i = o
    return out


def weights(c):
    out = {}
    for stream, (name, shape) in enumerate(sorted(shapes(c).items())):
        n = int(np.prod(shape))
        a = (3.0 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.3 if name == "basis.widths" else 0.2
        v = pcg.uniform(WEIGHT_SEED, stream, n, np.float32(a))
        v = np.float32(1) + v if name == "basis.widths" else v
        out[name] = torch.from_numpy(v.astype(np.float64).reshape(shape))
    return out


def authors(arrays, image, t, steps, functions, scales):
    """The network in the authors' layout, evaluated as their code does it: true convolutions with full borders, a bias for each output position
    of them, the edge cut off afterwards; dense layers that end in pixels times channels; colours before mu and Sigma."""
    leaky = lambda v: np.where(v > 0, v, 0.05 * v)  # noqa: E731
    n_conv = max(int(k[4:].split("_")[0]) for k in arrays if k.startswith("conv")) + 1

    def full(x, w):
        f, c, kh, kw = w.shape
        out = np.zeros((f, x.shape[1] + kh - 1, x.shape[2] + kw - 1))
        for a in range(kh):
            for b in range(kw):
                # A true convolution spreads each pixel by the kernel as it is.
                out[:, a : a + x.shape[1], b : b + x.shape[2]] += np.einsum("fc,chw->fhw", w[:, :, a, b], x)
        return out

    y = image
    for layer in range(n_conv):
        total = 0
        for s in reversed(range(scales)):
            c, h, w = y.shape
            small = y.reshape(c, h >> s, 1 << s, w >> s, 1 << s).mean(axis=(2, 4))
            z = leaky(full(small, arrays[f"conv{layer}_scale{s}_W"]) + arrays[f"conv{layer}_scale{s}_b"])
            total = total + z[:, 1:-1, 1:-1]
            if s > 0:
                total = total.repeat(2, axis=1).repeat(2, axis=2)
        y = total / scales
    h = image.reshape(-1)
    i = 0
    while f"dense{i}_W" in arrays:
        h = leaky(h @ arrays[f"dense{i}_W"] + arrays[f"dense{i}_b"])
        i += 1
    h = h.reshape(*image.shape[1:], -1)
    pixels = np.concatenate([y.transpose(1, 2, 0) / y.shape[0] ** 0.5, h / h.shape[-1] ** 0.5], axis=-1)
    i = 0
    while f"upper{i}_W" in arrays:
        pixels = pixels @ arrays[f"upper{i}_W"] + arrays[f"upper{i}_b"]
        i += 1
        pixels = leaky(pixels) if f"upper{i}_W" in arrays else pixels
    g = basis(t, steps, functions, "code").numpy()
    z = pixels.reshape(*pixels.shape[:2], image.shape[0], 2, functions) @ g
    return z.transpose(3, 2, 0, 1).reshape(-1, *image.shape[1:])


def imported():
    """Random arrays in the authors' layout: 2 colours, 4x8 pixels, 2 scales, 3 bumps."""
    rng = np.random.default_rng(7)
    colors, height, width, functions, steps = 2, 4, 8, 3, 30
    arrays = {}
    i = colors
    for layer, o in enumerate([4, 3]):
        for s in range(2):
            arrays[f"conv{layer}_scale{s}_W"] = rng.normal(size=(o, i, 3, 3)) / (3 * i**0.5)
            arrays[f"conv{layer}_scale{s}_b"] = rng.normal(size=(o, (height >> s) + 2, (width >> s) + 2)) / 4
        i = o
    dense = [colors * height * width, 6, 5 * height * width]
    for k, (a, b) in enumerate(zip(dense, dense[1:])):
        arrays[f"dense{k}_W"], arrays[f"dense{k}_b"] = rng.normal(size=(a, b)) / a**0.5, rng.normal(size=b) / 4
    upper = [3 + 5, 7, colors * 2 * functions]
    for k, (a, b) in enumerate(zip(upper, upper[1:])):
        arrays[f"upper{k}_W"], arrays[f"upper{k}_b"] = rng.normal(size=(a, b)) / a**0.5, rng.normal(size=b) / 4
    # As stored, so that both sides have the same numbers.
    arrays = {k: v.astype(np.float32).astype(np.float64) for k, v in arrays.items()}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(pathlib.Path(folder) / "weights.npz", **arrays)
        script, model = pathlib.Path(import_2015.__file__), HERE / "imported_2015.safetensors"
        command = [sys.executable, script, pathlib.Path(folder) / "weights.npz", model, "--steps", str(steps)]
        subprocess.run(command, check=True)
    x = rng.normal(size=(3, colors, height, width)).astype(np.float32)
    t = [0, 13.5, 29]
    y = np.stack([authors(arrays, x[k].astype(np.float64), t[k], steps, functions, 2) for k in range(3)])
    return {"imported.x": x, "imported.t": np.float32(t), "imported.output": y.astype(np.float32)}


def main():
    out = {}
    for index, case in enumerate(CASES):
        c, p = case["config"], weights(case["config"])
        for w in p.values():
            w.requires_grad_()
        n = len(case["t"])
        size = n * int(np.prod(case["shape"]))
        x = pcg.uniform(INPUT_SEED, index, size, np.float32(3**0.5)).astype(np.float64).reshape(n, *case["shape"])
        x = torch.from_numpy(x).requires_grad_()
        y = torch.cat([NETWORKS[c["_class_name"]](c, p, x[k : k + 1], t) for k, t in enumerate(case["t"])])
        v = pcg.uniform(INPUT_SEED, 1000 + index, y.numel(), np.float32(1)).astype(np.float64).reshape(y.shape)
        (y * torch.from_numpy(v)).sum().backward()
        out[f"{case['name']}.output"] = y.detach().numpy().astype(np.float32)
        out[f"{case['name']}.vjp"] = x.grad.numpy().astype(np.float32)
        case["parameters"] = sum(w.numel() for w in p.values())
        if case["parameters"] < 8000:
            by_weights = [p[name].grad.reshape(-1).numpy() for name in sorted(p)]
            out[f"{case['name']}.gradient"] = np.concatenate(by_weights).astype(np.float32)
    out.update(imported())
    # As rows: safetensors stores the memory as it lies.
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, HERE / "models_2015.safetensors")
    (HERE / "models_2015.json").write_text(json.dumps({"cases": CASES}, indent=1) + "\n")


if __name__ == "__main__":
    main()
