"""Posterior methods for operators that are not linear, as make_posterior.py writes them: the published equations, in float64."""

import numpy as np

from posterior_steps import (
    ABAR,
    EVERY,
    EVIDENCE,
    FIRST,
    MEANS,
    N,
    OPERATORS,
    ROOT3,
    SAMPLES,
    Step,
    TIMESTEPS,
    VARIANCES,
    ddpm,
    denoise,
    draw,
    noise_of,
)


def clip(x):
    """clamp(2 x, -1, 1) and its Jacobian."""
    return np.clip(2 * x, -1, 1), np.diag(np.where(np.abs(2 * x) < 1, 2.0, 0.0))


def gamma(x, g=1.8):
    """2 u^g - 1, u = (x + 1) / 2, continued along its tangents below 1 / 512 and above 1."""
    u = 0.5 * (x + 1)
    on = np.clip(u, 1 / 512, 1)
    slope = g * on ** (g - 1)
    return 2 * (on**g + (u - on) * slope) - 1, np.diag(slope)


def quantize(x, levels=4):
    """The nearest level; the identity for its gradient."""
    gaps = levels - 1
    return 2 * np.rint(0.5 * (np.clip(x, -1, 1) + 1) * gaps) / gaps - 1, np.eye(N)


def phase(x):
    """|F P u| of a picture of 4 x 4 among zeros of 8 x 8."""
    f = np.exp(-2j * np.pi * np.outer(np.arange(8), np.arange(4)) / 8) / np.sqrt(8)
    z = (f @ (0.5 * x.reshape(4, 4) + 0.5) @ f.T).ravel()
    of_u = np.einsum("ai,bj->abij", f, f).reshape(64, N)
    return np.abs(z), 0.5 * np.real(np.conj(z)[:, None] * of_u) / np.abs(z)[:, None]


# The map and its largest slope.
FORWARD = {"clip": (clip, 2.0), "gamma": (gamma, 1.8), "quantize": (quantize, 1.0), "phase": (phase, 0.5)}


def seen(op):
    """The map and its Jacobian, the largest slope."""
    if op in FORWARD:
        return FORWARD[op]
    a = OPERATORS[op]
    return lambda x: (a @ x, a), np.linalg.svd(a)[1].max()


def measured(op, sigma):
    truth = [MEANS[1] + np.sqrt(VARIANCES[1]) * draw(4, i, N, ROOT3) for i in range(SAMPLES)]
    of = [seen(op)[0](x.astype(np.float32).astype(np.float64))[0] for x in truth]
    return [y + sigma * draw(5, i, len(y), ROOT3) for i, y in enumerate(of)]


def nearest(noise, top, count):
    """Timesteps up to `top` nearest in log noise to EDM's grid (Karras 2022, eq. 5, rho 7) from that of `top` to the least."""
    root = lambda v: v ** (1 / 7)
    out = []
    for i in range(count):
        wanted = (root(noise[top]) + i / max(count - 1, 1) * (root(noise[0]) - root(noise[top]))) ** 7
        t = int(np.argmin(np.abs(np.log(noise[: top + 1] / wanted))))
        if not out or t < out[-1]:
            out.append(t)
    return out


def daps(op, sigma, flow_steps, rounds, length, decay):
    """Algorithm 1: the flow by Euler's method in sigma / alpha (which is DDIM's step), eq. 9's Langevin dynamics with the learning rate
    of the authors' code, which falls evenly with the level. A draw is numbered by the network call that ends its level."""
    forward, slope = seen(op)
    ys = measured(op, sigma)
    xs = [draw(1000 + FIRST + i, 0, N, ROOT3) for i in range(SAMPLES)]
    noise = np.sqrt((1 - ABAR) / ABAR)
    call, kept = 0, []
    for level, t in enumerate(TIMESTEPS):
        way = nearest(noise, t, flow_steps)
        s = TIMESTEPS[level + 1] if level + 1 < len(TIMESTEPS) else None
        call += len(way) - 1
        for i in range(SAMPLES):
            x = xs[i]
            for u, v in zip(way, [*way[1:], None]):
                x0, _ = denoise(x, ABAR[u])
                if v is not None:
                    x = np.sqrt(ABAR[v]) * x0 + np.sqrt(1 - ABAR[v]) * noise_of(x, x0, ABAR[u])
            fraction = 1 - level / (len(TIMESTEPS) - 1) * (1 - decay)
            h = length * fraction / (1 / noise[t] ** 2 + slope**2 / sigma**2)
            x = x0.copy()
            for k in range(rounds):
                y, jacobian = forward(x)
                drift = (x0 - x) / noise[t] ** 2 + jacobian.T @ (ys[i] - y) / sigma**2
                x = x + h * drift + np.sqrt(2 * h) * draw(1000 + FIRST + i, EVIDENCE | 1 << 62 | call << 24 | k, N, ROOT3)
            if s is not None:
                x = np.sqrt(ABAR[s]) * x + np.sqrt(1 - ABAR[s]) * draw(1000 + FIRST + i, call + 1, N, ROOT3)
            xs[i] = x
        call += 1
        if (level + 1) % EVERY == 0:
            kept.append(np.stack(xs))
    return np.stack(kept).astype(np.float32)


