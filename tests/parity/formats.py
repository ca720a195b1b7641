# SPDX-License-Identifier: GPL-3.0-or-later
"""Live parity of the number formats: our rounding beside the formats' own
tools, bit for bit, on other matrices than tests/golden/formats.

Prints a table, one row a tool and family: values that are equal, values
compared, values that differ. Exit status 1 when a value differs or a tool
could not be run. Runs in the environment of requirements-formats.txt.
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from table import Table

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "golden" / "formats"))

import make_dialects as rows  # noqa: E402
import make_fp8  # noqa: E402
import make_mx  # noqa: E402
import reference as ref  # noqa: E402
from make import reference_quantizer  # noqa: E402

COLS = 320  # short last groups of 128; many of 16
WIDTHS = range(2, 9)


def ours(build, x, dtype, group):
    """The weights that `rtn` leaves of x."""
    with tempfile.TemporaryDirectory() as scratch:
        x.tofile(f"{scratch}/w")
        subprocess.run(
            [f"{build}/tests/parity/quantize_layer", "rtn", dtype, str(group),
             *map(str, x.shape), f"{scratch}/w", "-", f"{scratch}/out"],
            check=True, capture_output=True)
        return np.fromfile(f"{scratch}/out.y", np.float32).reshape(x.shape)


def matrices(seed):
    """What any tool can do, what some can, and codebooks' ties."""
    rng = np.random.default_rng(seed)
    rows.COLS = COLS
    f = np.float32
    random = rng.standard_normal((64, COLS)) * rng.gamma(2, 0.02, (64, 1))
    outliers = random[:16] * np.where(rng.random((16, COLS)) < 0.01, 40, 1)
    usual = np.concatenate([random, outliers, rows.usual_rows(rng)])
    bits = rng.integers(0, 2**32, (32, COLS), np.uint32)
    bits = (bits & np.uint32(0x807FFFFF)) | (
        rng.integers(40, 215, (32, COLS)).astype(np.uint32) << np.uint32(23))
    far = np.concatenate([rows.far_rows(rng), bits.view(f)])
    return {"usual": usual.astype(f),
            "all": np.concatenate([usual, far]).astype(f),
            "ties": np.concatenate([usual, rows.table_rows(rng)]).astype(f)}


class Comparison:
    """Counts what is compared under one name and prints a row of it."""

    def __init__(self, table, build, name, x, share=0.0):
        self.table, self.build, self.name, self.x = table, build, name, x
        self.share = share  # of values that may differ
        self.total = self.different = 0
        self.first = None

    def check(self, dtype, group, theirs):
        y = ours(self.build, self.x, dtype, group)
        want = theirs(torch.from_numpy(self.x), group).numpy()
        want = np.ascontiguousarray(want, np.float32)
        known = np.isfinite(want)  # a tool may divide by 0
        wrong = (y.view(np.uint32) != want.view(np.uint32)) & known
        self.total += int(known.sum())
        self.different += int(wrong.sum())
        if wrong.any() and self.first is None:
            at = tuple(np.argwhere(wrong)[0])
            self.first = (dtype, group, *(float(v[at]).hex()
                                          for v in (self.x, y, want)))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if kind is not None:
            return
        self.table.row(self.name, self.total - self.different, self.total,
                       self.different, self.share * self.total)
        if self.first:
            print("  first: %s %s: %s is %s, not %s" % self.first, flush=True)


def torchao_fp8(dtype):
    from torchao.quantization import quant_primitives as q

    def one(part):
        block = [1, part.shape[1]]
        scale = q._choose_scale_float8(part, block, dtype)
        data = q._quantize_affine_float8(part, scale, dtype)
        return q._dequantize_affine_float8(data, scale, torch.float32)
    return lambda x, group: ref.by_group(x, group, one)


