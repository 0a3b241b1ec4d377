"""Golden runs of the posterior methods: the published equations, in float64, on a problem of 16 values.

Written with numpy 2.4.6 and safetensors 0.8.0 alone; nothing is downloaded. Run by hand from the repository root:

    python tests/golden/make_posterior.py

The prior is a mixture of two Gaussians with diagonal covariances, whose denoiser and its Jacobian are known. Inputs and noise come
from pcg.py and are not stored: tests/references/posterior.rs draws the same. It writes tests/golden/posterior.safetensors, for each case
x after every few steps as `[checkpoints, samples, 16]`.

The equations are those of the papers (numbers beside them), written from the papers in the variance-preserving form, with t the
present and s the next level. Where the papers' own code decides a point, the comment says so.
"""

import math
import pathlib

import numpy as np
from safetensors.numpy import save_file

from posterior_forward import daps, dps_forward, red_diff, sitcom
from posterior_steps import (
    ABAR,
    EVERY,
    EVIDENCE,
    FIRST,
    KNOWN,
    N,
    OPERATORS,
    ROOT3,
    SAMPLES,
    Step,
    TIMESTEPS,
    ddim_sigma,
    ddpm,
    denoise,
    draw,
    measure,
    noise_of,
)


def ddnm(st, a, y, sigma, eta, sampler):
    x0 = st.x0 - np.linalg.pinv(a) @ (a @ st.x0 - y)  # eq. 13
    if sampler == "ddpm":  # algorithm 1
        return ddpm(st.x, x0, st.abar_t, st.abar_s, st.z)
    # The authors' code: eps stays the network's.
    v = np.sqrt(1 - st.abar_s)
    return np.sqrt(st.abar_s) * x0 + v * (eta * st.z + np.sqrt(1 - eta**2) * st.eps)


def basis(a):
    """U, all n singular values and the full V."""
    u, s, vt = np.linalg.svd(a, full_matrices=True)
    return u, np.concatenate([s, np.zeros(N - len(s))]), vt.T


def ddnm_plus(st, a, y, sigma, eta, sampler):
    """eq. 17 to 19 and the authors' code: Lambda scales the correction, noise keeps the variance at the level's."""
    _, s, v = basis(a)
    abar, level = np.sqrt(st.abar_s), np.sqrt(1 - st.abar_s)
    of_y = np.array([abar * sigma / k if k > 0 else 0.0 for k in s])
    scale, d1, d2 = np.ones(N), np.full(N, level * eta), np.full(N, level * np.sqrt(1 - eta**2))
    for i in range(N):
        if s[i] > 0 and level < of_y[i]:
            scale[i], d2[i] = s[i] * level * np.sqrt(1 - eta**2) / abar / sigma, 0
        elif s[i] > 0:
            d1[i], d2[i] = np.sqrt(level**2 - of_y[i] ** 2), 0
    correction = np.linalg.pinv(a) @ (a @ st.x0 - y)
    x0 = st.x0 - v @ (scale * (v.T @ correction))
    return abar * x0 + v @ (d1 * (v.T @ st.z)) + v @ (d2 * (v.T @ st.eps))


def ddrm(st, a, y, sigma, eta, sampler, eta_b=1.0):
    """eq. 8, for x / sqrt(abar), whose noise has the standard deviation sig."""
    u, s, v = basis(a)
    sig_s = np.sqrt((1 - st.abar_s) / st.abar_s)
    if sampler == "ddpm":  # eta of each step is DDPM's
        eta = ddim_sigma(st.abar_t, st.abar_s, 1) / np.sqrt(1 - st.abar_s) if st.abar_s < 1 else 0
    x0, eps, z = v.T @ st.x0, v.T @ st.eps, v.T @ st.z
    out = np.zeros(N)
    uty = u.T @ y
    for i in range(N):
        if s[i] == 0:
            out[i] = x0[i] + np.sqrt(1 - eta**2) * sig_s * eps[i] + eta * sig_s * z[i]
            continue
        yi = uty[i] / s[i]
        if sig_s < sigma / s[i]:
            out[i] = x0[i] + np.sqrt(1 - eta**2) * sig_s * (yi - x0[i]) / (sigma / s[i]) + eta * sig_s * z[i]
        else:
            std = np.sqrt(sig_s**2 - (eta_b * sigma / s[i]) ** 2)
            out[i] = (1 - eta_b) * x0[i] + eta_b * yi + std * z[i]
    return np.sqrt(st.abar_s) * (v @ out)


