#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden vectors of the number formats, from the formats' own tools.

    python make.py [--gptq DIR]

Needs torch, numpy and dmx-compressor (see versions.json); DIR is a checkout
of IST-DASLab/gptq (its quant.py is executed up to the CUDA import). Writes
input.npy [rows, cols], expected.npy [case, rows, cols] and cases.txt (dtype
and group a line, in the order of expected.npy) beside itself.
"""
import argparse
import importlib.util
import json
import pathlib
import subprocess
import sysconfig

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
COLS = 144  # short last groups of 64 and 128; whole ones of 16


def dmx_kernel():
    """block_quantize of the installed dmx-compressor, without its models."""
    site = pathlib.Path(sysconfig.get_paths()["purelib"])
    path = site / "dmx/compressor/quant/quant_function.py"
    spec = importlib.util.spec_from_file_location("quant_function", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.block_quantize


def reference_quantizer(gptq):
    """The Quantizer class and quantize() of the reference's quant.py."""
    text = (pathlib.Path(gptq) / "quant.py").read_text()
    scope = {}
    exec(text.split("try:\n    import quant_cuda")[0], scope)
    return scope["Quantizer"], scope["quantize"]


def inputs():
    """Rows of weights: usual ones first, then every edge."""
    rng = np.random.default_rng(20240607)
    f = np.float32
    normal = rng.standard_normal((4, COLS)).astype(f) * f(0.03)
    heavy = (rng.standard_t(2, (2, COLS))).astype(f)
    # halves of steps: ties of every MXINT width and of many integer scales
    ties = [rng.integers(-(2**k), 2**k + 1, COLS).astype(f) / f(2**7)
            for k in (3, 6, 8, 9)]
    for row in ties:
        row[0] = 1.0
    # next to a tie, within what the first rounding of MXINT swallows
    near = ties[2].copy()
    near[1:] = near[1:] * f(2.0) ** -2
    near[1:] *= f(1) + rng.integers(-2, 3, COLS - 1).astype(f) * f(2.0**-23)
    near[0] = f(1.5)
    positive = np.abs(rng.standard_normal(COLS)).astype(f)
    negative = -positive
    sparse = np.where(rng.random(COLS) < 0.9, 0, positive).astype(f)
    sparse[:64] = 0.0
    sparse[3] = -0.0
    zeros = np.zeros(COLS, f)
    zeros[1::2] = -0.0
    wide = (rng.standard_normal(COLS) * 2.0 ** rng.integers(-40, 40, COLS))
    tiny = (rng.standard_normal(COLS) * 2.0**-126).astype(f)
    subnormal = (rng.integers(-(2**20), 2**20, COLS) * 2.0**-149).astype(f)
    subnormal[5] = f(2.0**-126) - f(2.0**-149)
    subnormal[6] = -subnormal[5]
    huge = (rng.uniform(-1, 1, COLS) * 2.0**126).astype(f)
    huge[7] = np.nextafter(f(2.0**126), f(0))
    huge[8] = -huge[7]
    below = np.nextafter(f(2.0) ** rng.integers(-6, 7, COLS).astype(f), f(0))
    return np.stack([*normal, *heavy, *ties, near, positive, negative, sparse,
                     zeros, wide.astype(f), tiny, subnormal, huge,
                     below]).astype(f)


def blocks(x, group):
    """Column slices that share parameters; None for the whole tensor."""
    step = {"row": x.shape[1], "tensor": None}.get(group, group)
    if step is None:
        return None
    return [slice(c, min(c + step, x.shape[1]))
            for c in range(0, x.shape[1], step)]


def mxint(kernel, x, bits, group):
    cut = blocks(x, group)
    if cut is None:
        flat = kernel(x.reshape(1, -1), bits, 0, True, "nearest")
        return flat.reshape(x.shape)
    return torch.cat([kernel(x[:, s].contiguous(), bits, 0, True, "nearest")
                      for s in cut], 1)


def integer(Quantizer, quantize, x, bits, sym, group):
    cut = blocks(x, group)
    q = Quantizer()
    q.configure(bits, perchannel=cut is not None, sym=sym, mse=False)
    out = []
    for s in cut or [slice(0, x.shape[1])]:
        q.find_params(x[:, s], weight=True)
        out.append(quantize(x[:, s], q.scale, q.zero, q.maxq))
    return torch.cat(out, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gptq", required=True)
    args = parser.parse_args()
    Quantizer, quantize = reference_quantizer(args.gptq)
    kernel = dmx_kernel()
    x = torch.from_numpy(inputs())
    cases, expected = [], []
    for bits in range(2, 9):
        for group in (16, 32, 128, "row", "tensor"):
            if bits in (5, 7) and group != 32:
                continue
            cases.append(f"mxint{bits} {group}")
            expected.append(mxint(kernel, x, bits, group))
    for bits in range(2, 9):
        for name, sym in (("", True), (":asym", False)):
            for group in (32, "row", "tensor") if bits < 5 else (64,):
                cases.append(f"int{bits}{name} {group}")
                expected.append(
                    integer(Quantizer, quantize, x, bits, sym, group))
    y = torch.stack(expected).numpy()
    # The reference divides what is too small for float32 by 0; ours counts
    # such a group as zeros. No golden value is NaN.
    assert np.isfinite(y).all(), [c for c, v in zip(cases, y)
                                  if not np.isfinite(v).all()]
    np.save(HERE / "input.npy", x.numpy())
    np.save(HERE / "expected.npy", y)
    (HERE / "cases.txt").write_text("\n".join(cases) + "\n")
    commit = subprocess.run(["git", "-C", args.gptq, "rev-parse", "HEAD"],
                            capture_output=True, text=True).stdout.strip()
    from importlib.metadata import version
    (HERE / "versions.json").write_text(json.dumps({
        "torch": torch.__version__, "numpy": np.__version__,
        "dmx-compressor": version("dmx-compressor"),
        "IST-DASLab/gptq": commit or "unknown",
    }, indent=1) + "\n")
    print(f"{len(cases)} cases of {x.shape[0]} x {x.shape[1]}")


if __name__ == "__main__":
    main()
