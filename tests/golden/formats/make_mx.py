#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden vectors of the microscaling floats, from microxcaling and torchao.

    python make_mx.py --microxcaling DIR --torchao DIR --commit ID

Needs torch and numpy; the DIRs hold the packages mx and torchao (see
mx_versions.json). Reads input.npy, writes mx_expected.npy [case, rows, cols]
and mx_cases.txt beside itself.

exp=bits is microxcaling run in float64, where its logarithm and its rounding
are exact; exp=log2f is the same code in float32. The scales of ceil, even and
rceil are computed by torchao's to_mx, the elements by microxcaling under that
scale (torchao would divide by 2^-126 where the scale it stores is 2^-127).
ID is the commit of microxcaling.
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
FORMATS = {"mxfp4": "fp4_e2m1", "mxfp6_e2m3": "fp6_e2m3",
           "mxfp6_e3m2": "fp6_e3m2", "mxfp8_e4m3": "fp8_e4m3",
           "mxfp8_e5m2": "fp8_e5m2"}


def microxcaling(x, fmt, group, away, dtype):
    from mx.mx_ops import _quantize_mx
    y = _quantize_mx(x.to(dtype), 8, fmt, axes=[-1], block_size=group,
                     round="nearest" if away else "even")
    return y.to(torch.float32)


def with_torchao_scale(x, name, mode, group):
    """Scales of torchao, elements of microxcaling."""
    from mx.elemwise_ops import _quantize_elemwise_core
    from mx.formats import _get_format_params
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.prototype.mx_formats.mx_tensor import to_mx
    from torchao.prototype.mx_formats import constants
    elem = {"mxfp4": torch.float4_e2m1fn_x2,
            "mxfp6_e2m3": constants.DTYPE_FP6_E2M3,
            "mxfp6_e3m2": constants.DTYPE_FP6_E3M2,
            "mxfp8_e4m3": torch.float8_e4m3fn,
            "mxfp8_e5m2": torch.float8_e5m2}[name]
    cols = x.shape[1]
    x = torch.nn.functional.pad(x, (0, -cols % group))
    scale, _ = to_mx(x.contiguous(), elem, group,
                     ScaleCalculationMode[mode.upper()])
    e = scale.view(torch.uint8).to(torch.float64) - 127
    ebits, mbits, _, most, _ = _get_format_params(FORMATS[name])
    blocks = x.to(torch.float64).reshape(x.shape[0], -1, group)
    by = (2.0 ** e).reshape(x.shape[0], -1, 1)
    y = _quantize_elemwise_core(blocks / by, mbits, ebits, most, round="even",
                                allow_denorm=True, saturate_normals=True) * by
    return y.reshape(x.shape)[:, :cols].to(torch.float32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--microxcaling", required=True)
    parser.add_argument("--torchao", required=True)
    parser.add_argument("--commit", required=True)
    args = parser.parse_args()
    sys.path[:0] = [args.microxcaling, args.torchao]
    x = torch.from_numpy(np.load(HERE / "input.npy"))
    cases, expected = [], []

    def add(case, y):
        cases.append(case)
        expected.append(y)

    for name, fmt in FORMATS.items():
        for group in (16, 32, 64, 128):
            add(f"{name} {group}",
                microxcaling(x, fmt, group, False, torch.float64))
        add(f"{name}:round=away 32",
            microxcaling(x, fmt, 32, True, torch.float64))
        add(f"{name}:exp=log2f 32",
            microxcaling(x, fmt, 32, False, torch.float32))
        add(f"{name}:round=away:exp=log2f 16",
            microxcaling(x, fmt, 16, True, torch.float32))
        for mode in ("ceil", "even", "rceil"):
            add(f"{name}:scale={mode} 32",
                with_torchao_scale(x, name, mode, 32))
    y = torch.stack(expected).numpy()
    assert np.isfinite(y).all()
    np.save(HERE / "mx_expected.npy", y)
    (HERE / "mx_cases.txt").write_text("\n".join(cases) + "\n")
    (HERE / "mx_versions.json").write_text(json.dumps({
        "torch": torch.__version__, "numpy": np.__version__,
        "torchao": "0.18.0", "microsoft/microxcaling": args.commit,
    }, indent=1) + "\n")
    print(f"{len(cases)} cases of {x.shape[0]} x {x.shape[1]}")


if __name__ == "__main__":
    main()
