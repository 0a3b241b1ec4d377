"""Whether tiles show: differences of neighbouring pixels across the edges of tiles, and within the strips where two of them are blended, beside those elsewhere.

    pip install numpy==2.4.6 pillow==12.2.0     # and as restore_photographs.py says
    python tests/judge/seams.py target/release/undiffuse photo.safetensors photograph.jpg --tile 128

A picture of --side x --side pixels is measured with noise and restored in tiles, and in one piece. Tile i of an axis begins at i (n - tile) / (count - 1) cells of
2 pixels (src/tiles.rs). Printed are the root mean squares of the differences of the picture in tiles across the tiles' borders, across the middle of the blended
strips (where a seam would be), and of all others, and the ratio of each to the same of the picture in one piece, which is 1 where no
seam is. Then the largest difference between the two pictures. pretrained/photo.md has what it printed.
"""

import argparse
import pathlib
import subprocess
import tempfile

import numpy as np
from PIL import Image

REACH, RAMP, CELL = 24, 16, 2


def starts(n, tile):
    n, tile = n // CELL, tile // CELL
    least = 2 * (REACH // CELL) + RAMP // CELL
    count = max(-(-(n - least) // (tile - least)), 1)
    return [CELL * (i * (n - tile) // max(count - 1, 1)) for i in range(count)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("program", type=pathlib.Path)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("photograph", type=pathlib.Path)
    p.add_argument("--side", type=int, default=512)
    p.add_argument("--tile", type=int, default=128)
    p.add_argument("--steps", type=int, default=8)
    a = p.parse_args()
    with Image.open(a.photograph) as image:
        x = np.asarray(image.convert("RGB"))
    top, left = (x.shape[0] - a.side) // 2, (x.shape[1] - a.side) // 2
    x = x[top : top + a.side, left : left + a.side].transpose(2, 0, 1)
    at = starts(a.side, a.tile)
    edges = np.array(sorted({s for s in at[1:]} | {s + a.tile for s in at[:-1]}))
    middles = np.array([(b + s + a.tile) // 2 for s, b in zip(at, at[1:])])
    print(f"{len(at)} x {len(at)} tiles of {a.tile}, {a.side} x {a.side} pixels")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        Image.fromarray(x.transpose(1, 2, 0)).save(folder / "x.png")
        for name, words in {
            "denoise, mmse": ["denoise", "--sigma", "0.2"],
            "denoise, reverse": ["denoise", "--sigma", "0.2", "--method", "reverse", "--steps", str(a.steps)],
            "inpaint, half of the pixels": ["inpaint", "--operator", "random:0.5", "--sigma", "0.04", "--steps", str(a.steps)],
        }.items():

            def run(tile):
                command = [a.program.resolve(), words[0], folder / "x.png", *words[1:], "--simulate", "--model", a.model.resolve(), "--tile", str(tile)]
                subprocess.run([*map(str, command), "--output", str(folder / "o.npy"), "--quiet"], check=True, stdout=subprocess.DEVNULL)
                return np.load(folder / "o.npy").astype(np.float64)[0]

            tiled, whole = run(a.tile), run(a.side)
            for which, lines in {"borders of tiles": edges, "middles of strips": middles, "elsewhere": None}.items():
                squares = []
                for y in (tiled, whole):
                    # Between columns and between rows, as [line, along] of all channels.
                    both = [np.diff(y, axis=2).transpose(2, 0, 1), np.diff(y, axis=1).transpose(1, 0, 2)]
                    keep = np.ones(a.side - 1, bool)
                    keep[np.concatenate([edges, middles]) - 1] = False
                    squares.append(np.concatenate([(d[keep] if lines is None else d[lines - 1]).ravel() ** 2 for d in both]))
                rms = [np.sqrt(s.mean()) for s in squares]
                print(f"{name}: {which}: {rms[0]:.6f}, {rms[0] / rms[1]:.7f} of that in one piece", flush=True)
            print(f"{name}: largest difference between the pictures {np.abs(tiled - whole).max():.1e}", flush=True)


if __name__ == "__main__":
    main()
