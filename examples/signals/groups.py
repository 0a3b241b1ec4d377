"""Where split Gibbs misses the benchmark: its resampling alone, every draw of x given w being exact.

    pip install numpy==2.4.6 && python examples/signals/groups.py

Signals with increments Gauss(0, 0.25), for which p(x | w), the posterior and its 90 % set are known, so that neither a network, nor the reverse chain, nor a
Gibbs sampler is in doubt. The method is that of `SplitGibbs`: rungs, weights, systematic resampling and returns as documented there. Printed are the gap in dB of the mean
of a group's samples (the 1 / K that right samples would have taken off) and the coverage, means over signals +- standard error. `per_rung` returns are made at each rung,
`last` at the last; `adaptive` resamples only where less than that part of a group is effective. README.md has what it printed.
"""

import argparse

import numpy as np

L = 64


def matrix(name):
    rng = np.random.default_rng(11)
    if name == "blur":
        taps = np.exp(-0.125 * np.arange(-6, 7) ** 2)
        return np.array([np.bincount((k + np.arange(13) - 6) % L, taps / taps.sum(), L) for k in range(L)])
    if name == "partial Fourier":
        kept = [f for f in range(L // 2 + 1) if f < 5 or rng.random() < 0.4]
        turn = lambda f: 2 * np.pi * f * np.arange(L) / L
        return np.array([np.cos(turn(f)) for f in kept] + [-np.sin(turn(f)) for f in kept if f not in (0, L // 2)])
    if name == "denoising":
        return np.eye(L)
    known = rng.random(L) < 0.4
    if name == "sampling with a hole of 16":
        known[20:36] = False
    return np.eye(L)[known]


def run(name, K, signals, ratio=None, last=2, adaptive=None, per_rung=1, largest=1.0):
    rng, A = np.random.default_rng(1), matrix(name)
    walk = np.tril(np.ones((L, L)))
    C = 0.25 * walk @ walk.T
    x_all = (np.linalg.cholesky(C) @ rng.standard_normal((L, 400))).T
    scale = np.sqrt(np.median((x_all**2).mean(1)))
    s = np.sqrt(np.median(((x_all @ A.T) ** 2).mean(1)) / 10**2.5) / scale
    C, x_all = C / scale**2, x_all / scale
    U, singular, Vt = np.linalg.svd(A, full_matrices=False)
    smallest = s / singular.max()
    each = 0.5 ** (2 / (singular > 1e-6 * singular.max()).sum())
    ratio = ratio or np.sqrt(each / (1 + np.sqrt(1 - each)))
    rungs = [largest]
    while rungs[-1] * ratio > smallest * (1 + 1e-9):
        rungs.append(rungs[-1] * ratio)
    rungs += [smallest] * last
    precision = np.linalg.inv(C) + A.T @ A / s**2
    covariance = np.linalg.inv(precision)
    least, root = np.trace(covariance), np.linalg.cholesky(covariance)
    values, V = np.linalg.eigh(C)
    gaps, coverages = [], []
    for truth in x_all[:signals]:
        y = A @ truth + s * rng.standard_normal(len(A))
        seen, mean = (U.T @ y) / singular, covariance @ (A.T @ y) / s**2
        x, before, log_w = rng.standard_normal((K, L)) @ np.linalg.cholesky(C).T, np.inf, np.zeros(K)
        of = lambda tau: 1 / np.maximum(s**2 / singular**2, tau**2) if np.isfinite(tau) else 0 * singular
        for tau in rungs:
            if tau < before:
                log_w -= 0.5 * ((seen - x @ Vt.T) ** 2 * (of(tau) - of(before))).sum(1)
                w = np.exp(log_w - log_w.max())
                w /= w.sum()
                if adaptive is None or 1 / (w**2).sum() / K < adaptive or tau <= smallest * (1 + 1e-9):
                    x = x[np.searchsorted(np.cumsum(w), (np.arange(K) + rng.random()) / K).clip(0, K - 1)]
                    log_w[:] = 0
                before = tau
            for _ in range(per_rung):
                z, g = tau * rng.standard_normal((K, L)), tau**2 * of(tau)
                w = x + z + (g * (seen - x @ Vt.T) + (np.sqrt((1 - g).clip(0)) - 1) * (z @ Vt.T)) @ Vt
                shrink = values / (values + tau**2)
                x = ((w @ V) * shrink + rng.standard_normal((K, L)) * np.sqrt(tau**2 * shrink)) @ V.T
        gaps.append((((x.mean(0) - mean) ** 2).sum() - least / K) / least)
        height = lambda x: -np.einsum("ij,jk,ik->i", x - mean, precision, x - mean)
        right = mean + rng.standard_normal((600, L)) @ root.T
        coverages.append((height(right) >= np.quantile(height(x), 0.1)).mean())
    gaps, coverages, by = np.array(gaps), np.array(coverages), 1 / np.sqrt(signals)
    return (
        f"| {name} | {len(rungs)} | {10 * np.log10(1 + max(gaps.mean(), -0.9)):.2f} +- {4.34 * gaps.std() * by:.2f} "
        f"| {coverages.mean():.2f} +- {coverages.std() * by:.2f} |"
    )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--signals", type=int, default=12)
    a = p.parse_args()
    for options in [{"K": 24}, {"K": 64}, {"K": 256}, {"K": 64, "last": 20}, {"K": 256, "last": 20}, {"K": 64, "per_rung": 3}, {"K": 64, "adaptive": 0.5}, {"K": 64, "largest": 8.0}]:
        print(options)
        for name in ["denoising", "blur", "random sampling", "partial Fourier", "sampling with a hole of 16"]:
            print(run(name, signals=a.signals, **options), flush=True)


if __name__ == "__main__":
    main()
