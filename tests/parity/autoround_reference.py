#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""AutoRound against its own package: the errors of blocks' outputs that both
reach on the same calibration windows.

    autoround_reference.py --build build [--seeds N]

Needs auto-round 0.16.1 with what it imports; runs on the CPU in float32, the
package's `amp` off. Both quantize models of the zoo, each with N seeds of its
own, and transformers takes both to the calibration windows: the mean squared
difference of what each block gives from what the unquantized model gives there,
over that of rounding to nearest. These are random: the logarithms' means over
seeds and blocks are compared, and the bound is three standard errors of their
difference, at least 5 %. Prints a table, and exits with 1 where a row fails.
"""
import argparse
import copy
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from table import Table

TOP = Path(__file__).resolve().parents[2]
WINDOWS, LENGTH, GROUP = 32, 128, 32
# dtype here, the package's bits and sym
CASES = [("int4:asym:keep=f16", 4, False), ("int2:asym:keep=f16", 2, False),
         ("int4:full", 4, True), ("int2:full", 2, True)]
SPEC = """\
models: [{model}]
data:
  calibration: {{text: text.txt, windows: {windows}, length: {length}}}
  selection: {{text: text.txt, windows: 2, length: {length}}}
  evaluation: {{text: text.txt, windows: 2, length: {length}}}
grid: {{dtype: ["{dtype}"], method: [{methods}], group: [{group}]}}
measure: {{spectra: "off"}}
"""


def load(directory):
    import transformers
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, attn_implementation="eager").float()


def streams(net, windows):
    """What each block gives on each window."""
    import torch
    found, hooks = [], []

    def keep(_module, _inputs, output):
        found.append(output[0] if isinstance(output, tuple) else output)

    blocks = (net.model.layers if hasattr(net.model, "layers")
              else net.model.decoder.layers)
    hooks = [b.register_forward_hook(keep) for b in blocks]
    with torch.no_grad():
        for w in windows:
            net(torch.tensor(w[None]), use_cache=False)
    for h in hooks:
        h.remove()
    n = len(blocks)
    return [torch.stack([f.reshape(windows.shape[1], -1)
                         for f in found[b::n]]).double() for b in range(n)]


def errors(net, windows, wanted):
    return np.array([float(((a - b) ** 2).mean()) for a, b in
                     zip(streams(net, windows), wanted)])


def ours(program, prepare, scratch, model, dtype, seeds):
    """Models by rounding, and by each seed."""
    def tell(*args):
        done = subprocess.run([str(a) for a in args], cwd=scratch, text=True,
                              capture_output=True)
        if done.returncode != 0:
            raise SystemExit(f"{args[0]} {args[1]}: {done.stderr[-300:]}")
        return done.stdout

    methods = ["rtn"] + [f"{{name: autoround, seed: {s}}}"
                         for s in range(seeds)]
    (scratch / "s.h5").unlink(missing_ok=True)
    (scratch / "s.yaml").write_text(SPEC.format(
        model=model, windows=WINDOWS, length=LENGTH, dtype=dtype, group=GROUP,
        methods=", ".join(methods)))
    tell(prepare, TOP / "sweeps/prepare.py", "--quiet", "s.yaml")
    tell(program, "run", "s.yaml", "-o", "s.h5", "--quiet")
    for line in tell(program, "export", "s.h5", "--table", "points",
                     "--format", "jsonl").splitlines():
        shutil.rmtree(scratch / "made", ignore_errors=True)
        tell(program, "materialize", "s.h5", "--point",
             json.loads(line)["key"], "-o", "made", "--dtype", "f32")
        yield load(scratch / "made")


def theirs(net, tokenizer, windows, bits, sym, seed):
    import torch
    from auto_round import AutoRound
    data = [{"input_ids": torch.tensor(w[None].astype(np.int64)),
             "attention_mask": torch.ones(1, len(w), dtype=torch.long)}
            for w in windows]
    tuner = AutoRound(copy.deepcopy(net), tokenizer, scheme="W4A16", bits=bits,
                      group_size=GROUP, sym=sym, iters=200, seqlen=LENGTH,
                      nsamples=WINDOWS, batch_size=8, dataset=data, amp=False,
                      seed=seed, device_map="cpu", enable_torch_compile=False)
    return tuner.quantize()[0].float()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--prepare", default=sys.executable,
                        help="Python for sweeps/prepare.py")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+",
                        default=["llama-85k", "opt-85k"])
    parser.add_argument("--cases", type=int, default=len(CASES))
    args = parser.parse_args()
    import transformers
    from tokenizers import Tokenizer
    transformers.logging.set_verbosity_error()
    table = Table()
    text = (TOP / "README.md").read_text(encoding="utf-8")
    program = Path(args.build).resolve() / "ptqsweep"
    for name in args.models:
        model = TOP / "sweeps/zoo" / name
        net = load(model)
        ids = Tokenizer.from_file(str(model / "tokenizer.json")).encode(
            text).ids[:WINDOWS * LENGTH]
        windows = np.array(ids).reshape(WINDOWS, LENGTH)
        wanted = streams(net, windows)
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(model / "tokenizer.json"))
        for dtype, bits, sym in CASES[:args.cases]:
            with tempfile.TemporaryDirectory() as scratch:
                (Path(scratch) / "text.txt").write_text(text, encoding="utf-8")
                rounded, *mine = [
                    errors(made, windows, wanted) for made in
                    ours(program, args.prepare, Path(scratch), model, dtype,
                         args.seeds)]
            other = [errors(theirs(net, tokenizer, windows, bits, sym, s),
                            windows, wanted) for s in range(args.seeds)]
            logs = [np.log(np.array(e) / rounded).mean(axis=1)
                    for e in (mine, other)]
            spread = np.sqrt(sum(x.var(ddof=1) / len(x) for x in logs))
            table.row(f"{name} {dtype}, of rounding's", np.exp(logs[0].mean()),
                      np.exp(logs[1].mean()),
                      abs(logs[0].mean() - logs[1].mean()),
                      max(3.0 * spread, 0.05))
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
