"""Times the start of a process to the end of its first step, ours and rten's taking turns, and the most memory that each has had.

Written for torch 2.15.0, diffusers 0.42.1, onnx 1.23 and rten 0.27. Run from the repository's root:

    cargo bench --bench start --no-run
    python benches/start.py [edge|cifar] [--threads N...] [--rounds N]

Both are small programs that read a model of the same random weights in f32, make one call at batch 1 (ours with a step of DDIM around it) and say so.
The files are in the page cache. rten's weights are not packed ahead, which would take it longer. A time is from just before the process is made to
what it says; the least of all rounds, and behind a slash their median. The processor's time is the least that it worked for the whole process.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import tempfile
import time
import warnings

from common import networks, sides
from common.child import newest


def write(name, folder):
    """The model as a diffusers pipeline's folder, and as peers read it."""
    from diffusers import DDPMPipeline, DDPMScheduler

    net, inputs = networks.network(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        networks.write_onnx(net, inputs, folder)
    DDPMPipeline(net.net, DDPMScheduler()).save_pretrained(os.path.join(folder, "pipeline"))


def start(command):
    """Milliseconds until the program has said that it is done, those that the processor worked for it, and its bytes."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, close_fds=False)
    line = process.stdout.readline()
    took = (time.perf_counter() - begin) * 1e3
    process.stdout.close()
    _, process.returncode, used = os.wait4(process.pid, 0)
    if process.returncode or not line.startswith(b"done "):
        raise SystemExit(f"{command[0]} gave up; see its message above")
    return took, (used.ru_utime + used.ru_stime) * 1e3, int(line.split()[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=["edge", "cifar"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    ours = newest("start", "cargo bench --bench start --no-run")
    sides.build("rten")
    rten = sides.program_of("rten")
    print("| network | threads | undiffuse, ms | rten, ms | ratio | processor's time: ours | rten | ratio | peak memory, MB: ours | rten | load |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in [args.name] if args.name else ["edge", "cifar"]:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            write(name, folder)
            for threads in args.threads:
                commands = [[ours, os.path.join(folder, "pipeline"), str(threads)], [rten, "once", folder, str(threads)]]
                for command in commands:
                    start(command)
                rounds = [[start(command) for command in commands] for _ in range(args.rounds)]
                times, work, memory = ([[r[side][i] for r in rounds] for side in (0, 1)] for i in range(3))
                cells = [name, str(threads), *(f"{min(t):.1f} / {statistics.median(t):.1f}" for t in times)]
                cells.append(f"{min(times[0]) / min(times[1]):.2f}")
                cells += [*(f"{min(t):.1f}" for t in work), f"{min(work[0]) / min(work[1]):.2f}"]
                cells += [*(f"{max(m) / 1e6:.1f}" for m in memory), f"{os.getloadavg()[0]:.1f}"]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