def ddrm_start(x, a, y, sigma, abar):
    """eq. 7."""
    u, s, v = basis(a)
    sig, z, uty, out = np.sqrt((1 - abar) / abar), v.T @ x, u.T @ y, np.zeros(N)
    for i in range(N):
        if s[i] > 0 and sig >= sigma / s[i]:
            out[i] = uty[i] / s[i] + np.sqrt(sig**2 - (sigma / s[i]) ** 2) * z[i]
        else:
            out[i] = sig * z[i]
    return np.sqrt(abar) * (v @ out)


def diffpir(st, a, y, sigma, eta, sampler, lam=1.0):
    """Algorithm 1; eta is sqrt(zeta). The minimum by its normal equations."""
    rho = lam * sigma**2 * st.abar_t / (1 - st.abar_t)
    if rho > 0:
        x0 = np.linalg.solve(a.T @ a + rho * np.eye(N), a.T @ y + rho * st.x0)
    else:
        x0 = st.x0 + np.linalg.pinv(a) @ (y - a @ st.x0)
    if sampler == "ddpm":
        return ddpm(st.x, x0, st.abar_t, st.abar_s, st.z)
    eps = noise_of(st.x, x0, st.abar_t)
    return np.sqrt(st.abar_s) * x0 + np.sqrt(1 - st.abar_s) * (np.sqrt(1 - eta**2) * eps + eta * st.z)


def repaint(st, a, y, sigma, eta, sampler):
    """eq. 8, without jumps."""
    out = ddpm(st.x, st.x0, st.abar_t, st.abar_s, st.z)
    known = np.sqrt(st.abar_s) * y + (np.sqrt(1 - st.abar_s) * st.own(0)[KNOWN] if st.abar_s < 1 else 0)
    out[KNOWN] = known
    return out


def sampler_step(st, x0, eps, eta, sampler):
    if sampler == "ddpm":
        return ddpm(st.x, x0, st.abar_t, st.abar_s, st.z)
    std = ddim_sigma(st.abar_t, st.abar_s, eta)
    return np.sqrt(st.abar_s) * x0 + np.sqrt(1 - st.abar_s - std**2) * eps + std * st.z


def dps(st, a, y, sigma, eta, sampler, zeta=0.3, poisson=False, laplace=False):
    """Algorithm 1; the authors' code takes the gradient of the norm. Poisson: eq. 19 with zeta' / |r|, 2 in zeta.
    Laplace: the gradient of |r|_1 / sqrt(m)."""
    r = y - a @ st.x0
    weighted = r / y if poisson else r
    v = np.sign(r) / np.sqrt(len(r)) if laplace else weighted / np.linalg.norm(r)
    gradient = -st.jacobian.T @ (a.T @ v)
    return sampler_step(st, st.x0, st.eps, eta, sampler) - zeta * gradient


def mcg(st, a, y, sigma, eta, sampler):
    """Algorithm 1 and its projection."""
    out = dps(st, a, y, sigma, eta, sampler)
    y_s = np.sqrt(st.abar_s) * y + (np.sqrt(1 - st.abar_s) * (a @ st.own(0)) if st.abar_s < 1 else 0)
    return out - np.linalg.pinv(a) @ (a @ out - y_s)


def pigdm(st, a, y, sigma, eta, sampler):
    """Algorithm 1: r_t^2 times the gradient of eq. 7, at weight sqrt(abar_t)."""
    sig2 = (1 - st.abar_t) / st.abar_t
    r2 = sig2 / (1 + sig2)
    c = r2 * a @ a.T + sigma**2 * np.eye(len(y))
    g = r2 * st.jacobian.T @ (a.T @ np.linalg.solve(c, y - a @ st.x0))
    return sampler_step(st, st.x0, st.eps, eta, sampler) + np.sqrt(st.abar_t) * g


def tmpd(st, a, y, sigma, eta, sampler):
    """The covariance by eq. 9, its projection as row sums."""
    rho = (1 - st.abar_t) / np.sqrt(st.abar_t)
    c = np.maximum((a @ st.jacobian @ a.T).sum(1), 0) + sigma**2 / rho
    x0 = st.x0 + st.jacobian.T @ (a.T @ ((y - a @ st.x0) / c))
    return sampler_step(st, x0, noise_of(st.x, x0, st.abar_t), eta, sampler)


