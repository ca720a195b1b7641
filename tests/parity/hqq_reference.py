#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""HQQ against its own package, codes and error, layer by layer.

    hqq_reference.py --tool build/tests/parity/quantize_layer

Needs hqq 0.2.8.post1, termcolor and torch; runs on the CPU in float32. Layers
have heavy tails (Student's t, 4 degrees); the last is of rows that go wrong
easily: tiny, constant, zero, one-sided, stepped. Prints the worst of each
layer and width, and exits with 1 where less than 99.9 % of the codes are equal or the mean
absolute error differs by more than 0.1 %.
"""
import argparse
import subprocess
import sys
import tempfile

import numpy as np
import torch
from hqq.core import optimize
from hqq.core.quantize import Quantizer

from table import Table

OPTIONS = {"": {}, "solver=v2": {}, "optimize=false": {"optimize": False},
           "round_zero=true": {"round_zero": True}}


def hard_rows(rng):
    w = rng.standard_normal((64, 128)).astype(np.float32)
    w[0] *= 1e-6
    w[1] = 0.3
    w[2] = 0.0
    w[3] *= 1e3
    w[4] = np.abs(w[4])
    w[5] = -np.abs(w[5])
    w[6] *= 1e-40
    w[7] = 1e-4 * np.arange(128) / 127
    w[8] *= 1e-3
    return w


def layers():
    rng = np.random.default_rng(0)
    for rows, cols, size in ((576, 1536, 0.05), (576, 576, 1.0)):
        yield (rng.standard_t(4, size=(rows, cols)) * size).astype(np.float32)
    yield hard_rows(rng)


def ours(tool, w, bits, group, option):
    with tempfile.TemporaryDirectory() as scratch:
        w.tofile(f"{scratch}/w")
        subprocess.run(
            [tool, "hqq", f"int{bits}:asym", str(group), *map(str, w.shape),
             f"{scratch}/w", "-", f"{scratch}/out", *option.split()],
            check=True, stdout=subprocess.DEVNULL)
        return (np.fromfile(f"{scratch}/out.q", np.int16).reshape(w.shape),
                np.fromfile(f"{scratch}/out.y", np.float32).reshape(w.shape))


def theirs(w, bits, group, option):
    Quantizer.optimize_weights = (
        (lambda **k: optimize.optimize_weights_proximal_v2(**k))
        if option == "solver=v2" else optimize.optimize_weights_proximal)
    q, meta = Quantizer.quantize(
        torch.from_numpy(w.copy()), nbits=bits, axis=1, device="cpu",
        bitpack=False, group_size=None if group == "row" else group,
        **OPTIONS[option])
    y = (q - meta["zero"]) * meta["scale"]
    return q.reshape(w.shape).numpy(), y.reshape(w.shape).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tool", required=True)
    tool = parser.parse_args().tool
    table = Table()
    for w in layers():
        for bits in (2, 3, 4, 8):
            found = []
            for group in (32, 64, "row"):
                for option in OPTIONS:
                    q, y = ours(tool, w, bits, group, option)
                    their_q, their_y = theirs(w, bits, group, option)
                    error, their_error = (
                        float(np.abs(w - x).mean(dtype=np.float64))
                        for x in (y, their_y))
                    found.append(((q == their_q).mean(), error, their_error))
            name = f"HQQ int{bits}, {w.shape[0]} x {w.shape[1]}"
            codes = min(same for same, _, _ in found)
            table.row(f"{name}, codes, worst of {len(found)}", codes, 1.0,
                      1.0 - codes, 1e-3)
            _, error, theirs_ = max(found, key=lambda f: abs(f[1] / f[2] - 1))
            table.row(f"{name}, mean |w - y|", error, theirs_,
                      abs(error / theirs_ - 1.0), 1e-3)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
