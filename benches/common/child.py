"""A bench's program as a child that does one call for each line it reads, for the scripts that time a peer beside it."""

import glob
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def newest(bench, build):
    """The newest build of a bench's program; `build` is the command that makes one."""
    built = glob.glob(os.path.join(ROOT, f"target/release/deps/{bench}-*"))
    built = [p for p in built if os.access(p, os.X_OK) and not p.endswith(".d")]
    if not built:
        raise SystemExit(f"no program: run `{build}` first")
    return max(built, key=os.path.getmtime)


class Child:
    """The program, ready to make calls. `ready` is what it said of itself."""

    def __init__(self, program, *options, serve=True):
        command = [program, *["serve"] * serve, *map(str, options)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the bench's program gave up; see its message above")
        self.ready = line.removeprefix("ready ").strip()

    def call(self):
        """Milliseconds of one call, as the program measured it."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()) / 1e6

    def processor(self):
        """Milliseconds that the processor has worked for it, by Linux; it is exact while it waits for a line."""
        tasks, spent = f"/proc/{self.process.pid}/task", 0
        for task in os.listdir(tasks):
            with open(os.path.join(tasks, task, "schedstat"), encoding="utf-8") as f:
                spent += int(f.read().split()[0])
        return spent / 1e6

    def close(self):
        self.process.stdin.close()
        self.process.wait()
