"""Holds references.py, which make_families.py measures guided-diffusion, improved-diffusion, EDM, Diffusion Policy, LeRobot and KAIR's DnCNN by, to the files
of those code bases, which have no package of their network alone: the same weights, inputs and outputs in float64. Run by hand, with the folder that has the
checkouts that there are, under the names of their repositories:

    python tests/golden/check_references.py FOLDER [part of a case's name]

    guided-diffusion     openai/guided-diffusion       22e0df8
    improved-diffusion   openai/improved-diffusion     1bc7bbb
    edm                  NVlabs/edm                    008a4e5
    diffusion_policy     real-stanford/diffusion_policy 5ba07ac
    lerobot              huggingface/lerobot           7427f31
    KAIR                 cszn/KAIR                     fc1732f

It prints the relative L2 error of each case, at all levels, and fails above 1e-6: the code bases embed levels in float32. Made with what make_families.py names.
"""

import ast
import importlib
import math
import pathlib
import sys
import types

import torch

import make_families
import references

BOUND = 1e-6


def module(name, path):
    """A module from its file, in a package of that folder, without what the package itself imports."""
    package, _, _ = name.rpartition(".")
    if package and package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(path.parent)]
    return importlib.import_module(name)


def classes(path, names, **given):
    """Classes of a file whose imports are not wanted."""
    tree = ast.parse(path.read_text())
    tree.body = [n for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name in names]
    space = {"torch": torch, "nn": torch.nn, "math": math, "Tensor": torch.Tensor, **given}
    exec(compile("from __future__ import annotations\n" + ast.unparse(tree), str(path), "exec"), space)
    return space


def adm(folder, case):
    c = dict(case["config"])
    ours = "improved_diffusion" if case["name"].startswith("improved") else "guided_diffusion"
    path = folder / ours.replace("_", "-") / ours
    unet = module(f"{ours}.unet", path / "unet.py")
    size = c.get("large_size", c.get("image_size"))
    mult = tuple(float(m) for m in c["channel_mult"].split(","))
    flags = {"num_heads": c["num_heads"], "num_heads_upsample": c.get("num_heads_upsample", -1), "use_scale_shift_norm": c.get("use_scale_shift_norm", True)}
    if ours == "guided_diffusion":
        flags |= {"image_size": size, "num_head_channels": c.get("num_head_channels", -1), "resblock_updown": c.get("resblock_updown", False),
                  "use_new_attention_order": c.get("use_new_attention_order", False)}
    elif c.get("resblock_updown") or "num_head_channels" in c:
        return None
    if all(m == int(m) for m in mult):
        mult = tuple(int(m) for m in mult)
    net = getattr(unet, "SuperResModel" if "large_size" in c else "UNetModel")(
        in_channels=3, model_channels=c["num_channels"], out_channels=6 if c.get("learn_sigma") else 3, num_res_blocks=c["num_res_blocks"],
        attention_resolutions=tuple(size // int(r) for r in c["attention_resolutions"].split(",")), channel_mult=mult,
        num_classes=c.get("num_classes") if c.get("class_cond") else None, **flags)
    net.dtype = torch.float64
    return net, lambda x, t, e: net(x, t, **({"low_res": e["low_res"]} if "low_res" in e else {}), y=e.get("class_labels"))


def edm(folder, case):
    sys.path.insert(0, str(folder / "edm"))
    from training import networks
    c = dict(case["config"])
    net = getattr(networks, c.pop("model_type", "SongUNet"))(in_channels=c["img_channels"], out_channels=c.pop("img_channels"), **c)

    def call(x, t, e):
        labels = e.get("class_labels")
        return net(x, t, None if labels is None else torch.nn.functional.one_hot(labels, c["label_dim"]).double())
    return net, call


def policy(folder, case):
    c = dict(case["config"])
    c.pop("horizon")
    if c.pop("naming", "") == "lerobot":
        names = ["DiffusionConditionalUnet1d", "DiffusionConditionalResidualBlock1d", "DiffusionConv1dBlock", "DiffusionSinusoidalPosEmb"]
        path = folder / "lerobot/src/lerobot/policies/diffusion/modeling_diffusion.py"
        made = classes(path, names, einops=importlib.import_module("einops"))["DiffusionConditionalUnet1d"]
        config = types.SimpleNamespace(
            action_feature=types.SimpleNamespace(shape=[c["input_dim"]]), diffusion_step_embed_dim=c["diffusion_step_embed_dim"], down_dims=c["down_dims"],
            kernel_size=c["kernel_size"], n_groups=c["n_groups"], use_film_scale_modulation=c["cond_predict_scale"],
            gradient_checkpointing=False)
        net = made(config, global_cond_dim=c["global_cond_dim"])
    else:
        sys.path.insert(0, str(folder / "diffusion_policy"))
        from diffusion_policy.model.diffusion.conditional_unet1d import ConditionalUnet1D
        net = ConditionalUnet1D(**c)
    return net, lambda x, t, e: net(x[:, :, 0].transpose(1, 2), t, global_cond=e.get("global_cond")).transpose(1, 2)[:, :, None]


def dncnn(folder, case):
    c = dict(case["config"])
    if c.pop("naming", "") != "kair":
        return None
    sys.path.insert(0, str(folder / "KAIR"))
    from models.network_dncnn import DnCNN
    net = DnCNN(in_nc=c.get("in_nc", 1), out_nc=c.get("out_nc", 1), nc=c["nc"], nb=c["nb"], act_mode=c["act_mode"])
    return net, lambda x, t, e: net(x)


OTHERS = {"GuidedDiffusionUNet": (adm, ["guided-diffusion", "improved-diffusion"]), "EDMPrecond": (edm, ["edm"]),
          "ConditionalUnet1D": (policy, ["diffusion_policy", "lerobot"]), "DnCNN": (dncnn, ["KAIR"])}


def main():
    folder, worst = pathlib.Path(sys.argv[1]), 0
    # What the code bases compute in float32 whatever the network is, but the frequencies of an embedding.
    torch.Tensor.float = lambda self, *_a, **_k: self.double()
    for n, case in enumerate(make_families.CASES):
        if len(sys.argv) > 2 and sys.argv[2] not in case["name"]:
            continue
        make, names = OTHERS.get(case["class"], (None, []))
        if not any((folder / name).is_dir() for name in names):
            continue
        torch.manual_seed(0)
        made = make(folder, case)
        if made is None:
            continue
        ours = make_families.BUILD[case["class"]](case["config"]).double().eval()
        weights = make_families.weights(ours)
        ours.load_state_dict(weights, strict=True)
        net, call = made
        net.double().eval()
        # KAIR's layers are in a module of their own; an attention's matrices are kernels of size 1 in some.
        prefix = "model." if case["class"] == "DnCNN" else ""
        net.load_state_dict({prefix + k: v.reshape(net.state_dict()[prefix + k].shape) for k, v in weights.items()}, strict=True)
        x, t, extra = make_families.inputs(n, case)
        with torch.no_grad():
            want, got = call(x, t, extra), references.call(case, ours, x, t, extra)
        error = ((got - want).norm() / want.norm()).item()
        worst = max(worst, error)
        print(f"{case['name']}: {error:.1e}", flush=True)
    assert worst <= BOUND, worst


if __name__ == "__main__":
    main()
