#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden weights of layers quantized in a rotated residual stream.

    python make.py --gptq DIR     (a checkout of IST-DASLab/gptq)

A layer that reads the stream behind a norm with gains, one that writes to it,
and one that writes to it where LayerNorm reads it (its outputs' mean is baked
out), in float64 as QuaRot's rotation_utils.py writes them: W diag(g) Q and Q'
W, with one random orthogonal Q. The rotated weights, rounded to float32, are
quantized by GPTQ's reference classes, with the identity for rounding to
nearest and with the rotated second moment for GPTQ, and turned back. Writes
q.npy [32, 32], h.npy [32, 32] (float64), w.npy [16, 32] (the writing layer is
its transpose), gain.npy [32] and y.npy [case, 16 * 32].
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "parity"))
import gptq_reference as reference  # noqa: E402

OUT, WIDTH, SEED = 16, 32, 23


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gptq", required=True, type=pathlib.Path)
    classes = reference.load_reference(parser.parse_args().gptq)
    rng = np.random.default_rng(SEED)
    w = (0.05 * rng.standard_normal((OUT, WIDTH))).astype(np.float32)
    gain = (1.0 + 0.3 * rng.standard_normal(WIDTH)).astype(np.float32)
    x = rng.standard_normal((256, WIDTH)) @ rng.standard_normal((WIDTH, WIDTH))
    h = x.T @ x / len(x)
    q, r = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
    q *= np.sign(np.diag(r))
    g = gain.astype(np.float64)
    read, write = w.astype(np.float64), w.T.astype(np.float64)

    weights = []
    # Symmetric groups hold ties, which the last bit of GPTQ's own arithmetic
    # would decide: asymmetric ones there.
    for moment, dtype, kind in ((None, "int4", "float32"),
                                (h, "int4:asym", "float64")):
        def quantize(turned, moment):
            turned = turned.astype(np.float32)
            return reference.run_reference(classes, turned, moment, dtype,
                                           "16", {}, kind)
        of = np.eye(WIDTH) if moment is None else (
            q.T @ (h / np.outer(g, g)) @ q)
        y = quantize(read * g @ q, of)
        weights.append(y @ q.T / g)
        of = np.eye(OUT) if moment is None else h[:OUT, :OUT]
        weights.append(q @ quantize(q.T @ write, of))
        mean = write.mean(axis=0, keepdims=True)
        weights.append(q @ quantize(q.T @ (write - mean), of) + mean)
    np.save(HERE / "w.npy", w)
    np.save(HERE / "gain.npy", gain)
    np.save(HERE / "q.npy", q)
    np.save(HERE / "h.npy", h)
    np.save(HERE / "y.npy",
            np.stack([y.ravel() for y in weights]).astype(np.float32))
    (HERE / "versions.json").write_text(json.dumps({
        "torch": torch.__version__, "numpy": np.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
