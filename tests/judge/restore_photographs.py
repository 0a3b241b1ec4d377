"""Photographs that the prior of pretrained/photo.md never saw, with noise of 25 and 50 of 255 grey levels: PSNR of the program's mmse and reverse,
and of BM3D beside them. pretrained/photo.md has what it printed.

    apt-get download mate-backgrounds python3-skimage python3-scipy && for f in *.deb; do dpkg -x $f data; done      # Debian 12
    pip install numpy==2.4.6 pillow==12.2.0 bm3d==4.0.3 && pip download --no-deps scikit-learn==1.5.2 && unzip -q scikit_learn-*.whl -d data
    python tests/judge/restore_photographs.py target/release/undiffuse photo.safetensors data

The pictures: skimage's and scikit-learn's (BSD and CC BY), scipy's raccoon (CC0) and those of mate-backgrounds (GPL-2+), read where they are and kept
nowhere. Those of mate-backgrounds are JPEGs of up to 2560 pixels and are halved first (means of 2 x 2), which leaves less of JPEG's own noise. Of each
the --side x --side pixels in the middle. Noise is not clipped: y goes to all as floats. PSNR of values clipped to 0 to 255, mean over pictures. bm3d's licence
forbids commercial use; it runs here, for these figures, and nowhere else.
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


def photographs(data, side):
    """Names and pictures, [3, side, side] of bytes."""

    def middle(a):
        top, left = (a.shape[0] - side) // 2, (a.shape[1] - side) // 2
        return a[top : top + side, left : left + side].transpose(2, 0, 1)

    one = lambda pattern: next(iter(sorted(data.rglob(pattern))))
    for name in SKIMAGE + SKLEARN:
        yield name, middle(np.asarray(Image.open(one(name)).convert("RGB")))
    import bz2

    yield "face", middle(np.frombuffer(bz2.decompress(one("face.dat").read_bytes()), dtype=np.uint8).reshape(768, 1024, 3))
    for name in MATE:
        a = np.asarray(Image.open(one(f"nature/{name}.jpg")).convert("RGB")).astype(np.float64)
        h, w = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
        a = a[:h, :w].reshape(h // 2, 2, w // 2, 2, 3).mean((1, 3))
        yield name, middle(np.round(a).astype(np.uint8))


def psnr(x, truth):
    return 10 * np.log10(255**2 / np.mean((np.clip(x, 0, 255) - truth) ** 2))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program", type=pathlib.Path)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("data", type=pathlib.Path)
    p.add_argument("--side", type=int, default=256)
    p.add_argument("--levels", default="25,50")
    p.add_argument("--samples", type=int, default=0, help="samples of each picture by the reverse chain (32 calls each)")
    p.add_argument("--pictures", type=int, default=20)
    p.add_argument("--no-bm3d", action="store_true")
    a = p.parse_args()
    names, truth = zip(*list(photographs(a.data, a.side))[: a.pictures])
    truth = np.stack(truth).astype(np.float64)
    for level in map(float, a.levels.split(",")):
        y = truth + np.random.default_rng(0).normal(0, level, truth.shape)
        rows = {"measurement": [psnr(x, t) for x, t in zip(y, truth)]}
        seconds = {}
        with tempfile.TemporaryDirectory() as at:
            at = pathlib.Path(at)
            np.save(at / "y.npy", (y / 127.5 - 1).astype(np.float32))

            def ours(*more):
                command = [a.program.resolve(), "denoise", at / "y.npy", "--sigma", str(level / 127.5), "--model", a.model.resolve(), *more, "--json", "--quiet"]
                said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                return said["seconds"] / len(truth), said["consistency"]

            seconds["mmse"], _ = ours("--output", at / "x.npy")
            rows["mmse"] = [psnr(127.5 * (x + 1), t) for x, t in zip(np.load(at / "x.npy").astype(np.float64), truth)]
            if a.samples:
                took, consistency = ours("--method", "reverse", "--count", str(a.samples), "--output", at / "x.npy", "--mean", at / "m.npy")
                seconds["reverse"] = took / a.samples
                x = 127.5 * (np.load(at / "x.npy").astype(np.float64).reshape(len(truth), a.samples, *truth.shape[1:]) + 1)
                rows["reverse, one sample"] = [np.mean([psnr(s, t) for s in each]) for each, t in zip(x, truth)]
                rows[f"reverse, mean of {a.samples}"] = [psnr(each.mean(0), t) for each, t in zip(x, truth)]
                print(f"level {level:.0f}: |y - x| / sigma {consistency:.3f}; deviation of a sample from the mmse picture, in grey levels: "
                      f"{np.sqrt(np.mean((x - 127.5 * (np.load(at / 'm.npy')[:, None] + 1)) ** 2) * a.samples / max(a.samples - 1, 1)):.2f}")
        if not a.no_bm3d:
            import bm3d

            rows["bm3d"], start = [], time.time()
            for noisy, t in zip(y, truth):
                x = bm3d.bm3d_rgb(noisy.transpose(1, 2, 0) / 255, level / 255)
                rows["bm3d"].append(psnr(255 * x.transpose(2, 0, 1), t))
            seconds["bm3d"] = (time.time() - start) / len(truth)
        for name, values in rows.items():
            print(f"level {level:.0f}: {name}: {np.mean(values):.2f} dB" + (f", {seconds[name]:.2f} s" if name in seconds else ""), flush=True)
        for i, name in enumerate(names):
            print(f"    {name:20} " + "  ".join(f"{k} {v[i]:.2f}" for k, v in rows.items()), flush=True)


if __name__ == "__main__":
    main()