def classifier(st, a, y, sigma, eta, sampler, mean=False):
    """Dhariwal and Nichol 2021, algorithms 1 (with the gradient at x_t, as in the authors' code) and 2; scale 1.5,
    log p = -|y - A x|^2 / 2."""
    g = 1.5 * (a.T @ (y - a @ st.x))
    if mean:
        variance = (1 - st.abar_s) / (1 - st.abar_t) * (1 - st.abar_t / st.abar_s)
        return sampler_step(st, st.x0, st.eps, eta, sampler) + variance * g
    eps = st.eps - np.sqrt(1 - st.abar_t) * g
    x0 = (st.x - np.sqrt(1 - st.abar_t) * eps) / np.sqrt(st.abar_t)
    return sampler_step(st, x0, eps, eta, sampler)


# --- the methods of 2015 and those calibrated to the noise --------------------------------------------------------------------


def kernel(st, eta, sampler):
    """Mean and standard deviation of x_s."""
    if sampler == "ddpm":
        std = np.sqrt((1 - st.abar_s) / (1 - st.abar_t) * (1 - st.abar_t / st.abar_s))
        return ddpm(st.x, st.x0, st.abar_t, st.abar_s, np.zeros(N)), std
    std = ddim_sigma(st.abar_t, st.abar_s, eta)
    return np.sqrt(st.abar_s) * st.x0 + np.sqrt(1 - st.abar_s - std**2) * st.eps, std


def product(st, a, y, eta, sampler, gain, covariance):
    """A draw from N(mean, std^2 I) N(y; gain A x, covariance) by the sum of precisions, with the symmetric root."""
    mean, std = kernel(st, eta, sampler)
    if std == 0:
        return mean
    of_y = gain * a.T @ np.linalg.inv(covariance)
    values, vectors = np.linalg.eigh(np.eye(N) / std**2 + gain * of_y @ a)
    of = lambda f: vectors @ np.diag(f) @ vectors.T
    return of(1 / values) @ (mean / std**2 + of_y @ y) + of(values**-0.5) @ st.z


def power(st, ramp):
    return (st.step + 1) / len(TIMESTEPS) if ramp else 1.0


def exact_product(st, a, y, sigma, eta, sampler, ramp=False):
    """The row of a Gaussian r of Sohl-Dickstein et al. 2015, table App.1; r^p has the variance s^2 / p."""
    return product(st, a, y, eta, sampler, 1.0, sigma**2 / power(st, ramp) * np.eye(len(y)))


def mean_shift(st, a, y, sigma, eta, sampler, ramp=False):
    """Sohl-Dickstein et al. 2015, eq. 61."""
    mean, std = kernel(st, eta, sampler)
    return mean + std**2 * power(st, ramp) * (a.T @ (y - a @ mean)) / sigma**2 + std * st.z


def clamp(st, a, y, sigma, eta, sampler, noised=False):
    """The delta of 2015: known values are set after each step."""
    mean, std = kernel(st, eta, sampler)
    out = mean + std * st.z
    out[KNOWN] = y
    if noised and st.abar_s < 1:
        out[KNOWN] = np.sqrt(st.abar_s) * y + np.sqrt(1 - st.abar_s) * st.own(0)[KNOWN]
    return out


def white(st, a, y, sigma, eta, sampler, v=0.7):
    """r_s(x_s) = p(y | x_s) for x_0 ~ N(0, v I): y is Gaussian around A E[x_0 | x_s] with A Cov[x_0 | x_s] A^T + s^2 I."""
    total = st.abar_s * v + 1 - st.abar_s
    gain, scatter = np.sqrt(st.abar_s) * v / total, v * (1 - st.abar_s) / total
    return product(st, a, y, eta, sampler, gain, scatter * a @ a.T + sigma**2 * np.eye(len(y)))


