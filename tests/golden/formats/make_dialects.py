#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden vectors of the dialects that make.py, make_mx.py and make_fp8.py do
not have, one set a tool: NAME_input.npy [rows, cols], NAME_expected.npy [case,
rows, cols] and NAME_cases.txt (dtype and group a line).

    python make_dialects.py --gptq DIR --microxcaling DIR --commit ID

Needs torch, scipy and the packages of dialects_versions.json; ID is the commit
of microxcaling. reference.py has the calls.
"""
import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np
import torch

import reference as ref
from make import reference_quantizer

HERE = pathlib.Path(__file__).resolve().parent
COLS = 72  # groups of 16, 32 and 64 end in a short one of 8
F = np.float32
TABLES = ("nf2", "nf3", "nf4", "af4", "fp4_bnb")


def next_to(x, rng):
    """Each value, one ulp below or one above."""
    way = rng.integers(-1, 2, x.shape)
    return np.where(way == 0, x, np.nextafter(x, np.where(
        way > 0, F(np.inf), F(-np.inf)).astype(F)))


def usual_rows(rng):
    """Rows that every tool can do."""
    normal = rng.standard_normal((2, COLS)) * 0.02
    heavy = rng.standard_t(2, (1, COLS))
    powers = 2.0 ** rng.integers(-6, 7, COLS) * rng.choice([-1, 1], COLS)
    around = next_to(powers.astype(F), rng)
    below = around.copy()  # the largest just below, just above a power of two
    below[::8] = np.nextafter(F(128), F(0))
    above = around.copy()
    above[::8] = np.nextafter(F(128), F(256))
    zeros = np.where(rng.random(COLS) < 0.5, -0.0, 0.0)
    sparse = np.where(rng.random(COLS) < 0.8, 0, rng.standard_normal(COLS))
    sparse[:32] = -0.0
    single = np.zeros(COLS)
    single[::16] = rng.standard_normal(len(single[::16]))
    positive = np.abs(rng.standard_normal(COLS))
    constant = np.full(COLS, -0.7)
    halves = rng.integers(-256, 257, COLS) / 128.0  # ties of integers
    halves[::8] = 1.0
    floats = rng.choice([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 0.125], COLS)
    floats *= rng.choice([-1, 1], COLS)  # ties of E2M1
    floats[::8] = 6.0
    near_floats = next_to(floats.astype(F), rng)
    near_floats[::8] = 6.0
    both = rng.standard_normal(COLS)  # the ends equally far
    both[::8] = 3.0
    both[4::8] = -3.0
    negative = -1.99 * np.ones(COLS)  # dmx's asymmetric post-pass
    negative[1::4] = rng.uniform(-2, 2, len(negative[1::4]))
    saturated = rng.uniform(0.9, 1.0, COLS) * 2 * rng.choice([-1, 1], COLS)
    levels = rng.standard_normal(COLS) * np.resize(np.repeat(
        2.0 ** -np.arange(0, 18, 2), 8), COLS)  # small groups, a large one
    return np.stack([*normal, *heavy, around, below, above, zeros, sparse,
                     single, positive, -positive, constant, halves, floats,
                     near_floats, both, negative, saturated, levels]).astype(F)


def table_rows(rng):
    """Midpoints of the codebooks and their neighbours."""
    out = []
    for name in TABLES:
        table = ref.codebook(name).sort().values
        bounds = ((table[:-1] + table[1:]) / 2).numpy()
        row = rng.choice(bounds, COLS)
        row[::8] = 1.0
        out += [row, next_to(row, rng), next_to(row * F(0.037), rng)]
    return np.stack(out).astype(F)


def far_rows(rng):
    """Subnormals, the neighbourhood of 2^-126, large and wide ones."""
    tiny = rng.standard_normal(COLS) * 2.0**-126
    subnormal = rng.integers(-(2**20), 2**20, COLS) * 2.0**-149
    subnormal[5] = 2.0**-126 - 2.0**-149
    least = rng.integers(-3, 4, COLS) * 2.0**-149
    large = rng.uniform(-1, 1, COLS) * 2.0**120
    wide = rng.standard_normal(COLS) * 2.0 ** rng.integers(-40, 40, COLS)
    wider = rng.standard_normal(COLS) * 2.0 ** rng.integers(-120, 100, COLS)
    small = rng.standard_normal(COLS) * 2.0 ** rng.integers(-24, -10, COLS)
    return np.stack([tiny, subnormal, least, large, wide, wider,
                     small]).astype(F)


def save(name, x, cases):
    """cases: [(spelling, group, function)]"""
    tensor = torch.from_numpy(x)
    expected = np.stack([
        function(tensor, group).contiguous().numpy().astype(F)
        for _, group, function in cases])
    finite = np.isfinite(expected).all((1, 2))
    assert finite.all(), [c[:2] for c, good in zip(cases, finite) if not good]
    np.save(HERE / f"{name}_input.npy", x)
    np.save(HERE / f"{name}_expected.npy", expected)
    (HERE / f"{name}_cases.txt").write_text(
        "".join(f"{spelling} {group}\n" for spelling, group, _ in cases))
    print(f"{name}: {len(cases)} cases of {x.shape[0]} x {x.shape[1]}")


GROUPS = (1, 16, 32, 64, "row", "tensor")


def integers(rng):
    """auto-round's integers; f32 scales and floors are its arguments."""
    types = {"f16": torch.float16, "bf16": torch.bfloat16,
             "f32": torch.float32}
    cases = []
    for bits in range(2, 9):
        for keep, dtype in types.items():
            tail = "" if keep == "f32" else f":keep={keep}"
            full = "full" if keep == "f16" else f"full:keep={keep}"
            some = GROUPS if bits == 4 and keep == "f16" else (32,)
            for group in some:
                cases.append((f"int{bits}:{full}", group,
                              ref.auto_round_int("quant_tensor_sym", bits,
                                                 dtype)))
            if keep == "f32":
                continue
            floor = 2.0**-24 if keep == "f16" else 1e-38  # zeros need one
            for group in (16, "row") if bits == 4 else (32,):
                cases.append((f"int{bits}{tail}", group, ref.auto_round_int(
                    "quant_tensor_sym_gptq", bits, dtype, floor=floor)))
                cases.append((f"int{bits}:asym{tail}", group,
                              ref.auto_round_int("quant_tensor_asym", bits,
                                                 dtype, floor=floor)))
    save("auto_round", usual_rows(rng), cases)


