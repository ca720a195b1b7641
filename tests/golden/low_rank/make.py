#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden weights of EoRA and LQER on one small layer.

    python make.py        (needs numpy)

The layer is tests/golden/gptq's, rounded to nearest by symmetric integers.
EoRA as its authors write it: an eigendecomposition of H, whose directions
below max * n * eps are dropped, and a singular value decomposition of the
error times its root, all in float64. LQER: a singular value decomposition of
the error whose columns are weighted by scales. Factors are not rounded.
Writes y.npy [case, rows, cols] (float64 rounded to float32) and cases.txt:
method, dtype, group, rank, squared error under the method's own metric, the
same without the low-rank product.
"""
import json
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
CASES = [("eora", 3, 32, 1), ("eora", 3, 64, 4), ("eora", 4, 32, 24),
         ("lqer", 3, 32, 4), ("lqer", 2, 64, 8)]


def round_to_nearest(w, bits, group):
    """Symmetric integers of the GPTQ reference, in float32."""
    rows, cols = w.shape
    x = w.reshape(rows, cols // group, group)
    top = np.float32(2 ** bits - 1)
    most = np.abs(x).max(-1, keepdims=True)
    low = np.where(x.min(-1, keepdims=True) < 0, -most, np.float32(0))
    scale = (most - low) / top
    zero = (top + 1) / 2
    code = np.clip(np.rint(x / scale) + zero, 0, top)
    return (scale * (code - zero)).reshape(rows, cols).astype(np.float32)


def truncate(m, rank):
    u, s, v = np.linalg.svd(m, full_matrices=False)
    return u[:, :rank] * s[:rank], v[:rank]


def eora(error, h, rank):
    values, vectors = np.linalg.eigh(h)
    kept = values > values.max() * len(values) * np.finfo(np.float64).eps
    values, vectors = values[kept], vectors[:, kept]
    root = vectors * np.sqrt(values)
    b, a = truncate(error @ root, rank)
    return b @ (a / np.sqrt(values)) @ vectors.T, h


def lqer(error, h, rank):
    s = np.maximum(0.8 * np.sqrt(np.diag(h)), 1e-4)
    b, a = truncate(error * s, rank)
    return b @ (a / s), np.diag(s * s)


def main():
    w = np.load(HERE.parent / "gptq" / "w.npy")
    h = np.load(HERE.parent / "gptq" / "h.npy").astype(np.float64)
    lines, weights = [], []
    for name, bits, group, rank in CASES:
        y = round_to_nearest(w, bits, group).astype(np.float64)
        error = w.astype(np.float64) - y
        low, metric = globals()[name](error, h, rank)
        rest = error - low
        lines.append(f"{name} int{bits} {group} {rank} "
                     f"{float(np.trace(rest @ metric @ rest.T))!r} "
                     f"{float(np.trace(error @ metric @ error.T))!r}")
        weights.append((y + low).astype(np.float32))
    np.save(HERE / "y.npy", np.stack(weights))
    (HERE / "cases.txt").write_text("\n".join(lines) + "\n")
    (HERE / "versions.json").write_text(
        json.dumps({"numpy": np.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
