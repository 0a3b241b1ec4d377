"""Seeded f32 values that the Rust tests draw too (tests/common/pcg.rs), so that large inputs need not be committed.

Written for numpy 2 (any release with PCG64 gives the same values: only its raw 64-bit output is used).

The recipe, step by step:
  1. PCG XSL-RR 128/64 with its default multiplier, started as the PCG library does from the 128-bit pair
     (state, stream), where state = (seed << 64) | stream: increment = 2 * stream + 1, then
     state' = (state + increment) * MULTIPLIER + increment, all modulo 2^128.
  2. One raw u64 makes one value, in order: u = (raw >> 40) * 2^-24, exact in f32, in [0, 1).
  3. (2 u - 1) * a, computed in f32: 2 u - 1 is exact, the product rounds once. The value lies in [-a, a].
"""

import numpy as np

MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
MASK = (1 << 128) - 1


def raw(seed: int, stream: int, count: int) -> np.ndarray:
    """The first `count` raw u64 of (seed, stream)."""
    increment = ((stream << 1) | 1) & MASK
    state = (seed << 64) | stream
    state = ((state + increment) * MULTIPLIER + increment) & MASK
    bits = np.random.PCG64(0)
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": state, "inc": increment},
        "has_uint32": 0,
        "uinteger": 0,
    }
    return bits.random_raw(count)


def uniform(seed: int, stream: int, count: int, a: float) -> np.ndarray:
    """`count` f32 values, uniform in [-a, a]; a = sqrt(3) gives unit variance."""
    u = (raw(seed, stream, count) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return (u * np.float32(2) - np.float32(1)) * np.float32(a)


if __name__ == "__main__":
    # The numbers that the test in tests/references/pcg_recipe.rs pins.
    print([hex(int(v)) for v in raw(7, 3, 4)])
    print([f"{v:.9g}" for v in uniform(7, 3, 4, 0.3)])
