#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Output SQNR of methods on some layers of SmolLM2-135M, in minutes.

    layer_sqnr.py dump  --model DIR --wikitext DIR -o DUMP
    layer_sqnr.py table DUMP [--tool build/tests/parity/layer_sqnr]
                  [--dtypes LIST] [--groups LIST] [--methods LIST | --ablation]

`dump` writes weights and second moments of the inputs of all seven linear
layers of blocks 0, 7, 15, 22 and 29: over the first 24 windows of 512 tokens of
WikiText-2's valid.txt to calibrate, over the first 8 of test.txt to measure. It
needs torch, transformers and tokenizers. `table` quantizes these 35 layers with
layer_sqnr and prints means over layers in dB: gains over the GPTQ reference's
default (static Hessians) for int2..6 and mxint2..6 and groups 32 and 128, or
what each ingredient of `descent` gives (--ablation). What ptqsweep stores as
sqnr_output is the same, of all layers of a model (sweeps/sqnr).
"""
import argparse
import pathlib
import statistics
import subprocess
import sys

BLOCKS = (0, 7, 15, 22, 29)
LENGTH = 512
BASE = "gptq"
METHODS = ["rtn", "gptq act_order=true static_groups=true", "descent",
           "descent starts=4"]
DTYPES = [f + str(b) for f in ("int", "mxint") for b in range(2, 7)]
# from GPTQ's default to descent, one ingredient after the other
PLAIN = "descent act_order={} damp=0.01 passes={} scales={} shrink={} " \
    "starts={} sweeps={}"
ABLATION = [
    ("static groups", PLAIN.format("false", 0, "fitted", 1, 1, 0)),
    ("+ columns by diagonal", PLAIN.format("true", 0, "fitted", 1, 1, 0)),
    ("+ weighted scales", PLAIN.format("true", 0, "weighted", 1, 1, 0)),
    ("+ eigenvalues^0.75", PLAIN.format("true", 0, "weighted", 0.75, 1, 0)),
    ("+ coordinate passes", PLAIN.format("true", 4, "weighted", 0.75, 1, 0)),
    ("+ group sweeps", PLAIN.format("true", 4, "weighted", 0.75, 1, 2)),
    ("+ four starts", PLAIN.format("true", 4, "weighted", 0.75, 4, 2)),
    ("eight starts", PLAIN.format("true", 4, "weighted", 0.75, 8, 2)),
    ("all but weighted scales", PLAIN.format("true", 4, "fitted", .75, 4, 2)),
    ("all but eigenvalues^0.75", PLAIN.format("true", 4, "weighted", 1, 1, 2)),
    ("all but coordinate passes",
     PLAIN.format("true", 0, "weighted", 0.75, 4, 2)),
    ("all but group sweeps", PLAIN.format("true", 4, "weighted", 0.75, 4, 0)),
]


def dump(args):
    """W and moments as raw little-endian arrays, named in DUMP/index."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(
        args.model, torch_dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(pathlib.Path(args.model)
                                        / "tokenizer.json"))
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    moments, index = {}, []

    def watch(name):
        def add(_, inputs):
            x = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
            moments[name] = moments.get(name, 0.0) + x.T @ x
        return add

    for b in BLOCKS:
        block = model.model.layers[b]
        sites = {"attn": block.self_attn.q_proj, "o": block.self_attn.o_proj,
                 "mlp": block.mlp.gate_proj, "down": block.mlp.down_proj}
        for site, module in sites.items():
            module.register_forward_pre_hook(watch(f"{b}.{site}"))
        linears = [("attn", block.self_attn.q_proj, "q"),
                   ("attn", block.self_attn.k_proj, "k"),
                   ("attn", block.self_attn.v_proj, "v"),
                   ("o", block.self_attn.o_proj, "o"),
                   ("mlp", block.mlp.gate_proj, "gate"),
                   ("mlp", block.mlp.up_proj, "up"),
                   ("down", block.mlp.down_proj, "down")]
        for site, module, role in linears:
            w = module.weight.detach().float().numpy()
            w.tofile(out / f"{b}.{role}.w")
            index.append(f"{b}.{role} {w.shape[0]} {w.shape[1]} {b}.{site}")
    texts = (("h", "valid.txt", 24), ("heldout", "test.txt", 8))
    for suffix, text, windows in texts:
        moments.clear()
        path = pathlib.Path(args.wikitext) / text
        ids = tokenizer.encode(path.read_text(encoding="utf-8")).ids
        with torch.no_grad():
            for i in range(windows):
                model(torch.tensor([ids[i * LENGTH:(i + 1) * LENGTH]]))
        for name, h in moments.items():
            (h / (windows * LENGTH)).numpy().tofile(out / f"{name}.{suffix}")
    (out / "index").write_text("\n".join(index) + "\n", encoding="utf-8")