def blocks(rng):
    """dmx-compressor: MXINT everywhere, MXFP, BFP."""
    cases = []
    for bits in range(2, 9):
        for group in (16, 32, 64) if bits in (3, 4) else (16, 64):
            cases.append((f"mxint{bits}", group,
                          ref.dmx(f"MXINT{bits}{{k}}")))
    for bits, group in ((4, 16), (9, 32), (14, 64)):
        cases.append((f"bfp{bits}", group, ref.dmx(f"BFP[{bits}|8]{{k}}(SN)")))
    usual = usual_rows(rng)
    rows = np.concatenate([usual, far_rows(rng)])
    save("dmx_blocks", rows, cases)
    # without subnormals: there the tool cuts bits off where any block of the
    # matrix has the lowest code
    save("dmx_asym", usual, [
        (f"bfp{bits}:asym", group, ref.dmx(f"BFP[{bits}|8]{{k}}(_N)"))
        for bits in (2, 3, 4, 8, 14) for group in (16, 64)])
    # without blocks whose largest magnitude over 7 is 0 in float32: the tool
    # leaves them as they are
    save("dmx_scaled", np.concatenate([usual, far_rows(rng)[[0, 1, 3, 4, 5, 6]]]), [
        (f"sbfp12{tail}", group, ref.dmx(
            f"SBFP<XP[4,0](CSN)><FP[0|4|4,{bias}](FN)>{{k}}"))
        for tail, bias in (("", 7), (":bias=4", 4), (":bias=12", 12),
                           (":bias=18", 18)) for group in (16, 32)])
    cases = []
    for name, short in (("mxfp4", "MXFP4[E2M1]"), ("mxfp6_e2m3", "MXFP6[E2M3]"),
                        ("mxfp6_e3m2", "MXFP6[E3M2]"),
                        ("mxfp8_e4m3", "MXFP8[E4M3]"),
                        ("mxfp8_e5m2", "MXFP8[E5M2]")):
        for group in (1, 16, 32, "row") if name == "mxfp8_e4m3" else (32,):
            cases.append((f"{name}:sat=dmx", group,
                          ref.dmx(short + "{k}", exact_log=True)))
            cases.append((f"{name}:exp=log2f:sat=dmx", group,
                          ref.dmx(short + "{k}")))
    save("dmx_floats", rows, cases)


def microscaling_integers(rng):
    cases = []
    for bits in range(2, 9):
        for away in (False, True):
            rounding = "nearest" if away else "even"
            name = f"mxint{bits}:round={'away' if away else 'even'}"
            for group in (1, 16, 32, "row") if bits in (4, 8) else (32,):
                cases.append((name, group, ref.microxcaling_int(
                    bits, rounding, torch.float64)))
            cases.append((f"{name}:exp=log2f", 16, ref.microxcaling_int(
                bits, rounding, torch.float32)))
    usual = usual_rows(rng)
    save("mx_int", np.concatenate([usual, far_rows(rng)]), cases)
    save("mx_int_scales", usual, [
        (f"mxint{bits}:scale={mode}:round=even", 32,
         ref.torchao_int(bits, "even", mode))
        for bits, mode in ((3, "ceil"), (3, "even"), (4, "ceil"), (4, "even"),
                           (5, "even"), (2, "rceil"), (3, "rceil"),
                           (4, "rceil"), (8, "rceil"))])


