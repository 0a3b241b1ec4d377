"""Where the bits of a chain on CIFAR-10 are lost: the divergences of its steps, summed over bands of noise, of what
`undiffuse evaluate --json` printed, beside those of a perfect linear network.

    undiffuse evaluate cifar10.safetensors --data cifar10_test.npy --count 1000 --times 40 --dequantize --json > a.json
    python cifar10_bands.py cifar10.json cifar10_train.npy a.json ...          # numpy

A linear network knows the covariance of all 3,072 values of a picture and nothing else: its K is that of a Gaussian.
Bits per value; noise in grey levels, sigma / alpha of x_t.
"""
import json
import pathlib
import sys

import numpy as np

BANDS = 5


def linear(betas, data):
    """The noise of each step but the first, and its divergence under the best linear network, one variance a step."""
    x = np.load(data).reshape(-1, 3072)
    mean, deviation = x.mean(), x.std()
    total, square = np.zeros(3072), np.zeros((3072, 3072))
    for part in np.array_split(x, 50):
        part = (part - mean).astype(np.float32) / np.float32(deviation)
        total += part.sum(0)
        square += part.T @ part
    covariance = square / len(x) - np.outer(total, total) / len(x) ** 2
    variances = np.linalg.eigvalsh(covariance).clip(0)
    before = np.cumprod(np.concatenate([[1.0], 1 - betas]))[:-1]
    after = before * (1 - betas)
    noise = np.sqrt((1 - after) / after) * deviation
    bits = np.zeros(len(betas))
    for i in range(1, len(betas)):
        v, b = 1 - after[i], betas[i]
        error = (variances * v / (after[i] * variances + v)).mean()
        least = (1 - before[i]) * b / v
        bits[i] = 0.5 * np.log2(1 + before[i] * (b / v) ** 2 * error / least)
    return noise[1:], bits[1:], deviation


def main(config, data, *results):
    betas = np.array(json.loads(pathlib.Path(config).read_text())["scheduler"]["trained_betas"])
    noise, bits, deviation = linear(betas, data)
    columns = {"linear": (noise, bits)}
    for name in results:
        steps = json.loads(pathlib.Path(name).read_text())["steps"]
        at = np.array([s["sigma"] / s["alpha"] * deviation for s in steps])
        drawn = np.array([s["entropy"] for s in steps]) != 0
        columns[name] = (at[drawn], np.array([s["divergence"] for s in steps])[drawn])
    edges = np.geomspace(noise[0], noise[-1], BANDS + 1)
    edges[0], edges[-1] = 0, np.inf
    print("noise", *columns)
    for low, high in zip(edges, edges[1:]):
        steps = ((noise >= low) & (noise < high)).sum()
        means = [d[(n >= low) & (n < high)].mean() for n, d in columns.values()]
        print(f"{low:.1f} .. {high:.1f}", *(f"{steps * m:.3f}" for m in means))
    print("all", *(f"{len(noise) * d.mean():.3f}" for _, d in columns.values()))


if __name__ == "__main__":
    main(*sys.argv[1:])