def auto_round(compare, x):
    kinds = {"f16": torch.float16, "bf16": torch.bfloat16,
             "f32": torch.float32}
    with compare("auto-round, full range", x["usual"]) as c:
        for bits in WIDTHS:
            for keep, dtype in kinds.items():
                tail = "" if keep == "f16" else f":keep={keep}"
                for group in (32, 128, "row"):
                    c.check(f"int{bits}:full{tail}", group, ref.auto_round_int(
                        "quant_tensor_sym", bits, dtype))
    with compare("auto-round, f16 and bf16 scales", x["usual"]) as c:
        for bits in WIDTHS:
            for keep, floor in (("f16", 2.0**-24), ("bf16", 1e-38)):
                for name, kind in (("", "quant_tensor_sym_gptq"),
                                   (":asym", "quant_tensor_asym")):
                    c.check(f"int{bits}{name}:keep={keep}", 64,
                            ref.auto_round_int(kind, bits, kinds[keep], floor,
                                               unknown=True))
    with compare("auto-round, NVFP4", x["usual"]) as c:
        for group in (16, 32, "row"):
            c.check("nvfp4:like=auto_round", group, ref.auto_round_nvfp4)


def torchao(compare, x):
    with compare("torchao, NVFP4", x["usual"]) as c:
        for group in (16, 32, 64, "row"):
            c.check("nvfp4", group, ref.torchao_nvfp4)
    with compare("torchao, FP8", x["usual"]) as c:
        for name, dtype in make_fp8.FORMATS.items():
            for group in (32, 128, "row", "tensor"):
                c.check(name, group, torchao_fp8(dtype))
    with compare("PyTorch, FP8", x["all"]) as c:
        for name, dtype in make_fp8.FORMATS.items():
            for group in (1, 32, 128, "row", "tensor"):
                c.check(name, group, lambda t, g, d=dtype: ref.by_group(
                    t, g, lambda part: make_fp8.cast(part, d)))


def dmx(compare, x):
    with compare("dmx-compressor, MXINT", x["all"]) as c:
        for bits in WIDTHS:
            for group in (16, 32, 64, 128):
                c.check(f"mxint{bits}", group, ref.dmx(f"MXINT{bits}{{k}}"))
    with compare("dmx-compressor, BFP", x["usual"]) as c:
        for bits in (2, 3, 4, 6, 8, 12, 14):
            for name, tail in (("", "(SN)"), (":asym", "(_N)")):
                c.check(f"bfp{bits}{name}", 64,
                        ref.dmx(f"BFP[{bits}|8]{{k}}{tail}"))
    with compare("dmx-compressor, SBFP12", x["usual"]) as c:
        for bias in (7, 10, 12, 18):
            for group in (16, 32, 128):
                c.check("sbfp12" + (f":bias={bias}" if bias != 7 else ""),
                        group, ref.dmx("SBFP<XP[4,0](CSN)><FP[0|4|4,%d](FN)>"
                                       "{k}" % bias))
    with compare("dmx-compressor, MXFP", x["all"]) as c:
        for name, fmt in make_mx.FORMATS.items():
            bits, element = fmt[2], fmt.split("_")[1].upper()
            for group in (16, 32, 128):
                for tail, exact in ((":exp=log2f:sat=dmx", False),
                                    (":sat=dmx", True)):
                    c.check(name + tail, group, ref.dmx(
                        f"MXFP{bits}[{element}]{{k}}", exact))


def microxcaling(compare, x):
    def elements(fmt, away, dtype):
        return lambda t, group: make_mx.microxcaling(t, fmt, group, away, dtype)
    with compare("microxcaling, MXFP", x["all"]) as c:
        for name, fmt in make_mx.FORMATS.items():
            for group in (16, 32, 64, 128):
                for away in (False, True):
                    tail = ":round=away" if away else ""
                    c.check(name + tail, group,
                            elements(fmt, away, torch.float64))
                    c.check(f"{name}{tail}:exp=log2f", group,
                            elements(fmt, away, torch.float32))
    with compare("torchao's scales, microxcaling's elements", x["all"]) as c:
        for name in make_mx.FORMATS:
            for mode in ("ceil", "even", "rceil"):
                for group in (32, 128):
                    c.check(f"{name}:scale={mode}", group,
                            lambda t, g, n=name, m=mode:
                            make_mx.with_torchao_scale(t, n, m, g))
    with compare("torchao's scales, MXINT", x["usual"]) as c:
        for mode, widths in (("ceil", (3, 4, 5)), ("even", (3, 4, 5)),
                             ("rceil", WIDTHS)):
            for bits in widths:
                c.check(f"mxint{bits}:scale={mode}:round=even", 64,
                        ref.torchao_int(bits, "even", mode))
    with compare("microxcaling, MXINT", x["all"]) as c:
        for bits in WIDTHS:
            for rounding, name in (("even", "even"), ("nearest", "away")):
                for tail, dtype in (("", torch.float64),
                                    (":exp=log2f", torch.float32)):
                    c.check(f"mxint{bits}:round={name}{tail}", 32,
                            ref.microxcaling_int(bits, rounding, dtype))