def dps_forward(op, sigma, zeta=0.3):
    """Algorithm 1 of DPS with DDPM's step, of what is not linear."""
    forward, ys = seen(op)[0], measured(op, sigma)
    xs, kept = [draw(1000 + FIRST + i, 0, N, ROOT3) for i in range(SAMPLES)], []
    for step, t in enumerate(TIMESTEPS):
        abar_s = ABAR[TIMESTEPS[step + 1]] if step + 1 < len(TIMESTEPS) else 1.0
        for i in range(SAMPLES):
            st = Step(xs[i], ABAR[t], abar_s, FIRST + i, step)
            y, jacobian = forward(st.x0)
            r = ys[i] - y
            gradient = st.jacobian.T @ jacobian.T @ r / np.linalg.norm(r)
            xs[i] = ddpm(st.x, st.x0, st.abar_t, st.abar_s, st.z) + zeta * gradient
        if (step + 1) % EVERY == 0:
            kept.append(np.stack(xs))
    return np.stack(kept).astype(np.float32)


def red_diff(op, sigma, rate=0.1, lam=0.25):
    """Algorithm 1 with the authors' code's means over values, its "linear" weight sigma / alpha and torch's Adam; mu begins at 0."""
    forward, ys = seen(op)[0], measured(op, sigma)
    xs, kept = [draw(1000 + FIRST + i, 0, N, ROOT3) for i in range(SAMPLES)], []
    mus, firsts, seconds = [[np.zeros(N) for _ in range(SAMPLES)] for _ in range(3)]
    for step, t in enumerate(TIMESTEPS):
        a, s = np.sqrt(ABAR[t]), np.sqrt(1 - ABAR[t])
        for i in range(SAMPLES):
            z = (xs[i] - a * mus[i]) / s
            eps = noise_of(xs[i], denoise(xs[i], ABAR[t])[0], ABAR[t])
            y, jacobian = forward(mus[i])
            g = jacobian.T @ (y - ys[i]) / len(y) + lam * s / a * (eps - z) / N
            firsts[i] = 0.9 * firsts[i] + 0.1 * g
            seconds[i] = 0.99 * seconds[i] + 0.01 * g * g
            first, second = firsts[i] / (1 - 0.9 ** (step + 1)), seconds[i] / (1 - 0.99 ** (step + 1))
            mus[i] = mus[i] - rate * first / (np.sqrt(second) + 1e-8)
            xs[i] = mus[i]
            if step + 1 < len(TIMESTEPS):
                abar = ABAR[TIMESTEPS[step + 1]]
                xs[i] = np.sqrt(abar) * mus[i] + np.sqrt(1 - abar) * draw(1000 + FIRST + i, step + 1, N, ROOT3)
        if (step + 1) % EVERY == 0:
            kept.append(np.stack(xs))
    return np.stack(kept).astype(np.float32)


def sitcom(op, sigma, steps, rate, lam, stop):
    """Algorithm 1 with torch's Adam, begun anew at each level, and the stop of the authors' code unless another is given."""
    forward, ys = seen(op)[0], measured(op, sigma)
    xs, kept = [draw(1000 + FIRST + i, 0, N, ROOT3) for i in range(SAMPLES)], []
    stop = sigma + 0.001 if stop is None else stop
    for level, t in enumerate(TIMESTEPS):
        for i in range(SAMPLES):
            v, first, second = xs[i].copy(), np.zeros(N), np.zeros(N)
            for k in range(1, steps + 1):
                x0, jacobian = denoise(v, ABAR[t])
                y, of_x0 = forward(x0)
                r = ys[i] - y
                if np.sum(r * r) < stop**2 * len(r):
                    break
                g = 2 * lam * (v - xs[i]) - 2 * jacobian.T @ (of_x0.T @ r)
                first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
                v = v - rate * first / (1 - 0.9**k) / (np.sqrt(second / (1 - 0.999**k)) + 1e-8)
            xs[i] = denoise(v, ABAR[t])[0]
            if level + 1 < len(TIMESTEPS):
                abar = ABAR[TIMESTEPS[level + 1]]
                z = draw(1000 + FIRST + i, (level + 1) * (steps + 1), N, ROOT3)
                xs[i] = np.sqrt(abar) * xs[i] + np.sqrt(1 - abar) * z
        if (level + 1) % EVERY == 0:
            kept.append(np.stack(xs))
    return np.stack(kept).astype(np.float32)
