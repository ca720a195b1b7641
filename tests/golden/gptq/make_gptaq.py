#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden results of GPTAQ (`gptaq`).

    python make_gptaq.py --gptq DIR     (NumPy, PyTorch, IST-DASLab/gptq)

On inputs of 192 columns and what quantized layers before made of them: writes
gptaq_h.npy and gptaq_cross.npy (float32 numbers), the weights being w.npy.
The algorithm is written out here from its formulas, in float64; groups are
quantized by the GPTQ reference's own Quantizer. gptaq.npy is [case, rows,
cols] of dequantized weights; gptaq_cases.txt has dtype, group, options and
tr(E H E') a line a case.

    H = X_q X_q' / n,  D = (X_fp - X_q) X_q' / n,  U' U = (H + damp)^-1
    P = alpha triu(D U', 1) U
    within a block of columns: w_j -= e_i U_ij - w_i P_ij,  e = (w - y) / U_ii
    behind it:                 W_rest -= E U_b,rest - Y_b P_b,rest
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

CASES = [
    ("int4", "32", {}),
    ("int3:asym", "64", {}),
    ("int4", "row", {"alpha": 1.0}),
    ("int4:asym", "32", {"act_order": True, "static_groups": True}),
    ("int3", "64", {"block": 64, "damp": 0.05}),
    ("int4:asym", "64", {"act_order": True, "alpha": 0.5}),
]


def inputs(cols, tokens, seed):
    """The unquantized model's inputs, and the same behind some errors."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((cols, cols)))[0]
    fp = rng.standard_normal((tokens, cols)) * (1 + np.arange(cols)) ** -0.5
    fp = fp @ basis * np.exp(0.5 * rng.standard_normal(cols))
    error = 0.2 * fp @ rng.standard_normal((cols, cols)) / np.sqrt(cols)
    q = 0.95 * fp + error + 0.05 * rng.standard_normal(fp.shape) * fp.std(0)
    q[:, 17] = 0.0
    unit = np.sqrt((q * q).mean())
    return fp / unit, q / unit


def gptaq(quantizer_class, w, h, cross, dtype, group, options):
    _, bits, sym = reference.parse_dtype(dtype)
    w, h, d = (torch.from_numpy(a.astype(np.float64)) for a in (w, h, cross))
    h, d = h.clone(), d.clone()
    rows, cols = w.shape
    width = reference.width_of(group, cols)
    block = options.get("block", 128)
    static = options.get("static_groups", False)

    def fit(x):
        q = quantizer_class()
        q.configure(bits, perchannel=True, sym=sym, mse=False)
        q.find_params(x, weight=True)
        return q

    whole = fit(w)
    dead = torch.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    d[:, dead] = 0
    groups = [fit(w[:, c:c + width]) for c in range(0, cols, width)]
    order = torch.arange(cols)
    if options.get("act_order"):
        order = torch.argsort(-torch.diag(h), stable=True)
    w, h, d = w[:, order], h[order][:, order], d[order][:, order]
    h += torch.eye(cols) * options.get("damp", 0.01) * torch.diag(h).mean()
    u = torch.linalg.cholesky(torch.linalg.inv(h), upper=True)
    p = options.get("alpha", 0.25) * torch.triu(d @ u.T, 1) @ u
    y = torch.zeros_like(w)
    now = whole
    for i1 in range(0, cols, block):
        i2 = min(i1 + block, cols)
        work, errors = w[:, i1:i2].clone(), torch.zeros(rows, i2 - i1)
        for i in range(i1, i2):
            k = i - i1
            if group != "row":
                if static:
                    now = groups[int(order[i]) // width]
                elif i % width == 0:
                    now = fit(w[:, i:i + width])
            column = work[:, k].clone()
            y[:, i] = now.quantize(column[:, None]).flatten()
            errors[:, k] = (column - y[:, i]) / u[i, i]
            work[:, k + 1:] -= torch.outer(errors[:, k], u[i, i + 1:i2])
            work[:, k + 1:] += torch.outer(column, p[i, i + 1:i2])
        w[:, i2:] -= errors @ u[i1:i2, i2:] - y[:, i1:i2] @ p[i1:i2, i2:]
    out = torch.empty_like(y)
    out[:, order] = y
    return out.numpy()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gptq", required=True, type=pathlib.Path)
    args = parser.parse_args()
    _, quantizer = reference.load_reference(args.gptq)
    torch.set_default_dtype(torch.float64)
    w = np.load(HERE / "w.npy")
    fp, q = inputs(w.shape[1], 1024, 5)
    h = (q.T @ q / len(q)).astype(np.float32)
    cross = ((fp - q).T @ q / len(q)).astype(np.float32)
    np.save(HERE / "gptaq_h.npy", h)
    np.save(HERE / "gptaq_cross.npy", cross)
    lines, results = [], []
    for dtype, group, options in CASES:
        y = gptaq(quantizer, w, h, cross, dtype, group, options)
        results.append(y.astype(np.float32))
        text = ",".join(f"{k}={str(v).lower()}" for k, v in options.items())
        error = reference.trace_error(w, y, h.astype(np.float64))
        lines.append(f"{dtype} {group} {text or '-'} {error!r}")
        plain = gptaq(quantizer, w, h, 0 * cross, dtype, group, options)
        print(lines[-1], "moved by the correction:",
              float((plain != y).mean()), file=sys.stderr)
    np.save(HERE / "gptaq.npy", np.stack(results))
    (HERE / "gptaq_cases.txt").write_text("\n".join(lines) + "\n")
    (HERE / "gptaq_versions.json").write_text(json.dumps({
        "torch": torch.__version__, "numpy": np.__version__,
    }, indent=1) + "\n")


if __name__ == "__main__":
    main()