def calibrated(st, a, y, sigma, eta, sampler, iterations=None):
    """E[x_0 | x_t, y] of a Gaussian p(x_0 | x_t) with the model's mean and covariance (Tweedie): Rozet et al. 2024, eq. 13 to 16. With
    `iterations` the system is left where as many conjugate gradients come to from 0 (Hestenes and Stiefel 1952), preconditioned by the white form."""
    cov = (1 - st.abar_t) / np.sqrt(st.abar_t) * st.jacobian
    m = a @ cov @ a.T + sigma**2 * np.eye(len(y))
    r = y - a @ st.x0
    if iterations is None:
        u = np.linalg.solve(m, r)
    else:
        inverse = np.linalg.inv((1 - st.abar_t) * a @ a.T + sigma**2 * np.eye(len(y)))
        u, z = np.zeros(len(y)), inverse @ r
        p = z
        for _ in range(iterations):
            step = (r @ z) / (p @ m @ p)
            u, after = u + step * p, r - step * m @ p
            z_after = inverse @ after
            p = z_after + (after @ z_after) / (r @ z) * p
            r, z = after, z_after
    x0 = st.x0 + cov @ a.T @ u
    return sampler_step(st, x0, noise_of(st.x, x0, st.abar_t), eta, sampler)


# --- a filter ---------------------------------------------------------------------------------------------------------


def filtered(mean, c, a, y, var, z):
    """A draw from N(mean, c^2 I) N(y; A x, var I), with the symmetric root of its covariance."""
    if var == 0:
        onto = np.linalg.pinv(a) @ a
        return mean + np.linalg.pinv(a) @ (y - a @ mean) + c * (z - onto @ z)
    values, vectors = np.linalg.eigh(np.eye(N) / c**2 + a.T @ a / var)
    of = lambda f: vectors @ np.diag(f) @ vectors.T
    return of(1 / values) @ (mean / c**2 + a.T @ y / var) + of(values**-0.5) @ z


def fps(op, sigma, sampler, particles=1):
    """The y-sequence made backwards with the noise of the chain's own step, the weights N(y_s; A mu, abar_s s^2 I + c^2 A A^T), by which
    particles are drawn (systematically) before x_s is; the last step is the model's. A group's noise of its own is its first sample's."""
    a, first = OPERATORS[op], FIRST if particles == 1 else 6
    ys = measure(op, sigma)
    xs, kept = [draw(1000 + first + i, 0, N, ROOT3) for i in range(SAMPLES)], []
    noised = [None] * SAMPLES
    for step, t in enumerate(TIMESTEPS):
        abar_t = ABAR[t]
        last = step + 1 == len(TIMESTEPS)
        abar_s = 1.0 if last else ABAR[TIMESTEPS[step + 1]]
        c = ddim_sigma(abar_t, abar_s, 1) if sampler == "ddpm" else np.sqrt(0.95 * (1 - abar_s))
        means = []
        for x in xs:
            x0 = denoise(x, abar_t)[0]
            means.append(np.sqrt(abar_s) * x0 + np.sqrt(1 - abar_s - c**2) * noise_of(x, x0, abar_t))
        for g in range(0, SAMPLES, particles):
            own = lambda k, n=N: draw(1000 + first + g, EVIDENCE | (16 * step + k), n, ROOT3)
            group = range(g, g + particles)
            if last:
                for i in group:
                    xs[i] = means[i]
                continue
            if step == 0:
                noised[g] = np.sqrt(abar_t) * ys[g] + np.sqrt(1 - abar_t) * a @ own(1)
            eps = (noised[g] - np.sqrt(abar_t) * ys[g]) / np.sqrt(1 - abar_t)
            noised[g] = np.sqrt(abar_s) * ys[g] + np.sqrt(1 - abar_s - c**2) * eps + c * a @ own(0)
            chosen = list(group)
            if particles > 1:
                cov = abar_s * sigma**2 * np.eye(len(a)) + c**2 * a @ a.T
                gaps = [noised[g] - a @ means[i] for i in group]
                logs = np.array([-0.5 * gap @ np.linalg.solve(cov, gap) for gap in gaps])
                w = np.exp(logs - logs.max())
                u = 0.5 * math.erfc(-own(2, 1)[0] / math.sqrt(2))
                reached = np.cumsum(w / w.sum())
                chosen = [g + int(np.searchsorted(reached, (k + u) / particles, side="right")) for k in range(particles)]
            taken = [means[j] for j in chosen]
            for i, mean in zip(group, taken):
                z = draw(1000 + first + i, step + 1, N, ROOT3)
                xs[i] = filtered(mean, c, a, noised[g], abar_s * sigma**2, z)
        if (step + 1) % EVERY == 0:
            kept.append(np.stack(xs))
    return np.stack(kept).astype(np.float32)


