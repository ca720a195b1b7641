# SPDX-License-Identifier: GPL-3.0-or-later
"""Live parity: our numbers beside those of other people's programs.

Prints a table, one row a comparison: ours, theirs, difference, bound. Exit
status 1 when a row fails or could not be run.
"""
import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from table import Table

TOP = Path(__file__).resolve().parents[2]
ZOO = TOP / "sweeps" / "zoo"

# SmolLM2-135M of the GGUF file on WikiText-2 (tokenized release, first 32
# windows of 512 of test), transformers 4.49 in float32 and the GPTQ reference
# (true-sequential, damping 0.01, group 64, first 32 windows of valid).
WIKITEXT = {"unquantized": (3.215735, 1e-4), "rtn": (3.574883, 1e-4),
            "gptq": (3.492, 0.02)}

# Layers on which GPTQ is compared with its reference: rows, columns.
GPTQ_LAYERS = [(64, 128), (256, 512)]


def our_logits(build, model, ids):
    """Logits [windows, length, vocab] and NLL sums of our program."""
    with tempfile.TemporaryDirectory() as scratch:
        np.save(f"{scratch}/ids.npy", ids.astype(np.uint32))
        done = subprocess.run(
            [f"{build}/tests/parity/parity_logits", str(model),
             f"{scratch}/ids.npy", f"{scratch}/logits"],
            check=True, capture_output=True, text=True)
        logits = np.fromfile(f"{scratch}/logits", np.float32)
    nll = np.array([float(line) for line in done.stdout.split()])
    return logits.reshape(*ids.shape, -1), nll


def their_logits(model, ids):
    """The same of transformers in float32, NLL by a float64 log-softmax."""
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    net = transformers.AutoModelForCausalLM.from_pretrained(
        model, torch_dtype=torch.float32, attn_implementation="eager")
    net.eval()
    with torch.no_grad():
        logits = net(torch.tensor(ids.astype(np.int64))).logits
        logp = torch.log_softmax(logits[:, :-1].double(), -1)
        target = torch.tensor(ids[:, 1:].astype(np.int64))
        nll = -logp.gather(-1, target[..., None])[..., 0].sum(-1)
    return logits.numpy(), nll.numpy()


def compare_model(table, build, model, ids, name):
    ours, our_nll = our_logits(build, model, ids)
    theirs, their_nll = their_logits(model, ids)
    at = np.unravel_index(np.argmax(np.abs(ours - theirs)), ours.shape)
    table.row(f"{name} logits", ours[at], theirs[at],
              float(np.max(np.abs(ours - theirs))), 1e-4)
    worst = np.max(np.abs(our_nll - their_nll) / their_nll)
    table.row(f"{name} NLL (relative)", our_nll.sum(), their_nll.sum(),
              float(worst), 1e-5)


def zoo(table, build):
    for model in sorted(p for p in ZOO.iterdir() if (p / "config.json").exists()):
        vocab = json.loads((model / "config.json").read_text())["vocab_size"]
        ids = np.random.default_rng(5).integers(0, vocab, (3, 256))
        compare_model(table, build, model, ids, model.name)


SPEC = """\
name: wikitext
models: [{{path: {model}, name: smollm2-135m}}]
data:
  calibration: {{text: {text}/valid.txt, windows: 32, length: 512}}
  evaluation: {{text: {text}/test.txt, windows: 32, length: 512}}
grid:
  dtype: [int4]
  method: [rtn, {{name: gptq, true_sequential: true, damp: 0.01}}]
  group: [64]
measure: {{spectra: "off"}}
"""


def wikitext(table, build, model, text):
    with tempfile.TemporaryDirectory() as scratch:
        spec = f"{scratch}/wikitext.yaml"
        Path(spec).write_text(SPEC.format(model=model, text=Path(text).resolve()))
        env = dict(os.environ, RANKS="2")
        subprocess.run([str(TOP / "run.sh"), "sweep", spec, "-o",
                        f"{scratch}/w.h5"], check=True, env=env)
        tables = {}
        for name in ("points", "models"):
            subprocess.run([f"{build}/ptqsweep", "export", f"{scratch}/w.h5",
                            "--table", name, "-o", f"{scratch}/{name}.csv"],
                           check=True)
            with open(f"{scratch}/{name}.csv", newline="") as lines:
                tables[name] = list(csv.DictReader(lines))
    ours = {"unquantized": float(tables["models"][0]["nll"])}
    for point in tables["points"]:
        ours[point["method"]] = float(point["nll"])
    for what, (theirs, bound) in WIKITEXT.items():
        label = f"SmolLM2 on WikiText-2, {what}"
        if what in ours:
            table.row(label, ours[what], theirs, abs(ours[what] - theirs), bound)
        else:
            table.not_run(label, "the sweep has no such row")


def gptq(table, build, checkout):
    """The worst configuration of each layer and precision of the reference:
    its codes (rows without a tie) and tr(E H E') over the reference's."""
    import gptq_reference as reference
    tool = f"{build}/tests/parity/quantize_layer"
    classes = reference.load_reference(checkout)
    for rows, cols in GPTQ_LAYERS:
        w, h = reference.correlated(rows, cols, 4 * cols, 7, dead=2)
        found = {precision: [] for precision in reference.BOUNDS}
        for dtype, group, options in reference.CASES:
            name = ",".join([dtype, group, *options])
            for precision, codes, _, _, ratio, _ in reference.compare_case(
                    classes, tool, w, h, dtype, group, options):
                found[precision].append((codes, ratio, name))
        for precision, results in found.items():
            least, most = reference.BOUNDS[precision]
            codes, _, name = min(results)
            what = f"GPTQ {rows}x{cols}, {precision}"
            table.row(f"{what}, codes", codes, 1.0, 1.0 - codes, 1.0 - least)
            _, ratio, worst = max(results, key=lambda r: abs(r[1]))
            table.row(f"{what}, tr(E H E')", 1.0 + ratio, 1.0, abs(ratio), most)
            print(f"  of {len(results)}; worst: {name}; {worst}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", required=True, help="SmolLM2-135M")
    parser.add_argument("--wikitext", help="directory of test.txt and valid.txt")
    parser.add_argument("--gptq", help="checkout of IST-DASLab/gptq")
    parser.add_argument("--microxcaling", help="for formats.py")
    args = parser.parse_args()
    table = Table()
    zoo(table, args.build)
    model = Path(args.model)
    ids = np.random.default_rng(6).integers(0, 49152, (1, 512))
    compare_model(table, args.build, model, ids, "SmolLM2-135M")
    if args.wikitext:
        wikitext(table, args.build, model, args.wikitext)
    else:
        for what in WIKITEXT:
            table.not_run(f"SmolLM2 on WikiText-2, {what}",
                          "give --wikitext DIR (test.txt, valid.txt)")
    if args.gptq:
        gptq(table, args.build, args.gptq)
    else:
        table.not_run("GPTQ with the same H, layer by layer",
                      "give --gptq DIR, a checkout of IST-DASLab/gptq")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
