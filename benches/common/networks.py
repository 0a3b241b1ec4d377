"""The networks of the benches in PyTorch, with seeded random weights, as functions of tensors, and the files that peers read."""

import json
import os
import pathlib
import sys

import torch

from common.child import ROOT


def config(name):
    text = pathlib.Path(ROOT, "benches/common", f"{name}.json").read_text(encoding="utf-8")
    return {k: v for k, v in json.loads(text).items() if k != "_class_name"}


def references():
    """tests/golden/references.py, which has the networks that diffusers does not."""
    sys.path.insert(0, os.path.join(ROOT, "tests/golden"))
    import references

    return references


class Call(torch.nn.Module):
    """A network as a function of tensors, as ONNX wants it."""

    def __init__(self, net, call):
        super().__init__()
        self.net, self.call = net, call

    def forward(self, *args):
        return self.call(self.net, *args)


class Policy(torch.nn.Module):
    """The 1-D UNet: the observation is a constant, which takes nothing from its time."""

    def __init__(self, c):
        super().__init__()
        self.net = references().policy(c)
        # The references embed t in float64.
        self.net.diffusion_step_encoder[0].register_forward_hook(lambda _module, _inputs, y: y.float())
        self.register_buffer("observation", torch.randn(1, c["global_cond_dim"]))

    def forward(self, x, t):
        return self.net(x, t, self.observation)


def adm(c):
    net = references().adm(c)
    net.time_embed.register_forward_pre_hook(lambda _module, inputs: (inputs[0].float(),))
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.02)
    return Call(net, lambda net, x, t, y: net(x, t, y))


def network(name, batch=1):
    """The network and its inputs by name, in the order of its arguments."""
    torch.manual_seed(0)
    c, t, label = config(name), torch.full((batch,), 500), torch.full((batch,), 500)
    if name in ("cifar", "celebahq", "edge"):
        from diffusers import UNet2DModel

        net, size = Call(UNet2DModel(**c), lambda net, x, t: net(x, t).sample), c["sample_size"]
        inputs = {"x": torch.randn(batch, c["in_channels"], size, size), "t": t}
    elif name == "policy":
        net, inputs = Policy(c), {"x": torch.randn(batch, c["input_dim"], c["horizon"]), "t": t}
    elif name == "adm":
        net, inputs = adm(c), {"x": torch.randn(batch, 3, 64, 64), "t": t, "y": label}
    elif name == "dit":
        from diffusers import DiTTransformer2DModel

        net = Call(DiTTransformer2DModel(**c), lambda net, x, t, y: net(x, timestep=t, class_labels=y).sample)
        inputs = {"x": torch.randn(batch, 4, 32, 32), "t": t, "y": label}
    elif name == "sd15":
        from diffusers import UNet2DConditionModel

        net = Call(UNet2DConditionModel(**c), lambda net, x, t, c: net(x, t, encoder_hidden_states=c).sample)
        inputs = {"x": torch.randn(batch, 4, 32, 32), "t": t, "c": torch.randn(batch, 77, 768)}
    else:
        from diffusers import AutoencoderKL

        net = Call(AutoencoderKL(**c), lambda net, z: net.decode(z).sample)
        inputs = {"z": torch.randn(batch, 4, 32, 32)}
    return net.eval(), inputs


def write_onnx(net, inputs, folder):
    """What ONNX Runtime, OpenVINO and rten read: `network.onnx`, and for programs that know no NumPy `inputs.txt` with a line for each
    input (its name, type and dimensions) beside its values."""
    path = os.path.join(folder, "network.onnx")
    names = {"input_names": list(inputs), "output_names": ["out"]}
    torch.onnx.export(net, tuple(inputs.values()), path, opset_version=17, dynamo=False, **names)
    with open(os.path.join(folder, "inputs.txt"), "w", encoding="utf-8") as f:
        for name, value in inputs.items():
            kind = {torch.float32: "f32", torch.int64: "i64"}[value.dtype]
            print(name, kind, *value.shape, file=f)
            value.numpy().tofile(os.path.join(folder, f"{name}.bin"))
