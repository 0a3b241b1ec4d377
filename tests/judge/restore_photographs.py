"""Photographs that the prior of pretrained/photo.md never saw, with noise of 25 and 50 of 255 grey levels: PSNR of the program's mmse and reverse,
and of BM3D beside them. pretrained/photo.md has what it printed.

    apt-get download mate-backgrounds python3-skimage python3-scipy && for f in *.deb; do dpkg -x $f data; done      # Debian 12
    pip install numpy==2.4.6 pillow==12.2.0 bm3d==4.0.3 && pip download --no-deps scikit-learn==1.5.2 && unzip -q scikit_learn-*.whl -d data
    python tests/judge/restore_photographs.py target/release/undiffuse photo.safetensors data

The pictures: skimage's and scikit-learn's (BSD and CC BY), scipy's raccoon (CC0) and those of mate-backgrounds (GPL-2+), read where they are and kept
nowhere. None of them is in what FFDNet was trained on. Those of mate-backgrounds are JPEGs of up to 2560 pixels and are halved first (means of 2 x 2), which
leaves less of JPEG's own noise. Of each the --side x --side pixels in the middle; with --whole LONGEST all of it, reduced by the least whole factor (means of
blocks) that leaves no side longer. Noise is not clipped: y goes to all as floats. PSNR of values clipped to 0 to 255, mean over pictures; no picture is left out
and none was chosen by its result. bm3d's licence forbids commercial use; it runs here, for these figures, and nowhere else.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import numpy as np
from PIL import Image

SKIMAGE = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"]
SKLEARN = ["china.jpg", "flower.jpg"]
MATE = ["Aqua", "Blinds", "Dune", "FreshFlower", "Garden", "GreenMeadow", "LadyBird", "RainDrops", "Storm", "TwoWings", "Wood", "YellowFlower"]


def photographs(data, side, whole=None):
    """Names and pictures, [3, height, width] of bytes."""

    def middle(a):
        if whole:
            factor = -(-max(a.shape[:2]) // whole)
            return reduced(a.astype(np.float64), factor).transpose(2, 0, 1)
        top, left = (a.shape[0] - side) // 2, (a.shape[1] - side) // 2
        return a[top : top + side, left : left + side].transpose(2, 0, 1)

    def reduced(a, n):
        h, w = a.shape[0] // n * n, a.shape[1] // n * n
        return np.round(a[:h, :w].reshape(h // n, n, w // n, n, 3).mean((1, 3))).astype(np.uint8)

    one = lambda pattern: next(iter(sorted(data.rglob(pattern))))
    for name in SKIMAGE + SKLEARN:
        yield name, middle(np.asarray(Image.open(one(name)).convert("RGB")))
    import bz2

    yield "face", middle(np.frombuffer(bz2.decompress(one("face.dat").read_bytes()), dtype=np.uint8).reshape(768, 1024, 3))
    for name in MATE:
        yield name, middle(reduced(np.asarray(Image.open(one(f"nature/{name}.jpg")).convert("RGB")).astype(np.float64), 2))


def psnr(x, truth):
    return 10 * np.log10(255**2 / np.mean((np.clip(x, 0, 255) - truth) ** 2))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program", type=pathlib.Path)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("data", type=pathlib.Path)
    p.add_argument("--side", type=int, default=256)
    p.add_argument("--whole", type=int, metavar="LONGEST")
    p.add_argument("--levels", default="25,50")
    p.add_argument("--samples", type=int, default=0, help="samples of each picture by the reverse chain (32 calls each)")
    p.add_argument("--pictures", type=int, default=20)
    p.add_argument("--skip", type=int, default=0, help="leave out the first ones; the others have the noise and the seeds of a whole run")
    p.add_argument("--no-bm3d", action="store_true")
    a = p.parse_args()
    names, truth = zip(*list(photographs(a.data, a.side, a.whole))[: a.pictures])
    truth = [t.astype(np.float64) for t in truth]
    measured = truth[a.skip :]
    print(f"{len(measured)} pictures, {sum(t[0].size for t in measured) / 1e6:.2f} megapixels", flush=True)
    for level in map(float, a.levels.split(",")):
        rng = np.random.default_rng(0)
        noisy = [t + rng.normal(0, level, t.shape) for t in truth]
        rows, seconds, deviation, consistency = {}, {}, [], []
        put = lambda name, x, t: rows.setdefault(name, []).append(psnr(x, t))
        for i, (y, t) in list(enumerate(zip(noisy, truth)))[a.skip :]:
            put("measurement", y, t)
            with tempfile.TemporaryDirectory() as at:
                at = pathlib.Path(at)
                np.save(at / "y.npy", (y / 127.5 - 1).astype(np.float32))

                def ours(name, *more):
                    command = [a.program.resolve(), "denoise", at / "y.npy", "--sigma", str(level / 127.5), "--model", a.model.resolve(), *more, "--json", "--quiet"]
                    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                    seconds[name] = seconds.get(name, 0) + said["seconds"]
                    return said["consistency"]

                ours("mmse", "--output", at / "x.npy")
                put("mmse", 127.5 * (np.load(at / "x.npy").astype(np.float64)[0] + 1), t)
                if a.samples:
                    more = ["--mean", at / "m.npy"] if a.samples > 1 else []
                    consistency.append(ours("reverse", "--method", "reverse", "--count", str(a.samples), "--seed", str(i), "--output", at / "x.npy", *more))
                    x = 127.5 * (np.load(at / "x.npy").astype(np.float64) + 1)
                    rows.setdefault("reverse, one sample", []).append(np.mean([psnr(s, t) for s in x]))
                    if a.samples > 1:
                        put(f"reverse, mean of {a.samples}", x.mean(0), t)
                        deviation.append(np.mean(x.var(0, ddof=1)))
            if not a.no_bm3d:
                import bm3d

                start = time.time()
                x = bm3d.bm3d_rgb(y.transpose(1, 2, 0) / 255, level / 255)
                seconds["bm3d"] = seconds.get("bm3d", 0) + time.time() - start
                put("bm3d", 255 * x.transpose(2, 0, 1), t)
            print(f"    {names[i]:20} {t.shape[1]} x {t.shape[2]}  " + "  ".join(f"{k} {v[-1]:.2f}" for k, v in rows.items()), flush=True)
        for name, values in rows.items():
            print(f"level {level:.0f}: {name}: {np.mean(values):.2f} dB" + (f", {seconds[name]:.1f} s in all" if name in seconds else ""), flush=True)
        if a.samples:
            text = f"level {level:.0f}: |y - x| / sigma {np.mean(consistency):.3f}"
            print(text + (f"; deviation between samples, in grey levels: {np.mean(deviation) ** 0.5:.2f}" if deviation else ""), flush=True)


if __name__ == "__main__":
    main()
