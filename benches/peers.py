"""Times one network call of PyTorch, ONNX Runtime and OpenVINO beside ours: one script, calls taking turns, one table of ratios.

Written for torch 2.15.0 and diffusers 0.42.1 (others work if they have UNet2DModel); onnxruntime 1.32 and openvino 2026.4 with onnx 1.23 are
timed where they are installed. Run from the repository's root:

    cargo bench --bench network --no-run
    python benches/peers.py [cifar|edge|policy] [--batch N] [--threads N] [--rounds N] [--weights f32|f16|bf16|int8|int4 ...] [--int8]

The peers run in this process; our side is the bench's program as a child that makes one call for each line it reads. No two ever run
at the same time. All use as many threads and compute in f32 (OpenVINO is told so; by itself it takes bf16 where the CPU has it, the
column "openvino own"); weights and inputs are random (speed does not depend on them). Ours can be timed with several types of weights, each
in a process of its own, and with `--int8` with its layers in 8-bit integers; ratios are to the first. `policy` is a robot's 1-D UNet of 251 million weights, in PyTorch by
tests/golden/references.py, at batch 1 only. PyTorch is eager, in both memory layouts. Before
each timed call a side makes another, so that what it needs is in its caches and its threads are awake. A figure is the best or the
median of all rounds, so a busy machine moves all sides alike.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time

import torch
from diffusers import UNet2DModel

from common.child import ROOT, Child, newest


class Peer:
    """A function that makes a call, timed."""

    def __init__(self, column, run):
        self.column, self.run = column, run

    def call(self):
        """Milliseconds of one call."""
        start = time.perf_counter()
        self.run()
        return (time.perf_counter() - start) * 1e3


def eager(model, x, t, layout, column):
    """PyTorch eager in one memory layout."""
    if layout == torch.channels_last:
        model, x = model.to(memory_format=layout), x.to(memory_format=layout)

    def run():
        with torch.inference_mode():
            model(x, t)

    return Peer(column, run)


class Plain(torch.nn.Module):
    """The network as a function of two tensors, as ONNX wants it."""

    def __init__(self, config):
        super().__init__()
        torch.manual_seed(0)
        self.model = UNet2DModel(**config).eval()

    def forward(self, x, t):
        return self.model(x, t).sample


def policy(config):
    """The 1-D UNet as a function of two tensors: the observation is a constant, which takes nothing from its time."""
    sys.path.insert(0, os.path.join(ROOT, "tests/golden"))
    import references

    class Policy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.model = references.policy({k: v for k, v in config.items() if k != "_class_name"}).eval()
            # The references embed t in float64.
            self.model.diffusion_step_encoder[0].register_forward_hook(lambda _module, _inputs, y: y.float())
            self.register_buffer("observation", torch.randn(1, config["global_cond_dim"]))

        def forward(self, x, t):
            return self.model(x, t, self.observation)

    return Policy().eval()


def of_onnx(model, x, t, threads):
    """ONNX Runtime and OpenVINO, those that there are."""
    there = [n for n in ("onnxruntime", "openvino") if importlib.util.find_spec(n) and importlib.util.find_spec("onnx")]
    if not there:
        return []
    feed, sides = {"x": x.numpy(), "t": t.numpy()}, []
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "network.onnx")
        torch.onnx.export(
            model, (x, t), path, opset_version=17, input_names=["x", "t"], output_names=["y"], dynamo=False
        )
        if "onnxruntime" in there:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            sides.append(Peer("onnxruntime", lambda: session.run(None, feed)))
        if "openvino" in there:
            import openvino

            core, limits = openvino.Core(), {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
            for column, more in (("openvino", {"INFERENCE_PRECISION_HINT": "f32"}), ("openvino own", {})):
                request = core.compile_model(path, "CPU", limits | more).create_infer_request()
                sides.append(Peer(column, lambda request=request: request.infer(feed)))
    return sides


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=["cifar", "edge", "policy"])
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--weights", nargs="+", default=["f32"])
    parser.add_argument("--int8", action="store_true", help="ours in 8-bit integers too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = newest("network", "cargo bench --bench network --no-run")
    print(f"torch {torch.__version__}, {args.threads} threads, {args.rounds} rounds; milliseconds a call, and how many of ours it is")
    for name in [args.name] if args.name else ["cifar", "edge"]:
        with open(os.path.join(ROOT, "benches/common", name + ".json"), encoding="utf-8") as f:
            config = json.load(f)
        for batch in [1] if name == "policy" else [args.batch] if args.batch else [1, 16]:
            t, sides = torch.full((batch,), 500), []
            for kind in args.weights:
                sides.append(Child(path, name, "batch", batch, "threads", args.threads, "weights", kind))
                sides[-1].column = "ours" if args.weights == ["f32"] else f"ours {kind}"
            if args.int8:
                sides.append(Child(path, name, "batch", batch, "threads", args.threads, "int8"))
                sides[-1].column = "ours in int8"
            if name == "policy":
                x, model = torch.randn(1, config["input_dim"], config["horizon"]), policy(config)
                peers = [eager(model, x, t, torch.contiguous_format, "torch")]
            else:
                size = config["sample_size"]
                x, model = torch.randn(batch, config["in_channels"], size, size), Plain(config)
                peers = [eager(model, x, t, torch.contiguous_format, "torch"), eager(Plain(config), x, t, torch.channels_last, "channels_last")]
            sides += [*peers, *of_onnx(model, x, t, args.threads)]
            times = [[] for _ in sides]
            for _ in range(args.rounds):
                for side, of_side in zip(sides, times):
                    # Time for the other side's threads, which may spin a while, to fall asleep.
                    time.sleep(0.05)
                    side.call()
                    of_side.append(side.call())
            for side in sides:
                if isinstance(side, Child):
                    side.close()
            print(f"{name}, batch {batch}".ljust(18) + "".join(s.column.rjust(20) for s in sides))
            for what, pick in (("best", min), ("median", statistics.median)):
                first, *_ = picked = [pick(t) for t in times]
                print(what.ljust(18) + "".join(f"{p:12.2f} ({p / first:5.2f})" for p in picked), flush=True)


if __name__ == "__main__":
    main()
