#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Output SQNR of a store's methods: means over layers in dB, as a table.

    output_sqnr.py STORE [--program build/ptqsweep] [--blocks 0,7,15,22,29]
                   [--base METHOD] [--expect FILE] [--within 0.1] [--nll]

Reads `ptqsweep export` of STORE. A row of the table is a dtype and a group;
columns are methods, spelled with their options. The first column is the mean
of --base in dB (default: the first method of the grid), the others are gains
over it, layer by layer. Models count alike: layers are averaged within a model,
then models. --blocks takes only the layers of these blocks.

--expect compares with the lines "dtype group method: dB" of FILE and exits with
1 where a mean is further off than --within. --nll adds the mean delta NLL of
each method over the points, with the standard error of the mean over models of
the difference to --base.
"""
import argparse
import collections
import csv
import io
import re
import statistics
import subprocess
import sys


def export(program, store, table):
    """The rows of one table of a store."""
    done = subprocess.run([program, "export", store, "--table", table],
                          check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip())
    return list(csv.DictReader(io.StringIO(done.stdout)))


def block_of(layer):
    found = re.search(r"layers\.(\d+)\.", layer)
    if found is None:
        raise SystemExit(f"layer '{layer}' does not name a block")
    return int(found[1])


def read(program, store, blocks):
    """{(dtype, group, method): {model: {layer: dB}}} and the points."""
    points = {p["key"]: p for p in export(program, store, "points")}
    sqnr = collections.defaultdict(lambda: collections.defaultdict(dict))
    for row in export(program, store, "layers"):
        if blocks and block_of(row["layer"]) not in blocks:
            continue
        if row["sqnr_output"] == "":
            continue
        p = points[row["key"]]
        at = (p["dtype"], p["group"], name_of(p))
        sqnr[at][p["model"]][row["layer"]] = float(row["sqnr_output"])
    return sqnr, points


def name_of(point):
    return " ".join(x for x in (point["method"], point["options"]) if x)


def mean_gain(values, base):
    """Mean over models of the mean over layers of values - base (or of
    values)."""
    gains = []
    for model, layers in values.items():
        of = base[model] if base else dict.fromkeys(layers, 0.0)
        gains.append(statistics.fmean(layers[k] - of[k] for k in layers))
    return statistics.fmean(gains)


def print_table(sqnr, methods, base):
    print("| dtype | group | " + " | ".join(
        [f"{base}, dB"] + [m for m in methods if m != base]) + " |")
    print("|---|---|" + "---|" * len(methods))
    columns = collections.defaultdict(list)
    for dtype, group in dict.fromkeys(k[:2] for k in sqnr):
        reference = sqnr.get((dtype, group, base))
        if reference is None:
            continue
        cells = [f"{mean_gain(reference, None):.2f}"]
        for method in methods:
            if method == base:
                continue
            found = sqnr.get((dtype, group, method))
            if found is None:
                cells.append("")
                continue
            gain = mean_gain(found, reference)
            columns[method].append(gain)
            cells.append(f"{gain:+.2f}")
        print(f"| {dtype} | {group} | " + " | ".join(cells) + " |")
    cells = [f"{statistics.fmean(columns[m]):+.2f}" if columns[m] else ""
             for m in methods if m != base]
    print("| mean | | | " + " | ".join(cells) + " |")


def print_nll(points, methods, base):
    """Mean dnll of each method, and of the difference to base over models."""
    dnll = collections.defaultdict(dict)
    for p in points.values():
        if p["dnll"] != "":
            at = (p["model"], p["dtype"], p["group"])
            dnll[name_of(p)][at] = float(p["dnll"])
    print("\n| method | points | mean dnll | less than base | its SE |")
    print("|---|---|---|---|---|")
    for method in methods:
        values = dnll[method]
        common = [k for k in values if k in dnll[base]]
        if not common:
            continue
        by_model = collections.defaultdict(list)
        for k in common:
            by_model[k[0]].append(dnll[base][k] - values[k])
        means = [statistics.fmean(v) for v in by_model.values()]
        error = (statistics.stdev(means) / len(means) ** 0.5
                 if len(means) > 1 else float("nan"))
        print(f"| {method} | {len(common)} | "
              f"{statistics.fmean(values[k] for k in common):.5f} | "
              f"{statistics.fmean(means):+.5f} | {error:.5f} |")


def check(sqnr, path, within):
    """Number of expected means that are missed."""
    missed = 0
    for line in open(path, encoding="utf-8"):
        if line.startswith("#") or not line.strip():
            continue
        key, _, value = line.rpartition(":")
        dtype, group, method = key.split(" ", 2)
        values = sqnr.get((dtype, group, method))
        here = mean_gain(values, None) if values else float("nan")
        n = sum(len(v) for v in values.values()) if values else 0
        good = abs(here - float(value)) <= within
        missed += not good
        print(f"{'ok' if good else 'MISSED':6s} {key}: expected "
              f"{float(value):.2f} dB, here {here:.2f} over {n} layers")
    return missed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--program", default="build/ptqsweep")
    parser.add_argument("--blocks", default="")
    parser.add_argument("--base")
    parser.add_argument("--expect")
    parser.add_argument("--within", type=float, default=0.1)
    parser.add_argument("--nll", action="store_true")
    args = parser.parse_args()
    blocks = {int(b) for b in args.blocks.split(",") if b}
    sqnr, points = read(args.program, args.store, blocks)
    if not sqnr:
        raise SystemExit(f"{args.store}: no layer has an output SQNR yet")
    methods = list(dict.fromkeys(name_of(p) for p in points.values()))
    base = args.base or methods[0]
    if base not in methods:
        raise SystemExit(f"no method '{base}'; there are: "
                         + "; ".join(methods))
    print_table(sqnr, methods, base)
    if args.nll:
        print_nll(points, methods, base)
    return 1 if args.expect and check(sqnr, args.expect, args.within) else 0


if __name__ == "__main__":
    sys.exit(main())