def codebooks(rng):
    cases = []
    for name in TABLES:
        for group in GROUPS if name == "nf4" else (32,):
            cases.append((name, group, ref.bitsandbytes_4bit(name)))
    rows = np.concatenate([usual_rows(rng), table_rows(rng), far_rows(rng)])
    save("codebook", rows, cases)


def nested(rng):
    """Scales of scales: 4 groups of 18 a row, so that runs of 256 end amid
    the 160 rows."""
    x = rng.standard_normal((160, COLS)) * rng.gamma(2, 0.01, (160, 1))
    x[7, 36:] = 0.0
    x[150:152] = -0.0
    cases = [("nf4:dq=bnb", 18, ref.bitsandbytes_4bit("nf4", "exact")),
             ("fp4_bnb:dq=bnb", 36, ref.bitsandbytes_4bit("fp4_bnb", "exact")),
             ("nf4:dq=bnb_cpu", 18, ref.bitsandbytes_4bit("nf4", "lut")),
             ("nf4:dq=bnb_cpu", 36, ref.bitsandbytes_4bit("nf4", "lut")),
             ("nf4:dq=bnb", 4, ref.bitsandbytes_4bit("nf4", "exact"))]
    save("nested", x.astype(F), cases)


def nvfp4(rng):
    names = (("nvfp4", ref.torchao_nvfp4),
             ("nvfp4:like=auto_round", ref.auto_round_nvfp4))
    cases = [(name, group, function) for name, function in names
             for group in (1, 8, 16, 32, "row", "tensor")]
    usual = usual_rows(rng)
    save("nvfp4", usual, cases)
    # small groups beside a large one: E4M3 scales below 2^-6 and 0
    save("nvfp4_small", (usual * np.repeat(
        2.0 ** -rng.integers(0, 24, 9), 8)).astype(F), cases[2:4] + cases[8:10])
    save("nvfp4_far", (usual[:4] * 2.0**118).astype(F), cases[2:3] + cases[8:9])


def ternary(rng, quantizer, quantize):
    cases = []
    for group in GROUPS:
        cases.append(("ternary", group, ref.bitnet))
        for name, sym in (("ternary:trits", False), ("ternary:trits=sym",
                                                     True)):
            cases.append((name, group,
                          ref.gptq_integer(quantizer, quantize, 2, sym,
                                           trits=True)))
    save("ternary", np.concatenate([usual_rows(rng), far_rows(rng)]), cases)


def searched(rng, quantizer, quantize):
    """The scale search, without rows where two candidates are equally good."""
    cases = []
    for bits in range(2, 9):
        for name, sym in ((f"int{bits}:scale=mse", True),
                          (f"int{bits}:asym:scale=mse", False)):
            for group in (1, 32, "row", "tensor") if bits == 4 else (32,):
                cases.append((name, group, ref.gptq_integer(
                    quantizer, quantize, bits, sym, mse=True)))
    x = np.concatenate([rng.standard_normal((6, COLS)) * 0.02,
                        rng.standard_t(3, (4, COLS)),
                        np.abs(rng.standard_normal((2, COLS)))])
    save("searched", x.astype(F), cases)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gptq", required=True)
    parser.add_argument("--microxcaling", required=True)
    parser.add_argument("--commit", required=True)
    args = parser.parse_args()
    sys.path.insert(0, args.microxcaling)
    torch.set_num_threads(1)
    seed = iter(np.random.SeedSequence(20260611).spawn(16))
    rng = [np.random.default_rng(s) for s in seed]
    integers(rng[0])
    blocks(rng[1])
    microscaling_integers(rng[2])
    codebooks(rng[3])
    nested(rng[4])
    nvfp4(rng[5])
    ternary(rng[6], *reference_quantizer(args.gptq))
    searched(rng[7], *reference_quantizer(args.gptq))
    commit = subprocess.run(["git", "-C", args.gptq, "rev-parse", "HEAD"],
                            capture_output=True, text=True).stdout.strip()
    (HERE / "dialects_versions.json").write_text(json.dumps(ref.versions(
        "torchao", "auto-round", "bitsandbytes", "dmx-compressor", "scipy",
        **{"microsoft/microxcaling": args.commit, "IST-DASLab/gptq": commit or
           "2d65066eeb06a5c9ff5184d8cebdf33662c67faf"}), indent=1) + "\n")


if __name__ == "__main__":
    main()
