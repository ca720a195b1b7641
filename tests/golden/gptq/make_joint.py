#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden results of GPTQ with MX blocks cast jointly (`mx=joint`).

    python make_joint.py     (PyTorch and dmx-compressor 0.1.11)

On the layer of make.py (w.npy, h.npy). A float64 model of the formula below
gives joint_float64.npy, dmx-compressor's own OptimalBrainCompressor (float32)
joint_dmx.npy, both [case, rows, cols] of dequantized weights; joint_cases.txt
has dtype, group, options and the two tr(E H E'), a line a case.

    U' U = (H + damp mean(diag H) I)^-1, and for each block b of the format:
    Y_b = cast(W_b);  E = (W_b - Y_b) inv(U_bb);  W_rest -= E U_b,rest

The tool's torch.cuda.synchronize() is made to do nothing: it raises on a
machine without a GPU.
"""
import json
import pathlib
import sys
from importlib.metadata import version

import numpy as np
import torch
from dmx.compressor.layer_reconstruction import OptimalBrainCompressor
from dmx.compressor.numerical import Format

HERE = pathlib.Path(__file__).resolve().parent
CASES = [("mxint3", 32, {}), ("mxint4", 16, {}), ("mxint4", 64, {}),
         ("mxint2", 32, {"damp": 0.1}), ("mxint4", 192, {})]


def trace_error(w, y, h):
    e = w.astype(np.float64) - y
    return float(np.einsum("ij,jk,ik->", e, h, e, optimize=True))


def cast(block, bits):
    """MXINT of float32 weights, a row a block."""
    x = block.astype(np.float32)
    _, e = np.frexp(np.abs(x).max(axis=1, keepdims=True))
    big = np.ldexp(np.float32(6.0), e - 1).astype(np.float32)
    step = np.ldexp(1.0, e - 1 - (bits - 2))
    once = ((x + big) - big).astype(np.float64)
    top = 2 ** (bits - 1) - 1
    return np.clip(np.rint(once / step), -top, top) * step


def model(w, h, bits, width, damp):
    w, h = w.astype(np.float64).copy(), h.copy()
    cols = w.shape[1]
    dead = np.diag(h) == 0
    h[dead, dead] = 1.0
    w[:, dead] = 0.0
    h[np.diag_indices(cols)] += damp * np.diag(h).mean()
    u = np.linalg.cholesky(np.linalg.inv(h)).T
    y = np.zeros_like(w)
    for b in range(0, cols, width):
        e = min(b + width, cols)
        y[:, b:e] = cast(w[:, b:e], bits)
        errors = (w[:, b:e] - y[:, b:e]) @ np.linalg.inv(u[b:e, b:e])
        w[:, e:] -= errors @ u[b:e, e:]
    return y


class Blocked:
    """What the compressor asks of a module's sparsifier."""
    blocked = False


class Sparsifier:
    sparseness = Blocked()


class Cast:
    def __init__(self, fmt):
        self.format = fmt


class Module:
    """What OptimalBrainCompressor.apply asks of a module."""

    def __init__(self, w, bits, width):
        self.weight = torch.nn.Parameter(torch.from_numpy(w.copy()))
        fmt = Format.from_shorthand(f"MXINT{bits}{{{width}}}")
        self.weight_cast = Cast(fmt)
        self.weight_sparsifier = Sparsifier()
        self.weight_hypernet = lambda x: fmt.cast(x.contiguous(), -1)


def dmx(w, h, bits, width, damp):
    module = Module(w, bits, width)
    job = OptimalBrainCompressor(module)
    job.H = torch.from_numpy(h).float()
    block = width * max(1, 128 // width)
    with torch.no_grad():
        job.apply(microblock_size=width, block_size=block, percdamp=damp)
    return module.weight.data.double().numpy()


def main():
    torch.cuda.synchronize = lambda *a: None
    w, h = np.load(HERE / "w.npy"), np.load(HERE / "h.npy").astype(np.float64)
    lines, ours, theirs = [], [], []
    for dtype, width, options in CASES:
        bits, damp = int(dtype[-1]), options.get("damp", 0.01)
        ours.append(model(w, h, bits, width, damp).astype(np.float32))
        theirs.append(dmx(w, h, bits, width, damp).astype(np.float32))
        text = ",".join(["mx=joint"] + [f"{k}={v}" for k, v in options.items()])
        lines.append(f"{dtype} {width} {text} "
                     f"{trace_error(w, ours[-1], h)!r} "
                     f"{trace_error(w, theirs[-1], h)!r}")
        print(lines[-1], (ours[-1] == theirs[-1]).mean(), file=sys.stderr)
    np.save(HERE / "joint_float64.npy", np.stack(ours))
    np.save(HERE / "joint_dmx.npy", np.stack(theirs))
    (HERE / "joint_cases.txt").write_text("\n".join(lines) + "\n")
    (HERE / "joint_versions.json").write_text(json.dumps({
        name: version(name) for name in ("dmx-compressor", "torch", "numpy")
    }, indent=1) + "\n")


if __name__ == "__main__":
    main()