METHODS = [
    # name, method, operators, sigma, eta, samplers, further arguments
    ("ddnm", ddnm, ["mask", "pool", "dense"], 0.0, 0.85, ["ddim", "ddpm"], {}),
    ("ddnm_plus", ddnm_plus, ["mask", "dense"], 0.2, 0.85, ["ddim"], {}),
    ("ddrm", ddrm, ["mask", "pool", "dense"], 0.2, 0.85, ["ddim", "ddpm"], {}),
    ("ddrm_07", ddrm, ["dense"], 0.2, 0.6, ["ddim"], {"eta_b": 0.7}),
    ("diffpir", diffpir, ["mask", "pool", "dense"], 0.2, 0.5, ["ddim", "ddpm"], {"lam": 0.8}),
    ("diffpir_exact", diffpir, ["pool"], 0.0, 0.5, ["ddim"], {}),
    ("repaint", repaint, ["mask"], 0.0, 0.0, ["ddpm"], {}),
    ("dps", dps, ["mask", "pool", "dense"], 0.2, 0.5, ["ddim", "ddpm"], {}),
    ("dps_poisson", dps, ["pool"], 0.2, 0.0, ["ddpm"], {"poisson": True}),
    ("dps_laplace", dps, ["pool"], 0.2, 0.0, ["ddpm"], {"laplace": True}),
    ("mcg", mcg, ["mask", "dense"], 0.0, 0.5, ["ddim", "ddpm"], {}),
    ("pigdm", pigdm, ["mask", "pool", "dense"], 0.2, 1.0, ["ddim", "ddpm"], {}),
    ("pigdm_exact", pigdm, ["pool"], 0.0, 1.0, ["ddim"], {}),
    ("tmpd", tmpd, ["mask", "pool", "dense"], 0.2, 0.5, ["ddim", "ddpm"], {}),
    ("classifier", classifier, ["mask"], 0.2, 0.5, ["ddim", "ddpm"], {}),
    ("classifier_mean", classifier, ["mask"], 0.2, 1.0, ["ddim", "ddpm"], {"mean": True}),
    ("exact_product", exact_product, ["mask", "pool", "dense"], 0.2, 1.0, ["ddim", "ddpm"], {}),
    ("exact_product_ramp", exact_product, ["dense"], 0.2, 0.5, ["ddpm"], {"ramp": True}),
    ("mean_shift", mean_shift, ["mask", "pool", "dense"], 1.2, 1.0, ["ddim", "ddpm"], {}),
    ("mean_shift_ramp", mean_shift, ["dense"], 0.6, 0.5, ["ddpm"], {"ramp": True}),
    ("clamp", clamp, ["mask"], 0.0, 0.5, ["ddim", "ddpm"], {}),
    ("clamp_noised", clamp, ["mask"], 0.0, 0.5, ["ddim", "ddpm"], {"noised": True}),
    ("white", white, ["mask", "pool", "dense"], 0.2, 1.0, ["ddim", "ddpm"], {}),
    ("calibrated", calibrated, ["mask", "pool", "dense"], 0.2, 0.5, ["ddim", "ddpm"], {}),
    ("calibrated_2", calibrated, ["mask", "pool", "dense"], 0.2, 0.5, ["ddim", "ddpm"], {"iterations": 2}),
]


def run(method, op, sigma, eta, sampler, extra, start=None):
    a, kept = OPERATORS[op], []
    ys = measure(op, sigma)
    if extra.get("poisson"):
        ys = [np.abs(y) + 0.5 for y in ys]
    xs = [draw(1000 + FIRST + i, 0, N, ROOT3) for i in range(SAMPLES)]
    if start is not None:
        xs = [start(x, a, y, sigma, ABAR[TIMESTEPS[0]]) for x, y in zip(xs, ys)]
    for step, t in enumerate(TIMESTEPS):
        abar_s = ABAR[TIMESTEPS[step + 1]] if step + 1 < len(TIMESTEPS) else 1.0
        for i in range(SAMPLES):
            st = Step(xs[i], ABAR[t], abar_s, FIRST + i, step)
            xs[i] = method(st, a, ys[i], sigma, eta, sampler, **extra)
        if (step + 1) % EVERY == 0:
            kept.append(np.stack(xs))
    return np.stack(kept).astype(np.float32)


