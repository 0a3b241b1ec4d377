"""Restoration of photographs beside deepinv 0.5.0's DiffPIR, DDRM and DPS: the same network, the same measurements, as many calls; PSNR and the ratio of
times, in one run. pretrained/photo.md has what it printed.

    pip install numpy==2.4.6 pillow==12.2.0 torch==2.15.0 torchvision==0.29.2 deepinv==0.5.0 safetensors==0.8.0     # and as restore_photographs.py says
    python tests/judge/compare_deepinv.py target/release/undiffuse photo.safetensors data --threads 2

The network is FFDNet with the weights of photo.safetensors, written here in PyTorch. Its sigma is held within the range that it was trained for, 0 to 75/255;
deepinv's methods ask for up to 78 times as much. Each method's settings are chosen by PSNR on the first --tune pictures, of a grid that is printed, and measured
on the others: of ours the best, of theirs the --finalists best, of which the one that is best on the others counts. DiffPIR is ours of `undiffuse restore`; the
program has no DDRM and no DPS for denoisers of a stated sigma, so the three are held against its one.
Pictures are the --side x --side pixels in the middle, the first --pictures of restore_photographs.py's list in its order. Times: ours is what the program says it
took, of one process for all pictures; deepinv's is that of its calls, the pictures in one batch. Runs of both are in turn, and the least of each counts; on a busy
machine the processor's seconds say more, ours with the start of the process and the reading of the model.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import tempfile
import time

import numpy as np
import torch
from safetensors import safe_open

from restore_photographs import photographs

SIGMA_MAX = 75 / 255


class FFDNet(torch.nn.Module):
    """Zhang, Zuo and Zhang 2018: convolutions of 2 x 2 pixels as channels, with a map of the noise; images in 0 to 1."""

    def __init__(self, file, autocast):
        super().__init__()
        self.autocast = autocast
        with safe_open(file, "pt") as f:
            self.layers = [[f.get_tensor(f"{2 * i}.{end}").float() for end in ("weight", "bias")] for i in range(12)]
        self.calls = 0

    def forward(self, x, sigma, **_):
        self.calls += 1
        sigma = torch.as_tensor(sigma, dtype=torch.float32).reshape(-1, 1, 1, 1).clamp(0, SIGMA_MAX)
        x = x.float()
        h = torch.nn.functional.pixel_unshuffle(x, 2)
        h = torch.cat([h, sigma.expand(len(x), 1, *h.shape[2:])], 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            for i, (weight, bias) in enumerate(self.layers):
                h = torch.nn.functional.conv2d(h, weight, bias, padding=1)
                h = torch.relu(h) if i < 11 else h
        return torch.nn.functional.pixel_shuffle(h.float(), 2)


def psnr(x, truth):
    return float(np.mean([10 * np.log10(1 / np.mean((np.clip(a, 0, 1) - b) ** 2)) for a, b in zip(x, truth)]))


def processor(whose):
    """Seconds of processor that this process or its children have had."""
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program", type=pathlib.Path)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("data", type=pathlib.Path)
    p.add_argument("--side", type=int, default=128)
    p.add_argument("--pictures", type=int, default=20)
    p.add_argument("--tune", type=int, default=3)
    p.add_argument("--calls", type=int, default=24)
    p.add_argument("--sigma", type=float, default=0.02, help="of images in 0 to 1")
    p.add_argument("--tasks", default="random,blur")
    p.add_argument("--methods", default="DiffPIR,DDRM,DPS")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--finalists", type=int, default=2)
    p.add_argument("--precision", default="f32", choices=["f32", "bf16"], help="what ours computes in")
    p.add_argument("--autocast", action="store_true", help="theirs computes in PyTorch's automatic bf16")
    p.add_argument("--rounds", type=int, default=2, help="timed runs of each side, in turn; the least counts")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    import deepinv as dinv

    names, pictures = zip(*list(photographs(a.data, a.side))[: a.pictures])
    truth = np.stack(pictures).astype(np.float32) / 255
    network = FFDNet(a.model, a.autocast)
    at = pathlib.Path(tempfile.mkdtemp())

    def ours(task, y, *more):
        np.save(at / "y.npy", 2 * y - 1)
        command = [a.program.resolve(), "restore", at / "y.npy", *task, "--sigma", str(2 * a.sigma), "--model", a.model.resolve(), "--method", "diffpir"]
        command += ["--steps", str(a.calls), *more, "--threads", str(a.threads), "--precision", a.precision, "--output", at / "x.npy", "--json", "--quiet"]
        before = processor(resource.RUSAGE_CHILDREN)
        said = json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout)
        return (np.load(at / "x.npy") + 1) / 2, np.array([said["seconds"], processor(resource.RUSAGE_CHILDREN) - before])

    for task in a.tasks.split(","):
        rng = np.random.default_rng(["random", "blur"].index(task))
        if task == "random":
            known = rng.random((a.side, a.side)) >= 0.5
            np.save(at / "mask.npy", known)
            physics = dinv.physics.Inpainting((3, a.side, a.side), mask=torch.from_numpy(known[None].repeat(3, 0).astype(np.float32)))
            clean, operator = truth * known, ["--operator", "mask", "--mask", at / "mask.npy"]
        else:
            taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
            kernel = (np.outer(taps, taps) / taps.sum() ** 2).astype(np.float32)
            np.save(at / "kernel.npy", kernel)
            physics = dinv.physics.BlurFFT((3, a.side, a.side), filter=torch.from_numpy(kernel)[None, None])
            clean, operator = physics.A(torch.from_numpy(truth)).numpy(), ["--operator", "kernel", "--kernel", at / "kernel.npy"]
        noise = a.sigma * rng.standard_normal(truth.shape).astype(np.float32)
        y = clean + noise * (known if task == "random" else 1)
        physics.noise_model = dinv.physics.GaussianNoise(a.sigma)

        def diffpir(zeta, lambda_):
            return dinv.sampling.DiffPIR(network, dinv.optim.data_fidelity.L2(), sigma=a.sigma, max_iter=a.calls, zeta=zeta, lambda_=lambda_)

        def ddrm(eta, top, power):
            """Levels from `top` down, evenly in their `power`th root. A `top` below noise over a singular value gives NaN."""
            return dinv.sampling.DDRM(network, sigmas=top * np.linspace(1, 0, a.calls) ** power, eta=eta)

        def dps(weight, guidance):
            return dinv.sampling.DPS(network, num_steps=a.calls + 1, weight=weight, guidance=guidance, dtype=torch.float32)

        # Wide enough that the best of each is not at an edge, but where the range of the setting ends.
        grids = {
            "DiffPIR": (diffpir, [(0.7, 7.0), (1.0, 1.0), (1.0, 3.0), (1.0, 7.0), (1.0, 15.0), (1.0, 25.0)]),
            "DDRM": (ddrm, [(0.85, 1.0, 2), (0.95, 0.5, 1)] + [(1.0, 1.0, p) for p in (1, 2, 3, 4)] + [(1.0, top, 1) for top in (0.5, 0.3, 0.2)]),
            "DPS": (dps, [(w, "norm") for w in (100.0, 300.0, 1000.0)] + [(w, "annealed") for w in (1.0, 3.0, 10.0)]),
        }

        def theirs(method, which):
            torch.manual_seed(1)
            # A copy, since DDRM divides what it is given in place.
            rows, before = torch.from_numpy(y[which].copy()), network.calls
            start, used = time.perf_counter(), processor(resource.RUSAGE_SELF)
            x = method(rows, physics).detach().numpy()
            return x, np.array([time.perf_counter() - start, processor(resource.RUSAGE_SELF) - used]), network.calls - before

        tune, rest = slice(0, a.tune), slice(a.tune, None)
        best_of = lambda scores: max(scores, key=lambda k: scores[k] if np.isfinite(scores[k]) else -np.inf)
        scores = {(z, l): psnr(ours(operator, y[tune], "--zeta", z, "--lambda", l)[0], truth[tune]) for z in (0.3, 1.0) for l in (0.5, 1.0)}
        setting = best_of(scores)
        print(f"{task}: ours, zeta and lambda: " + ", ".join(f"{k} {v:.2f}" for k, v in scores.items()), flush=True)
        own = lambda: ours(operator, y[rest], "--zeta", setting[0], "--lambda", setting[1])
        x, _ = ours(operator, y[rest])
        print(f"{task}: ours, defaults: {psnr(x, truth[rest]):.2f} dB on {len(truth) - a.tune} pictures; y {psnr(y[rest], truth[rest]):.2f} dB", flush=True)
        for name in a.methods.split(","):
            make, grid = grids[name]
            scores = {}
            for chosen in grid:
                try:
                    scores[chosen] = psnr(theirs(make(*chosen), tune)[0], truth[tune])
                except Exception as e:
                    print(f"    {name} {chosen}: {type(e).__name__}: {e}", flush=True)
            if not scores:
                continue
            print(f"{task}: {name}: " + ", ".join(f"{k} {v:.2f}" for k, v in scores.items()), flush=True)
            finalists = sorted((k for k in scores if np.isfinite(scores[k])), key=scores.get)[-a.finalists :]
            finals = {k: psnr(theirs(make(*k), rest)[0], truth[rest]) for k in finalists}
            print(f"{task}: {name}, on the others: " + ", ".join(f"{k} {v:.2f}" for k, v in finals.items()), flush=True)
            best = best_of(finals)
            own_times, their_times = [], []
            for _ in range(a.rounds):
                own_x, took = own()
                own_times.append(took)
                x, took, calls = theirs(make(*best), rest)
                their_times.append(took)
            own_time, their_time = np.min(own_times, 0), np.min(their_times, 0)
            seconds = lambda t: f"{t[0]:.2f} s ({t[1]:.2f} s of processor)"
            ratio = own_time / their_time
            print(
                f"{task}: {name} {best}, {calls} calls: {psnr(x, truth[rest]):.2f} dB, {seconds(their_time)}; "
                f"ours {setting}, {a.calls} calls: {psnr(own_x, truth[rest]):.2f} dB, {seconds(own_time)}: "
                f"{ratio[0]:.2f} of the time, {ratio[1]:.2f} of the processor's",
                flush=True,
            )


if __name__ == "__main__":
    main()
