"""Golden values of the generators of PyTorch, NumPy and JAX, as 32-bit patterns of f32.

Made with torch 2.15.0 (on a CPU with AVX2 and FMA; its own word for it is AVX512), numpy 2.4.6 and jax 0.10.2 (CPU). No download. Run by hand
from the repository root:

    python tests/golden/make_noise.py

It writes tests/golden/noise.json: one line a case, {generator, seed, samples, len, each, type, kind, every, draws}. A case makes as many
draws as `draws` has rows, one after another from one generator, each of `samples` samples of `len` values; with `each`, one sample at a
time from a generator of seed + i, joined. Every `every`-th value is kept; `hashes` are of all values of a long draw (polynomial_hash).

The CUDA cases are computed here, in NumPy, from curand's documented algorithm and PyTorch's order (a draw of n values on t threads at once,
in blocks of 256), since there is no GPU: tests/references/noise.rs has published values beside them.
"""

import json
import pathlib

import jax
import numpy as np
import torch

assert torch.__version__.startswith("2.15.0") and np.__version__ == "2.4.6" and jax.__version__ == "0.10.2"
F32 = np.float32


class TorchCpu:
    def __init__(self, seed, dtype):
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype]

    def normal(self, shape):
        return torch.randn(shape, generator=self.generator, dtype=self.dtype).float().numpy()

    def uniform(self, shape):
        return torch.rand(shape, generator=self.generator).numpy()


class Numpy:
    def __init__(self, seed, _):
        self.generator = np.random.default_rng(seed)

    def normal(self, shape):
        return self.generator.standard_normal(shape).astype(F32)

    def uniform(self, shape):
        return self.generator.random(shape).astype(F32)


class NumpyLegacy(Numpy):
    def __init__(self, seed, _):
        self.generator = np.random.RandomState(seed)

    def uniform(self, shape):
        return self.generator.random_sample(shape).astype(F32)


class Jax:
    def __init__(self, seed, _):
        self.key, self.draws = jax.random.key(seed), 0

    def next(self):
        self.draws += 1
        return jax.random.fold_in(self.key, self.draws - 1)

    def normal(self, shape):
        return np.asarray(jax.random.normal(self.next(), shape))

    def uniform(self, shape):
        return np.asarray(jax.random.uniform(self.next(), shape))


class TorchCuda:
    def __init__(self, seed, threads):
        self.key, self.blocks, self.offset = (seed & 0xFFFFFFFF, seed >> 32), threads // 256, 0

    def words(self, n):
        threads = 256 * min(-(-n // 256), self.blocks)
        groups = -(-n // (4 * threads))
        thread, group = np.meshgrid(np.arange(threads, dtype=np.uint64), np.arange(groups, dtype=np.uint64))
        low = np.uint64(0xFFFFFFFF)
        count = group + np.uint64(self.offset)
        a, b, c, d = count & low, count >> np.uint64(32), thread & low, thread >> np.uint64(32)
        k, l = self.key
        for _ in range(10):
            p, q = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
            a, b, c, d = (q >> np.uint64(32)) ^ b ^ np.uint64(k), q & low, (p >> np.uint64(32)) ^ d ^ np.uint64(l), p & low
            k, l = (k + 0x9E3779B9) & 0xFFFFFFFF, (l + 0xBB67AE85) & 0xFFFFFFFF
        self.offset += groups
        # [group, word, thread]: the four values of a thread's group are `threads` apart.
        return np.stack([a, b, c, d], axis=1).astype(np.uint32)

    def normal(self, shape):
        w = self.words(np.prod(shape)).astype(F32)
        scale = F32(2.0**-32)
        u = w[:, 0::2] * scale + scale / F32(2)
        v = w[:, 1::2] * (scale * F32(2 * np.pi)) + scale * F32(2 * np.pi) / F32(2)
        r = np.sqrt(-2 * np.log(u.astype(np.float64)))
        pairs = np.stack([r * np.sin(v.astype(np.float64)), r * np.cos(v.astype(np.float64))], axis=2)
        return pairs.astype(F32).reshape(-1)[: np.prod(shape)].reshape(shape)

    def uniform(self, shape):
        u = self.words(np.prod(shape)).astype(F32) * F32(2.0**-32) + F32(2.0**-33)
        return np.where(u == 1, F32(0), u).reshape(-1)[: np.prod(shape)].reshape(shape)


GENERATORS = {"torch-cpu": TorchCpu, "numpy": Numpy, "numpy-legacy": NumpyLegacy, "jax": Jax,
              "torch-cuda": lambda s, _: TorchCuda(s, 6144), "torch-cuda:512": lambda s, _: TorchCuda(s, 512),
              "torch-cuda:270336": lambda s, _: TorchCuda(s, 270336)}


def case(generator, seed, samples, length, draws, each=False, dtype="f32", kind="normal", every=1):
    make = GENERATORS[generator]
    if each:
        lanes = [make(seed + i, dtype) for i in range(samples)]
        rows = [np.concatenate([getattr(g, kind)((1, length)) for g in lanes]) for _ in range(draws)]
    else:
        g = make(seed, dtype)
        rows = [getattr(g, kind)((samples, length)) for _ in range(draws)]
    rows = [np.ascontiguousarray(r).reshape(-1).view(np.uint32) for r in rows]
    bits = [r[::every].tolist() for r in rows]
    more = {}
    if every > 1:
        more["hashes"] = [polynomial_hash(r) for r in rows]
    return {"generator": generator, "seed": seed, "samples": samples, "len": length, "each": each, "type": dtype, "kind": kind,
            "every": every, "draws": bits, **more}


def polynomial_hash(words):
    """Of all values of a draw: h = 31 h + bits, from 0, modulo 2^64, as a hexadecimal string."""
    h = 0
    for w in words.tolist():
        h = (31 * h + w) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def main():
    cases = []
    for generator in GENERATORS:
        small = generator in ("numpy-legacy", "jax")
        big = 2**32 - 1 if small else 2**32 + 5
        for kind in ("normal", "uniform"):
            cases.append(case(generator, 0, 1, 16, 2, kind=kind))
            # Below and above 16 values together, and an odd number of values.
            for samples, length in [(1, 5), (2, 7), (1, 15), (3, 7), (2, 24)]:
                cases.append(case(generator, 42, samples, length, 3, kind=kind))
            cases.append(case(generator, big, 1, 33, 2, kind=kind))
            cases.append(case(generator, 7, 3, 18, 3, each=True, kind=kind))
            cases.append(case(generator, 7, 3, 5, 3, each=True, kind=kind))
            long = (1, 6000) if generator == "torch-cuda" else (4, 50021)
            cases.append(case(generator, 1234, *long, 2, kind=kind, every=1999))
    for dtype in ("f16", "bf16"):
        for samples, length in [(1, 5), (2, 24)]:
            got = case("torch-cpu", 3, samples, length, 3, dtype=dtype)
            full = case("torch-cpu", 3, samples, length, 3)
            to = {"f16": torch.float16, "bf16": torch.bfloat16}[dtype]
            for a, b in zip(got["draws"], full["draws"]):
                b = torch.from_numpy(np.array(b, np.uint32).view(F32)).to(to).float().numpy().view(np.uint32)
                assert a == b.tolist()
            cases.append(got)
    path = pathlib.Path(__file__).parent / "noise.json"
    path.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
    print(len(cases), "cases,", path.stat().st_size, "bytes")


main()
