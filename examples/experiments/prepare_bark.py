"""Tiles of a bark texture as .npy files for bark.json and `undiffuse evaluate`.

    npm pack @dgreenheck/ez-tree@1.1.0 && tar xzf dgreenheck-ez-tree-1.1.0.tgz     # MIT
    python prepare_bark.py package .                                               # numpy 2, pillow 12

pine_color_1k.jpg, 1024 x 1024, becomes grey (Pillow's "L") and half of its size (the mean of 2 x 2 pixels, rounded), values
v / 127.5 - 1. The left 320 columns are for training, in tiles of 64 x 64 at every 32 pixels: bark_train.npy. The right 192 are held
out, as tiles of 64 x 64 side by side: bark_test.npy; and the upper 192 rows of them whole, to be restored: bark_held_out.npy.
"""
import pathlib
import sys

import numpy as np
from PIL import Image


def tiles(image, side, stride):
    h, w = image.shape
    return np.stack([
        image[y : y + side, x : x + side]
        for y in range(0, h - side + 1, stride)
        for x in range(0, w - side + 1, stride)
    ])


def main(package, out):
    path = pathlib.Path(package, "src/lib/assets/bark/pine_color_1k.jpg")
    grey = np.asarray(Image.open(path).convert("L"), np.float64)
    grey = np.round(grey.reshape(512, 2, 512, 2).mean((1, 3)))
    x = (grey / 127.5 - 1).astype(np.float32)
    for name, rows in [
        ("train", tiles(x[:, :320], 64, 32)),
        ("test", tiles(x[:, 320:], 64, 64)),
        ("held_out", x[None, :192, 320:]),
    ]:
        rows = rows[:, None]
        np.save(pathlib.Path(out, f"bark_{name}.npy"), rows)
        print(f"{name}: {rows.shape}, mean {rows.mean():.4f}, deviation {rows.std():.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
