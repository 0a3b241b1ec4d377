"""The peers of benches/peers.py: each makes a side, which makes calls, or says why there is none."""

import importlib.util
import os
import subprocess
import time
import warnings

import numpy as np
import torch

from common.child import ROOT, Child
from common.networks import write_onnx


class Skipped(Exception):
    """Why a peer is not timed."""


class Task:
    """A network, its inputs and the files made of it so far."""

    def __init__(self, net, inputs, threads, folder):
        self.net, self.inputs, self.threads, self.folder = net, inputs, threads, folder
        with torch.inference_mode():
            self.expected = net(*inputs.values()).numpy()

    def onnx(self):
        path = os.path.join(self.folder, "network.onnx")
        if not os.path.exists(path):
            need("onnx")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write_onnx(self.net, self.inputs, self.folder)
        return path


class Side:
    """A function that makes a call and returns what the network says, timed."""

    def __init__(self, column, run):
        self.column, self.run = column, run
        self.output = run()

    def call(self):
        """Milliseconds of one call."""
        start = time.perf_counter()
        self.run()
        return (time.perf_counter() - start) * 1e3

    def processor(self):
        """Milliseconds that the processor has worked for this process."""
        return time.process_time() * 1e3

    def close(self):
        self.run = None


def need(*modules):
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise Skipped(f"the module {module} is not installed")


def eager(task, column="torch", module=None, layout=torch.contiguous_format):
    module = task.net if module is None else module
    inputs = [x.to(memory_format=layout) if x.dim() == 4 else x for x in task.inputs.values()]

    def run():
        with torch.inference_mode():
            return module(*inputs).numpy()

    return Side(column, run)


def channels_last(task):
    import copy

    if not any(x.dim() == 4 for x in task.inputs.values()):
        raise Skipped("it is of images only")
    module = copy.deepcopy(task.net).to(memory_format=torch.channels_last)
    return eager(task, "channels_last", module, torch.channels_last)


def compiled(task):
    import torch._inductor.config

    torch._inductor.config.freezing = True
    return eager(task, "torch compiled", torch.compile(task.net))


def onnxruntime(task):
    need("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    session = onnxruntime.InferenceSession(task.onnx(), options, providers=["CPUExecutionProvider"])
    feed = {name: x.numpy() for name, x in task.inputs.items()}
    return Side("onnxruntime", lambda: session.run(None, feed)[0])


def openvino(task, column="openvino", hints=(("INFERENCE_PRECISION_HINT", "f32"),)):
    need("openvino")
    import openvino

    limits = {"INFERENCE_NUM_THREADS": task.threads, "NUM_STREAMS": 1, **dict(hints)}
    compiled = openvino.Core().compile_model(task.onnx(), "CPU", limits)
    request = compiled.create_infer_request()
    feed = {name: x.numpy() for name, x in task.inputs.items()}
    return Side(column, lambda: request.infer(feed)[compiled.output(0)])


def openvino_own(task):
    return openvino(task, "openvino own", ())


def ncnn(task, column="ncnn", bf16=False):
    """It knows no batches: a call is one after another for each sample. Its networks take t as a float."""
    need("ncnn", "pnnx")
    import ncnn
    import pnnx

    samples = [x.float() if x.dim() == 1 else x for x in task.inputs.values()]
    param = os.path.join(task.folder, "network.ncnn.param")
    if not os.path.exists(param):
        traced, one = os.path.join(task.folder, "network.pt"), tuple(x[:1] for x in samples)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.trace(task.net, one).save(traced)
        shapes = ",".join(str(list(x.shape)).replace(" ", "") for x in one)
        command = [pnnx.EXEC_PATH, traced, f"inputshape={shapes}", "fp16=0"]
        if subprocess.run(command, cwd=task.folder, capture_output=True, check=False).returncode or not os.path.exists(param):
            raise Skipped("pnnx converts it not")
        with open(param, encoding="utf-8") as f:
            text = f.read()
        # A change of type means nothing to ncnn, which has only one.
        with open(param, "w", encoding="utf-8") as f:
            f.write(text.replace("\nTensor.to  ", "\nNoop       "))
    net = ncnn.Net()
    net.opt.num_threads = task.threads
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = net.opt.use_bf16_packed = bf16
    if net.load_param(param) or net.load_model(param.replace(".param", ".bin")):
        raise Skipped("it has not all of the operations; see its message above")
    batch = len(samples[0])
    mats = [[np.ascontiguousarray(x[i] if x.dim() > 1 else x[i : i + 1]) for x in samples] for i in range(batch)]

    def run():
        out = []
        for inputs in mats:
            extractor = net.create_extractor()
            for i, x in enumerate(inputs):
                extractor.input(f"in{i}", ncnn.Mat(x))
            failed, y = extractor.extract("out0")
            if failed:
                raise Skipped("its call fails")
            out.append(np.array(y))
        return np.stack(out)

    return Side(column, run)


def ncnn_bf16(task):
    return ncnn(task, "ncnn bf16", bf16=True)


def program_of(name):
    return os.path.join(ROOT, "target/peers", name, "release", f"{name}-peer")


def rust(name):
    """A program of its own, of benches/NAME."""

    def make(task):
        program = program_of(name)
        if not os.path.exists(program):
            raise Skipped("its program is not built: give --rust-peers")
        task.onnx()
        try:
            side = Child(program, task.folder, task.threads)
        except SystemExit:
            raise Skipped("its program gave up; see its message above") from None
        side.column = name
        side.output = np.fromfile(os.path.join(task.folder, f"y-{name}.bin"), np.float32)
        return side

    return make


def build(name):
    """Builds the program of benches/NAME."""
    manifest = os.path.join(ROOT, "benches", name, "Cargo.toml")
    target = os.path.join(ROOT, "target/peers", name)
    subprocess.run(["cargo", "build", "--release", "--locked", "--manifest-path", manifest, "--target-dir", target], check=True)


RUST = ("rten",)

# The order of the table's rows.
PEERS = {
    "torch": eager,
    "channels_last": channels_last,
    "compiled": compiled,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "openvino_own": openvino_own,
    "ncnn": ncnn,
    "ncnn_bf16": ncnn_bf16,
} | {name: rust(name) for name in RUST}
