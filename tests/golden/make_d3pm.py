"""Golden arrays for the categorical process and the chain of D3PM (Austin et al. 2021), by explicit transition matrices.

Made with numpy 2.4.6 and safetensors 0.8.0; no other package, no download. Run by hand from the repository root:

    python tests/golden/make_d3pm.py

It writes tests/golden/d3pm.safetensors. Every matrix is K x K and multiplied out; nothing uses the closed forms of the library. Classes are
drawn as the authors' code draws them, by the largest of logarithm plus Gumbel noise. Inputs are drawn from pcg.py and not stored.

For each schedule (linear, cosine, mutual) and transition (uniform, absorbing, whose mask is class 1), each array f64 but for indices:
  betas      [T]
  marginal   [T, K, K]      q(x_t = j | x_0 = i)
  posterior  [T, K, K, K]   q(x_s = k | x_t = j, x_0 = i), 0 where i cannot lead to j; s is t - 1, x_0 itself at t = 0
  clean      [T, K, K]      by x_t: sum over x_0 of q(x_s | x_t, x_0) p(x_0)
  joint      [T, K, K]      by x_t: normalised sum over x_0 of q(x_s, x_t | x_0) p(x_0), p itself at t = 0
  chain      [T + 1, N, P]  classes from x_T to x_0, of the kernel clean, logits and uniform values given (i64)
"""

import pathlib

import numpy as np
from safetensors.numpy import save_file

from pcg import uniform

T, K, N, P, MASK = 12, 4, 3, 5, 1
LEAST = 2.0**-25


def betas(name):
    if name == "linear":
        return np.linspace(0.02, 1.0, T)
    if name == "cosine":
        steps = np.arange(T + 1) / T
        abar = np.cos((steps + 0.008) / 1.008 * np.pi / 2)
        return np.minimum(1 - abar[1:] / abar[:-1], 0.999)
    return 1.0 / np.linspace(T, 1.0, T)


def transition(beta, absorbing):
    q = (1 - beta) * np.eye(K)
    if absorbing:
        q[:, MASK] += beta
    else:
        q += beta / K
    return q


def probabilities(absorbing):
    """p(x_0) for a step: 0.1 to 0.4, none for a mask."""
    p = np.array([0.1, 0.0 if absorbing else 0.2, 0.4, 0.3])
    return p / p.sum()


def main():
    out = {}
    for schedule in ("linear", "cosine", "mutual"):
        for kind in ("uniform", "absorbing"):
            absorbing = kind == "absorbing"
            b = betas(schedule)
            steps = [transition(beta, absorbing) for beta in b]
            cumulative = []
            q = np.eye(K)
            for step in steps:
                q = q @ step
                cumulative.append(q.copy())
            p = probabilities(absorbing)
            posterior = np.zeros((T, K, K, K))
            clean, joint = np.zeros((T, K, K)), np.zeros((T, K, K))

            def kernel(t, x_t, p):
                """sum over x_0 of q(x_s | x_t, x_0) p(x_0)."""
                before = cumulative[t - 1] if t > 0 else np.eye(K)
                if absorbing and x_t != MASK:
                    return np.eye(K)[x_t]
                sums = np.zeros(K)
                for x_0 in range(K):
                    both = before[x_0] * steps[t][:, x_t]
                    if both.sum() > 0 and p[x_0] > 0:
                        sums += p[x_0] * both / both.sum()
                return sums

            for t in range(T):
                before = cumulative[t - 1] if t > 0 else np.eye(K)
                for x_t in range(K):
                    for x_0 in range(K):
                        both = before[x_0] * steps[t][:, x_t]
                        posterior[t, x_0, x_t] = both / both.sum() if both.sum() > 0 else 0
                    clean[t, x_t] = kernel(t, x_t, p)
                    total = sum(p[x_0] * before[x_0] * steps[t][:, x_t] for x_0 in range(K))
                    if absorbing and x_t != MASK:
                        joint[t, x_t] = np.eye(K)[x_t]
                    elif t == 0:
                        joint[t, x_t] = p
                    else:
                        joint[t, x_t] = total / total.sum()

            # The chain: x_T, then logits of each step and uniform values of each draw, both as f32.
            x = np.full((N, P), MASK) if absorbing else None
            u = uniform(7, 0, N * P * K, 0.5).reshape(N, P, K).astype(np.float64) + 0.5
            if x is None:
                x = np.argmax(-np.log(-np.log(np.maximum(u, LEAST))), axis=-1)
            chain = [x]
            for i, t in enumerate(reversed(range(T))):
                logits = uniform(8, i, N * P * K, 2.0).reshape(N, P, K).astype(np.float64)
                if absorbing:
                    logits[..., MASK] = -np.inf
                p_0 = np.exp(logits - logits.max(-1, keepdims=True))
                p_0 /= p_0.sum(-1, keepdims=True)
                u = uniform(7, i + 1, N * P * K, 0.5).reshape(N, P, K).astype(np.float64) + 0.5
                gumbel = -np.log(-np.log(np.maximum(u, LEAST)))
                new = np.zeros_like(x)
                for n in range(N):
                    for j in range(P):
                        with np.errstate(divide="ignore"):
                            score = np.log(kernel(t, x[n, j], p_0[n, j])) + gumbel[n, j]
                        new[n, j] = np.argmax(score)
                x = new
                chain.append(x)
            name = f"{schedule}.{kind}."
            out[name + "betas"] = b
            out[name + "marginal"] = np.stack(cumulative)
            out[name + "posterior"] = posterior
            out[name + "clean"] = clean
            out[name + "joint"] = joint
            out[name + "chain"] = np.stack(chain).astype(np.int64)
    path = pathlib.Path(__file__).parent / "d3pm.safetensors"
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, path)
    print(len(out), "arrays,", path.stat().st_size, "bytes")


main()
