"""Golden runs of the chain in continuous time: Euler-Maruyama on the reverse equation of the 2015 talk, in float64.

Written with numpy 2.4.6 and safetensors 0.8.0 alone; nothing is downloaded. Run by hand from the repository root:

    python tests/golden/make_continuous.py

The equation, for a constant rate b (dx = -b x dt / 2 + sqrt(b) dW forward) and a network f0 that predicts x_0:

    mean = x - x exp(-b t) / (1 - exp(-b t)) b dt - x b dt / 2 + f0(x, t) csch(b t / 2) b dt / 2,   variance = b dt

written here term by term; where the rate varies, b t is its integral and b dt the integral's part over the step. f0 is the exact
denoiser of an even mixture of N(-0.6, 0.05) and N(0.9, 0.2) for each element. x_T and the noise of step i are uniform(41, 0) and
uniform(41, 1 + i) of pcg.py with unit variance, 6 values. It writes continuous.safetensors: for each case x after the steps
(`[checkpoints, 6]`, every tenth, then the result), and the weight csch^2(b t / 2) b dt / 8 of each step.
"""

import pathlib

import numpy as np
from safetensors.numpy import save_file

from pcg import uniform

N, EVERY = 6, 10
PARTS = [(-0.6, 0.05), (0.9, 0.2)]


def denoise(x, abar):
    logs = np.stack([-0.5 * (x - np.sqrt(abar) * m) ** 2 / (abar * v + 1 - abar) - 0.5 * np.log(abar * v + 1 - abar) for m, v in PARTS])
    r = np.exp(logs - logs.max(0))
    r /= r.sum(0)
    means = np.stack([m + np.sqrt(abar) * v / (abar * v + 1 - abar) * (x - np.sqrt(abar) * m) for m, v in PARTS])
    return (r * means).sum(0)


def chain(times, integral):
    draw = lambda i: uniform(41, i, N, 3.0**0.5).astype(np.float64)
    x, kept, weights = draw(0), [], []
    for i, t in enumerate(times):
        bt = integral(t)
        f0 = denoise(x, np.exp(-bt))
        if i + 1 == len(times):
            x = f0
        else:
            b_dt = bt - integral(times[i + 1])
            csch = 1 / np.sinh(bt / 2)
            mean = x - x * np.exp(-bt) / (1 - np.exp(-bt)) * b_dt - x * b_dt / 2 + f0 * csch * b_dt / 2
            x = mean + np.sqrt(b_dt) * draw(1 + i)
            weights.append(csch**2 * b_dt / 8)
        if (i + 1) % EVERY == 0 or i + 1 == len(times):
            kept.append(x)
    return np.stack(kept).astype(np.float32), np.array(weights).astype(np.float32)


def main():
    geometric = 0.01 ** (np.arange(60) / 59)
    uniform_times = 1.0 + (0.05 - 1.0) * np.arange(45) / 44
    out = {}
    for name, times, integral in [
        ("constant", geometric, lambda t: 6.0 * t),
        ("linear", uniform_times, lambda t: 0.2 * t + 0.5 * (12.0 - 0.2) * t * t),
    ]:
        out[name], out[name + "_weights"] = chain(times, integral)
    save_file(out, pathlib.Path(__file__).parent / "continuous.safetensors")


if __name__ == "__main__":
    main()
