"""The best that any network can do on a swiss roll: the bound K of steps that are Gaussians with a diagonal covariance.

    python swiss_roll_limit.py swiss_roll_wide.json [MORE.json ..]

Written for numpy 2. What each step of the reverse chain should be is known here: q(x_(t-1) | x_t) of points u on the curve with noise is a
mixture over u of Gaussians, and the diagonal Gaussian that gives most to the bound has its mean and variances. K with these is the
limit of T steps with the betas of a configuration, whatever the network; what a trained network lacks beyond it is the network's. In
bits a point, of data with unit variance, each an average over points of the forward process.
"""

import json
import sys

import numpy as np

POINTS, LN2 = 2000, np.log(2)


def limit(config, points=POINTS, seed=0):
    """K of perfect diagonal Gaussian steps, its standard error, the truth and the part of each step in the gap."""
    data, betas = config["data"], np.array(config["scheduler"]["trained_betas"])
    low, high = data.get("from", 1.5 * np.pi), data.get("to", 4.5 * np.pi)
    # Places on the curve a quarter of the noise apart.
    places = int(4 * (high - low) * high / data["noise"]) + 1
    u = low + (high - low) * (np.arange(places) + 0.5) / places
    curve = np.stack([u * np.cos(u), u * np.sin(u)], 1)
    # One factor and one offset for both coordinates, as the trainer's unit_variance takes them.
    mean = curve.mean()
    scale = 1 / np.sqrt((curve**2).mean() + data["noise"] ** 2 - mean**2)
    curve = (curve - mean) * scale
    noise = data["noise"] * scale
    rng = np.random.default_rng(seed)
    abar = np.cumprod(1 - betas)
    before = np.concatenate([[1.0], abar[:-1]])
    x = curve[rng.integers(places, size=points)] + noise * rng.standard_normal((points, 2))
    truth = log_density(x, curve, noise**2)
    k = np.zeros(points)
    for beta, a, b in zip(betas, abar, before):
        last, z = x, rng.standard_normal(x.shape)
        x = np.sqrt(1 - beta) * x + np.sqrt(beta) * z
        v, w = a * noise**2 + 1 - a, b * noise**2 + 1 - b
        share = responsibilities(x, np.sqrt(a) * curve, v)
        gain = np.sqrt(1 - beta) * w / v
        spread = (np.sqrt(b) - gain * np.sqrt(a)) * curve
        first = share @ spread
        variance = share @ spread**2 - first**2 + w - gain**2 * v
        # log p(x_(t-1) | x_t) - log q(x_t | x_(t-1)), of which 2 pi falls out.
        k += 0.5 * (z**2 + np.log(beta) - (last - first - gain * x) ** 2 / variance - np.log(variance)).sum(1)
    k -= 0.5 * (x**2).sum(1) + np.log(2 * np.pi)
    k, truth = k / LN2, truth / LN2
    return k.mean(), (k - truth).std() / np.sqrt(points), truth.mean()


def exponents(x, centres, variance):
    # |x - c|^2 without the part of x.
    return (x @ centres.T - 0.5 * (centres**2).sum(1)) / variance


def responsibilities(x, centres, variance):
    e = exponents(x, centres, variance)
    e = np.exp(e - e.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def log_density(x, curve, variance):
    e = exponents(x, curve, variance)
    top = e.max(1)
    mean = np.log(np.exp(e - top[:, None]).mean(1)) + top
    return mean - 0.5 * (x**2).sum(1) / variance - np.log(2 * np.pi * variance)


def main():
    null = -np.log2(2 * np.pi * np.e)
    for path in sys.argv[1:]:
        with open(path) as file:
            k, error, truth = limit(json.load(file))
        print(f"{path}: truth {truth - null:.3f} above L_null, the limit of diagonal steps {k - null:.3f}, gap {truth - k:.3f} +- {error:.3f}")


if __name__ == "__main__":
    main()
