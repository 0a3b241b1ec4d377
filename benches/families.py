"""Times one call of larger families beside PyTorch eager and ONNX Runtime: calls taking turns, one table of ratios and of peak memory.

Written for torch 2.15.0, diffusers 0.42.1, onnxruntime 1.32 and onnx 1.23. Run from the repository's root:

    cargo bench --bench network --no-run
    python benches/families.py adm|dit|sd15|decoder... [--threads N] [--rounds N] [--without torch|onnxruntime] [--keep FOLDER]

Each side is a process of its own that makes one call for each line it reads; no two run at the same time. All compute in f32 at batch 1 with
random weights. A figure is the best of all rounds and, behind a slash, their median; the ratio is that of the best, then the least and the largest
of single rounds. Memory is the most that a process has had, for the peers less what it had with its modules imported: for PyTorch that is before
the network is made. SD 1.5's UNet has 860 million weights, which three sides hold three times: 10 GB, and what they work in. The ONNX file is
written before any side starts, and `--keep` keeps it for all later runs.
"""

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from common.child import Child, newest

NAMES = ("adm", "dit", "sd15", "decoder")


def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(run, before):
    """The protocol of benches/network.rs."""
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip():
            print(most() - before, flush=True)
            continue
        start = time.perf_counter_ns()
        run()
        print(time.perf_counter_ns() - start, flush=True)


def torch_side(name, threads):
    import diffusers  # noqa: F401 (before memory is looked at)
    import torch
    from common.networks import network

    torch.set_num_threads(threads)
    before = most()
    net, inputs = network(name)

    def run():
        with torch.inference_mode():
            net(*inputs.values())

    serve(run, before)


def onnx_side(folder, threads):
    import numpy as np
    import onnxruntime

    feed = dict(np.load(os.path.join(folder, "inputs.npz")))
    before = most()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(os.path.join(folder, "network.onnx"), options, providers=["CPUExecutionProvider"])
    serve(lambda: session.run(None, feed), before)


def write(name, folder):
    import numpy as np
    from common.networks import network, write_onnx

    net, inputs = network(name)
    write_onnx(net, inputs, folder)
    np.savez(os.path.join(folder, "inputs.npz"), **{n: x.numpy() for n, x in inputs.items()})


class Peer(Child):
    """This script as a child."""

    def __init__(self, *options):
        super().__init__(sys.executable, os.path.abspath(__file__), *options, serve=False)


def bytes_of(side):
    side.process.stdin.write("memory\n")
    side.process.stdin.flush()
    return int(side.process.stdout.readline())


def row_of(name, times, memory):
    """A row of the table, of milliseconds of each round and of megabytes."""
    all_sides = ("ours", "torch", "onnxruntime")
    peers = [side for side in times if side != "ours"]
    row = [f"{min(times[s]):.1f} / {statistics.median(times[s]):.1f}" if s in times else "" for s in all_sides]
    if peers:
        rounds = [ours / min(others) for ours, *others in zip(times["ours"], *(times[p] for p in peers))]
        row.append(f"{min(times['ours']) / min(min(times[p]) for p in peers):.2f} ({min(rounds):.2f} to {max(rounds):.2f})")
    else:
        row.append("")
    row += [f"{memory[s]:.0f}" if s in memory else "" for s in all_sides]
    return f"| {name} | " + " | ".join(row) + f" | {os.getloadavg()[0]:.1f} |"


def main():
    if sys.argv[1] == "--torch":
        return torch_side(sys.argv[2], int(sys.argv[3]))
    if sys.argv[1] == "--onnx":
        return onnx_side(sys.argv[2], int(sys.argv[3]))
    if sys.argv[1] == "--write":
        return write(sys.argv[2], sys.argv[3])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=NAMES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--without", nargs="*", default=[])
    parser.add_argument("--keep")
    args = parser.parse_args()
    path = newest("network", "cargo bench --bench network --no-run")
    print("| network | undiffuse, ms | PyTorch eager, ms | ONNX Runtime, ms | ratio to the better | memory, MB: ours | PyTorch | ONNX Runtime | load |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in args.names:
        with contextlib.ExitStack() as stack:
            folder = os.path.join(args.keep, name) if args.keep else stack.enter_context(tempfile.TemporaryDirectory())
            if "onnxruntime" not in args.without and not os.path.exists(os.path.join(folder, "inputs.npz")):
                os.makedirs(folder, exist_ok=True)
                subprocess.run([sys.executable, os.path.abspath(__file__), "--write", name, folder], check=True, stderr=subprocess.DEVNULL)
            sides = {"ours": Child(path, name, "batch", 1, "threads", args.threads)}
            if "torch" not in args.without:
                sides["torch"] = Peer("--torch", name, args.threads)
            if "onnxruntime" not in args.without:
                sides["onnxruntime"] = Peer("--onnx", folder, args.threads)
            times = {side: [] for side in sides}
            for _ in range(args.rounds):
                for side, child in sides.items():
                    # Time for the other sides' threads, which may spin a while, to fall asleep; then a call that warms the caches.
                    time.sleep(0.05)
                    child.call()
                    times[side].append(child.call())
            memory = {side: bytes_of(child) / 1e6 for side, child in sides.items()}
            for child in sides.values():
                child.close()
        print(row_of(name, times, memory), flush=True)
    return None


if __name__ == "__main__":
    main()