def run(tool, directory, jobs):
    """{job: ([dB of a layer, ...], seconds)} and layers' names."""
    results = {job: ([], []) for job in jobs}
    lines = (directory / "index").read_text(encoding="utf-8").split("\n")
    for line in filter(None, lines):
        name, rows, cols, site = line.split()
        done = subprocess.run(
            [tool, rows, cols, directory / f"{name}.w", directory / f"{site}.h",
             directory / f"{site}.heldout"], input="\n".join(jobs) + "\n",
            capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{name}: {done.stderr.strip()}")
        for job, answer in zip(jobs, done.stdout.strip().split("\n")):
            heldout, _, seconds = map(float, answer.split())
            results[job][0].append(heldout)
            results[job][1].append(seconds)
        print(f"{name} done", file=sys.stderr, flush=True)
    return results


def gain(values, base):
    return statistics.fmean(v - b for v, b in zip(values, base))


def table(args):
    directory = pathlib.Path(args.dump)
    dtypes = args.dtypes.split(",") if args.dtypes else DTYPES
    groups = args.groups.split(",")
    rows = [(d, g) for d in dtypes for g in groups]
    methods = args.methods.split(";") if args.methods else METHODS
    named = ABLATION if args.ablation else [(m, m) for m in methods]
    jobs = [f"{d} {g} {m}" for d, g in rows
            for m in [BASE] + [m for _, m in named]]
    results = run(args.tool, directory, jobs)
    print("| | " + " | ".join(f"{d} g{g}" for d, g in rows) + " | mean |")
    print("|---|" + "---|" * (len(rows) + 1))
    base = [results[f"{d} {g} {BASE}"][0] for d, g in rows]
    means = [statistics.fmean(b) for b in base]
    print("| gptq, dB | " + " | ".join(f"{m:.2f}" for m in means) + " | |")
    for name, method in named:
        gains = [gain(results[f"{d} {g} {method}"][0], b)
                 for (d, g), b in zip(rows, base)]
        print(f"| {name} | " + " | ".join(f"{x:+.2f}" for x in gains)
              + f" | {statistics.fmean(gains):+.2f} |")
    for name, method in [(BASE, BASE)] + named:
        seconds = sum(sum(results[f"{d} {g} {method}"][1]) for d, g in rows)
        print(f"{seconds / len(rows):.2f} s a point of these layers: {name}",
              file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("dump")
    p.add_argument("--model", required=True)
    p.add_argument("--wikitext", required=True)
    p.add_argument("-o", "--out", required=True)
    p.set_defaults(run=dump)
    p = commands.add_parser("table")
    p.add_argument("dump")
    p.add_argument("--tool", default="build/tests/parity/layer_sqnr")
    p.add_argument("--dtypes")
    p.add_argument("--groups", default="32,128")
    p.add_argument("--methods", help="';' between them")
    p.add_argument("--ablation", action="store_true")
    p.set_defaults(run=table)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
