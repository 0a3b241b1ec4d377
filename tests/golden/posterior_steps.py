"""What the posterior methods of make_posterior.py work on: a problem of 16 values, its prior, operators and steps."""

import numpy as np

from pcg import uniform

ROOT3 = 3.0**0.5
N, SIDE, SAMPLES, FIRST = 16, 4, 2, 5
EVIDENCE = 1 << 63
BETAS = np.linspace(1e-4, 0.02, 1000)
ABAR = np.cumprod(1 - BETAS)
TIMESTEPS = [950 - 50 * i for i in range(20)]
EVERY = 4


def draw(seed, stream, count, a):
    return uniform(seed, stream, count, a).astype(np.float64)


# --- the prior ---------------------------------------------------------------------------------------------------------

MEANS = [draw(1, k, N, 0.8) for k in range(2)]
VARIANCES = [0.06 + 0.05 * draw(2, k, N, 1.0) for k in range(2)]
WEIGHTS = [0.4, 0.6]


def denoise(x, abar):
    """E[x_0 | x_t] and its Jacobian by x_t, which is sqrt(abar) / (1 - abar) Cov[x_0 | x_t] (Tweedie)."""
    a, v = np.sqrt(abar), 1 - abar
    logs, means, covs = [], [], []
    for w, m, s in zip(WEIGHTS, MEANS, VARIANCES):
        c = abar * s + v
        d = x - a * m
        logs.append(np.log(w) - 0.5 * np.sum(d * d / c + np.log(c)))
        means.append(m + a * s / c * d)
        covs.append(s * v / c)
    r = np.exp(np.array(logs) - max(logs))
    r /= r.sum()
    x0 = sum(k * m for k, m in zip(r, means))
    cov = sum(k * (np.diag(c) + np.outer(m, m)) for k, m, c in zip(r, means, covs)) - np.outer(x0, x0)
    return x0, a / v * cov


# --- the operators ------------------------------------------------------------------------------------------------------

KNOWN = [0, 1, 2, 5, 7, 8, 11, 14]
MASK = np.eye(N)[KNOWN]
POOL = np.zeros((4, N))
for i in range(SIDE):
    for j in range(SIDE):
        POOL[(i // 2) * 2 + j // 2, i * SIDE + j] = 0.25
DENSE = draw(3, 0, 5 * N, 0.5).reshape(5, N)
OPERATORS = {"mask": MASK, "pool": POOL, "dense": DENSE}


def measure(op, sigma):
    """y of each sample, from a draw of the prior's second component."""
    truth = [MEANS[1] + np.sqrt(VARIANCES[1]) * draw(4, i, N, ROOT3) for i in range(SAMPLES)]
    return [OPERATORS[op] @ x + sigma * draw(5, i, len(OPERATORS[op]), ROOT3) for i, x in enumerate(truth)]


# --- the steps ----------------------------------------------------------------------------------------------------------


def ddim_sigma(abar_t, abar_s, eta):
    return eta * np.sqrt((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))


def ddpm(x, x0, abar_t, abar_s, z):
    """Ho 2020, eq. 6 and 7, with the variance beta tilde."""
    beta = 1 - abar_t / abar_s
    mean = np.sqrt(abar_s) * beta / (1 - abar_t) * x0 + np.sqrt(1 - beta) * (1 - abar_s) / (1 - abar_t) * x
    return mean + np.sqrt((1 - abar_s) / (1 - abar_t) * beta) * z


def noise_of(x, x0, abar):
    return (x - np.sqrt(abar) * x0) / np.sqrt(1 - abar)


class Step:
    """What a method is given: x_t, the levels, the model, and its noise."""

    def __init__(self, x, abar_t, abar_s, sample, step):
        self.x, self.abar_t, self.abar_s, self.sample, self.step = x, abar_t, abar_s, sample, step
        self.x0, self.jacobian = denoise(x, abar_t)
        self.eps = noise_of(x, self.x0, abar_t)
        # Only a step that leads to x_0 needs none.
        self.z = np.zeros(N) if abar_s == 1 else draw(1000 + sample, step + 1, N, ROOT3)

    def own(self, k):
        return draw(1000 + self.sample, EVIDENCE | (16 * self.step + k), N, ROOT3)
