"""Any PyTorch denoiser as a packed file of undiffuse: the network itself, by torch.export, with its weights.

Made with torch 2.15.0, safetensors 0.8.0 and numpy 2.4.6. With the folder that holds this one on the path (PYTHONPATH=examples/export):

    from export_graph import export
    export(model, {"sample": ("sample", torch.randn(1, 3, 32, 32)), "timestep": ("timestep", torch.tensor([7]))},
           "model.safetensors", scheduler={"_class_name": "DDPMScheduler"}, program="undiffuse")

The inputs are the arguments of `model.forward` in their order, each with a role (sample, timestep, class, class_vector, vector, tokens, image,
mask, value) and an example of batch 1. The output is a tensor, or something whose first item or `sample` is one. With `program` the file is
run on random input by it (`undiffuse predict`), and compared: an error above 1e-5 is an exception. A node that has no counterpart is an exception
that names it. Nothing of the model is pickled; the file's format is documented at `undiffuse::graph::data`.

`layout` has the nodes and the order of axes, `trace` the walk over the program; the other modules map operations.
"""

import copy
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from .trace import graph_of
from .values import Unmapped

__all__ = ["Unmapped", "check", "export", "graph_of"]


def export(model, inputs, path, scheduler=None, program=None, tolerance=1e-5):
    """Writes the packed file, checks it with `program` if given, and returns the relative L2 error of that check, else None."""
    graph, weights = graph_of(model, inputs)
    metadata = {"undiffuse.format": "1", "undiffuse.graph": json.dumps(graph)}
    if scheduler is not None:
        metadata["undiffuse.scheduler"] = json.dumps(scheduler)
    save_file(weights, path, metadata)
    return None if program is None else check(model, inputs, path, program, tolerance)


def wanted(model, drawn):
    """What the model makes, in float64 where it takes that."""
    def run(model, to):
        with torch.no_grad():
            made = model.eval()(*(v.to(to) if v.is_floating_point() else v for v in drawn))
        made = made if isinstance(made, torch.Tensor) else made.sample if hasattr(made, "sample") else made[0]
        return made.double().numpy()

    try:
        return run(copy.deepcopy(model).double(), torch.float64)
    except RuntimeError:
        return run(model, torch.float32)


def check(model, inputs, path, program, tolerance=1e-5):
    """The relative L2 error of `undiffuse predict` on random input (class numbers and timesteps are the examples')."""
    torch.manual_seed(0)
    drawn = {name: (torch.randn_like(v.float()) if role not in ("timestep", "class") else v) for name, (role, v) in inputs.items()}
    want = wanted(model, drawn.values())
    names = {"sample": "sample", "timestep": "timestep", "class": "class_labels", "class_vector": "class_labels"}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        arrays = {names.get(inputs[k][0], k): v.reshape(-1) if inputs[k][0] in ("timestep", "class") else v for k, v in drawn.items()}
        save_file({k: np.ascontiguousarray(v.float().numpy()) for k, v in arrays.items()}, folder / "in.safetensors")
        command = [program, "predict", str(path), "--input", str(folder / "in.safetensors"), "--output", str(folder / "out.safetensors"), "--quiet"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(f"{program} predict: {ran.stderr.strip()}")
        got = load_file(folder / "out.safetensors")["sample"].reshape(want.shape)
    error = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    if not error <= tolerance:
        raise RuntimeError(f"{path}: undiffuse's prediction differs from the model's by {error:.2e} (relative L2), expected at most {tolerance:g}")
    return error