def bitsandbytes(compare, x):
    with compare("bitsandbytes, codebooks", x["ties"]) as c:
        for name in rows.TABLES:
            for group in (32, 64, 128, "row"):
                c.check(name, group, ref.bitsandbytes_4bit(name))
    with compare("bitsandbytes, nested absmax", x["usual"]) as c:
        for name in ("nf4", "fp4_bnb"):
            for kind, dq in (("exact", "bnb"), ("lut", "bnb_cpu")):
                for group in (32, 64):
                    c.check(f"{name}:dq={dq}", group,
                            ref.bitsandbytes_4bit(name, kind))


def whole_call(table, build, x):
    """quantize_4bit as one calls it, its float32 mean included."""
    import bitsandbytes.functional as functional
    packed, state = functional.quantize_4bit(
        torch.from_numpy(x), blocksize=64, quant_type="nf4",
        compress_statistics=True)
    want = functional.dequantize_4bit(packed, state).numpy()
    y = ours(build, x, "nf4:dq=bnb_cpu", 64)
    # their mean may move a scale to the next value of the map
    near = np.abs(y - want) <= 1e-6 * np.abs(x).max()
    table.row("bitsandbytes, quantize_4bit as called", int(near.sum()),
              near.size, int((~near).sum()), 0.01 * near.size)


def gptq(compare, x, checkout):
    quantizer, quantize = reference_quantizer(checkout)

    def reference(bits, sym, **more):
        return ref.gptq_integer(quantizer, quantize, bits, sym, **more)
    for name, tail, mse in (("GPTQ reference, integers", "", False),
                            ("GPTQ reference, searched scales", ":scale=mse",
                             True)):
        matrix = x["usual"][:80] if mse else x["usual"]
        # candidates as good as each other but for the sum's last bits
        with compare(name, matrix, 1e-4 if mse else 0.0) as c:
            for bits in (2, 3, 4, 8) if mse else WIDTHS:
                for kind, sym in (("", True), (":asym", False)):
                    for group in (32, 128, "row"):
                        c.check(f"int{bits}{kind}{tail}", group,
                                reference(bits, sym, mse=mse))
    with compare("GPTQ reference, trits", x["all"]) as c:
        for name, sym in (("trits", False), ("trits=sym", True)):
            for group in (1, 32, 128, "row"):
                c.check(f"ternary:{name}", group,
                        reference(2, sym, trits=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--gptq", help="checkout of IST-DASLab/gptq")
    parser.add_argument("--microxcaling", help="checkout of microxcaling")
    args, _ = parser.parse_known_args()
    torch.set_num_threads(1)
    table = Table()
    x = matrices(args.seed)

    def compare(name, matrix, share=0.0):
        return Comparison(table, args.build, name, matrix, share)
    auto_round(compare, x)
    torchao(compare, x)
    dmx(compare, x)
    bitsandbytes(compare, x)
    whole_call(table, args.build, x["usual"])
    with compare("BitNet, absmean", x["all"]) as c:
        for group in (1, 32, 128, "row"):
            c.check("ternary", group, ref.bitnet)
    if args.microxcaling:
        sys.path.insert(0, args.microxcaling)
        microxcaling(compare, x)
    else:
        table.not_run("MXFP and MXINT", "give --microxcaling DIR, a checkout "
                      "of microsoft/microxcaling")
    if args.gptq:
        gptq(compare, x, args.gptq)
    else:
        table.not_run("integers and trits",
                      "give --gptq DIR, a checkout of IST-DASLab/gptq")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
