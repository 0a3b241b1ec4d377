"""The digits of pretrained/ as an ONNX graph, for the peer in benches/web.

Written for torch 2.15.0, diffusers 0.42.1, safetensors 0.8 and onnx 1.23.2. Run from the repository's root:

    python benches/web/export.py target/bench_web/digits.onnx
"""

import json
import os
import sys

import torch
from diffusers import UNet2DModel
from safetensors import safe_open

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Digits(torch.nn.Module):
    """The network as a function of two tensors, as ONNX wants it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, t):
        return self.model(x, t).sample


def main():
    with safe_open(os.path.join(ROOT, "pretrained/digits.safetensors"), "pt") as f:
        config = json.loads(f.metadata()["undiffuse.model"])
        weights = {name: f.get_tensor(name).float() for name in f.keys()}
    model = UNet2DModel(**{k: v for k, v in config.items() if not k.startswith("_")}).eval()
    model.load_state_dict(weights)
    arguments = (torch.zeros(1, 1, 28, 28), torch.tensor([500.0]))
    os.makedirs(os.path.dirname(os.path.abspath(sys.argv[1])), exist_ok=True)
    torch.onnx.export(
        Digits(model), arguments, sys.argv[1], opset_version=17, input_names=["x", "t"], output_names=["y"], dynamo=False
    )


main()
