"""The weights of split Gibbs alone, every draw of x given w being exact: what two kinds of them cost.

    pip install numpy==2.4.6 && python examples/signals/groups.py

Signals with increments Gauss(0, 0.25), for which p(x | w), the posterior and its 90 % set are known, so that neither a network, nor the reverse chain, nor a
Gibbs sampler is in doubt. The method is that of `SplitGibbs`: levels, weights, systematic resampling where less than half of a group is effective, and returns as
documented there. `held` has its weights, of what a step from level to level foretells; `drawn` those that it had before, of x_0 as it was drawn, r_tau(x) /
r_tau'(x). Printed are the gap in dB of the mean of a group's samples (the 1 / K that right samples would have taken off) and the coverage, means over signals +-
standard error. README.md has what it printed.
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


class Problem:
    def __init__(self, name, rng):
        A = matrix(name)
        walk = np.tril(np.ones((L, L)))
        C = 0.25 * walk @ walk.T
        x = (np.linalg.cholesky(C) @ rng.standard_normal((L, 400))).T
        scale = np.sqrt(np.median((x**2).mean(1)))
        self.s = np.sqrt(np.median(((x @ A.T) ** 2).mean(1)) / 10**2.5) / scale
        self.A, self.C, self.signals, self.rng = A, C / scale**2, x / scale, rng
        self.U, self.singular, V = np.linalg.svd(A)
        self.k = len(self.singular)
        self.Q, self.Vt = V, V[: self.k]
        self.own = (self.s / self.singular) ** 2
        self.smallest = self.s / self.singular.max()
        self.precision = np.linalg.inv(self.C) + A.T @ A / self.s**2
        self.covariance = np.linalg.inv(self.precision)
        self.values, self.W = np.linalg.eigh(self.C)

    def mean(self, w, tau):
        return ((w @ self.W) * (self.values / (self.values + tau**2))) @ self.W.T

    def scattered(self, K, tau):
        """Draws of the covariance of x given w."""
        return (self.rng.standard_normal((K, L)) * np.sqrt(tau**2 * self.values / (self.values + tau**2))) @ self.W.T

    def returned(self, x, seen, tau):
        g = tau**2 / np.maximum(self.own, tau**2)
        z = tau * self.rng.standard_normal(x.shape)
        return x + z + (g * (seen - x @ self.Vt.T) + (np.sqrt((1 - g).clip(0)) - 1) * (z @ self.Vt.T)) @ self.Vt

    def step(self, w, seen, before, now):
        """From level to level, given y: the new values and the logarithms of the weights."""
        K, delta = len(w), 1 - (now / before) ** 2
        J = self.Vt @ (self.W * (before**2 * self.values / (self.values + before**2))) @ self.W.T @ self.Vt.T
        e, wider = (self.own - now**2).clip(0), before**2 - now**2
        e[e < 1e-9 * now**2] = 0
        asked = self.own < before**2
        v = np.where(asked, e * wider / np.where(asked, wider - e, 1), np.inf)
        probes = self.rng.choice([-1.0, 1.0], size=(2, K, self.k)) * asked
        c = np.einsum("pki,ij,pkj->k", probes, J, probes).clip(0) / (2 * max(asked.sum(), 1))
        V = (now**2 * delta + delta**2 * c)[:, None]
        foretold = w + delta * (self.mean(w, before) - w)
        new = foretold + delta * self.scattered(K, before) + now * np.sqrt(delta) * self.rng.standard_normal((K, L))
        foretold, new = foretold @ self.Q.T, new @ self.Q.T
        m, off = foretold[:, : self.k], seen - foretold[:, : self.k]
        log_w = -0.5 * (off**2 / (V + v) + np.log(V + np.where(asked, v, 1)))[:, asked].sum(1)
        gain = V / (V + v)
        new[:, : self.k] = m + gain * off + np.sqrt(1 - gain) * (new[:, : self.k] - m)
        return new @ self.Q, log_w

    def resampled(self, x, log_w, always=False):
        weights = np.exp(log_w - log_w.max())
        weights /= weights.sum()
        K = len(x)
        if 1 / (weights**2).sum() / K > 0.5 and not always:
            return x, log_w
        return x[np.searchsorted(np.cumsum(weights), (np.arange(K) + self.rng.random()) / K).clip(0, K - 1)], 0 * log_w

    def drawn(self, seen, K, last):
        rank = (self.singular > 1e-6 * self.singular.max()).sum()
        each = 0.5 ** (2 / rank)
        rungs = [1.0]
        while rungs[-1] * np.sqrt(each / (1 + np.sqrt(1 - each))) > self.smallest:
            rungs.append(rungs[-1] * np.sqrt(each / (1 + np.sqrt(1 - each))))
        x, before = self.rng.standard_normal((K, L)) @ np.linalg.cholesky(self.C).T, np.inf
        of = lambda tau: 1 / np.maximum(self.own, tau**2) if np.isfinite(tau) else 0 * self.own
        for tau in rungs + [self.smallest] * last:
            if tau < before:
                log_w = -0.5 * ((seen - x @ self.Vt.T) ** 2 * (of(tau) - of(before))).sum(1)
                x, before = self.resampled(x, log_w, always=True)[0], tau
            w = self.returned(x, seen, tau)
            x = self.mean(w, tau) + self.scattered(K, tau)
        return x

    def held(self, seen, K, last, ratio=0.88, top=3.0, largest=1.0):
        count = int(np.ceil(np.log(self.smallest / top) / np.log(ratio)))
        levels = [30.0] + list(top * (self.smallest / top) ** (np.arange(count + 1) / count))
        w, log_w = levels[0] * self.rng.standard_normal((K, L)), np.zeros(K)
        for before, now in zip(levels, levels[1:]):
            w, more = self.step(w, seen, before, now)
            w, log_w = self.resampled(w, log_w + more, always=now == levels[-1])
            if now <= largest:
                w = self.returned(self.mean(w, now) + self.scattered(K, now), seen, now)
        for _ in range(last - 1):
            w = self.returned(self.mean(w, now) + self.scattered(K, now), seen, now)
        return self.mean(w, now) + self.scattered(K, now)


def run(name, method, K, signals, last):
    p = Problem(name, np.random.default_rng(1))
    gaps, coverages = [], []
    for truth in p.signals[:signals]:
        y = p.A @ truth + p.s * p.rng.standard_normal(len(p.A))
        seen, mean = (p.U.T @ y)[: p.k] / p.singular, p.covariance @ (p.A.T @ y) / p.s**2
        x, least = getattr(p, method)(seen, K, last), np.trace(p.covariance)
        gaps.append((((x.mean(0) - mean) ** 2).sum() - least / K) / least)
        height = lambda x: -np.einsum("ij,jk,ik->i", x - mean, p.precision, x - mean)
        right = mean + p.rng.standard_normal((600, L)) @ np.linalg.cholesky(p.covariance).T
        coverages.append((height(right) >= np.quantile(height(x), 0.1, method="weibull")).mean())
    gaps, coverages, by = np.array(gaps), np.array(coverages), 1 / np.sqrt(signals)
    return (
        f"{10 * np.log10(1 + max(gaps.mean(), -0.9)):.2f} +- {4.34 * gaps.std() * by:.2f} "
        f"/ {coverages.mean():.2f} +- {coverages.std() * by:.2f} |"
    )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--signals", type=int, default=16)
    a = p.parse_args()
    all = [("drawn", 24, 2), ("drawn", 64, 2), ("drawn", 64, 20), ("held", 24, 2), ("held", 64, 2), ("held", 64, 20)]
    print("| exact draws | " + " | ".join(f"{m}, groups of {K}, last {l}" for m, K, l in all) + " |")
    print("|---" * (len(all) + 1) + "|")
    for name in ["denoising", "blur", "random sampling", "partial Fourier", "sampling with a hole of 16"]:
        cells = [run(name, m, K, a.signals, last) for m, K, last in all]
        print(f"| {name} | " + " ".join(cells), flush=True)


if __name__ == "__main__":
    main()
