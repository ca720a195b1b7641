#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden vectors of FP8 with a float32 scale, from PyTorch's own casts.

    python make_fp8.py

Reads input.npy, writes fp8_expected.npy [case, rows, cols], fp8_cases.txt and
fp8_versions.json beside itself. A group whose amax / largest is 0 in float32
is divided by 1.
"""
import json
import pathlib

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
FORMATS = {"fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}


def cast(x, dtype):
    most = torch.finfo(dtype).max
    scale = x.abs().amax(dim=-1, keepdim=True) / most
    scale[scale == 0] = 1.0
    return (x / scale).clamp(-most, most).to(dtype).to(torch.float32) * scale


def main():
    x = torch.from_numpy(np.load(HERE / "input.npy"))
    cases, expected = [], []
    for name, dtype in FORMATS.items():
        for group in (32, 128):
            cases.append(f"{name} {group}")
            expected.append(torch.cat([cast(part, dtype) for part
                                       in x.split(group, 1)], 1))
        cases.append(f"{name} row")
        expected.append(cast(x, dtype))
        cases.append(f"{name} tensor")
        expected.append(cast(x.reshape(1, -1), dtype).reshape(x.shape))
    y = torch.stack(expected).numpy()
    assert np.isfinite(y).all()
    np.save(HERE / "fp8_expected.npy", y)
    (HERE / "fp8_cases.txt").write_text("\n".join(cases) + "\n")
    (HERE / "fp8_versions.json").write_text(json.dumps({
        "torch": torch.__version__, "numpy": np.__version__}, indent=1) + "\n")
    print(f"{len(cases)} cases of {x.shape[0]} x {x.shape[1]}")


if __name__ == "__main__":
    main()