def repaint_with_jumps(length, resamplings):
    """Algorithm 1 with the schedule of its supplement, place by place: merge at s, then noise from s up to u one step at a time.

    The library draws one noise for each of the two parts where the paper draws one at s and one for each step up; the noises given
    to it are these, put together with the same sum.
    """
    places = [ABAR[t] for t in reversed(TIMESTEPS)]
    left = {j: resamplings - 1 for j in range(0, len(places) - length, length)}
    y = measure("mask", 0.0)
    hidden = [i for i in range(N) if i not in KNOWN]
    xs = [draw(1000 + FIRST + i, 0, N, ROOT3) for i in range(SAMPLES)]
    noise, own, kept = [], [], []
    at, step, stream = len(places) - 1, 0, 1
    while at >= 0:
        abar_t = places[at]
        abar_s = places[at - 1] if at > 0 else 1.0
        jump = at > 0 and left.get(at - 1, 0) > 0
        noise.append([])
        own.append([])
        for i in range(SAMPLES):
            z = lambda k: draw(2000 + i, 100 * stream + k, N, ROOT3)
            x0, _ = denoise(xs[i], abar_t)
            new = ddpm(xs[i], x0, abar_t, abar_s, z(0))
            new[KNOWN] = np.sqrt(abar_s) * y[i] + np.sqrt(1 - abar_s) * z(1)[KNOWN]
            beta = 1 - abar_t / abar_s
            var_s = (1 - abar_s) / (1 - abar_t) * beta
            sums, total = [np.sqrt(var_s) * z(0), np.sqrt(1 - abar_s) * z(1)], [var_s, 1 - abar_s]
            if jump:
                for k in range(length):
                    b = 1 - places[at + k] / places[at - 1 + k]
                    new = np.sqrt(1 - b) * new + np.sqrt(b) * z(2 + k)
                    sums = [np.sqrt(1 - b) * q + np.sqrt(b) * z(2 + k) for q in sums]
                    total = [(1 - b) * v + b for v in total]
            noise[-1].append(sums[0] / np.sqrt(total[0]) if total[0] > 0 else np.zeros(N))
            merged = sums[1] / np.sqrt(total[1]) if total[1] > 0 else np.zeros(N)
            merged[hidden] = 0
            own[-1].append(merged)
            xs[i] = new
        if jump:
            left[at - 1] -= 1
        at = at - 1 + length if jump else at - 1
        step, stream = step + 1, stream + 1
        if step % EVERY == 0 or at < 0:
            kept.append(np.stack(xs))
    f32 = lambda v: np.array(v).astype(np.float32)
    return f32(noise), f32(own), f32(kept)


def main():
    arrays = {}
    for name, method, ops, sigma, eta, samplers, extra in METHODS:
        for op in ops:
            for sampler in samplers:
                arrays[f"{name}.{op}.{sampler}"] = run(method, op, sigma, eta, sampler, extra)
    arrays["ddrm_start.dense.ddim"] = run(ddrm, "dense", 0.2, 0.85, "ddim", {}, ddrm_start)
    noise, own, kept = repaint_with_jumps(4, 2)
    arrays["repaint_jumps.noise"], arrays["repaint_jumps.own"], arrays["repaint_jumps.x"] = noise, own, kept
    for op in ["mask", "dense", "clip", "gamma", "phase"]:
        arrays[f"daps.{op}"] = daps(op, 0.2, 3 if op in OPERATORS else 1, 5, 0.5, 0.1)
    for op in ["clip", "gamma", "quantize", "phase"]:
        arrays[f"dps.{op}"] = dps_forward(op, 0.2)
    # Not of "phase": mu begins at grey, whose transform has zeros, where a magnitude has no derivative.
    for op in ["dense", "clip"]:
        arrays[f"red_diff.{op}"] = red_diff(op, 0.2)
    # Not of "mask" and "clip": where y says nothing of an element Adam's first step is of a size that its gradient, 0 but for rounding,
    # does not have.
    for op, stop in [("dense", None), ("dense", 0.0), ("gamma", 0.1), ("quantize", None)]:
        arrays[f"sitcom.{op}.{'usual' if stop is None else 'own'}"] = sitcom(op, 0.2, 6, 0.05, 0.4, stop)
    for op in OPERATORS:
        for sampler in ["ddim", "ddpm"]:
            arrays[f"fps.{op}.{sampler}"] = fps(op, 0.2, sampler)
    arrays["fps_group.dense.ddim"] = fps("dense", 0.2, "ddim", 2)
    arrays["fps_exact.pool.ddim"] = fps("pool", 0.0, "ddim")
    save_file(arrays, pathlib.Path(__file__).with_name("posterior.safetensors"))


if __name__ == "__main__":
    main()
