"""Holds a script and all that it starts to AVX2, so that every side of a table runs as on a processor without AVX-512."""

import os
import subprocess
import sys

from common.child import ROOT


def held():
    return "hold.so" in os.environ.get("LD_PRELOAD", "")


def hold():
    """Starts this script anew with CPUID answered by hold.c; ends it where the processor or the system cannot do that."""
    library = os.path.join(ROOT, "target", "hold.so")
    source = os.path.join(ROOT, "benches/common/hold.c")
    os.makedirs(os.path.dirname(library), exist_ok=True)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    environment = os.environ | {"LD_PRELOAD": library}
    if subprocess.run(["true"], env=environment, check=False).returncode:
        raise SystemExit("nothing here can be held to AVX2: it takes x86-64 Linux and a processor with CPUID faulting (cpuid_fault)")
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)
