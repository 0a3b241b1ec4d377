"""Windows of two spike trains as .npy files for spikes.json and `undiffuse evaluate`, and what simple models make of them.

    apt-get download python3-nitime && dpkg -x python3-nitime_*.deb nitime     # Debian's package of nitime 0.9, BSD-3
    python prepare_spikes.py nitime .                                          # numpy alone

The trains are receptor neurons of a grasshopper (grasshopper_spike_times1.txt and 2.txt, times in microseconds), 929 and 868 spikes in
10 seconds; at 1 ms they are strictly binary. The first 8 s of both are for training: windows of 20 bins at every bin, spikes_train.npy. The
last 2 s are held out: windows side by side, spikes_test.npy. Printed: the rate, and bits per held-out window (mean and standard error) of
independent bits and of Markov models whose counts, each with half a count more, are those of the training data.
"""
import pathlib
import sys

import numpy as np

BINS, TRAIN = 20, 8000


def windows(trains, stride):
    return np.concatenate([np.lib.stride_tricks.sliding_window_view(t, BINS)[::stride] for t in trains])


def markov(trains, order, test):
    next_counts = np.full((2**order, 2), 0.5)
    starts = np.full(2**order, 0.5)
    powers = 2 ** np.arange(order)
    for t in trains:
        for j in range(len(t) - order):
            state = int(t[j : j + order] @ powers)
            starts[state] += 1
            next_counts[state, t[j + order]] += 1
    log_start = np.log2(starts / starts.sum())
    log_next = np.log2(next_counts / next_counts.sum(1, keepdims=True))
    bits = log_start[test[:, :order] @ powers]
    for j in range(BINS - order):
        bits = bits + log_next[test[:, j : j + order] @ powers, test[:, j + order]]
    return bits


def main(package, out):
    trains = []
    for path in sorted(pathlib.Path(package).glob("**/grasshopper_spike_times[12].txt")):
        times = [float(line) for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
        bits = np.bincount((np.array(times) // 1000).astype(int), minlength=10_000)[:10_000]
        assert bits.max() == 1, "two spikes in one bin"
        trains.append(bits)
    train, test = windows([t[:TRAIN] for t in trains], 1), windows([t[TRAIN:] for t in trains], BINS)
    for name, rows in [("train", train), ("test", test)]:
        np.save(pathlib.Path(out, f"spikes_{name}.npy"), rows.astype(np.uint8))
    print(f"rate {train.mean():.4f}; {len(train)} and {len(test)} windows")
    for order in range(4):
        bits = markov([t[:TRAIN] for t in trains], order, test)
        print(f"order {order}: {bits.mean():.3f} +- {bits.std(ddof=1) / len(bits) ** 0.5:.3f} bits per window")


if __name__ == "__main__":
    main(*sys.argv[1:])
