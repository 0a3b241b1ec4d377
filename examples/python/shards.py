"""A run cut into shards for parallel processes, and joined: the same bits as in one process.

    UNDIFFUSE_LIBRARY=/usr/local/lib/libundiffuse.so python examples/python/shards.py digits.safetensors
"""
import sys
from concurrent.futures import ProcessPoolExecutor

import undiffuse

COUNT, SHARDS, SEED = 6, 3, 5


def shard(arguments):
    path, first, count = arguments
    return bytes(undiffuse.sample(path, count, SEED, first))


if __name__ == "__main__":
    path, each = sys.argv[1], COUNT // SHARDS
    with ProcessPoolExecutor(SHARDS) as pool:
        joined = b"".join(pool.map(shard, [(path, i * each, each) for i in range(SHARDS)]))
    same = joined == shard((path, 0, COUNT))
    print(f"{SHARDS} processes and one: {'the same' if same else 'other'} bits in {len(joined)} bytes")
    sys.exit(not same)
